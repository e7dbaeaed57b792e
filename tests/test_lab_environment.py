"""The environment of a run is recorded, and what makes its timings noisy is named; a quiet run gets no advice."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import pytest

from hotlap import PerformanceBenchmarker
from hotlap.lab.environment import Noise, Spread, advice, cpus, environment
from hotlap.lab.runs.series import Series

QUIET = Noise(load=0.1, stolen=0.0, others=0.02)
NOISY: dict[str, Any] = {"governor": "powersave", "turbo": True, "smt": True}


def test_what_a_later_reader_must_know_is_there() -> None:
    known = environment()
    assert {"python", "core", "clock", "system", "cpus", "hotlap"} <= set(known)
    assert None not in known.values()
    assert json.loads(json.dumps(known)) == known


def test_cpus_are_those_that_the_process_may_use() -> None:
    assert 1 <= cpus() <= (os.cpu_count() or 1)
    if hasattr(os, "sched_setaffinity"):
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(allowed)})
        try:
            assert cpus() == 1
        finally:
            os.sched_setaffinity(0, allowed)


def test_a_quiet_run_gets_no_advice_whatever_the_machine_is_like() -> None:
    """A governor or turbo is no fault in itself: only together with iterations that differ."""
    assert advice(NOISY, QUIET, Spread(deviation=0.01, preempted=0.0)) == []


def test_iterations_that_differ_are_explained_by_what_the_system_tells() -> None:
    (said,) = advice(NOISY, QUIET, Spread(deviation=0.2, preempted=1.5))
    for cause in ("differ by 20 %", "taken off its CPU", "'powersave'", "turbo", "multithreading"):
        assert cause in said


def test_without_a_cause_it_says_so() -> None:
    (said,) = advice({}, QUIET, Spread(deviation=0.2, preempted=0.0))
    assert "nothing that the system tells explains it" in said


def test_a_function_that_waits_differs_by_what_it_waits_for() -> None:
    """A query of 10 ms: a noisy machine is not what makes it take longer."""
    query = Spread(deviation=0.2, waiting=0.95, yielded=3.0, preempted=0.3)
    (said,) = advice(NOISY, QUIET, query)
    assert said == "The iterations differ by 20 %: they wait for 95 % of their time, and what they wait for differs."


def test_a_function_that_computes_and_gets_half_a_cpu_does_not_wait() -> None:
    (said,) = advice(NOISY, QUIET, Spread(deviation=0.2, waiting=0.5, yielded=0.01, preempted=1.5))
    assert "taken off its CPU" in said


@pytest.mark.parametrize(("users", "others"), [(2, "another"), (8, "7 others")])
def test_users_at_once_differ_by_what_they_wait_for_each_other(users: int, others: str) -> None:
    """However often threads lose their CPU while they pass a lock on."""
    spread = Spread(deviation=1.21, waiting=0.999, yielded=1.0, preempted=2.0, users=users)
    (said,) = advice(NOISY, QUIET, spread)
    assert said == f"The iterations differ by 121 %: beside {others}, they have no CPU for over 99 % of their time."


def test_users_of_whom_it_is_not_known_whether_they_wait_get_no_advice_on_the_machine() -> None:
    assert advice(NOISY, QUIET, Spread(deviation=0.5, users=8)) == []


def test_users_who_compute_on_cpus_of_their_own_are_disturbed_by_a_noisy_machine() -> None:
    (said,) = advice(NOISY, QUIET, Spread(deviation=0.2, waiting=0.02, preempted=0.5, users=2))
    assert "taken off its CPU" in said


def of_calls(time_s: list[float], cpu_s: list[float], calls: int = 1, **columns: float) -> Series:
    """Iterations of so many calls, each with its time and its time on a CPU."""
    count = len(time_s)
    names = ("cpu_s", "gc_s", "voluntary", "involuntary", "minor_faults", "major_faults", "run_s", "suspensions")
    filled: dict[str, Any] = {name: np.full(count, columns.get(name, 0.0)) for name in names}
    return Series(
        loops=calls,
        started=np.arange(float(count)),
        raw_s=np.array(time_s) * calls,
        time_s=np.array(time_s),
        calls=np.full(count, calls),
        failed=np.zeros(count, np.int64),
        thread_cpu_s=np.array(cpu_s),
        **filled,
    )


def test_spread_is_robust_and_waiting_is_a_share_of_all_time() -> None:
    series = of_calls([1.0, 1.1, 0.9, 1.0, 50.0], [0.5] * 5, calls=10, voluntary=0.2, suspensions=0.1, involuntary=0.05)
    spread = Spread.of(series)
    assert spread.deviation == pytest.approx(1.4826 * 0.1)
    assert spread.waiting == pytest.approx(1.0 - 2.5 / 54.0)
    assert spread.yielded == pytest.approx(3.0)  # in an iteration of ten calls
    assert spread.preempted == pytest.approx(0.5)
    assert spread.users == 1


def test_levels_of_load_differ_on_purpose() -> None:
    series = of_calls([1.0, 1.1, 2.0, 2.2, 2.1, 1.9], [0.1] * 6)
    assert Spread.of(series, np.full(6, 4)).users == 4
    assert Spread.of(series, np.full(6, 4)).deviation is not None
    assert Spread.of(series, np.array([1, 1, 2, 2, 2, 2])).deviation is None


def test_without_evidence_nothing_is_known_of_waiting() -> None:
    spread = Spread.of(of_calls([1.0] * 4, [np.nan] * 4, voluntary=np.nan, involuntary=np.nan))
    assert spread == Spread(deviation=None)


@pytest.mark.parametrize(
    ("noise", "word"),
    [
        (Noise(0.0, stolen=0.2, others=0.0), "virtual machine took 20 %"),
        (Noise(3.0, stolen=0.0, others=0.6), "Other processes took 60 %"),
    ],
)
def test_who_took_the_cpu_is_named(noise: Noise, word: str) -> None:
    assert any(word in said for said in advice({}, noise, Spread(deviation=None)))


def test_tracing_is_named() -> None:
    (said,) = advice({"tracing": "a trace function is set"}, QUIET, Spread(deviation=None))
    assert "slower than it is in production" in said


def test_the_debugger_tells_what_a_run_did() -> None:
    def fails() -> None:
        raise ValueError("no")

    lab = PerformanceBenchmarker()
    report = lab.benchmark_function(fails)
    steps = [event.what for event in lab.debugger.of("fails")]
    assert steps[0] == "started"
    assert steps[-1] == "ended"
    assert {"failure", "mark"} <= set(steps)
    assert "ValueError: no" in lab.debugger.explain(report)
    lab.debugger.clear()
    assert list(lab.debugger.of("fails")) == []
