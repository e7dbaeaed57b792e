"""The environment of a run is recorded, and what makes its timings noisy is named; a quiet run gets no advice."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from hotlap import PerformanceBenchmarker
from hotlap.lab.environment import Noise, advice, cpus, environment

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
    assert advice(NOISY, QUIET, spread=0.01, preempted=0.0) == []


def test_iterations_that_differ_are_explained_by_what_the_system_tells() -> None:
    (said,) = advice(NOISY, QUIET, spread=0.2, preempted=1.5)
    for cause in ("differ by 20%", "taken off its CPU", "'powersave'", "turbo", "multithreading"):
        assert cause in said


def test_without_a_cause_it_says_so() -> None:
    (said,) = advice({}, QUIET, spread=0.2, preempted=0.0)
    assert "nothing that the system tells explains it" in said


@pytest.mark.parametrize(
    ("noise", "word"),
    [
        (Noise(0.0, stolen=0.2, others=0.0), "virtual machine took 20%"),
        (Noise(3.0, stolen=0.0, others=0.6), "Other processes took 60%"),
    ],
)
def test_who_took_the_cpu_is_named(noise: Noise, word: str) -> None:
    assert any(word in said for said in advice({}, noise, spread=None, preempted=None))


def test_tracing_is_named() -> None:
    (said,) = advice({"tracing": "a trace function is set"}, QUIET, spread=None, preempted=None)
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
