"""The hot path: probes, blocks, sites, the ring and the clock. One of two cores, picked here once.

`_native` is written in C, `_python` is its twin: the same names, the same behaviour. HOTLAP_CORE=native or
python forces one; NAME says which is in use and REASON why.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .. import config
from ..errors import CoreError, LayoutError
from .record import (
    FLAG_ASYNC,
    FLAG_BLOCK,
    FLAG_CANCELLED,
    FLAG_ERROR,
    FLAG_EVIDENCE,
    FLAG_FIRST,
    FLAG_GENERATOR,
    FLAG_TAIL,
    LAYOUT_VERSION,
    NO_PARENT,
    RECORD_BYTES,
    RECORD_LAYOUT,
    check,
    record_dtype,
)

_EITHER = (
    "BUCKETS",
    "BUCKET_FIRST",
    "COUNT",
    "COUNTERS",
    "FOLLOW_ASYNC_GENERATOR",
    "FOLLOW_COROUTINE",
    "FOLLOW_GENERATOR",
    "FunctionProbe",
    "Measurement",
    "NAME",
    "Probe",
    "Ring",
    "Site",
    "TIME",
    "_rebuild",
    "advance",
    "after_fork",
    "allocations_begin",
    "allocations_end",
    "bucket_index",
    "calibrate",
    "clock",
    "collect",
    "enable",
    "enabled",
    "measure",
    "now_ns",
    "on_gc",
    "sampling_cost",
    "seed",
    "set_clock",
    "set_decorate",
    "set_fault",
    "set_ring",
    "set_sites",
    "set_trace",
)


def _pick(wanted: str) -> tuple[Any, str]:
    """The core module and the reason for it. Raises CoreError when a forced one is not there."""
    forced = f"HOTLAP_CORE={wanted}"
    if wanted == "python":
        return importlib.import_module("._python", __name__), forced
    try:
        native = importlib.import_module("._native", __name__)
        check(native)
    except (ImportError, LayoutError) as error:
        if wanted == "native":
            raise CoreError(
                f"{forced}: the native core cannot be used ({error}): install hotlap where there is a "
                "C compiler, or unset HOTLAP_CORE"
            ) from error
        python = importlib.import_module("._python", __name__)
        return python, f"the native core cannot be used: {error}"
    return native, forced if wanted == "native" else "the native core is there"


_core, REASON = _pick(config.early().core)
check(_core)

if TYPE_CHECKING:
    from ._python import (
        BUCKET_FIRST,
        BUCKETS,
        COUNT,
        COUNTERS,
        FOLLOW_ASYNC_GENERATOR,
        FOLLOW_COROUTINE,
        FOLLOW_GENERATOR,
        NAME,
        TIME,
        FunctionProbe,
        Measurement,
        Probe,
        Ring,
        Site,
        _rebuild,
        advance,
        after_fork,
        allocations_begin,
        allocations_end,
        bucket_index,
        calibrate,
        clock,
        collect,
        enable,
        enabled,
        measure,
        now_ns,
        on_gc,
        sampling_cost,
        seed,
        set_clock,
        set_decorate,
        set_fault,
        set_ring,
        set_sites,
        set_trace,
    )
else:
    globals().update({name: getattr(_core, name) for name in _EITHER})

__all__ = [
    "BUCKETS",
    "BUCKET_FIRST",
    "COUNT",
    "COUNTERS",
    "FLAG_ASYNC",
    "FLAG_BLOCK",
    "FLAG_CANCELLED",
    "FLAG_ERROR",
    "FLAG_EVIDENCE",
    "FLAG_FIRST",
    "FLAG_GENERATOR",
    "FLAG_TAIL",
    "FOLLOW_ASYNC_GENERATOR",
    "FOLLOW_COROUTINE",
    "FOLLOW_GENERATOR",
    "LAYOUT_VERSION",
    "NAME",
    "NO_PARENT",
    "REASON",
    "RECORD_BYTES",
    "RECORD_LAYOUT",
    "TIME",
    "FunctionProbe",
    "Measurement",
    "Probe",
    "Ring",
    "Site",
    "_rebuild",
    "advance",
    "after_fork",
    "allocations_begin",
    "allocations_end",
    "bucket_index",
    "calibrate",
    "check",
    "clock",
    "collect",
    "enable",
    "enabled",
    "measure",
    "now_ns",
    "on_gc",
    "record_dtype",
    "sampling_cost",
    "seed",
    "set_clock",
    "set_decorate",
    "set_fault",
    "set_ring",
    "set_sites",
    "set_trace",
]
