"""Series: the iterations of a run as columns, made of the records that their calls left."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import core
from .timer import Timer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Records = NDArray[Any]  # of core.record_dtype()

__all__ = ["Series"]


@dataclass(frozen=True, slots=True)
class Series:
    """The iterations of one run, as columns of shape (n,). Times are of one call, in seconds."""

    loops: int  # calls in an iteration
    started: Floats  # unix s
    raw_s: Floats  # the iteration as it was timed
    time_s: Floats  # of one call, overhead subtracted; NaN where one of several calls failed
    calls: NDArray[np.int64]  # that were made
    failed: NDArray[np.int64]  # of them
    thread_cpu_s: Floats  # of one call, on its own thread; NaN without evidence, as are the following
    cpu_s: Floats  # of one call, in the whole process
    gc_s: Floats
    voluntary: Floats  # context switches
    involuntary: Floats
    minor_faults: Floats
    major_faults: Floats
    run_s: Floats  # without suspensions
    suspensions: Floats

    @classmethod
    def of(
        cls,
        records: Records,
        timer: Timer,
        calls: Integers,
        failed: Integers,
        cpu_s: Floats,
        *,
        loops: int = 1,
    ) -> Series:
        """From the records of the iterations, and what no record has: all shape (n,), `cpu_s` of a whole iteration.

        What a record without evidence does not know is NaN.
        """
        raw = records["wall_ns"] / 1e9
        divisor = np.maximum(calls, 1)
        times = timer.per_call_s(raw, divisor)
        times[(failed > 0) & (calls > 1)] = np.nan
        known = (records["flags"] & core.FLAG_EVIDENCE) != 0
        epoch = time.time() - core.now_ns() / 1e9

        def evidence(values: Floats) -> Floats:
            column: Floats = np.where(known, values / divisor, np.nan)
            return column

        return cls(
            loops=loops,
            started=epoch + records["start_ns"] / 1e9,
            raw_s=raw,
            time_s=times,
            calls=calls,
            failed=failed,
            thread_cpu_s=evidence(records["cpu_ns"] / 1e9),
            cpu_s=evidence(cpu_s),
            gc_s=evidence(records["gc_ns"] / 1e9),
            voluntary=evidence(records["voluntary"]),
            involuntary=evidence(records["involuntary"]),
            minor_faults=evidence(records["minor_faults"]),
            major_faults=evidence(records["major_faults"]),
            run_s=records["run_ns"] / 1e9 / divisor,
            suspensions=records["suspensions"] / divisor,
        )

    @property
    def good(self) -> Floats:
        """Times of the iterations without a failure."""
        times: Floats = self.time_s[(self.failed == 0) & (self.calls > 0)]
        return times
