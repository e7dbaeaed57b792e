"""Limits: the time and memory that a run may take, watched from a thread, and how a call that overruns is ended.

A limit is looked at before each iteration. A call that passes it while it runs is interrupted: a coroutine is
cancelled; on the main thread a signal interrupts whatever it does. On another thread a call goes on to its end, and the
run ends after it: an exception that is sent there hangs programs that are traced (Python 3.11). What was measured until
then stays.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from ..looks.heap import rss_bytes
from ..looks.procfs import Unreadable
from ..report import Mark
from .interrupts import Stopped

if TYPE_CHECKING:
    from ..config import BenchmarkConfig

__all__ = ["Guard"]

_LOOK_S = 0.02  # how often memory is looked at
_SIGNAL = getattr(signal, "SIGALRM", None)


class Guard:
    """Watches one run, from entering to leaving. `ended` says which limit ended it, once one has."""

    def __init__(self, config: BenchmarkConfig) -> None:
        self._config = config
        self.ended: Mark | None = None
        self.peak_mb = 0.0  # most resident memory over that at the start
        self._thread_id = threading.get_ident()
        self._lock = threading.Lock()
        self._exposed = False  # a call that may be interrupted is running
        self._task: tuple[asyncio.AbstractEventLoop, asyncio.Task[object]] | None = None
        self._running = threading.Lock()  # no Event: waiting for one allocates, which a look at memory would see

    def __enter__(self) -> Guard:
        self._running.acquire()
        self._start_mb = self._rss_mb()
        self.started = time.monotonic()
        self._deadline = self.started + self._config.timeout
        self._signals = self._take_signal()
        self._watcher = threading.Thread(target=self._watch, name="hotlap lab limits", daemon=True)
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.release()
        self._watcher.join()
        self._look()
        if self._signals:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def _take_signal(self) -> bool:
        """A handler of ours for a signal that nobody uses, if that can be: only the main thread may set one."""
        if _SIGNAL is None or threading.current_thread() is not threading.main_thread():
            return False
        if signal.getsignal(_SIGNAL) is not signal.SIG_DFL:
            return False
        signal.signal(_SIGNAL, self._on_signal)
        return True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._exposed:
            self._exposed = False
            raise Stopped

    # -- what a runner says -----------------------------------------------------------------------------------

    @property
    def left_s(self) -> float:
        """Seconds of the time budget that are left, not below 0."""
        return max(0.0, self._deadline - time.monotonic())

    def spent(self, share: float) -> bool:
        """Whether this share of the time budget is spent. If so, the run may be ended by end_early()."""
        return time.monotonic() - self.started >= share * self._config.timeout

    def end_early(self, share: float) -> None:
        """End the run when a share of its time budget is spent, for what comes after it."""
        used, allowed = time.monotonic() - self.started, share * self._config.timeout
        part = f"{allowed:g} s of the time budget of {self._config.timeout:g} s are spent"
        self.end(Mark("timeout", used, allowed, f"{part}, and the rest is for what is looked at afterwards", True))

    def over(self) -> bool:
        """Whether the run has passed a limit, and is to end."""
        if self.ended is None and time.monotonic() >= self._deadline:
            self._end_for_time()
        return self.ended is not None

    def expose(self, task: tuple[asyncio.AbstractEventLoop, asyncio.Task[object]] | None = None) -> None:
        """From here to cover() the calling thread is in a call that may be interrupted: by Stopped, or a cancelled
        task."""
        self._task = task
        self._tries = 0
        self._exposed = True

    def cover(self) -> None:
        """The call is over. A signal that is on its way does nothing any more."""
        with self._lock:
            self._exposed = False

    # -- the watcher ------------------------------------------------------------------------------------------

    @staticmethod
    def _rss_mb() -> float:
        try:
            return rss_bytes() / 1e6
        except Unreadable:  # /proc may be closed to us
            return 0.0

    def _look(self) -> None:
        self.peak_mb = max(self.peak_mb, self._rss_mb() - self._start_mb)

    def _end_for_time(self) -> None:
        allowed = self._config.timeout
        self.end(
            Mark(
                "timeout",
                time.monotonic() - self.started,
                allowed,
                f"the time budget of {allowed:g} s is spent",
                True,
            )
        )

    def end(self, mark: Mark) -> None:
        """The run ends here, unless it has ended already."""
        with self._lock:
            if self.ended is None:
                self.ended = mark

    def _watch(self) -> None:
        while not self._running.acquire(timeout=min(_LOOK_S, max(self.left_s, 1e-3))):
            self._look()
            allowed = self._config.memory_limit
            if self.ended is None and self.peak_mb > allowed:
                sentence = (
                    f"the run has added {self.peak_mb:.0f} MB to the process, more than its limit of {allowed:g} MB"
                )
                self.end(Mark("memory_limit", self.peak_mb, allowed, sentence, True))
            if self.over():
                self._interrupt()

    def _interrupt(self) -> None:
        """Once in each look, as long as the call goes on: it may catch and drop an exception, or block its loop."""
        with self._lock:
            if not self._exposed:
                return
            self._tries += 1
            if self._task is not None and self._tries == 1:
                loop, task = self._task
                if not loop.is_closed():
                    loop.call_soon_threadsafe(task.cancel)
            elif self._signals and _SIGNAL is not None:
                signal.pthread_kill(self._thread_id, _SIGNAL)
