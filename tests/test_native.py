"""What is special to the native core: its types seen from Python, references, fork and interpreters,
and misuse that must end in an exception and never in a crash.
"""

from __future__ import annotations

import copy
import ctypes
import functools
import gc
import operator
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import types
import weakref
from typing import Any

import pytest
import wrapt

from conftest import counts
from hotlap import core
from hotlap.errors import HotlapError, OptionError, OptionTypeError

if core.NAME != "native":
    pytest.skip("the Python core is under test", allow_module_level=True)

FOLLOW_ALL = core.FOLLOW_COROUTINE | core.FOLLOW_GENERATOR | core.FOLLOW_ASYNC_GENERATOR


def site(name: str = "native") -> core.Site:
    return core.Site(1, name)


def plain(x: Any = 0) -> Any:
    return x


class Carrier:
    def method(self, x: int) -> tuple[Any, int]:
        return self, x

    @classmethod
    def made(cls) -> Any:
        return cls


measured_method = core.Probe(Carrier().method, site("method"))
measured_class_method = core.Probe(Carrier.made, site("made"))


def run(program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, since it may take that down."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HOTLAP_CORE": "native"},
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


class TestTypes:
    def test_bases(self) -> None:
        """A probe is a wrapt.FunctionWrapper, made in C."""
        assert core.FunctionProbe.__mro__[:3] == (core.FunctionProbe, core.Probe, wrapt.FunctionWrapper)
        assert core.Probe.__module__ == "hotlap.core._native"

    def test_uninitialised(self) -> None:
        """A probe that __init__ never saw says so in every use."""
        for kind in (core.Probe, core.FunctionProbe):
            empty = kind.__new__(kind)
            with pytest.raises(HotlapError, match="not initialised"):
                empty()
            for use in (copy.copy, copy.deepcopy, pickle.dumps, operator.methodcaller("__reduce__")):
                with pytest.raises((HotlapError, ValueError)):
                    use(empty)
            with pytest.raises((AttributeError, ValueError)):
                empty._self_site
            kind.__get__(empty, 1, int)
            gc.collect()
            del empty

    @pytest.mark.parametrize(
        "wrong", [None, "site", types.SimpleNamespace(tail_ns=1, mode=2, id=3), object()], ids=repr
    )
    def test_wrong_site(self, wrong: Any) -> None:
        """Only this core's Site will do: its memory is read directly."""
        with pytest.raises(OptionTypeError, match="must be a Site"):
            core.Probe(plain, wrong)

    def test_initialised_again(self) -> None:
        """A second __init__ takes over, in the middle of a call too."""
        first, second = site("first"), site("second")
        after: list[Any] = []

        def body(x: int) -> int:
            probe.__init__(plain, second)  # type: ignore[misc]
            gc.collect()
            return x

        probe = core.FunctionProbe(body, first)
        watch = weakref.ref(body)
        del body
        assert (probe(1), probe(2)) == (1, 2)
        assert (counts(first)["calls"], counts(second)["calls"]) == (1, 1)
        after.append(gc.collect())
        assert watch() is None

    def test_wrapped_replaced_during_call(self) -> None:
        """The running function stays alive though nothing else holds it any more."""
        ran: list[int] = []

        class Callable:
            def __call__(self) -> None:
                probe.__wrapped__ = plain
                gc.collect()
                ran.append(len(vars(self)))

        def function(key: int = 0, /, **more: int) -> None:
            probe.__wrapped__ = plain
            gc.collect()
            ran.append(len(more))

        for wrapped in (Callable(), function):
            probe = core.Probe(wrapped, site())
            del wrapped
            probe()
        del function
        assert ran == [0, 0]
        with pytest.raises(TypeError):
            del probe.__wrapped__

    def test_wrapped_not_callable(self) -> None:
        """What is put there afterwards may be anything: calling it fails as it would."""
        probe = core.FunctionProbe(plain, site())
        probe.__wrapped__ = 5
        with pytest.raises(TypeError, match="'int' object is not callable"):
            probe()

    @pytest.mark.filterwarnings("ignore:Assigning a code object of non-matching type:DeprecationWarning")
    def test_code_replaced(self) -> None:
        """A function whose __code__ becomes another kind's is still called, and measured as what it gives."""

        async def coroutine() -> str:
            return "coroutine"

        def generator() -> Any:
            yield "generator"

        def nothing() -> str:
            return "plain"

        for kind in (coroutine, generator, nothing):
            where = site()
            probe = core.FunctionProbe(kind, where, FOLLOW_ALL)
            original = kind.__code__
            for other in (nothing, coroutine, generator):
                kind.__code__ = other.__code__
                result = probe()
                if result == "plain":
                    continue
                if hasattr(result, "close"):
                    assert attempted(result.send) in ("generator", "coroutine")
                    result.close()
            kind.__code__ = original
            assert counts(where)["in_flight"] == 0

    def test_subclass(self) -> None:
        """A Python subclass may override what it likes: the C slots give way."""

        class Sub(core.FunctionProbe):
            def __call__(self, *args: Any) -> Any:
                return "sub", super().__call__(*args)

        class Bound(core.FunctionProbe):
            def __get__(self, instance: Any, owner: Any = None) -> Any:
                return "bound"

        where = site()

        class Owner:
            sub = Sub(plain, where)
            bound = Bound(plain, where)

        probe = Sub(plain, where)
        probe.more = 1  # type: ignore[attr-defined]
        assert probe(3) == ("sub", 3)
        assert Owner().sub()[0] == "sub"
        assert Owner().bound == "bound"
        assert Owner().bound.upper() == "BOUND"
        for _ in range(100):
            Sub(plain, where)
        assert isinstance(copy.copy(probe), Sub)

    def test_not_subclassed(self) -> None:
        """Stand-ins, sites and rings have no subclasses, and stand-ins no constructor."""
        item = core.FunctionProbe(generate, site(), FOLLOW_ALL)()
        for kind in (type(item), core.Site, core.Ring):
            with pytest.raises(TypeError, match="not an acceptable base type"):
                type("Sub", (kind,), {})
        with pytest.raises(TypeError, match="cannot create"):
            type(item)()

    def test_vectorcall(self) -> None:
        """Arguments come through every way of calling as they are given."""

        def echo(*args: Any, **kwargs: Any) -> Any:
            return args, kwargs

        probe = core.FunctionProbe(echo, site())

        class Owner:
            echo = probe

        owner = Owner()
        many = {f"name{index}": index for index in range(300)}
        assert probe(*range(500), **many) == (tuple(range(500)), many)
        assert owner.echo(1, key=2) == ((owner, 1), {"key": 2})
        assert Owner.echo(1) == ((1,), {})
        assert list(map(probe, [1], [2])) == [((1, 2), {})]
        assert functools.partial(probe, 1, a=2)(3, b=4) == ((1, 3), {"a": 2, "b": 4})
        assert functools.partial(owner.echo, 1)(2) == ((owner, 1, 2), {})
        assert functools.reduce(probe, [1, 2]) == ((1, 2), {})
        assert types.MethodType(probe, 1)(2) == ((1, 2), {})
        assert operator.methodcaller("echo", 5)(owner) == ((owner, 5), {})
        with pytest.raises(TypeError, match="multiple values"):
            probe(**many, **many)

    def test_bound_copies(self, registry: dict[str, core.Site]) -> None:
        """A probe over a bound method is pickled and copied with its object, and stays measured."""
        for probe, name in ((measured_method, "method"), (measured_class_method, "made")):
            registry.pop(name, None)
            pickled, deep = pickle.loads(pickle.dumps(probe)), copy.deepcopy(probe)
            assert type(pickled) is type(deep) is core.Probe
            pickled(*[1] * (name == "method"))
            assert counts(registry[name])["calls"] == 1
        assert copy.deepcopy(measured_method).__self__ is not measured_method.__self__
        assert copy.deepcopy(measured_class_method)() is Carrier
        appending = core.Probe([1].append, site("append"))
        pickle.loads(pickle.dumps(appending))(2)
        assert counts(registry["append"])["calls"] == 1

    def test_tuple_copies(self) -> None:
        """A callable that is a tuple is copied whole, not taken for arguments."""

        class Pair(tuple):  # type: ignore[type-arg]
            def __call__(self) -> int:
                return len(self)

        probe = core.Probe(Pair((1, 2, 3)), site())
        assert copy.copy(probe)() == copy.deepcopy(probe)() == probe() == 3


def attempted(send: Any) -> Any:
    try:
        return send(None)
    except StopIteration as stop:
        return stop.value


def generate(n: int = 1) -> Any:
    yield from range(n)


async def answer(x: int = 0) -> int:
    return x


async def stream(n: int = 1) -> Any:
    for index in range(n):
        yield index


def drive(coroutine: Any) -> Any:
    try:
        while True:
            coroutine.send(None)
    except StopIteration as stop:
        return stop.value


class TestReferences:
    def leftover(self, function: Any, *objects: Any) -> list[int]:
        """How many references to each object 200 calls of `function` leave."""
        for _ in range(100):
            function()
        gc.collect()
        before = [sys.getrefcount(thing) for thing in objects]
        for _ in range(200):
            function()
        gc.collect()
        after = [sys.getrefcount(thing) for thing in objects]
        return [now - then for now, then in zip(after, before, strict=True)]

    def test_none_leak(self, ring: core.Ring, registry: dict[str, core.Site]) -> None:
        """Nothing holds on to arguments, results, functions, sites or types, on any path."""
        where = site()
        where.tail_ns = 0
        where.size_of = lambda *args, **kwargs: 3
        core.set_trace(lambda: (1, 2, 3))
        argument, result = object(), object()
        error = ValueError("kept")

        def give(x: Any, **kwargs: Any) -> Any:
            return result

        def fail(x: Any, **kwargs: Any) -> Any:
            raise error

        giving, failing = core.FunctionProbe(give, where), core.FunctionProbe(fail, where)
        generating = core.FunctionProbe(generate, where, FOLLOW_ALL)
        answering = core.FunctionProbe(answer, where, FOLLOW_ALL)
        streaming = core.FunctionProbe(stream, where, FOLLOW_ALL)

        class Owner:
            giving = core.FunctionProbe(give, where)

        owner = Owner()

        def everything() -> None:
            giving(argument, key=argument)
            with pytest.raises(ValueError, match="kept"):
                failing(argument)
            error.__traceback__ = None
            with pytest.raises(TypeError):
                generating(1, 2, 3)
            owner.giving(key=argument)
            list(generating(3))
            half = generating(3)
            next(half)
            weakref.ref(half)
            del half
            drive(answering(argument))
            answering(argument).close()
            later = streaming(3)
            drive(later.asend(None))
            with pytest.raises(KeyError):
                drive(later.athrow(KeyError))
            drive(streaming(2).aclose())
            copy.deepcopy(core.Probe(functools.partial(give, argument), where))
            with core.measure("block", size=3) as block, block:
                block.record(rows=1)
            core.Measurement("block").__enter__()
            core.Probe(give, where, 7).__reduce__()
            ring.drain()

        items, coroutine = streaming(), answering()
        step = items.asend(None)
        kinds = [type(generating()), type(items), type(step), type(coroutine)]
        drive(step)
        coroutine.close()
        del items, step, coroutine
        objects = [
            argument,
            result,
            error,
            give,
            fail,
            where,
            core.Probe,
            core.FunctionProbe,
            core.Measurement,
            *kinds,
        ]
        left = self.leftover(everything, *objects)
        assert left == [0] * len(objects)

    def test_blocks_do_not_grow(self) -> None:
        """As many memory blocks after as before."""
        where = site()
        probe = core.FunctionProbe(plain, where)
        answering = core.FunctionProbe(answer, where)

        def several() -> None:
            for index in range(300):
                probe(index)
                drive(answering(index))
                core.Probe(plain, where)

        several()
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(10):
            several()
        gc.collect()
        assert sys.getallocatedblocks() - before < 100

    def test_cycles(self) -> None:
        """Probes and stand-ins in cycles are collected."""
        where = site()

        class Marker:
            pass

        def cycle_of(kind: str) -> weakref.ref[Any]:
            marker = Marker()
            if kind == "probe":

                def function() -> Any:
                    return own, marker

                own = core.FunctionProbe(function, where)
            elif kind == "attribute":
                own = core.Probe(functools.partial(plain, marker), where)
                own.__wrapped__.itself = own  # partials have a dict
            else:
                made: Any = {"coroutine": holding, "generator": yielding, "async": streaming}[kind]
                hold: list[Any] = [marker]
                own = core.FunctionProbe(made, where, FOLLOW_ALL)(hold)
                hold.append(own)
                if kind == "generator":
                    next(own)
                else:
                    (own if kind == "coroutine" else own.asend(None)).send(None)
            return weakref.ref(marker)

        @types.coroutine
        def suspend() -> Any:
            yield

        async def holding(hold: list[Any]) -> None:
            await suspend()
            hold.clear()

        def yielding(hold: list[Any]) -> Any:
            yield 1
            hold.clear()

        async def streaming(hold: list[Any]) -> Any:
            await suspend()
            yield 1
            hold.clear()

        for kind in ("probe", "attribute", "coroutine", "generator", "async"):
            marker = cycle_of(kind)
            gc.collect()
            assert marker() is None, kind
        assert counts(where)["in_flight"] == 0

    def test_spare_stand_ins(self) -> None:
        """A coroutine's stand-in may be a used one: nothing of its last call shows, and none waits in the
        collector's lists.
        """
        where = site()
        probe = core.FunctionProbe(answer, where)
        dead: list[str] = []
        for _ in range(200):
            item = probe()
            watch = weakref.ref(item, lambda _: dead.append("gone"))
            assert gc.is_tracked(item)
            drive(item)
            del item
            assert watch() is None
            gc.collect(0)
        batch = [probe() for _ in range(200)]
        for item in batch:
            item.close()
        del batch, item
        assert len(dead) == 200
        assert sum(type(thing).__name__ == "Coroutine" for thing in gc.get_objects()) == 0

    def test_deep_nesting(self) -> None:
        """Freeing a long chain does not recurse on the C stack."""
        where = site()
        chain: Any = plain
        for _ in range(5_000):  # many more, and wrapt itself recurses in making one
            chain = core.Probe(chain, where)
        del chain

        def body(inner: Any) -> Any:
            yield 1
            yield inner

        link = core.FunctionProbe(body, where, FOLLOW_ALL)
        chain = None
        for _ in range(100_000):
            chain = link(chain)
            next(chain)
        del chain
        assert counts(where)["in_flight"] == 0


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


class TestArguments:
    def test_sample(self) -> None:
        """Wrong numbers are refused by name or position."""
        where = site()
        for call in (
            lambda: where.sample(2.0, 1),
            lambda: where.sample(probability=2.0, quota=1),
            lambda: where.sample(probability=float("nan"), quota=1),
            lambda: where.sample(0.5, quota=0),
            lambda: where.sample(0.5, 1, first=-1),
        ):
            with pytest.raises(OptionError):
                call()

    @pytest.mark.parametrize("number", [-1, 2**32 - 1, 2**40])
    def test_site_id(self, number: int) -> None:
        """An id must fit its field; the last one stands for no parent."""
        with pytest.raises(OptionError, match="site id"):
            core.Site(number, "wrong")

    @pytest.mark.parametrize("capacity", [2**40, 2**61, sys.maxsize // 128 + 1])
    def test_ring_too_large(self, capacity: int) -> None:
        with pytest.raises((MemoryError, OptionError, OverflowError)):
            core.Ring(capacity)

    def test_collect(self) -> None:
        """Buffers of the wrong size or kind are refused, unaligned ones are fine."""
        sites = [site(), site()]
        core.FunctionProbe(plain, sites[0])(1)
        row, rows = 8 * len(core.COUNTERS) * 2, 8 * core.BUCKETS * 2
        for counters, histograms in ((row - 1, rows), (row, rows - 1)):
            with pytest.raises(ValueError, match="needs"):
                core.collect(sites, bytearray(counters), bytearray(histograms))
        with pytest.raises((BufferError, TypeError)):
            core.collect(sites, bytes(row), bytearray(rows))
        with pytest.raises(OptionTypeError, match="must be a Site"):
            core.collect([sites[0], 5], bytearray(row), bytearray(rows))  # type: ignore[list-item]
        low, high = core.collect(
            sites, memoryview(bytearray(row + 1))[1:], memoryview(bytearray(rows + 1))[1:]
        )
        assert high > low

    def test_collect_while_the_list_shrinks(self) -> None:
        """Asking for the buffers may run Python."""
        sites = [site() for _ in range(50)]

        class Block(ctypes.c_char * (50 * 8 * core.BUCKETS)):  # type: ignore[misc]
            def __buffer__(self, flags: int) -> memoryview:
                sites.clear()
                return memoryview(bytearray(50 * 8 * core.BUCKETS))

        core.collect(sites, bytearray(50 * 8 * len(core.COUNTERS)), Block())


class TestProcess:
    def test_other_interpreters(self) -> None:
        """The native core is refused in a second interpreter, with the reason, and the first one goes on."""
        run(
            """
            import sys
            from hotlap import core
            try:
                import _xxsubinterpreters as interpreters
            except ImportError:
                import _interpreters as interpreters
            assert core.NAME == "native"
            code = '''
            import sys
            sys.path[:] = PATH
            try:
                import hotlap.core._native
            except ImportError as error:
                assert "interpreter" in str(error), error
            else:
                raise SystemExit("imported")
            '''
            import textwrap
            code = textwrap.dedent(code).replace("PATH", repr(sys.path))
            for legacy in (True, False):
                try:
                    number = interpreters.create(isolated=not legacy)
                except TypeError:
                    number = interpreters.create("legacy" if legacy else "isolated")
                failed = interpreters.run_string(number, code)
                assert not failed, failed
                interpreters.destroy(number)
            probe = core.FunctionProbe(lambda: 1, core.Site(1, "a"))
            assert probe() == 1
            """
        )

    def test_imported_again(self) -> None:
        """The module that comes of a second import has the same types."""
        run(
            """
            import sys
            from hotlap import core
            from hotlap.core import _native as first
            probe = core.FunctionProbe(lambda: 1, core.Site(1, "a"))
            del sys.modules["hotlap.core._native"]
            import importlib
            second = importlib.import_module("hotlap.core._native")
            assert second is not first and second.Probe is first.Probe and second.Site is first.Site
            assert probe() == 1 and second.clock()["kind"] == first.clock()["kind"]
            """
        )

    def test_second_thread_of_a_fork(self) -> None:
        """A fork in the middle of calls, from a thread: the child counts from zero, the parent all."""
        run(
            """
            import os, threading, warnings
            warnings.simplefilter("ignore")
            from hotlap import core
            ring = core.Ring(64)
            core.set_ring(ring)
            site = core.Site(1, "a")

            def inner():
                pid = os.fork()
                if pid == 0:
                    core.after_fork()
                    leaf()
                return pid

            outer = core.FunctionProbe(inner, site)
            leaf = core.FunctionProbe(lambda: None, site)

            def gen():
                yield outer()

            items = core.FunctionProbe(gen, site, 7)

            def work():
                pid = next(items())
                read = dict(zip(core.COUNTERS, site.read()))
                if pid == 0:
                    ok = (read["calls"], read["in_flight"]) == (1, 0)
                    ok = ok and len(ring.drain()) == core.RECORD_BYTES
                    os._exit(0 if ok else 1)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
                assert read["calls"] == 2, read

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            """
        )

    @pytest.mark.parametrize("daemon", [True, False])
    def test_shutdown_in_flight(self, daemon: bool) -> None:
        """The interpreter ends while threads are in calls, tasks suspended, and blocks open."""
        run(
            """
            import asyncio, sys, threading, time
            from hotlap import core
            core.set_ring(core.Ring(1024))
            sites = {}
            core.set_sites(sites, lambda name, options: sites.setdefault(name, core.Site(len(sites), name)))
            site = core.Site(1, "a")
            loops = core.FunctionProbe(lambda: [leaf() for _ in range(50)], site)
            leaf = core.FunctionProbe(lambda: None, site)
            going = [True]

            def work():
                while going[0]:
                    with core.measure("block"):
                        loops()

            def body():
                with core.measure("kept"):
                    yield

            items = core.FunctionProbe(body, site, 7)()
            next(items)

            async def waits():
                await asyncio.sleep(1000)

            loop = asyncio.new_event_loop()
            task = loop.create_task(core.FunctionProbe(waits, site)())
            loop.run_until_complete(asyncio.sleep(0))
            task._log_destroy_pending = False

            class Last:
                def __del__(self):
                    leaf()
                    with core.measure("last"):
                        pass

            last = Last()
            for _ in range(8):
                threading.Thread(target=work, daemon=sys.argv[1] == "True").start()
            time.sleep(0.05)
            if sys.argv[1] == "False":
                going.clear()
                going.append(False)
            """,
            str(daemon),
        )

    def test_recursion(self) -> None:
        """A raised recursion limit ends in RecursionError, in the main thread and on small stacks."""
        run(
            """
            import sys, threading
            from hotlap import core
            core.set_ring(core.Ring(64))
            sites = {}
            core.set_sites(sites, lambda name, options: sites.setdefault(name, core.Site(len(sites), name)))
            site = core.Site(1, "a")
            sys.setrecursionlimit(10**6)

            call = core.FunctionProbe(lambda: call(), site)

            class Owner:
                method = core.FunctionProbe(lambda self: self.method(), site)

            def gen():
                yield from gen()

            gen = core.FunctionProbe(gen, site, 7)

            async def co():
                await co()

            co = core.FunctionProbe(co, site)

            def block():
                with core.measure("block"):
                    wrapped()

            wrapped = core.FunctionProbe(block, site)

            def attempts():
                for attempt in (call, Owner().method, lambda: next(gen()), lambda: co().send(None), wrapped):
                    try:
                        attempt()
                    except RecursionError:
                        done.append(1)

            done = []
            import warnings
            warnings.simplefilter("ignore")
            attempts()
            for size in (64, 128, 256, 1024):
                threading.stack_size(size * 1024)
                thread = threading.Thread(target=attempts)
                thread.start()
                thread.join()
            read = dict(zip(core.COUNTERS, site.read()))
            assert len(done) == 25, done
            assert read["in_flight"] == 0, read
            """
        )


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
class TestSignals:
    def test_raised_in_calls(self, ring: core.Ring, registry: dict[str, core.Site]) -> None:
        """A handler that raises anywhere in measured code leaves nothing in flight."""
        where = site()
        leaf = core.FunctionProbe(plain, where)
        outer = core.FunctionProbe(lambda: [leaf(index) for index in range(20)], where)
        items = core.FunctionProbe(generate, where, FOLLOW_ALL)
        answering = core.FunctionProbe(answer, where)

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
                    leaf(1)

        before = signal.signal(signal.SIGALRM, handler)
        try:
            for _ in range(150):
                until_alarm()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        gc.collect()
        assert counts(where)["in_flight"] == 0
        assert counts(where)["errors"] > 0


def test_names() -> None:
    """The stub, the module, and the Python twin have the same public names."""
    import ast
    import pathlib

    from hotlap.core import _native, _python

    stub = ast.parse(pathlib.Path(core.__file__).with_name("_native.pyi").read_text())
    declared = set()
    for node in stub.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            declared.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            declared.add(node.target.id)
        elif isinstance(node, ast.Assign):
            declared |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    there = {name for name in vars(_native) if not name.startswith("__")}
    assert declared == there
    assert set(core._EITHER) <= there & set(vars(_python))
