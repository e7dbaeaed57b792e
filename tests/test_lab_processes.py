"""Users who are processes: each a fresh interpreter, whose calls, failures and limits are those of the run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from hotlap.errors import OptionError, OptionTypeError
from load import concurrent, die, fail, keep, leave_mark, refuse, said, sleep_long


def nothing():
    pass


@pytest.mark.slow
def test_users_may_be_processes(tmp_path):
    outcome = concurrent(
        leave_mark, str(tmp_path), iterations=60, concurrent_users=2, processes=True, warmup_iterations=4
    )
    details = outcome.examination.details
    marks = {int(path.name): path.stat().st_size for path in tmp_path.iterdir()}
    assert details["kind_of_users"] == "processes"
    assert len(marks) == 2
    assert os.getpid() not in marks
    assert sum(marks.values()) == 60 + 4 + details["alone"]["calls"]
    assert len(outcome.series.time_s) == 60
    assert set(outcome.user) <= {0, 1}
    assert details["interpreter_lock"] is None
    assert np.isfinite(outcome.series.thread_cpu_s).all()


@pytest.mark.slow
def test_failures_in_processes_come_back():
    outcome = concurrent(fail, iterations=30, concurrent_users=2, processes=True)
    (failure,) = outcome.failures.failures(outcome.series.time_s, None)
    assert failure.count == 30
    assert failure.type == "ValueError"
    assert "in fail" in failure.place
    assert outcome.throughput == 0.0  # nothing succeeded


@pytest.mark.slow
def test_what_setup_raises_in_a_process_ends_the_run():
    with pytest.raises(RuntimeError, match="no table is free"):
        concurrent(nothing, iterations=10, concurrent_users=1, processes=True, setup=refuse)


@pytest.mark.slow
def test_processes_have_limits_too():
    outcome = concurrent(
        sleep_long, iterations=10, concurrent_users=2, processes=True, warmup_iterations=2, timeout=5.0
    )
    assert outcome.ended.limit == "timeout"
    assert "2 calls were cut off" in said(outcome)


@pytest.mark.slow
def test_memory_of_processes_counts():
    outcome = concurrent(
        keep, 1_000_000, iterations=10**6, concurrent_users=1, processes=True, memory_limit=100.0, timeout=60.0
    )
    assert outcome.ended.limit == "memory_limit"
    assert outcome.peak_mb > 100.0


@pytest.mark.slow
def test_a_process_that_dies_is_said():
    outcome = concurrent(die, iterations=10, concurrent_users=1, processes=True)
    assert "ended with exit code 7" in said(outcome)
    assert len(outcome.series.time_s) == 0


def test_a_function_that_cannot_be_pickled_is_refused():
    with pytest.raises(OptionTypeError, match=r"cannot be pickled .* define functions at the top of a module"):
        concurrent(lambda: None, concurrent_users=2, processes=True)
    with pytest.raises(OptionTypeError, match="an argument cannot be pickled"):
        concurrent(time.sleep, threading.Lock(), concurrent_users=2, processes=True)


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_of_it(tmp_path):
    """Each process imports the script, and would begin its work again."""
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from load import concurrent\n"
        "concurrent(time.sleep, 0, iterations=4, concurrent_users=1, processes=True)\n"
    )
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert 'under if __name__ == "__main__":' in done.stderr.splitlines()[-1]


def test_async_users_are_no_processes():
    async def subject():
        pass

    with pytest.raises(OptionError, match="tasks of one event loop"):
        concurrent(subject, concurrent_users=2, processes=True)
