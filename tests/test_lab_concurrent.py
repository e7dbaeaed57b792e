"""CONCURRENT: users at once, in a closed and in an open model. Durations are checked by what must hold on any machine:
a call that sleeps takes at least that long, a lock lets one in at a time.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from hotlap import core
from hotlap.errors import HotlapError, OptionError, OptionTypeError
from hotlap.lab.config import DebugLevel
from hotlap.lab.kinds import concurrent as module
from hotlap.lab.kinds.concurrent import arrivals, generator_limits, interpreter_lock
from hotlap.lab.load.crew import matched
from hotlap.lab.load.users import DONE, FAILED, RUNNING, STOPPED
from hotlap.lab.runs.interrupts import hangs
from load import Gauge, concurrent, die, fail, keep, leave_mark, refuse, said, sleep_long

# A call on a thread is ended by an exception that is sent there, which hangs programs that are traced in 3.11.
INTERRUPTS = pytest.mark.skipif(hangs(), reason="nothing is interrupted while tests are traced in 3.11")


def nothing():
    pass


# -- the closed model ---------------------------------------------------------------------------------------


def test_iterations_are_the_calls_of_all_users_together():
    """Beside them are the warm-up, an equal number for each user, and the time that one user works alone."""
    gauge = Gauge()

    def subject():
        with gauge:
            pass

    outcome = concurrent(subject, iterations=100, concurrent_users=4, warmup_iterations=10)
    assert len(outcome.series.time_s) == outcome.planned == 100
    alone = outcome.examination.details["alone"]["calls"]
    assert gauge.entered == 100 + 4 * 3 + alone
    assert outcome.ended is None
    assert not outcome.interrupted


def test_all_users_call_at_once():
    gauge = Gauge()

    def subject():
        with gauge:
            time.sleep(0.05)

    outcome = concurrent(subject, iterations=12, concurrent_users=4)
    assert gauge.most == 4
    assert outcome.examination.details["in_flight_peak"] == outcome.in_flight.max() == 4
    assert set(outcome.user) == {0, 1, 2, 3}
    assert set(outcome.users) == {4}


def test_users_are_threads_of_this_process_and_stay_for_the_run():
    """What a thread keeps is warm when it is measured."""
    kept, made = threading.local(), []

    def subject():
        if not hasattr(kept, "connection"):
            kept.connection = object()
            made.append(threading.get_ident())
        time.sleep(0.001)

    outcome = concurrent(subject, iterations=90, concurrent_users=3, warmup_iterations=3)
    assert len(made) == len(set(made)) == 3
    assert threading.get_ident() not in made
    assert outcome.examination.details["kind_of_users"] == "threads"


def test_a_lock_of_5_ms_lets_200_calls_a_second_through_whatever_the_users():
    lock = threading.Lock()

    def subject():
        with lock:
            time.sleep(0.005)

    outcome = concurrent(subject, iterations=80, concurrent_users=4)
    details = outcome.examination.details
    assert 0 < details["throughput"] <= 200.0
    assert 0 < details["steady_throughput"] <= 200.0
    assert details["alone"]["throughput"] <= 200.0
    assert details["slower_than_alone"] > 1.5  # who waits for three others takes longer than who waits for none
    assert details["waiting_share"] > 0.5
    assert details["waiting_s"] > 80 * 0.005 * 0.5
    assert details["cores_used"] < 1.0


def test_sleeping_threads_sleep_at_the_same_time():
    """8 users who sleep for 10 ms get at most 800 calls/s; three could not get more than 300."""
    outcome = concurrent(time.sleep, 0.01, iterations=240, concurrent_users=8)
    details = outcome.examination.details
    assert 300.0 < details["steady_throughput"] <= 800.0
    assert details["speed_up"] > 3.0
    assert details["efficiency"] == pytest.approx(details["speed_up"] / 8)
    assert details["speed_up_interval"][0] <= details["speed_up"] <= details["speed_up_interval"][1]


def test_time_in_flight_is_that_of_littles_law():
    """Users are in flight for the time of their calls: mean number = throughput * mean time, over the whole run."""
    outcome = concurrent(time.sleep, 0.002, iterations=60, concurrent_users=3)
    details = outcome.examination.details
    assert details["in_flight_mean"] == pytest.approx(details["throughput"] * outcome.series.raw_s.mean(), rel=0.01)
    assert details["in_flight_mean"] <= 3.0
    assert outcome.throughput == details["steady_throughput"]


def test_one_user_has_nobody_to_be_compared_with():
    outcome = concurrent(nothing, iterations=50, concurrent_users=1)
    details = outcome.examination.details
    assert details["alone"] is None
    assert details["speed_up"] is None
    assert details["fairness"] == 1.0


def test_more_calls_than_the_ring_holds_are_all_recorded():
    outcome = concurrent(nothing, iterations=60_000, concurrent_users=4)
    assert len(outcome.series.time_s) == 60_000
    assert np.all(np.diff(outcome.series.started) >= 0)


def test_at_the_basic_level_there_are_times_and_no_evidence():
    outcome = concurrent(time.sleep, 0.001, iterations=20, concurrent_users=2, level=DebugLevel.BASIC)
    assert (outcome.series.time_s >= 0.0005).all()
    assert np.isnan(outcome.series.cpu_s).all()
    assert outcome.examination.details["waiting_share"] is None


def test_setup_gives_each_call_its_arguments_and_teardown_follows():
    numbers, seen, torn_down = itertools.count(), [], []

    def subject(number, factor):
        seen.append(number * factor)

    outcome = concurrent(
        subject,
        iterations=30,
        concurrent_users=3,
        setup=lambda: ((next(numbers),), {"factor": 10}),
        teardown=lambda: torn_down.append(1),
    )
    alone = outcome.examination.details["alone"]["calls"]
    assert len(outcome.series.time_s) == 30
    assert sorted(seen) == [10 * number for number in range(30 + alone)]
    assert len(torn_down) == 30 + alone


@pytest.mark.parametrize("where", ["setup", "teardown"])
def test_what_setup_and_teardown_raise_ends_the_run(where):
    with pytest.raises(RuntimeError, match="no table is free"):
        concurrent(nothing, iterations=10, concurrent_users=2, **{where: refuse})


def test_an_outcome_can_be_sent_to_another_process():
    outcome = concurrent(fail, iterations=20, concurrent_users=2)
    sent = pickle.loads(pickle.dumps(outcome))
    assert len(sent.failures) == 20
    assert sent.failures.failures(sent.series.time_s, None) == outcome.failures.failures(outcome.series.time_s, None)


def test_details_are_plain():
    outcome = concurrent(nothing, iterations=20, concurrent_users=2)
    assert json.loads(json.dumps(outcome.examination.details)) == outcome.examination.details


def test_progress_tells_of_the_phases():
    phases = []
    concurrent(
        time.sleep, 0.001, iterations=300, concurrent_users=2, warmup_iterations=4,
        progress=lambda state: phases.append(state.phase),
    )  # fmt: skip
    assert "measuring" in phases


# -- tasks --------------------------------------------------------------------------------------------------


def test_users_of_an_async_function_are_tasks_of_one_loop():
    gauge, threads = Gauge(), set()

    async def subject():
        with gauge:
            threads.add(threading.get_ident())
            await asyncio.sleep(0.02)

    outcome = concurrent(subject, iterations=60, concurrent_users=10, warmup_iterations=10)
    assert outcome.examination.details["kind_of_users"] == "tasks"
    assert gauge.most == 10
    assert len(threads) == 1
    assert len(outcome.series.time_s) == 60
    assert (outcome.series.time_s >= 0.019).all()
    assert outcome.series.suspensions.min() >= 1


def test_a_task_that_never_suspends_does_not_keep_the_others_from_their_calls():
    async def subject():
        return 1

    outcome = concurrent(subject, iterations=40, concurrent_users=4)
    details = outcome.examination.details
    assert (details["fewest_calls_of_a_user"], details["most_calls_of_a_user"]) == (10, 10)


def test_setup_and_teardown_of_tasks_may_be_async():
    torn_down = []

    async def prepare():
        await asyncio.sleep(0)
        return (7,), {}

    async def clean():
        await asyncio.sleep(0)
        torn_down.append(1)

    async def subject(number):
        return number

    outcome = concurrent(subject, iterations=10, concurrent_users=1, setup=prepare, teardown=clean)
    assert outcome.result == 7
    assert len(torn_down) == 10


def test_setup_that_returns_something_else_is_refused():
    with pytest.raises(OptionError, match="setup returned 3: it must return None, or the arguments"):
        concurrent(nothing, iterations=10, concurrent_users=2, setup=lambda: 3)


def test_tasks_run_where_a_loop_runs_already():
    async def subject():
        await asyncio.sleep(0)

    async def notebook():
        return concurrent(subject, iterations=10, concurrent_users=2)

    assert len(asyncio.run(notebook()).series.time_s) == 10


def test_a_cancellation_of_the_subjects_own_doing_is_a_failure():
    async def subject():
        raise asyncio.CancelledError

    outcome = concurrent(subject, iterations=10, concurrent_users=2)
    assert outcome.series.failed.sum() == 10


# -- real parts ---------------------------------------------------------------------------------------------


def test_sqlite_is_locked_under_concurrency_alone(tmp_path):
    """Writers who do not wait for each other: a table of their rows tells how many have succeeded."""
    path = tmp_path / "rows.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("create table rows (at real)")

    def subject():
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
            db.execute("begin immediate")
            db.execute("insert into rows values (?)", (time.time(),))
            time.sleep(0.003)
            db.execute("commit")

    outcome = concurrent(subject, iterations=100, concurrent_users=4)
    failed, alone = int(outcome.series.failed.sum()), outcome.examination.details["alone"]
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("select count(*) from rows").fetchone()[0]
    assert alone["failed"] == 0
    assert rows == 100 - failed + alone["calls"]
    failures = outcome.failures.failures(outcome.series.time_s, None)
    assert sum(failure.count for failure in failures) == failed
    assert {failure.type for failure in failures} == {"sqlite3.OperationalError"}
    assert all("locked" in failure.message for failure in failures)
    failure = max(failures, key=lambda failure: failure.count)  # a commit fails, too, where another one just begins
    assert "begin immediate" in failure.traceback
    assert "crew.py" not in failure.traceback
    assert any("only under concurrency" in pattern for pattern in failure.patterns)
    assert outcome.examination.details["error_rate"] == failed / 100


def test_http_server_on_loopback_serves_its_users_at_once():
    gauge = Gauge()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            with gauge:
                time.sleep(0.02)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:

            def get():
                with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=30) as answer:
                    return answer.read()

            outcome = concurrent(get, iterations=40, concurrent_users=5)
        finally:
            server.shutdown()
            thread.join()
    assert outcome.result == b"ok"
    assert outcome.series.failed.sum() == 0
    assert (outcome.series.time_s >= 0.02).all()
    assert gauge.most >= 3


# -- failures -----------------------------------------------------------------------------------------------


def test_what_fails_alone_too_does_not_come_with_the_load():
    calls = itertools.count(1)

    def subject():
        if next(calls) % 5 == 0:
            raise ValueError("every fifth")

    outcome = concurrent(subject, iterations=100, concurrent_users=4)
    (failure,) = outcome.failures.failures(outcome.series.time_s, None)
    assert failure.count == 20
    assert not any("concurrency" in pattern for pattern in failure.patterns)


def test_one_failure_is_too_few_to_say_that_it_comes_with_the_load():
    """None of 20 calls alone and one of 100 beside others: that is chance in five of six cases."""
    calls = itertools.count(1)

    def subject():
        if next(calls) == 60:
            raise ValueError("once")

    outcome = concurrent(subject, iterations=100, concurrent_users=4)
    (failure,) = outcome.failures.failures(outcome.series.time_s, None)
    assert failure.count == 1
    assert outcome.series.failed[failure.first_iteration] == 1
    assert not any("concurrency" in pattern for pattern in failure.patterns)


def test_nothing_is_printed_by_a_thread_that_fails(capsys, monkeypatch):
    hooked = []
    monkeypatch.setattr(threading, "excepthook", hooked.append)
    outcome = concurrent(fail, iterations=20, concurrent_users=2)
    assert outcome.series.failed.sum() == 20
    with pytest.raises(SystemExit):
        concurrent(sys.exit, 3, iterations=20, concurrent_users=2)
    assert hooked == []
    assert capsys.readouterr() == ("", "")


# -- the open model -----------------------------------------------------------------------------------------


def test_arrivals_are_even():
    assert arrivals(4, 1000.0).tolist() == [0, 1_000_000, 2_000_000, 3_000_000]
    assert arrivals(10**5, 3.0)[-1] == pytest.approx((10**5 - 1) / 3 * 1e9, rel=1e-12)


def test_poisson_arrivals_wait_as_long_as_pollaczek_and_khinchine_say():
    """M/D/1: one server, calls of 1 s, half of its capacity asked for: 0.5 s of waiting on average."""
    load, calls = 0.5, 400_000
    due = arrivals(calls, load, poisson=True, seed=3) / 1e9
    # Lindley's recursion: the wait is how far the work that came lies above its lowest point so far.
    work = np.arange(calls) - due
    waits = work - np.minimum.accumulate(work)
    assert np.diff(due).mean() == pytest.approx(2.0, rel=0.01)
    assert waits.mean() == pytest.approx(load / (2 * (1 - load)), rel=0.03)


def test_poisson_arrivals_are_the_same_for_the_same_seed():
    assert (arrivals(100, 5.0, True, seed=1) == arrivals(100, 5.0, True, seed=1)).all()
    assert (arrivals(100, 5.0, True, seed=1) != arrivals(100, 5.0, True, seed=2)).any()


def test_no_call_begins_before_it_is_due_or_before_a_user_is_free():
    """One user, calls of 5 ms: each call begins at the earliest as Lindley's recursion says."""
    poisson = {"arrival_rate": 100.0, "arrivals": "poisson", "seed": 5}
    outcome = concurrent(time.sleep, 0.005, iterations=60, concurrent_users=1, **poisson)
    due = arrivals(60, 100.0, True, seed=5) / 1e9
    least, free = [], 0.0
    for at in due.tolist():
        least.append(max(at, free) - at)
        free = max(at, free) + 0.005
    begun_after = outcome.latency_s - outcome.series.time_s
    assert (begun_after >= np.array(least) - 1e-6).all()
    assert np.max(least) > 0.005  # some did have to wait
    assert outcome.in_flight.max() == 1


def test_latency_is_the_wait_for_a_user_the_generators_lateness_and_the_call():
    outcome = concurrent(time.sleep, 0.004, iterations=80, concurrent_users=2, arrival_rate=700.0)
    assert outcome.latency_s == pytest.approx(outcome.wait_s + outcome.lag_s + outcome.series.time_s, abs=1e-9)
    assert (outcome.lag_s >= 0).all()
    assert outcome.wait_s.max() > 0.01  # 700 * 4 ms is more than two can do


def test_a_stall_shows_in_all_the_calls_that_were_due_meanwhile():
    """One call of 300 stalls for 100 intervals. A closed loop would show one slow call; who asked for the others had to
    wait, too: a call due j ms after the stall began has a latency of at least 100 - j ms.
    """
    calls = itertools.count()

    def subject():
        if next(calls) == 100:
            time.sleep(0.1)

    outcome = concurrent(subject, iterations=300, concurrent_users=1, arrival_rate=1000.0)
    latency_ms = 1e3 * outcome.latency_s
    assert len(latency_ms) == 300
    for behind in range(100):
        assert latency_ms[100 + behind] >= 100 - behind - 0.01
    for limit in (90, 50, 10):  # so the percentiles are at least those of HdrHistogram's corrected case
        assert np.count_nonzero(latency_ms >= limit) >= 100 - limit
    assert np.percentile(latency_ms, 99) >= 96.0
    assert np.median(outcome.series.time_s) < 0.1 < outcome.series.time_s.max()


def test_asking_for_more_than_the_users_can_do_is_said():
    outcome = concurrent(time.sleep, 0.01, iterations=60, concurrent_users=2, arrival_rate=1000.0)
    details = outcome.examination.details
    assert details["model"] == "open"
    assert details["offered_load"] >= 10.0
    assert details["utilisation"] >= 5.0
    assert details["wait"]["max_s"] >= 0.01 * 60 / 2 - 0.07
    assert "calls wait ever longer" in said(outcome)
    assert details["not_begun"] == 0


def test_calls_that_were_due_and_not_begun_are_counted():
    outcome = concurrent(time.sleep, 0.05, iterations=1000, concurrent_users=1, arrival_rate=1000.0, timeout=0.5)
    details = outcome.examination.details
    assert outcome.ended.limit == "timeout"
    assert details["not_begun"] > 100
    assert details["due"] <= 1000
    assert "had not begun" in said(outcome)


def test_tasks_have_an_open_model_too():
    async def subject():
        await asyncio.sleep(0.02)

    outcome = concurrent(subject, iterations=60, concurrent_users=50, arrival_rate=500.0)
    assert len(outcome.series.time_s) == 60
    assert outcome.in_flight.max() >= 5  # 20 ms hold ten intervals
    assert outcome.examination.details["arrivals"] == "constant"


def test_a_late_generator_is_said():
    level = SimpleNamespace(mean_s=0.001, users=4)
    details = {
        "lag": {"mean_s": 0.002, "p99_s": 0.01},
        "latency": {"mean_s": 0.003},
        "not_begun": 0,
        "utilisation": 0.1,
        "arrival_rate": 100.0,
        "offered_load": 0.1,
    }
    notes, advice = module._open(level, details, None)
    assert "began a call 2 ms after it could have" in notes[0]
    assert advice == []
    details["lag"]["mean_s"] = 0.0001
    assert module._open(level, details, None) == ([], [])


def served(fairness):
    return {
        "speed_up": 1.0,
        "speed_up_interval": [0.9, 1.1],
        "fairness": fairness,
        "most_calls_of_a_user": 90,
        "fewest_calls_of_a_user": 10,
    }


def test_users_who_wait_for_each_other_and_are_not_served_alike_are_said_to():
    level = SimpleNamespace(users=4, waiting_share=0.75, mean_s=0.004, calls=100)
    alone = SimpleNamespace(mean_s=0.001)
    slow, unfair = module._scaling("threads", level, alone, served(0.5))
    assert slow == (
        "4 threads get 1 times as much done as one [0.9, 1.1]: a call takes 4 ms beside others, 75 % of it without a "
        "CPU, and 1 ms alone."
    )
    assert "the busiest made 90 calls, another 10" in unfair
    assert len(module._scaling("threads", level, alone, served(1.0))) == 1


# -- the generator itself, and the interpreter's lock -------------------------------------------------------


def test_a_run_that_is_as_fast_as_nothing_is_said_to_be_the_generator():
    fast = SimpleNamespace(rate=200_000.0, users=4)
    assert (
        "The generator was the limit: 4 users make 200,000 calls/s, and 250,000" in generator_limits(fast, 250_000.0)[0]
    )
    assert "no more of an empty function" in generator_limits(fast, 180_000.0)[0]
    assert generator_limits(SimpleNamespace(rate=1000.0, users=1), 250_000.0) == []
    assert generator_limits(SimpleNamespace(rate=None, users=1), 250_000.0) == []


def looked(late_s, users=4, cores_used=1.0):
    return SimpleNamespace(users=users, cores_used=cores_used, part=SimpleNamespace(late_s=np.full(20, late_s)))


def test_threads_that_take_turns_at_the_interpreters_lock_are_said_to(monkeypatch):
    monkeypatch.setattr(module, "cpus", lambda: 4)
    found, sentences = interpreter_lock("threads", looked(sys.getswitchinterval()))
    if found is None:
        pytest.skip("this interpreter has no such lock")
    assert found["held_share"] == 1.0
    assert "4 threads used 1 of 4 CPUs" in sentences[0]
    for other in (looked(1e-4), looked(0.005, users=1), looked(0.005, cores_used=0.1), looked(0.005, cores_used=3.0)):
        assert interpreter_lock("threads", other)[1] == []
    assert interpreter_lock("processes", looked(0.005)) == (None, [])
    monkeypatch.setattr(module, "cpus", lambda: 1)  # then there is only one to use
    assert interpreter_lock("threads", looked(0.005))[1] == []


# -- limits and interruptions -------------------------------------------------------------------------------


def alive():
    return [thread for thread in threading.enumerate() if thread.name.startswith("user")]


@pytest.fixture
def release():
    """What calls that hang wait for; set after the test, and then all users go home."""
    event = threading.Event()
    yield event
    event.set()
    for thread in alive():
        thread.join(10)
    assert alive() == []


def test_calls_that_hang_are_left_behind_at_the_end_of_the_time_budget(release):
    calls = itertools.count()

    def subject():
        if next(calls) >= 210:  # 200 are made alone
            release.wait()

    outcome = concurrent(subject, iterations=1000, concurrent_users=3, timeout=0.5)
    assert outcome.ended.limit == "timeout"
    assert outcome.cut_off
    assert outcome.examination.details["still_running"] == 3
    assert "3 calls were still running at the end" in said(outcome)
    assert len(outcome.series.time_s) == 10


@INTERRUPTS
def test_calls_that_compute_are_interrupted():
    calls = itertools.count()

    def subject():
        while next(calls) >= 210:
            pass

    outcome = concurrent(subject, iterations=1000, concurrent_users=2, timeout=0.5)
    assert outcome.ended.limit == "timeout"
    assert outcome.examination.details["cut_off"] == 2
    assert outcome.examination.details["still_running"] == 0
    assert "2 calls were cut off" in said(outcome)
    assert len(outcome.series.time_s) == 10
    assert alive() == []


@INTERRUPTS
@pytest.mark.parametrize("stubborn", [False, True])
def test_tasks_that_wait_are_cancelled_or_left_behind(stubborn):
    async def subject():
        while True:
            with suppress(*[asyncio.CancelledError] * stubborn):
                await asyncio.sleep(600)

    outcome = concurrent(subject, iterations=10, concurrent_users=1, timeout=0.3)
    details = outcome.examination.details
    assert outcome.ended.limit == "timeout"
    assert (details["cut_off"], details["still_running"]) == ((0, 1) if stubborn else (1, 0))
    assert alive() == []


def test_a_coroutine_that_blocks_its_loop_is_left_behind(release):
    async def subject():
        release.wait()

    outcome = concurrent(subject, iterations=10, concurrent_users=2, timeout=0.3)
    assert outcome.ended.limit == "timeout"
    assert "1 call was still running" in said(outcome)


def test_memory_that_grows_ends_the_run():
    kept, calls = [], itertools.count()

    def subject():
        if next(calls) >= 1010:  # 1,000 are made alone
            kept.append(b"x" * 10**6)

    outcome = concurrent(subject, iterations=100_000, concurrent_users=2, memory_limit=100.0)
    assert outcome.ended.limit == "memory_limit"
    assert outcome.peak_mb > 100.0
    assert 0 < len(outcome.series.time_s) < 100_000


def test_a_run_that_is_over_while_it_warms_up_has_no_rows():
    outcome = concurrent(time.sleep, 0.01, iterations=10, concurrent_users=2, warmup_iterations=10_000, timeout=0.3)
    assert outcome.ended.limit == "timeout"
    assert len(outcome.series.time_s) == 0
    assert outcome.examination.details["calls"] == 0
    assert outcome.examination.details["throughput"] is None


@INTERRUPTS
def test_the_users_interrupt_gives_what_was_measured():
    """Ctrl-C, while threads are at work."""
    calls = itertools.count(1)

    def subject():
        time.sleep(0.001)
        if next(calls) == 300:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    outcome = concurrent(subject, iterations=1000, concurrent_users=2)
    assert outcome.interrupted
    assert outcome.ended is None
    assert 90 < len(outcome.series.time_s) < 1000
    assert alive() == []


def test_an_interrupt_that_the_subject_raises_counts_as_the_users():
    calls = itertools.count(1)

    def subject():
        if next(calls) == 60:
            raise KeyboardInterrupt

    outcome = concurrent(subject, iterations=100, concurrent_users=2)
    assert outcome.interrupted
    assert 30 < len(outcome.series.time_s) < 100


# -- processes ----------------------------------------------------------------------------------------------


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


def test_loops_are_refused():
    with pytest.raises(OptionError, match="loops=10 is not allowed here"):
        concurrent(nothing, iterations=10, loops=10)


def test_async_users_are_no_processes():
    async def subject():
        pass

    with pytest.raises(OptionError, match="tasks of one event loop"):
        concurrent(subject, concurrent_users=2, processes=True)


@INTERRUPTS
def test_threads_that_the_system_does_not_give_are_said(monkeypatch):
    start, started = threading.Thread.start, itertools.count(1)

    def refuse_the_third(self):
        if self.name.startswith("user") and next(started) == 3:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse_the_third)
    with pytest.raises(HotlapError, match="concurrent_users=5: the system gave only 2 threads"):
        concurrent(nothing, concurrent_users=5)
    assert alive() == []


# -- notes and records --------------------------------------------------------------------------------------


def noted(calls):
    """Columns of a Note: (number, called_ns, state) each."""
    number, called, state = (np.array(column, np.int64) for column in zip(*calls, strict=True))
    return np.zeros(len(number), np.int64), number, called, called, state


def recorded(*starts):
    records = np.zeros(len(starts), core.record_dtype())
    records["start_ns"] = starts
    return records


def test_records_and_notes_of_a_thread_are_matched_by_their_order():
    """The last call runs on: it has a note, and no record."""
    columns = noted([(0, 100, DONE), (3, 200, FAILED), (4, 300, STOPPED), (7, 400, RUNNING)])
    records, rows, cut_off, running = matched(columns, recorded(301, 101, 201))
    assert records["start_ns"].tolist() == [101, 201]
    assert rows[1].tolist() == [0, 3]
    assert (cut_off, running) == (1, 1)


def test_a_call_without_a_record_is_found_by_its_time():
    """The second one switched measuring off: what it did is in no number."""
    columns = noted([(0, 100, DONE), (1, 200, DONE), (2, 300, DONE)])
    records, rows, *_ = matched(columns, recorded(101, 301))
    assert records["start_ns"].tolist() == [101, 301]
    assert rows[1].tolist() == [0, 2]


def test_a_note_that_was_not_finished_takes_its_record_with_it():
    columns = noted([(0, 100, DONE), (1, 200, RUNNING)])
    records, rows, *_ = matched(columns, recorded(101, 201))
    assert rows[1].tolist() == [0]
    assert len(records) == 1
