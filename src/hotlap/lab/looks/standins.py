"""Stand-ins: functions of other modules that are watched for a while, by replacing them.

The replacements are in place as long as anybody listens, and pass each call on unchanged. Code that has taken hold of
the original before (`from os import fsync`), and code in C, calls the original: it is not seen.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = ["Call", "Replacement", "StandIns"]

logger = logging.getLogger("hotlap")

L = TypeVar("L")

_MISSING = object()
_ORIGINAL = "_hotlap_stands_in_for"  # attribute of a stand-in


class Call(NamedTuple):
    """A call of a watched function. Times are those of time.perf_counter."""

    args: tuple[Any, ...]
    result: Any  # None when it failed
    error: int | None  # errno of a call that failed; None when it did not
    began: float
    ended: float


class Replacement(NamedTuple):
    """A function to watch: the module or class, its name there, and what to do with a listener and a call."""

    owner: Any
    name: str
    look: Callable[[Any, Call], object]
    before: bool = False  # look before the call, when what it works on is still there


class StandIns(Generic[L]):
    """A set of replacements, and who listens to it. When one watched function calls another, only the outer one is
    told of."""

    def __init__(self, replacements: Callable[[], Iterable[Replacement]]) -> None:
        self._replacements = replacements
        self._lock = threading.RLock()  # the garbage collector may run a listener's code within
        self._inside = threading.local()
        self._installed: list[tuple[Any, str, Any, Any]] = []  # owner, name, what it had itself, the stand-in
        self.listeners: tuple[L, ...] = ()

    def add(self, listener: L) -> None:
        self._inside.a_standin = False  # a call that was cut off may have left it
        with self._lock:
            if not self.listeners:
                self._install()
            self.listeners = (*self.listeners, listener)

    def remove(self, listener: L) -> None:
        """Nothing happens when it does not listen."""
        with self._lock:
            left = tuple(other for other in self.listeners if other is not listener)
            if self.listeners and not left:
                self._uninstall()
            self.listeners = left

    def _install(self) -> None:
        for replacement in self._replacements():
            owner, name = replacement.owner, replacement.name
            original = _original(getattr(owner, name, None))
            if original is not None:
                standin = self._stand_in(original, replacement)
                self._installed.append((owner, name, _original(vars(owner).get(name, _MISSING)), standin))
                setattr(owner, name, standin)

    def _uninstall(self) -> None:
        """What somebody else has replaced in the meantime stays: the stand-in below it then only passes on."""
        while self._installed:
            owner, name, had, standin = self._installed.pop()
            if vars(owner).get(name) is not standin:
                continue
            if had is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, had)

    def _stand_in(self, original: Callable[..., Any], replacement: Replacement) -> Callable[..., Any]:
        inside, look, first = self._inside, replacement.look, replacement.before

        @wraps(original)
        def standin(*args: Any, **kwargs: Any) -> Any:
            if not self.listeners or getattr(inside, "a_standin", False):
                return original(*args, **kwargs)
            inside.a_standin = True
            result = error = None
            began = time.perf_counter()
            try:
                if first:
                    self._tell(look, Call(args, None, None, began, began))
                result = original(*args, **kwargs)
                return result
            except OSError as raised:
                error = raised.errno or errno.ETIMEDOUT  # a timeout of Python's own has no number
                raise
            except BaseException:
                error = errno.EINTR
                raise
            finally:
                ended = time.perf_counter()
                inside.a_standin = False
                if not first:
                    self._tell(look, Call(args, result, error, began, ended))

        setattr(standin, _ORIGINAL, original)
        return standin

    def _tell(self, look: Callable[[L, Call], object], call: Call) -> None:
        for listener in self.listeners:
            try:
                look(listener, call)
            except Exception:  # noqa: PERF203 - each listener for itself
                logger.exception("an observer of the lab failed and is told no more")
                self.remove(listener)


def _original(function: Any) -> Any:
    """The function itself, not a stand-in that somebody has put back after it was taken away."""
    while hasattr(function, _ORIGINAL):
        function = getattr(function, _ORIGINAL)
    return function
