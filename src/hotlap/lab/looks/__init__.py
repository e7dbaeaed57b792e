"""Looks: what is read of memory, the CPU, files, sockets and lines while calls are made."""
