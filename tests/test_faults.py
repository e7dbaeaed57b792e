"""Exits and other ends, many of them in a process of its own: nothing counted is lost, no hang, no crash."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import hotlap
from conftest import counts
from ends import reported, run
from hotlap.probe import benchmark, measure, sites
from live import flushed, probed, run_program

pytestmark = pytest.mark.slow


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
