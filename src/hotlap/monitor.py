"""Monitor: the background aggregator. It wires the stages together once per interval, and does nothing else.

    recorder -> window -> stats -> score -> rules -> report -> sinks

start(), stop(), flush(), snapshot() and configure() work on the one monitor of the process.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import config as configuration
from . import core, sinks
from . import sites as registry
from .errors import HotlapError
from .model import Context, Cycle, Report, Score, Stats, TailCall
from .process import Process
from .recorder import Readings, Recorder
from .rules import PROCESS_SITE, RuleFailure, Rules
from .score import Scorer
from .stats.histogram import quantiles
from .stats.summary import fill, summarise
from .window import TAIL_CALLS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .config import Config
    from .window import Window

__all__ = ["Monitor", "SiteSnapshot", "configure", "flush", "running", "snapshot", "start", "stop"]

logger = logging.getLogger("hotlap")

_DRAIN_S = 1.0  # the ring is emptied at least this often
_STOP_S = 1.0  # how long stop() waits for the thread
_FLUSH_S = 10.0  # how long flush() waits for a cycle that is under way
_TURNS_AT_EXIT_S = 1e-4


@dataclass(frozen=True, slots=True)
class SiteSnapshot:
    """The exact counters of one site since the process began. Times in ns; quantiles in s, within 1.1 %."""

    calls: int
    timed: int
    errors: int
    cancelled: int
    total_ns: int
    min_ns: int | None  # None before the first timed call
    max_ns: int | None
    in_flight: int
    in_flight_peak: int
    quantiles: Mapping[float, float]


class Monitor:
    """One recorder with its thread, rules and sinks. `cycle()` may be called by any thread."""

    def __init__(self, config: Config, readings: Readings | None = None) -> None:
        self.config = config
        self.recorder = Recorder(config, readings)
        self.scorer = Scorer(config)
        self.rules = Rules(config)
        self._rules_failed: tuple[str, ...] = ()
        self.sinks = sinks.make(config)
        self._begin()

    def _begin(self) -> None:
        """What a forked child needs anew: locks, events and the thread do not survive a fork."""
        self.process = Process()
        self.number = 0
        self._cycle_lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._cycling: int | None = None  # the thread that is in a cycle
        self._going_on: list[object] = []  # sinks that are not ours to close
        self._ending = threading.Lock()
        self._ended = False  # the last cycle was run, or was given up
        self._last = True  # a last cycle is wanted
        self._emitting = ""  # the sink that has the cycle now
        self.failures: dict[str, int] = {}  # what raised, and how often

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.recorder.start()
        try:
            self._run_thread()
        except RuntimeError:  # no more threads can be started
            self.recorder.stop()
            raise

    def _run_thread(self) -> None:
        thread = threading.Thread(target=self._run, name="hotlap", daemon=True)
        thread.start()
        self._thread = thread

    def stop(self, successor: Monitor | None = None) -> None:
        """Have the thread run a last cycle, close the sinks but those of the successor, and end.

        Returns within about a second: a sink that is not through by then goes on alone, as long as the process does.
        """
        self._going_on = [sink.sink for sink in successor.sinks] if successor is not None else []
        self.recorder.stop()
        self._last = self._cycling != threading.get_ident()  # a sink that stops us wants no more
        self._wake.set()
        thread, self._thread = self._thread, None
        if thread is threading.current_thread():  # its sinks are closed when they have had their cycle
            return
        if thread is not None:
            thread.join(_STOP_S)
        with self._ending:
            late = not self._ended
            self._ended = True
        if late:
            if thread is not None and thread.is_alive():
                logger.warning(
                    "the %s sink has not come back in %g s: it is left behind, with what was counted since cycle %d",
                    self._emitting,
                    _STOP_S,
                    self.number,
                )
            elif self._last:
                self._safe_cycle()
            self._close()

    def _end(self) -> None:
        """The thread's last steps, unless stop() waits no longer for them."""
        if self._last and not self._ended:
            self._safe_cycle()
        with self._ending:
            late = self._ended
            self._ended = True
        if not late:
            self._close()

    def _close(self) -> None:
        self.recorder.governor.release()
        for sink in self.sinks:
            if not any(sink.sink is one for one in self._going_on):
                sink.close()

    def after_fork(self) -> None:
        """In a child, after the core: the thread is gone and what was read is the parent's."""
        was_running = self._thread is not None
        self._begin()
        self.recorder.after_fork()
        if was_running:
            self._run_thread()
            _stop_with_multiprocessing(self)

    # -- the loop --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        next_cycle = time.monotonic() + self.config.interval
        while True:
            wait = min(_DRAIN_S, max(next_cycle - time.monotonic(), 0.0))
            if self._wake.wait(wait):
                return self._end()
            _leave_before_others()
            if time.monotonic() >= next_cycle:
                self._safe_cycle()
                # What was missed is not made up for: a process that was stopped has one cycle, not a hundred.
                next_cycle += self.config.interval
                next_cycle = max(next_cycle, time.monotonic() + self.config.interval / 2)
            else:
                self._safely("draining the ring", self._drain)

    def _drain(self) -> None:
        with self._cycle_lock:
            cpu_before = time.thread_time_ns()
            self.recorder.drain()
            self.recorder.governor.spend(time.thread_time_ns() - cpu_before)

    def _safe_cycle(self) -> None:
        self._safely("a cycle", self.cycle)

    def _safely(self, what: str, step: Callable[[], object]) -> None:
        try:
            step()
        except (Exception, SystemExit):  # a sink that exits ends the sink's cycle, not the host
            self.failures[what] = self.failures.get(what, 0) + 1
            if self.failures[what] == 1:
                logger.exception("%s failed; further failures are counted, not logged", what)

    def cycle(self) -> Cycle:
        """One round: cut the window, make the reports, hand them to the sinks.

        Raises HotlapError in a sink, where it would wait for itself, and when another cycle does not end.
        """
        if self._cycling == threading.get_ident():
            raise HotlapError("flush() was called by a sink, within a cycle: use the reports it is given")
        if not self._cycle_lock.acquire(timeout=_FLUSH_S):
            raise HotlapError(
                f"a cycle has been under way for {_FLUSH_S:g} s, in the {self._emitting} sink: no flush()"
            )
        try:
            self._cycling = threading.get_ident()
            cpu_before = time.thread_time_ns()
            try:
                return self._cycle()
            finally:
                self.recorder.governor.spend(time.thread_time_ns() - cpu_before)
                self._cycling = None
        finally:
            self._cycle_lock.release()

    def _cycle(self) -> Cycle:
        start = time.perf_counter()
        window = self.recorder.cut()
        filled = fill(window)
        governor = self.recorder.governor
        governor.measure(window)
        stats = summarise(window, filled, self.config.slo_for, governor.counting)
        if self._thread is not None:  # else nobody would bring back what it switches off
            governor.adapt(window, filled.quantiles((0.99, 0.999)))
        context = self.process.context(
            window,
            overhead_fraction=governor.overhead_fraction,
            budget=self.config.budget,
            sinks_failed=tuple(sink.name for sink in self.sinks if sink.off),
            rules_failed=self._rules_failed,
            faults=self.recorder.faults,
        )
        reports = self._reports(stats, context, window.seconds)
        self.number += 1
        cycle = Cycle(
            number=self.number,
            started_at=window.started_at,
            window_s=window.seconds,
            reports=reports,
            context=context,
            cost_s=time.perf_counter() - start,
            tail_calls=_tail_calls(window) if self.config.tail_spans else (),
        )
        for sink in self.sinks:
            self._emitting = sink.name
            sink.emit(cycle)
        self._emitting = ""
        return cycle

    def _reports(self, stats: list[Stats], context: Context, window_s: float) -> tuple[Report, ...]:
        """A report for each site, and one for the process when there is something to say about it."""
        reports = []
        failed: dict[str, RuleFailure] = {}
        for one, score in zip(stats, self.scorer.score_many(stats), strict=True):
            judgement = self.rules.find(one, context)
            reports.append(Report(one, score, judgement.verdicts))
            for failure in judgement.failed:
                failed.setdefault(failure.rule, failure)
        judgement = self.rules.judge_process(context, window_s)
        for failure in judgement.failed:
            failed.setdefault(failure.rule, failure)
        if any(verdict.finding is not None for verdict in judgement.verdicts):
            whole = Stats(site=PROCESS_SITE, window_s=window_s)
            reports.append(Report(whole, Score(None, None), judgement.verdicts))
        for failure in failed.values():
            self._rules_failed += (failure.rule,)
            logger.error("rule %s failed and is switched off: %r", failure.rule, failure.error, exc_info=failure.error)
        if failed:
            self.rules = self.rules.without(failed.values())
        return tuple(reports)


def _tail_calls(window: Window) -> tuple[TailCall, ...]:
    """Slow or failed calls that happened in a trace, the slowest first, at most TAIL_CALLS of them."""
    records, rows = window.traced, window.traced_rows
    chosen = np.flatnonzero(((records["flags"] & (core.FLAG_TAIL | core.FLAG_ERROR)) != 0) & (rows >= 0))
    chosen = chosen[np.argsort(-records["wall_ns"][chosen].astype(np.int64), kind="stable")][:TAIL_CALLS]
    return tuple(
        TailCall(
            site=window.sites[rows[index]].name,
            start_epoch_ns=int(records["start_ns"][index]) + window.epoch_ns,
            wall_ns=int(records["wall_ns"][index]),
            error=bool(records["flags"][index] & core.FLAG_ERROR),
            tail=bool(records["flags"][index] & core.FLAG_TAIL),
            trace_id=int(records["trace_hi"][index]) << 64 | int(records["trace_lo"][index]),
            span_id=int(records["span"][index]),
            thread=int(records["thread"][index]),
        )
        for index in chosen
    )


# -- the monitor of this process -----------------------------------------------------------------------------

_monitor: Monitor | None = None
_running = False
_readings = Readings()
_options: dict[str, Any] = {}
_lock = threading.RLock()


def running() -> bool:
    """Whether the background aggregator runs in this process."""
    return _running


def start(**options: Any) -> None:
    """Start the background aggregator: `hotlap.start(interval=5, sinks=["structlog"])`.

    Options are those that `hotlap config` lists; what was given before, here or to configure(), stays as it
    is. While the aggregator runs, start() does nothing when it changes no option; otherwise the calls so far
    are reported with the old options, and the new ones hold from then on. Each process has its own: a forked
    child goes on by itself, a spawned one has to call start().

    Raises OptionError or OptionTypeError, and leaves what runs as it was.
    """
    global _monitor, _running
    with _lock:
        wanted = {**_options, **options}
        config = configuration.load(wanted, caller="start()")
        if _running and _monitor is not None and _monitor.config == config:
            return
        made = Monitor(config, _readings)  # before anything is stopped: bad options leave all as it was
        if _running and _monitor is not None:
            _monitor.stop(made)
        _options.clear()
        _options.update(wanted)
        _monitor = made
        _monitor.start()
        _running = True
        _leave_before_others()
        _stop_with_multiprocessing()


def stop() -> None:
    """Run a last cycle, close the sinks and stop the aggregator; does nothing when none runs.

    Sites count on, and the next start() reports what they have counted since.
    """
    global _monitor, _running
    with _lock:
        monitor, was_running = _monitor, _running
        _monitor, _running = None, False
        atexit.unregister(_stop_at_exit)
    if monitor is not None and was_running:
        monitor.stop()


def _leave_before_others() -> None:
    """Be the first of the exit hooks, which run last in, first out.

    An OpenTelemetry SDK that was set up after us has one, too, and our last cycle must come before it. So we
    move to the end of the queue whenever we are awake.
    """
    atexit.unregister(_stop_at_exit)
    atexit.register(_stop_at_exit)


def _stop_at_exit() -> None:
    """stop(), with quicker turns: with threads that compute on, 5 ms each would make seconds of the cycle."""
    turns = sys.getswitchinterval()
    sys.setswitchinterval(min(turns, _TURNS_AT_EXIT_S))
    try:
        stop()
    finally:
        sys.setswitchinterval(turns)


def configure(**options: Any) -> None:
    """Set options before start(), or change them while the aggregator runs, as start() does.

    Raises OptionError or OptionTypeError, and changes nothing then.
    """
    with _lock:
        wanted = {**_options, **options}
        configuration.load(wanted, caller="configure()")
        if _running:
            start(**options)
        else:
            _options.update(options)


def flush() -> list[Report]:
    """One cycle now: a report for each site with calls that ended since the last cycle, whoever ran that.

    The cycle goes to the sinks like any other, in the caller's thread, and the next one begins where it ends:
    no call is reported twice. Without start() it works, too: counts and times are exact, but there were no
    samples, so no evidence. Raises HotlapError in a sink, and when a sink holds up another cycle; OptionError or
    OptionTypeError for wrong options in the environment.
    """
    global _monitor
    with _lock:
        if _monitor is None:
            _monitor = Monitor(configuration.load(_options), _readings)
        monitor = _monitor
    return list(monitor.cycle().reports)


def snapshot() -> dict[str, SiteSnapshot]:
    """The exact statistics of every site, now. Nothing is reset."""
    every = list(registry.sites.values())
    result: dict[str, SiteSnapshot] = {}
    wanted = (0.5, 0.9, 0.95, 0.99, 0.999)
    counters = np.empty((256, len(core.COUNTERS)), np.uint64)
    histogram = np.empty((256, core.BUCKETS), np.uint64)
    for begin in range(0, len(every), 256):
        chunk = every[begin : begin + 256]
        low, high = core.collect(chunk, counters[: len(chunk)], histogram[: len(chunk)])
        times = quantiles(histogram[: len(chunk), low:high], wanted, low)
        for row, site in enumerate(chunk):
            peak = _readings.peak(begin + row)  # of the windows behind us
            values = dict(zip(core.COUNTERS, counters[row].tolist(), strict=True))
            timed = values["timed"] > 0
            within = np.clip(times[row], values["min_ns"] / 1e9, values["max_ns"] / 1e9) if timed else times[row]
            result[site.name] = SiteSnapshot(
                calls=values["calls"],
                timed=values["timed"],
                errors=values["errors"],
                cancelled=values["cancelled"],
                total_ns=values["total_ns"],
                min_ns=values["min_ns"] if timed else None,
                max_ns=values["max_ns"] if timed else None,
                in_flight=values["in_flight"],
                in_flight_peak=max(values["in_flight_peak"], peak),
                quantiles=dict(zip(wanted, within.tolist(), strict=True)) if timed else {},
            )
    return result


def _after_fork_in_child() -> None:
    """A child gets clean counters whether the aggregator runs or not, and its own thread when it does."""
    global _lock
    _lock = threading.RLock()
    try:
        if _monitor is not None:
            _monitor.after_fork()
        else:
            _readings.forget()
    except Exception:
        logger.exception("hotlap could not begin anew in a forked child")


def _stop_with_multiprocessing(forked: Monitor | None = None) -> None:
    """Children of multiprocessing leave by os._exit, past atexit: their own finalizers give the last flush.

    Just after the fork those are still to be cleared: then it waits for multiprocessing's own hooks.
    """
    util = sys.modules.get("multiprocessing.util")
    if util is None:
        return
    if forked is not None:
        util.register_after_fork(forked, _stop_with_multiprocessing_later)
    elif sys.modules["multiprocessing.process"].parent_process() is not None:
        util.Finalize(None, _stop_at_exit, exitpriority=1)


def _stop_with_multiprocessing_later(_: Monitor) -> None:
    _stop_with_multiprocessing()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
