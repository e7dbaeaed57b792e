"""CONCURRENT: users at once, each of whom calls again as soon as its call is over. Durations are checked by what must
hold on any machine: a call that sleeps takes at least that long, a lock lets one in at a time.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import pickle
import sqlite3
import sys
import threading
import time
import urllib.request
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from hotlap.errors import OptionError
from hotlap.lab.config import DebugLevel
from load import Gauge, concurrent, fail, refuse


def nothing():
    pass


# -- the closed model ----------------------------------------------------------------------------------------


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


def test_loops_are_refused():
    with pytest.raises(OptionError, match="loops=10 is not allowed here"):
        concurrent(nothing, iterations=10, loops=10)


# -- tasks ---------------------------------------------------------------------------------------------------


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


# -- real parts ----------------------------------------------------------------------------------------------


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


# -- failures ------------------------------------------------------------------------------------------------


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
    assert concurrent(sys.exit, 3, iterations=20, concurrent_users=2).series.failed.sum() == 20
    assert hooked == []
    assert capsys.readouterr() == ("", "")
