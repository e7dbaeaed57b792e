"""Signal handlers that raise: wherever that falls in measured code, the books are in order; over both cores."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
from typing import Any

import pytest

from conftest import counts
from hotlap import core
from subjects import FOLLOW_ALL, answer, drive, generate, plain, site, stream


def fail() -> None:
    raise KeyError


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
@pytest.mark.skipif(
    core.NAME == "python" and sys.version_info < (3, 11),
    reason="Python 3.10 runs handlers where an except block begins, too: nothing in Python can be done before that",
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_raised_in_calls(ring: core.Ring, registry: dict[str, core.Site]) -> None:
    """A handler that raises anywhere in measured code leaves nothing in flight."""
    where = site()
    leaf = core.FunctionProbe(plain, where)
    outer = core.FunctionProbe(lambda: [leaf(index) for index in range(20)], where)
    items = core.FunctionProbe(generate, where, FOLLOW_ALL)
    answering = core.FunctionProbe(answer, where)
    streaming = core.FunctionProbe(stream, where, FOLLOW_ALL)
    failing = core.FunctionProbe(fail, where)

    async def gather() -> None:
        async for _ in streaming(3):
            pass

    class Alarm(BaseException):
        pass

    def handler(number: int, frame: Any) -> None:
        raise Alarm

    def until_alarm() -> None:
        with pytest.raises(Alarm):
            signal.setitimer(signal.ITIMER_REAL, 0.0002)
            while True:
                outer()
                list(items(5))
                drive(answering(1))
                drive(gather())
                leaf(1)
                with contextlib.suppress(KeyError):
                    failing()

    before = signal.signal(signal.SIGALRM, handler)
    gc.disable()  # what is raised while the collector lets go of something is lost
    tracer = sys.gettrace()
    sys.settrace(None)  # coverage's is in Python where it comes to a new file, and keeps its lock when that raises
    try:
        for number in range(150):
            where.mode = core.COUNT if number % 5 == 0 else core.TIME
            until_alarm()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        sys.settrace(tracer)
        gc.enable()
    gc.collect()
    assert counts(where)["in_flight"] == 0
    assert counts(where)["errors"] > 0
