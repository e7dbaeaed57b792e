"""process: what a cycle knows of the whole process."""

from __future__ import annotations

import os
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from hotlap import process
from hotlap.model import Context
from hotlap.process import Process, theil_sen
from hotlap.window import SUMS


def window(ended_at: float = 0.0, lost: int = 0, sites: tuple[str, ...] = (), pages: tuple[float, ...] = ()) -> Any:
    """As much of a Window as the process looks at."""
    sums = {name: np.zeros(len(sites)) for name in SUMS} | {"minor_faults": np.array(pages)}
    columns = {"calls": np.arange(len(sites)) + 1, "total_ns": np.full(len(sites), 2_000_000_000)}
    return SimpleNamespace(
        started_at=ended_at - 10.0,
        seconds=10.0,
        sites=tuple(SimpleNamespace(name=name) for name in sites),
        lost=lost,
        drained=7,
        sum=sums.__getitem__,
        column=columns.__getitem__,
    )


def look(one: Process, *args: Any, **fields: Any) -> Context:
    return one.context(
        window(*args, **fields),
        overhead_fraction=0.004,
        budget=0.01,
        sinks_failed=("x",),
        rules_failed=("y",),
        faults={"size": 2},
    )


# -- Theil-Sen -----------------------------------------------------------------------------


def test_a_line_is_found_exactly() -> None:
    """Every pair agrees on it."""
    assert theil_sen([0, 1, 2, 4], [1, 3, 5, 9]) == (2.0, 1.0)


def test_outliers_do_not_move_the_slope() -> None:
    """A fifth of the values far off: the median of the slopes stays near the truth."""
    times = [float(second) for second in range(40)]
    values = [0.5 * second for second in times]
    values[5:40:5] = [1000.0] * 7
    slope, alike = theil_sen(times, values)
    assert slope == pytest.approx(0.5, abs=0.2)
    assert alike < 0.95


def test_noise_has_no_direction() -> None:
    """The pairs disagree about the sign."""
    chance = random.Random(1)
    _, alike = theil_sen([float(i) for i in range(60)], [chance.gauss(100, 1) for _ in range(60)])
    assert alike < 0.7


@pytest.mark.parametrize(("times", "values"), [([], []), ([1.0], [2.0]), ([3.0, 3.0], [1.0, 9.0])])
def test_no_slope_without_time_that_goes_on(times: list[float], values: list[float]) -> None:
    """No pairs, or pairs at one moment: nothing is divided by zero."""
    assert theil_sen(times, values) == (0.0, 0.0)


def test_pairs_with_time_set_back_are_left_out() -> None:
    """A wall clock that was corrected between two windows turns no slope round."""
    assert theil_sen([10.0, 11.0, 5.0, 6.0], [0.0, 1.0, 2.0, 3.0]) == (1.0, 1.0)


def test_level_memory_has_no_slope() -> None:
    """Zero, and no direction that pairs could agree on."""
    assert theil_sen([0.0, 1.0, 2.0], [5.0, 5.0, 5.0]) == (0.0, 0.0)


# -- context -------------------------------------------------------------------------------


@pytest.fixture
def grown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The context of a process whose memory was that, in MB, in window after window."""

    def windows(*rss_mb: float) -> Context:
        one = Process()
        for number, value in enumerate(rss_mb):
            monkeypatch.setattr(one, "_rss_mb", lambda value=value: value)
            context = look(one, ended_at=1000.0 + 10.0 * number)
        return context

    return windows


def test_memory_that_grows_has_a_slope(grown: Any) -> None:
    """2 MB each window of 10 s, with some noise: 0.2 MB/s."""
    context = grown(*(100 + 2 * i + (i % 3) * 0.5 for i in range(20)))
    assert context.rss_slope_mb_s == pytest.approx(0.2, rel=0.05)
    assert context.rss_growth_mb == pytest.approx(38.5)
    assert context.rss_windows == 20


def test_memory_that_shrinks_has_a_slope_too(grown: Any) -> None:
    """Downwards is a direction, too."""
    assert grown(*(100 - i for i in range(10))).rss_slope_mb_s == pytest.approx(-0.1)


def test_memory_that_comes_and_goes_has_none(grown: Any) -> None:
    """The windows do not agree on a direction: no slope, the growth alone."""
    context = grown(*(100 + (i % 2) * 10 for i in range(20)))
    assert context.rss_slope_mb_s is None
    assert context.rss_growth_mb == 10


def test_a_few_windows_carry_no_trend(grown: Any) -> None:
    """Seven have a growth only, one has not even that; memory is looked at over sixty."""
    assert grown(1).rss_growth_mb is None
    assert grown(*range(7)).rss_slope_mb_s is None
    assert grown(*range(100)).rss_windows == 60


def test_the_context_is_this_process_now() -> None:
    """Resident memory, CPUs and what the window says, as they are."""
    context = look(Process(), lost=3, sites=("a", "b", "c"), pages=(30.0, 0.0, 10.0))
    assert context.rss_mb == pytest.approx(psutil.Process().memory_info().rss / 1e6, rel=0.3)
    assert 1 <= context.cpus <= (os.cpu_count() or 1)
    assert (context.records_lost, context.records) == (3, 7)
    assert (context.overhead_fraction, context.budget) == (0.004, 0.01)
    assert (context.sinks_failed, context.rules_failed) == (("x",), ("y",))
    assert context.faults == {"size": 2}
    assert context.site_memory_share == {"a": 0.75, "c": 0.25}
    assert context.site_calls == {"a": 1, "b": 2, "c": 3}
    assert context.site_total_s == {"a": 2.0, "b": 2.0, "c": 2.0}
    assert look(Process(), sites=("a",), pages=(0.0,)).site_memory_share == {}


def test_cpu_is_a_share_of_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """1.5 CPU seconds in a second are 150 %, by the time between two looks; without any there is no share."""
    now = SimpleNamespace(cpu=1.0, wall=50.0)
    fake = SimpleNamespace(process_time=lambda: now.cpu, monotonic=lambda: now.wall, time=lambda: 0.0)
    monkeypatch.setattr(process, "time", fake)
    one = Process()
    now.cpu, now.wall = 2.5, 51.0
    assert look(one).process_cpu_percent == pytest.approx(150.0)
    assert look(one).process_cpu_percent is None


def test_a_process_that_may_not_look_at_itself_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed /proc gives None rather than an error in every cycle."""

    def denied(*_: object) -> Any:
        raise psutil.AccessDenied

    one = Process()
    monkeypatch.setattr(psutil.Process, "memory_info", denied)
    monkeypatch.setattr(psutil.Process, "cpu_affinity", denied, raising=False)
    context = look(one)
    assert (context.rss_mb, context.rss_windows, context.rss_growth_mb) == (None, 0, None)
    assert context.cpus == (os.cpu_count() or 1)
