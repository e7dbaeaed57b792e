"""Isolation: the same benchmark in fresh processes, one after the other.

What a process draws by lot at its start (hash seed, memory layout, what is imported when) shifts all its timings by
some percent, and no number of iterations averages that out. Processes that are begun anew do.
"""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from ..errors import HotlapError, OptionTypeError
from .config import BenchmarkConfig, DebugLevel
from .examination import Examination
from .failures import FailureLog
from .kinds.kind import Kind
from .progress import Reporter
from .runs.limits import Guard
from .runs.run import Outcome
from .runs.series import Series
from .runs.subject import Subject

__all__ = ["joined", "run_apart"]

_GRACE_S = 30.0  # to start Python, and to import what the subject needs


def run_apart(kind: Kind, config: BenchmarkConfig, level: DebugLevel, examine: bool) -> tuple[Outcome, Examination]:
    """Run a kind's benchmark in a fresh process; with `examine`, its examination as well.

    Raises OptionTypeError for a subject that cannot be sent there, HotlapError when the process dies, and whatever
    is raised there.
    """
    subject = kind.subject
    order = (type(kind), subject.func, subject.args, subject.kwargs, replace(config, isolate=0, progress=False), level)
    try:
        sent = pickle.dumps((*order, examine))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise OptionTypeError(
            f"{subject.name} cannot be sent to a fresh process ({error}): isolate needs a function that is defined at "
            "the top of a module, and arguments, setup and teardown that can be pickled"
        ) from error
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there, sent), name=f"hotlap lab {subject.name}", daemon=True)
    process.start()
    there.close()
    try:
        answer: Any
        good, answer = here.recv() if here.poll(_GRACE_S + 2.0 * config.timeout) else (False, None)
    except EOFError:
        good, answer = False, None
    finally:
        here.close()
        if process.is_alive():
            process.join(1.0)
            process.kill()
        process.join()
    if good:
        return answer[0], answer[1]
    if isinstance(answer, BaseException):
        raise answer
    raise HotlapError(
        f"the fresh process for {subject.name} ended with status {process.exitcode} and said nothing: it crashed, or "
        "the script's own work is not under `if __name__ == '__main__':`, as fresh processes need it"
    )


def _work(connection: Connection, sent: bytes) -> None:
    """What the fresh process does."""
    try:
        kind_of, func, args, kwargs, config, level, examine = pickle.loads(sent)
        kind = kind_of(Subject(func, args, kwargs), config, level)
        reporter = Reporter(kind.subject.name, config)
        outcome = kind.run(reporter)
        examination = Examination()
        if examine:
            with Guard(config) as guard:
                examination = kind.examine(outcome, guard, reporter)
        answer: tuple[bool, Any] = True, (replace(outcome, result=None), examination)
    except BaseException as error:
        answer = False, _sendable(error)
    connection.send(answer)
    connection.close()
    sys.stdout.flush()


def _sendable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return HotlapError(f"{type(error).__name__} in the fresh process: {error}")
    return error


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcomes of several processes as one: all iterations, in the order of the processes."""
    first = outcomes[0]
    if len(outcomes) == 1:
        return first

    def column(name: str) -> Any:
        return np.concatenate([getattr(one.series, name) for one in outcomes])

    names = [name for name in Series.__slots__ if name != "loops"]
    loops = [one.series.loops for one in outcomes]
    return replace(
        first,
        series=Series(loops=int(np.median(loops)), **{name: column(name) for name in names}),
        ended=next((one.ended for one in outcomes if one.ended is not None), None),
        peak_mb=max(one.peak_mb for one in outcomes),
        failures=FailureLog.joined([(one.failures, len(one.series.time_s)) for one in outcomes]),
        interrupted=any(one.interrupted for one in outcomes),
        cut_off=any(one.cut_off for one in outcomes),
        ended_at=outcomes[-1].ended_at,
        seconds=sum(one.seconds for one in outcomes),
        planned=sum(one.planned for one in outcomes),
    )
