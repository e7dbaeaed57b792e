"""Crew: its users are ended by the limits of a run, and their records are put together with their notes."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from hotlap import core
from hotlap.errors import HotlapError
from hotlap.lab.config import BenchmarkConfig
from hotlap.lab.load.crew import matched
from hotlap.lab.load.users import CAPACITY, DONE, FAILED, RUNNING, STOPPED, Kit
from hotlap.lab.runs.interrupts import hangs
from hotlap.lab.runs.recording import Recording
from hotlap.lab.runs.subject import Subject
from load import concurrent, said

# A call on a thread is ended by an exception that is sent there, which hangs programs that are traced in 3.11.
INTERRUPTS = pytest.mark.skipif(hangs(), reason="nothing is interrupted while tests are traced in 3.11")


def nothing():
    pass


# -- limits and interruptions --------------------------------------------------------------------------------


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


# -- notes and records ---------------------------------------------------------------------------------------


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


# -- the ring -----------------------------------------------------------------------------------------------


def test_users_wait_for_the_one_who_empties_the_ring():
    """Else they fill it, while that one waits for the interpreter's lock behind all of them."""
    config = BenchmarkConfig()
    with Recording(evidence=False, capacity=CAPACITY) as recording:
        kit = Kit(Subject(nothing, ()), config, recording)
        ticking = threading.Thread(target=kit.tick, args=(CAPACITY - 1,))
        with kit._draining:
            kit.tick(1)  # a ring that is nearly empty holds up nobody
            ticking.start()
            ticking.join(0.05)
            assert ticking.is_alive()
        ticking.join(10)
        assert not ticking.is_alive()


def test_many_threads_lose_no_record():
    outcome = concurrent(nothing, iterations=40_000, concurrent_users=64)
    assert len(outcome.series.time_s) == 40_000
