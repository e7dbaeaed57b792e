"""The record: one sampled call as a row of RECORD_BYTES bytes, laid out the same by both cores.

Times are nanoseconds; `start_ns` is on the monotonic clock. -1 stands for an unknown `own_ns` or `cpu_ns`,
nan for an unknown `size`, NO_PARENT for a call that nothing measured called. Change the layout and you change
LAYOUT_VERSION.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import LayoutError

if TYPE_CHECKING:
    import numpy

LAYOUT_VERSION = 1
RECORD_BYTES = 128
NO_PARENT = 0xFFFFFFFF

# (name, numpy format, offset in bytes)
RECORD_LAYOUT: tuple[tuple[str, str, int], ...] = (
    ("start_ns", "u8", 0),
    ("wall_ns", "u8", 8),
    ("own_ns", "i8", 16),
    ("cpu_ns", "i8", 24),
    ("gc_ns", "u8", 32),
    ("trace_hi", "u8", 40),
    ("trace_lo", "u8", 48),
    ("span", "u8", 56),
    ("size", "f8", 64),
    ("run_ns", "u8", 72),
    ("longest_ns", "u8", 80),
    ("thread", "u4", 88),
    ("site", "u4", 92),
    ("parent", "u4", 96),
    ("in_flight", "u4", 100),
    ("voluntary", "u4", 104),
    ("involuntary", "u4", 108),
    ("minor_faults", "u4", 112),
    ("suspensions", "u4", 116),
    ("weight", "f4", 120),
    ("major_faults", "u2", 124),
    ("flags", "u2", 126),
)

FLAG_ERROR = 1
FLAG_ASYNC = 2
FLAG_TAIL = 4  # left only because it was slow: weight 0, no evidence but times and trace
FLAG_FIRST = 8
FLAG_EVIDENCE = 16
FLAG_CANCELLED = 32
FLAG_BLOCK = 64
FLAG_GENERATOR = 128

_dtype: numpy.dtype[Any] | None = None


def record_dtype() -> numpy.dtype[Any]:
    """The numpy dtype of a drained block: `numpy.frombuffer(ring.drain(), record_dtype())`."""
    global _dtype
    if _dtype is None:
        import numpy  # heavy: only who reads records pays for it

        names, formats, offsets = zip(*RECORD_LAYOUT, strict=True)
        _dtype = numpy.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": RECORD_BYTES})
    return _dtype


def check(core: Any) -> None:
    """Raises LayoutError unless `core` (a core module) writes records as this module describes them."""
    for name, expected in (
        ("LAYOUT_VERSION", LAYOUT_VERSION),
        ("RECORD_BYTES", RECORD_BYTES),
        ("RECORD_LAYOUT", RECORD_LAYOUT),
    ):
        found = getattr(core, name, None)
        if found != expected:
            raise LayoutError(
                f"{core.__name__}.{name} is {found!r}, and hotlap reads {expected!r}: "
                "the core was built for another version, install hotlap again"
            )
