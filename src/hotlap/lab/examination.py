"""Examination: what a kind of benchmark has found beyond the time of its iterations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .report import Mark

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Examination"]


@dataclass(slots=True)
class Examination:
    """What a kind has found."""

    details: dict[str, Any] = field(default_factory=dict)  # for BenchmarkReport.details; plain numbers and texts
    memory_mb: Floats | None = None  # of each iteration: shape (iterations,), or (1,) for one for all
    advice: list[str] = field(default_factory=list)  # recommendations: sentences with evidence
    notes: list[str] = field(default_factory=list)  # what a reader must know of the numbers
    marks: list[Mark] = field(default_factory=list)  # why the run has not passed; the advice says it at length
    interrupted: bool = False  # by the user
