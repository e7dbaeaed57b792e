"""What the tests of load runs share: a run at a subject, and subjects that other processes can import."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from hotlap.lab.config import BenchmarkConfig, DebugLevel
from hotlap.lab.kinds.concurrent import Concurrent
from hotlap.lab.kinds.stress import Stress
from hotlap.lab.load.level import LoadOutcome
from hotlap.lab.progress import Reporter
from hotlap.lab.runs.subject import Subject


def concurrent(
    func: Callable[..., Any],
    *args: Any,
    level: DebugLevel = DebugLevel.DETAILED,
    **config: Any,
) -> LoadOutcome:
    """A CONCURRENT run; without a warm-up unless one is asked for."""
    made = BenchmarkConfig(**{"warmup_iterations": 0, **config})
    subject = Subject(func, args)
    return Concurrent(subject, made, level).run(Reporter(subject.name, made))


def stress(func: Callable[..., Any], *args: Any, **config: Any) -> LoadOutcome:
    """A STRESS run; without a warm-up unless one is asked for."""
    made = BenchmarkConfig(**{"warmup_iterations": 0, **config})
    subject = Subject(func, args)
    return Stress(subject, made, DebugLevel.DETAILED).run(Reporter(subject.name, made))


def said(outcome: LoadOutcome) -> str:
    """All that a reader is told in words."""
    return " ".join([*outcome.examination.notes, *outcome.examination.advice])


class Gauge:
    """How many are in it at once, and the most that ever were."""

    def __init__(self) -> None:
        self.now = self.most = self.entered = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Gauge:
        with self._lock:
            self.now += 1
            self.entered += 1
            self.most = max(self.most, self.now)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


def leave_mark(folder: str) -> None:
    """A file with this process's id as its name."""
    with open(os.path.join(folder, str(os.getpid())), "a", encoding="ascii") as file:
        file.write(".")


def fail() -> None:
    raise ValueError("as always")


_kept: list[bytes] = []


def keep(size: int) -> None:
    _kept.append(b"x" * size)


def sleep_long() -> None:
    time.sleep(600)


def die() -> None:
    os._exit(7)


def refuse() -> None:
    raise RuntimeError("no table is free")
