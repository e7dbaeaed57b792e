"""Forks, exits and other ends, each in a process of its own: nothing counted is lost, no hang, no crash."""

from __future__ import annotations

import json
import os
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import hotlap
from aggregator import alone
from conftest import counts
from hotlap import monitor
from hotlap.errors import HotlapError
from hotlap.model import Cycle
from hotlap.probe import benchmark, measure, sites
from live import flushed, probed, run_program

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
pytestmark = pytest.mark.slow

# A sink that appends each cycle's calls to a file, with the process they were made in.
SINK = """
import json, os, sys, threading, time, warnings
import hotlap

warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of a fork among threads

def to_file(cycle):
    with open("cycles.jsonl", "a") as file:
        for report in cycle.reports:
            print(json.dumps([os.getpid(), report.site, report.stats.calls]), file=file)

@hotlap.benchmark(name="work")
def work(): pass

@hotlap.benchmark(name="hammer")
def hammer(): pass

def hammer_on():
    while True:
        hammer()
"""


def reported(tmp_path: Path) -> dict[str, dict[int, int]]:
    """site -> process -> calls that reached the sink."""
    result: dict[str, dict[int, int]] = {}
    path = tmp_path / "cycles.jsonl"
    for line in path.read_text().splitlines() if path.exists() else ():
        process, site, calls = json.loads(line)
        of_site = result.setdefault(site, {})
        of_site[process] = of_site.get(process, 0) + calls
    return result


def run(tmp_path: Path, text: str, expected: int = 0, **options: Any) -> str:
    done = run_program(tmp_path, SINK + textwrap.dedent(text), **options)
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stderr


# -- exit ----------------------------------------------------------------------------------

ENDS = {
    "normal": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "unhandled exception": ("raise RuntimeError('the end')", 1),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_process_that_ends_under_load_gives_a_last_flush(tmp_path: Path, end: str) -> None:
    """Four daemon threads call on while it ends: the main thread's calls are all reported, in a second."""
    statement, code = ENDS[end]
    errors = run(
        tmp_path,
        f"""
        import atexit
        times = []
        atexit.register(lambda: json.dump([*times, time.monotonic()], open("times", "w")))
        hotlap.start(interval=3600, sinks=[to_file])
        atexit.register(lambda: times.append(time.monotonic()))  # before
        for _ in range(4):
            threading.Thread(target=hammer_on, daemon=True).start()
        for _ in range(1000):
            work()
        {statement}
        """,
        expected=code,
    )
    begin, end_s = json.loads((tmp_path / "times").read_text())
    assert end_s - begin < 1.5
    calls = reported(tmp_path)
    assert sum(calls["work"].values()) == 1000
    assert sum(calls["hammer"].values()) > 0
    assert ("the end" in errors) == (end == "unhandled exception")
    assert "Fatal" not in errors


def test_a_cycle_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    """A sink waits for ever: the process ends all the same, after about a second."""
    run(
        tmp_path,
        """
        entered = threading.Event()
        def stuck(cycle):
            entered.set()
            threading.Event().wait()
        hotlap.start(interval=0.01, sinks=[stuck])
        entered.wait()
        print(json.dumps(time.time()), file=open("ended", "w"))
        """,
    )
    assert 0.5 < time.time() - json.loads((tmp_path / "ended").read_text()) < 6.0


def test_stop_before_the_end_leaves_nothing_to_do(tmp_path: Path) -> None:
    """The exit hook of a stopped aggregator reports nothing twice."""
    run(
        tmp_path,
        """
        hotlap.start(interval=3600, sinks=[to_file])
        work()
        hotlap.stop()
        work()
        """,
    )
    assert sum(reported(tmp_path)["work"].values()) == 1


def test_calls_of_threads_that_have_ended_stay_counted(tmp_path: Path) -> None:
    """A thread's records and counts do not go with it."""
    run(
        tmp_path,
        """
        hotlap.start(interval=3600, sinks=[to_file])
        def some():
            for _ in range(100): work()
        for _ in range(20):
            thread = threading.Thread(target=some)
            thread.start()
            thread.join()
        (stats,) = [report.stats for report in hotlap.flush() if report.site == "work"]
        assert stats.calls == stats.timed == 2000, stats
        assert stats.samples >= 10
        """,
    )
    assert sum(reported(tmp_path)["work"].values()) == 2000


# -- fork ----------------------------------------------------------------------------------


@needs_fork
def test_a_forked_child_begins_anew_and_the_parent_loses_nothing(tmp_path: Path) -> None:
    """While threads call on and cycles run, often: the child's counters are clean, its thread its own.

    The call in which the fork happened is the parent's alone.
    """
    run(
        tmp_path,
        """
        hotlap.start(interval=0.02, sinks=[to_file])
        stop = threading.Event()
        def some():
            for _ in range(20_000): work()
        workers = [threading.Thread(target=some) for _ in range(4)]
        for worker in workers: worker.start()

        @hotlap.benchmark(name="forking")
        def forking():
            return os.fork()

        def child():
            names = [thread.name for thread in threading.enumerate()]
            assert names.count("hotlap") == 1, names
            now = hotlap.snapshot()
            assert now["work"].calls == 0 and now["work"].in_flight == 0, now["work"]
            assert now["forking"].calls == 0 and now["forking"].in_flight == 0, now["forking"]
            assert now["forking"].quantiles == {}
            for _ in range(7): work()
            assert hotlap.snapshot()["work"].calls == 7
            hotlap.stop()
            assert not hotlap.running()

        for _ in range(8):
            pid = forking()
            if pid == 0:
                code = 1
                try:
                    child()
                    code = 0
                except BaseException:
                    import traceback
                    traceback.print_exc()
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        for worker in workers: worker.join()
        hotlap.stop()
        assert hotlap.snapshot()["work"].calls == 80_000
        print(os.getpid(), file=open("parent", "w"))
        """,
        traced=False,
    )
    parent = int((tmp_path / "parent").read_text())
    calls = reported(tmp_path)
    assert calls["work"].pop(parent) == 80_000
    assert list(calls["work"].values()) == [7] * 8
    assert calls["forking"] == {parent: 8}


@needs_fork
def test_a_child_has_clean_counters_when_nothing_runs(tmp_path: Path) -> None:
    """Also when the aggregator was never imported; what it starts itself runs, and flushes at its end."""
    run(
        tmp_path,
        """
        for _ in range(5): work()
        assert "hotlap.monitor" not in sys.modules
        pid = os.fork()
        if pid:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            hotlap.configure(sinks=[])
            assert [report.stats.calls for report in hotlap.flush()] == [5]
            pid = os.fork()
            if pid:
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
                sys.exit()
            work()
            assert [report.stats.calls for report in hotlap.flush()] == [1]
            assert not hotlap.running()
            sys.exit()
        work()
        work()
        assert hotlap.snapshot()["work"].calls == 2
        hotlap.start(interval=3600, sinks=[to_file])
        work()
        """,
    )
    assert list(reported(tmp_path)["work"].values()) == [3]


@needs_fork
def test_a_child_of_a_stopped_recorder_begins_anew(tmp_path: Path) -> None:
    """The parent's last window is no beginning for the child's first."""
    run(
        tmp_path,
        """
        hotlap.start(interval=3600, sinks=[])
        for _ in range(50): work()
        hotlap.stop()
        for _ in range(5): work()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work()
                assert not hotlap.running()
                hotlap.configure(sinks=[])
                (report,) = hotlap.flush()
                assert (report.stats.calls, report.stats.timed) == (1, 1), report.stats
                assert report.stats.window_s < 5
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        (report,) = hotlap.flush()
        assert report.stats.calls == 5
        """,
    )


@needs_fork
def test_a_fork_among_records_leaves_the_childs_windows_whole(tmp_path: Path) -> None:
    """Nothing of the parent's ring is drained in the child, and nothing is counted as lost there."""
    run(
        tmp_path,
        """
        cycles = []
        hotlap.start(interval=3600, ring_capacity=64, sinks=[cycles.append], sample_rate=1000)
        for _ in range(500): work()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for _ in range(3): work()
                reports = hotlap.flush()
                assert [(r.site, r.stats.calls) for r in reports] == [("work", 3)], reports
                assert cycles[-1].context.records_lost == 0
                assert cycles[-1].number == 1
                assert cycles[-1].window_s < 30
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        hotlap.flush()
        assert cycles[-1].context.records_lost > 0
        """,
    )


def test_the_aggregators_thread_imports_nothing(tmp_path: Path) -> None:
    """All is imported by start(): a fork in the middle of an import would leave the child a lock for ever."""
    run(
        tmp_path,
        """
        hotlap.start(interval=3600, sinks=["structlog", "otel", "memory", "file"], report_path="last.json",
                     tail_spans=True, sample_rate=1e6, sites={"w*": {"slo": 1e-9}}, first_calls=1000)
        before = set(sys.modules)

        @hotlap.benchmark(name="with size", size="x")
        def sized(x):
            work()
            time.sleep(0.0001 * x)

        @hotlap.benchmark(name="failing")
        def fail(): raise ValueError

        def some():
            for number in range(60):
                sized(number % 10 + 1)
                try: fail()
                except ValueError: pass
        workers = [threading.Thread(target=some) for _ in range(3)]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
        reports = {report.site: report for report in hotlap.flush()}
        assert reports["with size"].stats.in_flight_slope is not None
        assert reports["with size"].stats.size_exponent is not None
        assert reports["work"].stats.parents
        assert reports["failing"].findings
        hotlap.flush()
        assert set(sys.modules) == before, set(sys.modules) - before
        """,
    )


@needs_fork
def test_a_fork_while_a_cycle_is_held_up_does_not_hold_up_the_child(tmp_path: Path) -> None:
    """The locks of the parent's aggregator are not the child's."""
    run(
        tmp_path,
        """
        entered = threading.Event()
        parent = os.getpid()
        def stuck(cycle):
            if os.getpid() == parent:
                entered.set()
                time.sleep(1.0)
        hotlap.start(interval=0.01, sinks=[stuck, to_file])
        entered.wait()
        pid = os.fork()
        if pid == 0:
            work()
            hotlap.flush()
            os._exit(0)
        begin = time.monotonic()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert time.monotonic() - begin < 0.9
        """,
    )
    assert list(reported(tmp_path)["work"].values()) == [1]


POOL = """
import multiprocessing

def task(count):
    for _ in range(count):
        work()
    return hotlap.snapshot()["work"].calls

def started(count):
    hotlap.start(interval=3600, sinks=[to_file])
    task(count)

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    for _ in range(100):
        work()
    {begin}
    children = [context.Process(target={target}, args=(number,)) for number in (3, 4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert hotlap.snapshot()["work"].calls == 100
    {end}
"""


@needs_fork
def test_children_of_multiprocessing_give_a_last_flush(tmp_path: Path) -> None:
    """Forked from a running recorder: they leave by os._exit, and their calls are reported all the same."""
    begin = "hotlap.start(interval=3600, sinks=[to_file])"
    run(tmp_path, POOL.format(method="fork", begin=begin, target="task", end="hotlap.stop()"))
    assert sorted(reported(tmp_path)["work"].values()) == [3, 4, 100]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_that_starts_a_recorder_of_its_own(tmp_path: Path, method: str) -> None:
    """Forked or spawned, it has its own counters and its own last flush; the parent runs none."""
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    run(tmp_path, POOL.format(method=method, begin="", target="started", end=""))
    assert sorted(reported(tmp_path)["work"].values()) == [3, 4]


@needs_fork
def test_a_pool_of_processes_works_on(tmp_path: Path) -> None:
    """Results come back, the workers' calls are reported by the workers."""
    run(
        tmp_path,
        """
        import multiprocessing

        def double(number):
            work()
            return 2 * number

        hotlap.start(interval=3600, sinks=[to_file])
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(double, range(10)) == list(range(0, 20, 2))
            pool.close()
            pool.join()
        assert hotlap.snapshot()["work"].calls == 0
        """,
    )
    assert sum(reported(tmp_path)["work"].values()) == 10


@needs_fork
def test_a_child_that_cannot_begin_anew_goes_on_without(tmp_path: Path) -> None:
    """Logged, and the child is none the worse."""
    errors = run(
        tmp_path,
        """
        hotlap.start(interval=3600, sinks=[])
        from hotlap import monitor
        monitor.Monitor.after_fork = lambda self: 1 / 0
        pid = os.fork()
        if pid == 0:
            work()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        """,
    )
    assert "could not begin anew" in errors


# -- many sites ----------------------------------------------------------------------------


def test_more_sites_than_allowed_share_one(tmp_path: Path) -> None:
    """10,500 names with the default limit: one warning, all calls counted, in 10,000 sites and `other`."""
    errors = run(
        tmp_path,
        """
        warnings.simplefilter("always", RuntimeWarning)
        hotlap.start(interval=3600, sinks=[])
        for number in range(10_500):
            with hotlap.measure(f"site.{number}"):
                pass
        now = hotlap.snapshot()
        assert len(now) == 10_001, len(now)
        # `work` and `hammer` are among the ten thousand.
        assert now["other"].calls == 502, now["other"]
        reports = hotlap.flush()
        assert sum(report.stats.calls for report in reports) == 10_500
        """,
    )
    assert errors.count("RuntimeWarning") == 1


def test_the_last_cycle_leaves_before_an_sdk_that_came_later_shuts_down(tmp_path: Path) -> None:
    """A program that sets up OpenTelemetry after hotlap.start() still gets the spans of the last flush."""
    done = run_program(
        tmp_path,
        """
        import atexit, time
        import hotlap

        hotlap.start(sinks=["otel"], interval=60)

        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

        class Lines(SpanExporter):
            open = True

            def export(self, spans):
                if self.open:
                    print(*(span.name for span in spans), flush=True)
                return SpanExportResult.SUCCESS

            def shutdown(self):
                self.open = False

        provider = TracerProvider()  # which shuts down at exit
        provider.add_span_processor(SimpleSpanProcessor(Lines()))
        trace.set_tracer_provider(provider)

        @hotlap.benchmark(name="late.work")
        def work():
            pass

        work()
        time.sleep(1.5)  # the aggregator wakes once a second
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["hotlap.site", "hotlap.cycle"]


@pytest.mark.parametrize(("option", "left"), [("sample=0", 0), ("first_calls", 3)])
def test_a_site_made_while_the_recorder_runs_is_sampled_as_configured(option: str, left: int) -> None:
    """Its first window already keeps to `sample` and `first_calls`."""
    hotlap.start(sinks=(), interval=60, first_calls=3, sample_rate=0.05)
    try:
        probe, name = probed(sample=0 if option == "sample=0" else None)
        for _ in range(50):
            probe()
        stats = flushed(name)
        assert stats is not None
        # After the first calls comes a quota of 2 * 0.05/s * 60 s = 6 samples, and then half the chance.
        assert stats.samples == 0 if left == 0 else left <= stats.samples < 50
    finally:
        hotlap.stop()


def test_a_fork_while_a_site_is_made_does_not_hold_up_the_child(tmp_path: Path) -> None:
    """The lock of the registry is not the child's."""
    done = run_program(
        tmp_path,
        """
        import os, signal, threading, warnings, hotlap
        from hotlap import sites
        warnings.simplefilter("ignore", DeprecationWarning)
        held, leave = threading.Event(), threading.Event()

        def hold():
            with sites._lock:
                held.set()
                leave.wait()

        threading.Thread(target=hold).start()
        held.wait()
        pid = os.fork()
        if pid == 0:
            signal.alarm(5)  # rather than waiting for ever
            with hotlap.measure("of the child"):
                pass
            os._exit(0)
        leave.set()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        """,
        traced=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_cycle_that_hangs_keeps_the_process_for_a_second(tmp_path: Path) -> None:
    """A sink that waits for ever is left behind."""
    done = run_program(
        tmp_path,
        """
        import atexit, threading, time, hotlap
        entered = threading.Event()
        atexit.register(lambda: print(time.monotonic() - begin))  # runs after hotlap's own hook

        def stuck(cycle):
            entered.set()
            threading.Event().wait()

        hotlap.start(interval=0.01, sinks=[stuck])
        entered.wait()
        begin = time.monotonic()
        """,
    )
    assert done.returncode == 0, done.stderr
    assert 0.9 < float(done.stdout) < 3.0


def test_a_last_cycle_that_hangs_keeps_the_process_for_a_second(tmp_path: Path) -> None:
    """A sink that waits for ever at the end is left behind."""
    done = run_program(
        tmp_path,
        """
        import atexit, threading, time, hotlap
        atexit.register(lambda: print(time.monotonic() - begin))  # runs after hotlap's own hook
        hotlap.start(interval=3600, sinks=[lambda cycle: threading.Event().wait()])
        begin = time.monotonic()
        """,
    )
    assert done.returncode == 0, done.stderr
    assert 0.9 < float(done.stdout) < 3.0
    assert "sink has not come back in 1 s: it is left behind" in done.stderr


def test_flush_gives_up_on_a_cycle_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread's cycle is in a sink that waits: flush() says so, and works again once the sink is through."""
    monkeypatch.setattr(monitor, "_FLUSH_S", 0.05)
    entered, go_on = threading.Event(), threading.Event()

    def stuck(cycle: Cycle) -> None:
        entered.set()
        go_on.wait(30)

    with alone():
        hotlap.start(interval=0.01, sinks=[stuck])
        assert entered.wait(30)
        with pytest.raises(HotlapError, match=r"under way for 0\.05 s, in the .*stuck sink"):
            hotlap.flush()
        go_on.set()
        assert isinstance(hotlap.flush(), list)


def test_what_an_exit_raises_is_counted_and_passes() -> None:
    """A measured __exit__ that fails, within a block: an error of both, and the host's exception as it was."""
    error = OSError("at the end")

    class Broken:
        def __enter__(self) -> None: ...
        @benchmark(name="faults.exit")
        def __exit__(self, *_: object) -> None:
            raise error

    first = KeyError("first")
    with pytest.raises(OSError) as caught, measure("faults.exit.block"), Broken():
        raise first
    assert caught.value is error
    assert error.__context__ is first
    for name in ("faults.exit", "faults.exit.block"):
        found = counts(sites[name])
        assert (found["calls"], found["errors"], found["in_flight"]) == (1, 1, 0)


def test_what_is_unfinished_at_the_end_holds_nothing_up(tmp_path: Path) -> None:
    """Generators in the middle, of either kind, and a task that is cancelled: the rest is reported."""
    done = run_program(
        tmp_path,
        """
        import asyncio, hotlap

        @hotlap.benchmark(name="generator")
        def generate(): yield 1

        @hotlap.benchmark(name="stream")
        async def stream(): yield 1

        @hotlap.benchmark(name="task")
        async def task(): await asyncio.sleep(100)

        hotlap.start(interval=3600, sinks=[lambda cycle: print({r.site: r.stats.cancelled for r in cycle.reports})])
        kept = [generate(), stream()]
        next(kept[0])

        async def main():
            await kept[1].asend(None)
            kept.append(asyncio.create_task(task()))
            await asyncio.sleep(0)

        asyncio.run(main())
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert eval(done.stdout)["task"] == 1
