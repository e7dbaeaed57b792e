"""CPU: what was computed, by whom and where, is what the threads and processes themselves know of it."""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hotlap.lab.config import BenchmarkConfig, DebugLevel
from hotlap.lab.environment import cpus
from hotlap.lab.kinds.cpu import CPU
from hotlap.lab.looks import procfs
from hotlap.lab.looks.cpu import CPUTracker
from hotlap.lab.looks.perf import HARDWARE, Counters
from hotlap.lab.looks.tally import Tally
from hotlap.lab.runs.limits import Guard
from kinds import examined

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells this, others do not")


def spin(seconds: float) -> None:
    """Compute for so much CPU time of this thread."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(100))


def release_the_lock(seconds: float) -> float:
    """Compute outside of the interpreter's lock; how long, by this thread's own clock."""
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2000)
    return time.thread_time() - began


# -- the tracker --------------------------------------------------------------------------------------------------


def test_cpu_time_is_that_of_the_process_clock() -> None:
    """User and system time add up to what the process's own clock says."""
    outside = time.process_time()
    with CPUTracker() as cpu:
        inside = time.process_time()
        spin(0.02)
        inside = time.process_time() - inside
    outside = time.process_time() - outside
    assert inside <= cpu.user_s + cpu.system_s <= outside
    assert cpu.cpu_s == pytest.approx(cpu.user_s + cpu.system_s)
    assert cpu.thread_s is not None
    assert 0.02 <= cpu.thread_s <= outside + 1e-4
    assert cpu.cores_used == cpu.cpu_s / cpu.wall_s


def test_a_call_that_sleeps_waits_and_gives_up_its_cpu() -> None:
    """A sleep is one voluntary switch, and its time is waiting."""
    with CPUTracker() as cpu:
        for _ in range(3):
            time.sleep(0.02)
    assert cpu.voluntary_switches == 3
    assert cpu.wait_s is not None
    assert cpu.wait_s > 0.05
    assert cpu.efficiency is not None
    assert cpu.efficiency < 0.5


def test_a_call_that_only_computes_does_not_wait() -> None:
    """Without a voluntary switch there is no waiting, whatever the clocks say."""
    with CPUTracker() as cpu:
        spin(0.001)
    assert cpu.voluntary_switches == 0
    assert cpu.wait_s == 0.0


def test_nothing_is_known_before_anything_was_measured() -> None:
    """No evidence is None or NaN, not 0."""
    cpu = CPUTracker()
    assert math.isnan(cpu.cores_used)
    assert cpu.efficiency is None
    assert cpu.voluntary_switches is None
    assert cpu.migrations is None
    assert cpu.hardware == {}


def test_a_tracker_begins_anew_each_time() -> None:
    """Entering it again forgets what was counted before."""
    tracker = CPUTracker()
    with tracker:
        spin(0.03)
    with tracker:
        spin(0.001)
    assert tracker.thread_s is not None
    assert 0.001 <= tracker.thread_s < 0.03
    assert tracker.spans == 1


def test_spans_are_summed_up_and_what_is_between_them_is_not() -> None:
    """As an observer it counts from before() to after(); a span without an end is forgotten."""
    tracker = CPUTracker()
    for _ in range(3):
        tracker.before()
        spin(0.002)
        tracker.after()
        spin(0.01)
    tracker.before()
    spin(0.01)
    tracker.close()
    assert tracker.spans == 3
    assert tracker.thread_s is not None
    assert 0.006 <= tracker.thread_s < 0.016


def test_other_threads_are_counted() -> None:
    """Threads that compute beside the calling one, as those of numpy's BLAS or of a pool."""
    used: list[float] = []
    with CPUTracker() as cpu:
        threads = [threading.Thread(target=lambda: used.append(release_the_lock(0.02))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert cpu.other_threads_s is not None
    assert cpu.thread_s is not None
    assert cpu.other_threads_s >= sum(used) - 1e-4
    assert cpu.thread_s < sum(used)
    assert cpu.user_s + cpu.system_s == pytest.approx(cpu.other_threads_s + cpu.thread_s, rel=0.01)


def test_a_thread_that_does_not_fit_is_said_to_be_unknown() -> None:
    """The calling thread's numbers are None when a span ended on another thread than it began on."""
    tracker = CPUTracker().start()
    thread = threading.Thread(target=tracker.stop)
    thread.start()
    thread.join()
    assert tracker.thread_s is None
    assert tracker.efficiency is None
    assert tracker.cpu_s > 0.0


def test_child_processes_that_were_waited_for_are_counted() -> None:
    """A child's CPU time is what it says itself, or a little more: it had to start and to end."""
    script = "import time\nwhile time.process_time() < 0.1: sum(range(100))\nprint(time.process_time())"
    with CPUTracker() as cpu:
        said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert cpu.children_user_s + cpu.children_system_s >= float(said) >= 0.1
    assert cpu.cpu_s >= float(said)
    assert cpu.thread_s is not None
    assert cpu.thread_s < 0.1


def test_child_processes_that_go_on_are_counted() -> None:
    """The workers of a pool are never waited for: their clocks are looked at."""
    script = """
import sys, time
for line in sys.stdin:
    until = time.process_time() + 0.2
    while time.process_time() < until: sum(range(100))
    print("done", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        with CPUTracker() as cpu:
            print("compute", file=child.stdin, flush=True)
            child.stdout.readline()
        child.stdin.close()
    assert cpu.running_children == 1
    assert cpu.running_children_s >= 0.17  # in ticks of a hundredth of a second, of user and of system time
    assert cpu.children_user_s == 0.0
    assert cpu.cpu_s >= cpu.running_children_s


def test_what_hotlap_does_itself_is_left_out() -> None:
    """The thread that watches the limits is none of the call's."""
    done = threading.Event()
    computed: list[float] = []

    def compute() -> None:
        while not done.is_set():
            hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2000)
        computed.append(time.thread_time())

    thread = threading.Thread(target=compute, name="hotlap lab limits")
    thread.start()
    with CPUTracker() as cpu:
        time.sleep(0.05)
    done.set()
    thread.join()
    assert computed[0] > 0.0
    assert cpu.other_threads_s is not None
    assert cpu.other_threads_s < 0.2 * computed[0]


def test_the_threads_that_are_left_out_are_those_that_hotlap_starts() -> None:
    """The thread that watches a run's limits goes by a known name."""
    assert procfs.own_threads() == []
    with Guard(BenchmarkConfig()):
        assert len(procfs.own_threads()) == 1


@linux
@pytest.mark.skipif(cpus() < 2, reason="needs two CPUs")
def test_each_move_to_another_cpu_is_counted() -> None:
    """A thread that is told to run elsewhere is moved at once; both ways of counting say so."""
    allowed = os.sched_getaffinity(0)
    first, second = sorted(allowed)[:2]
    try:
        os.sched_setaffinity(0, {first})
        before = procfs.migrations()
        with CPUTracker() as cpu:
            for _ in range(5):
                os.sched_setaffinity(0, {second})
                os.sched_setaffinity(0, {first})
        after = procfs.migrations()
    finally:
        os.sched_setaffinity(0, allowed)
    assert cpu.migrations == 10
    assert after - before >= 10


@linux
@pytest.mark.slow
def test_waiting_for_a_cpu_is_not_waiting_for_something_else() -> None:
    """Two that compute on one CPU take turns: each is taken off it, and waits in the queue."""
    allowed = os.sched_getaffinity(0)
    one = min(allowed)
    rival = subprocess.Popen([sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{one}}})\nwhile 1: pass"])
    try:
        os.sched_setaffinity(0, {one})
        until = time.monotonic() + 20.0
        with CPUTracker() as cpu:
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
            while resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw < before + 10 and time.monotonic() < until:
                spin(0.001)
    finally:
        os.sched_setaffinity(0, allowed)
        rival.kill()
        rival.wait()
    assert cpu.involuntary_switches is not None
    assert cpu.involuntary_switches >= 10
    assert cpu.queue_wait_s is not None
    assert cpu.queue_wait_s > 0.0
    assert cpu.thread_s is not None
    assert cpu.thread_s + cpu.queue_wait_s < cpu.wall_s + 0.01


def test_an_unreadable_source_is_named_and_asked_no_more() -> None:
    """What the system does not tell is said with the reason, and breaks nothing."""
    asked: list[str] = []

    def closed() -> dict[str, float]:
        asked.append("closed")
        procfs.read("/proc/self/no_such_file")
        return {}

    tally = Tally(closed=closed, open=lambda: {"steps": float(len(asked))})
    for _ in range(3):
        tally.before()
        asked.append("step")
        tally.after()
    assert tally.not_readable == {"closed": "/proc/self/no_such_file: No such file or directory"}
    assert asked.count("closed") == 1
    assert tally["steps"] == 3.0
    assert tally.get("closed") is None
    assert math.isnan(tally["closed"])


# -- hardware counters --------------------------------------------------------------------------------------------


@pytest.fixture
def open_files() -> Iterator[None]:
    """Every file that the test opens is closed again."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) == before


@linux
def test_hardware_counters_are_there_or_their_absence_is_explained(open_files: None) -> None:
    """Cycles and instructions of a known amount of work, or a reason that says what is in the way."""
    with CPUTracker() as cpu:
        spin(0.05)
    missing = cpu.not_readable
    assert set(cpu.hardware) | (set(missing) & set(HARDWARE)) == set(HARDWARE)
    if "instructions" in cpu.hardware:
        assert cpu.hardware["instructions"] > 1e6
    else:
        reason = missing["instructions"]
        assert any(known in reason for known in ("PMU", "paranoid", "seccomp", "no such counter", "perf_event_open"))
        assert cpu.ipc is None


@linux
def test_events_are_counted_in_all_threads(open_files: None) -> None:
    """Page faults of the calling thread, of one that runs already and of one that is started later."""
    pages = 500
    go, gone = threading.Event(), threading.Event()

    def touch() -> None:
        with mmap.mmap(-1, pages * mmap.PAGESIZE) as memory:
            memory.madvise(mmap.MADV_NOHUGEPAGE)
            for page in range(pages):
                memory[page * mmap.PAGESIZE] = 1

    def touch_later() -> None:
        go.wait()
        touch()
        gone.set()

    early = threading.Thread(target=touch_later)
    early.start()
    with Counters(("page_faults",)) as counters:
        if counters.not_readable:
            go.set()
            early.join()
            pytest.skip(counters.not_readable["page_faults"])
        go.set()
        gone.wait()
        early.join()
        late = threading.Thread(target=touch)
        late.start()
        late.join()
        touch()
        counts = counters.read()
    assert counts["page_faults"] >= 3 * pages
    scaled = Counters.scaled("page_faults", counts)
    assert scaled is not None
    assert scaled[0] >= 3 * pages


def test_events_that_took_turns_are_estimated_for_all_of_the_time() -> None:
    """What was counted for half of the time stands for twice as much; what never was, for nothing."""
    counts = {"cycles": 100, "cycles.enabled": 10, "cycles.running": 5}
    assert Counters.scaled("cycles", counts) == (200.0, 0.5)
    assert Counters.scaled("cycles", {"cycles": 100, "cycles.enabled": 10, "cycles.running": 10}) == (100, 1.0)
    assert Counters.scaled("cycles", {"cycles": 0, "cycles.enabled": 10, "cycles.running": 0}) is None
    assert Counters.scaled("cycles", {}) is None


@linux
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become somebody else")
def test_migrations_are_known_without_privileges() -> None:
    """Where the kernel's counter is not for everybody, /proc tells of the threads that live."""
    script = """
import json, os
from hotlap.lab.looks.cpu import CPUTracker
with CPUTracker():  # imports what it needs while that may be read
    pass
os.setuid(65534)
allowed = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, {allowed[0]})
with CPUTracker() as cpu:
    for _ in range(5):
        os.sched_setaffinity(0, {allowed[-1]})
        os.sched_setaffinity(0, {allowed[0]})
print(json.dumps([len(allowed), cpu.migrations, cpu.not_readable]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    allowed, moved, missing = json.loads(done.stdout)
    assert "migrations" not in missing
    assert moved >= (10 if allowed > 1 else 0)


# -- the kind -----------------------------------------------------------------------------------------------------


def test_details_are_in_total_and_per_call() -> None:
    """Each amount is there twice, and the calls that it is spread over are those that were made."""
    outcome, found = examined(CPU, spin, 0.001, iterations=5, warmup_iterations=0)
    details = found.details
    assert details["calls"] == outcome.series.calls.sum() >= 5
    totals = {name.removesuffix("_total"): value for name, value in details.items() if name.endswith("_total")}
    assert {"cpu_s", "user_s", "system_s", "voluntary_switches", "thread_cpu_s"} <= set(totals)
    for name, value in totals.items():
        counted = name == "migrations" or name in HARDWARE  # in calls of their own
        calls = details["counters_looked_at_calls" if counted else "calls"]
        assert details[f"{name}_per_call"] == value / calls
    assert details["thread_cpu_s_per_call"] >= 0.001
    assert 0.0 < details["cpu_efficiency"] <= 1.0
    assert details["cores_available"] == cpus()
    assert json.loads(json.dumps(details)) == details


def test_all_of_it_is_seen_at_the_basic_level_too() -> None:
    """A CPU benchmark is all about the CPU: no level leaves it out."""
    _, found = examined(CPU, spin, 0.001, level=DebugLevel.BASIC, iterations=3, warmup_iterations=0)
    assert found.details["thread_cpu_s_per_call"] >= 0.001


def test_an_async_function_waits_in_its_event_loop() -> None:
    """Suspended is not computing."""
    import asyncio

    _, found = examined(CPU, asyncio.sleep, 0.02, iterations=3, warmup_iterations=0)
    assert found.details["cpu_efficiency"] < 0.5
    assert found.details["wait_s_per_call"] > 0.01


def computing_threads() -> None:
    threads = [threading.Thread(target=spin, args=(0.06,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@linux
@pytest.mark.slow
def test_threads_that_take_turns_are_told_from_those_that_do_not() -> None:
    """Two threads in Python code compute, but no more than one core's worth."""
    _, found = examined(CPU, computing_threads, iterations=3, warmup_iterations=0)
    details = found.details
    assert details["threads_computing"] == 2
    assert details["other_threads_cpu_s_per_call"] >= 0.11
    queued = any("had no CPU" in sentence for sentence in found.advice)
    takes_turns = any("take turns" in sentence for sentence in found.advice)
    free_threaded = not getattr(sys, "_is_gil_enabled", lambda: True)()
    kept_off = details["cores_used"] < 0.5  # by other processes: nothing is said of a lock then
    assert takes_turns or queued or free_threaded or kept_off or cpus() == 1


def test_one_thread_needs_no_look_at_threads() -> None:
    """No sign of other threads, no look, and no sentence about them."""
    _, found = examined(CPU, spin, 0.002, iterations=3, warmup_iterations=0)
    assert "threads_computing" not in found.details
    assert not any("take turns" in sentence for sentence in found.advice)


def test_threads_that_hardly_compute_are_none_that_take_turns() -> None:
    """Most of what little CPU time there is may be another thread's, such as that which serves a pool."""

    def waits() -> None:
        thread = threading.Thread(target=spin, args=(0.001,))
        thread.start()
        time.sleep(0.03)
        thread.join()

    _, found = examined(CPU, waits, iterations=5, warmup_iterations=0)
    assert "threads_computing" not in found.details
    assert not any("take turns" in sentence for sentence in found.advice)


@linux
def test_the_process_computes_no_less_than_the_calling_thread() -> None:
    """Although what hotlap's own threads use is taken off."""
    _, found = examined(CPU, time.sleep, 0.005, iterations=30, warmup_iterations=0)
    details = found.details
    assert details["cpu_s_total"] >= details["thread_cpu_s_total"]


def from_the_kernel(buffer: bytearray) -> None:
    with open("/dev/zero", "rb", buffering=0) as zeros:
        zeros.readinto(buffer)


@linux
def test_time_in_the_kernel_is_said() -> None:
    """A call that has the kernel fill its memory spends its CPU time there."""
    _, found = examined(CPU, from_the_kernel, bytearray(1 << 22), iterations=400, warmup_iterations=0)
    details: dict[str, Any] = found.details
    if details["cpu_s_total"] < 0.1:
        pytest.skip("this machine is too fast for clock ticks")
    assert details["system_s_total"] > 0.3 * details["cpu_s_total"]
    assert any("kernel's" in sentence for sentence in found.advice)


def test_a_run_without_a_call_gives_no_numbers_per_call() -> None:
    """Nothing was measured: nothing is claimed, and nothing fails."""
    _, found = examined(CPU, time.sleep, 600, iterations=3, warmup_iterations=0, timeout=0.1)
    assert found.details["calls"] == 0
    assert not any(name.endswith("_per_call") for name in found.details)
    assert found.advice == []
