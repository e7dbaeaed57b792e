"""Hooks that are replaced while they run, that fail, and that are interrupted; over both cores."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

from conftest import counts
from hotlap import core
from hotlap.errors import HotlapError
from subjects import plain, site


class TestHooks:
    def test_replaced_while_called(self, ring: core.Ring, registry: dict[str, core.Site]) -> None:
        """A hook may take itself away, in the middle of its own call."""
        where = site()

        class Hook:
            def __init__(self, setter: Any) -> None:
                self.setter = setter

            def trace(self) -> Any:
                self.setter(None)
                gc.collect()
                return (len(vars(self)), 2, 3)

            def size(self, *args: Any) -> int:
                where.size_of = None
                gc.collect()
                return len(vars(self))

            def fault(self, *args: Any) -> None:
                core.set_fault(None)
                gc.collect()
                assert vars(self)

            def tick(self) -> int:
                core.set_clock(None)
                gc.collect()
                return len(vars(self))

        core.set_trace(Hook(core.set_trace).trace)
        where.size_of = Hook(None).size
        core.FunctionProbe(plain, where)(1)
        core.set_fault(Hook(None).fault)
        where.size_of = lambda: 1 / 0
        core.FunctionProbe(plain, where)(1)
        core.set_trace(lambda: core.set_ring(None))
        core.FunctionProbe(plain, where)(1)
        core.set_clock(Hook(None).tick)
        core.FunctionProbe(plain, where)(1)
        assert counts(where)["calls"] == 4

    def test_sites_are_checked(self) -> None:
        """A registry that holds or gives something else is told so."""
        registry: Any = {"wrong": 5}
        core.set_sites(registry, lambda name, options: registry)
        for name in ("wrong", "missing"):
            with pytest.raises(HotlapError, match="is no Site"):
                core.measure(name)

    def test_fault_is_not_the_function_s(self, ring: core.Ring) -> None:
        """A lack of stack or memory does not switch a size function off; an error of its own does."""
        where = site()
        heard: list[Any] = []
        core.set_fault(lambda kind, site, error: heard.append((kind, type(error))))
        for error, gone in ((MemoryError, False), (RecursionError, False), (ValueError, True)):

            def size(*args: Any, error: type[Exception] = error) -> int:
                raise error

            where.size_of = size
            core.FunctionProbe(plain, where)(1)
            assert (where.size_of is None) is gone
        assert heard == [("size", ValueError)]

    @pytest.mark.parametrize("hook", ["size", "trace"])
    @pytest.mark.parametrize("threaded", [False, True])
    def test_interrupts_come_through(self, ring: core.Ring, hook: str, threaded: bool) -> None:
        """A KeyboardInterrupt inside a hook is the program's: it is raised, the hook stays."""
        where = site()
        armed = [True]

        def interrupted(*args: Any) -> Any:
            if armed:
                armed.clear()
                raise SystemExit(3) if threaded else KeyboardInterrupt("from a hook")
            return None

        if hook == "size":
            where.size_of = interrupted
        else:
            core.set_trace(interrupted)
        probe = core.FunctionProbe(plain, where)
        seen: list[BaseException] = []

        def work() -> None:
            try:
                probe(1)
                for _ in range(10_000):  # it is raised where the interpreter looks for signals
                    len("")
            except BaseException as error:
                seen.append(error)

        if threaded:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        else:
            work()
        assert [type(error) for error in seen] == [SystemExit if threaded else KeyboardInterrupt]
        assert hook == "trace" or where.size_of is interrupted

    def test_context_of_exception(self, registry: dict[str, core.Site]) -> None:
        """A block that is left by hand does not touch the exception it is told of."""
        error = ValueError("mine")
        block = core.measure("block")
        try:
            raise KeyError("other")
        except KeyError:
            block.__enter__()
            block.__exit__(ValueError, error, None)
            block.__enter__()
            block.__exit__(None, "nonsense", None)  # type: ignore[arg-type]
        assert error.__context__ is None
        assert counts(registry["block"])["errors"] == 2
