"""Failures: the exceptions of benchmarked calls, classed by type and place, and the patterns they come in."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import HotlapError
from .report import Failure
from .runs.subject import LOOP_FILE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["FailureLog", "sendable"]

_PACKAGE = str(Path(__file__).resolve().parent.parent)
_SLOW = 2.0  # times a success: a slow failure, such as a timeout
_FAST = 0.5
_RARE = 0.01  # a pattern is said when chance gives it in fewer of a hundred runs


@dataclass
class _Class:
    type: str
    place: str
    message: str
    traceback: str
    iterations: list[int] = field(default_factory=list)


class FailureLog:
    """Collects failures while a run goes on. One thread at a time."""

    def __init__(self) -> None:
        self._classes: dict[tuple[str, str], _Class] = {}

    def __len__(self) -> int:
        return sum(len(one.iterations) for one in self._classes.values())

    def add(self, error: BaseException, iteration: int) -> None:
        """A call failed in this iteration, from 0."""
        name, place = _type_name(error), _place(error)
        one = self._classes.get((name, place))
        if one is None:
            one = self._classes[name, place] = _Class(name, place, str(error), _trace(error))
        one.iterations.append(iteration)

    @classmethod
    def joined(cls, parts: Sequence[tuple[FailureLog, int]]) -> FailureLog:
        """The failures of several runs as those of one; with each log, how many iterations its run had."""
        whole, offset = cls(), 0
        for log, iterations in parts:
            for key, one in log._classes.items():
                moved = [offset + number for number in one.iterations]
                if key in whole._classes:
                    whole._classes[key].iterations += moved
                else:
                    whole._classes[key] = replace(one, iterations=moved)
            offset += iterations
        return whole

    def failures(self, times_s: Floats, success_s: float | None) -> list[Failure]:
        """What has failed, the most frequent first.

        `times_s`, shape (iterations,), is what a call took, NaN where that is not known; `success_s` what one takes
        that does not fail.
        """
        made = []
        for one in self._classes.values():
            seconds = times_s[[number for number in one.iterations if number < len(times_s)]]
            known = seconds[np.isfinite(seconds)]
            mean_s = float(known.mean()) if len(known) else None
            failure = Failure(
                type=one.type,
                place=one.place,
                message=one.message,
                count=len(one.iterations),
                first_iteration=min(one.iterations),
                mean_s=mean_s,
                traceback=one.traceback,
                patterns=tuple(_patterns(one.iterations, len(times_s), mean_s, success_s)),
            )
            made.append(failure)
        return sorted(made, key=lambda failure: -failure.count)


def _is_ours(filename: str) -> bool:
    return filename == LOOP_FILE or filename.startswith(_PACKAGE)


def _trace(error: BaseException) -> str:
    """The traceback from the subject's own first frame on."""
    begin = error.__traceback__
    while begin is not None and begin.tb_next is not None and _is_ours(begin.tb_frame.f_code.co_filename):
        begin = begin.tb_next
    return "".join(traceback.format_exception(type(error), error, begin))


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _place(error: BaseException) -> str:
    """Where it was raised: the innermost frame."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "unknown"
    last = frames[-1]
    return f"{last.filename}:{last.lineno} in {last.name}"


def _patterns(numbers: list[int], iterations: int, mean_s: float | None, success_s: float | None) -> list[str]:
    said = []
    failed = sorted(set(numbers))
    count = len(failed)
    if 0 < count < iterations:
        first = failed[0]
        # The chance that the first `first` iterations are free of all `count` failures:
        if count >= 3 and comb(iterations - first, count) / comb(iterations, count) < _RARE:
            said.append(f"It begins with iteration {first + 1} of {iterations}: something has changed by then.")
        runs = 1 + sum(1 for before, after in pairwise(failed) if after != before + 1)
        if count >= 4 and _few_runs(runs, count, iterations) < _RARE:
            said.append(f"It comes in bursts: {count} failures in {runs} {'run' if runs == 1 else 'runs'}.")
    if mean_s is not None and success_s:
        if mean_s >= _SLOW * success_s:
            said.append(f"A failure takes {mean_s / success_s:.1f} times as long as a success.")
        elif mean_s <= _FAST * success_s:
            said.append(f"A failure takes {mean_s / success_s:.0%} of the time of a success.")
    return said


def _few_runs(runs: int, count: int, iterations: int) -> float:
    """The chance of at most `runs` runs of failures, when `count` failures are spread at random.

    Wald and Wolfowitz (1940): the failures form r runs in C(count-1, r-1) ways, which lie between the other
    iterations in C(others+1, r) ways.
    """
    others = iterations - count
    ways = sum(comb(count - 1, r - 1) * comb(others + 1, r) for r in range(1, runs + 1))
    return ways / comb(iterations, count)


def sendable(error: BaseException, where: str) -> BaseException:
    """The exception, or what it says in a HotlapError when it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever the object's own pickling raises
        return HotlapError(f"{type(error).__name__} in {where}: {error}")
    return error
