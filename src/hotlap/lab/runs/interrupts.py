"""Interrupts: Stopped, which ends a call that has passed a limit, and how it is sent to another thread."""

from __future__ import annotations

import ctypes
import sys
import threading

__all__ = ["Stopped", "call_back", "clear_notice", "hangs", "send_stop"]


class Stopped(BaseException):
    """Raised in a call that has passed a limit. No Exception: the benchmarked code must not swallow it."""


_STOPPED = ctypes.py_object(Stopped)


def hangs() -> bool:
    """Whether sending would hang the program.

    In 3.11 traced threads (by coverage, or a debugger) get no further while an exception waits to be raised.
    """
    return sys.version_info[:2] == (3, 11) and (sys.gettrace() is not None or threading.gettrace() is not None)


def send_stop(thread: int) -> None:
    """Raise Stopped in a thread, by its ident, as soon as it runs Python code. Not where it hangs()."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), _STOPPED)


def call_back(thread: int) -> None:
    """The stop that was sent to a thread, if it has not arrived. Then clear_notice() is to be called."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)


def clear_notice() -> None:
    """Of exceptions that were sent and called back.

    While one waits, all of the interpreter's threads look for it again and again, and before 3.13 that notice stays
    when it is called back: an exception that is raised in this thread takes it away.
    """
    try:
        send_stop(threading.get_ident())
        for _ in range(10**6):
            pass
    except Stopped:
        pass
