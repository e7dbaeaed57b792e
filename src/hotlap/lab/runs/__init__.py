"""Runs: how a subject is called, timed, and kept within its limits."""
