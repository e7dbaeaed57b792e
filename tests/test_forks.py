"""Forks, and children of multiprocessing: each begins anew, nothing counted is lost, no hang, no crash."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ends import needs_fork, reported, run
from live import run_program

pytestmark = pytest.mark.slow


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
