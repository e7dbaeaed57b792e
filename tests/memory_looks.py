"""Short looks at a subject's memory, as MEMORY takes them."""

from __future__ import annotations

import ctypes
import gc
import sys
import tracemalloc
from typing import Any

import pytest

from hotlap.lab.kinds.memory import Memory
from hotlap.lab.looks import traced
from kinds import examined

__all__ = ["glibc", "linux", "look", "median", "shorten"]

glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc from 2.33 on tells what malloc has given out"
)
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells this, others do not")


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer calls, and collections that look only at what a test makes: there are many in each look."""
    monkeypatch.setattr(traced, "_SINGLE_S", 0.1)
    monkeypatch.setattr(traced, "_BLOCKS_S", 0.3)
    gc.collect()
    gc.freeze()


def look(func: Any, *args: Any, **options: Any) -> dict[str, Any]:
    """The details of a short run."""
    _, examination = examined(Memory, func, *args, **{"iterations": 10, "warmup_iterations": 2, **options})
    assert not tracemalloc.is_tracing()
    return examination.details


def median(details: dict[str, Any], what: str) -> float:
    value = details[f"{what}_bytes"]["median"]
    assert value is not None
    return float(value)
