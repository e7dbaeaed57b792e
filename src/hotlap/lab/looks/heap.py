"""What the process has in use, by three counts that cost microseconds and see what tracemalloc does not.

A traced object that takes the place of one made before tracing began looks like growth to tracemalloc. It is none to
these.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any

import psutil

from .procfs import Unreadable

__all__ = ["LEVELS", "PAGE_BYTES", "native_bytes", "python_blocks", "read_level", "read_levels", "rss_bytes"]

PAGE_BYTES: int = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def rss_bytes() -> int:
    """Resident memory of the process. Raises Unreadable. Allocates next to nothing itself."""
    try:
        descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(descriptor, 256).split()[1]) * PAGE_BYTES
        finally:
            os.close(descriptor)
    except OSError:
        try:
            return int(psutil.Process().memory_info().rss)
        except (psutil.Error, OSError) as error:
            raise Unreadable(f"resident memory: {error}") from None


def python_blocks() -> int:
    """Blocks that Python's own allocator has given out: nearly all objects up to 512 bytes. Raises Unreadable."""
    blocks = sys.getallocatedblocks()
    if not blocks:
        raise Unreadable("Python's blocks: this interpreter takes all memory from malloc")
    return blocks


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


@lru_cache(maxsize=1)
def _mallinfo() -> Any:
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return None
    function.restype = _Mallinfo
    return function


def native_bytes() -> int:
    """Bytes that malloc has given out, to Python for its larger objects and to any library. Raises Unreadable."""
    function = _mallinfo()
    if function is None:
        raise Unreadable("malloc's bytes: only glibc from version 2.33 on tells them")
    info = function()
    return int(info.uordblks) + int(info.hblkhd)


LEVELS: Mapping[str, Callable[[], int]] = {
    "python_blocks": python_blocks,
    "native_bytes": native_bytes,
    "rss_bytes": rss_bytes,
}


def read_levels(values: MutableMapping[str, float], reasons: MutableMapping[str, str]) -> None:
    """Read all levels into `values`: NaN for one that cannot be read, and why into `reasons`."""
    for name in LEVELS:
        values[name] = read_level(name, reasons)


def read_level(name: str, reasons: MutableMapping[str, str]) -> float:
    """One level, or NaN and the reason."""
    try:
        return LEVELS[name]()
    except Unreadable as reason:  # such as when the process has used up its file descriptors
        reasons[name] = str(reason)
        return math.nan
