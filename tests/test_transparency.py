"""A measured callable cannot be told from its undecorated twin by what programs look at."""

from __future__ import annotations

import abc
import asyncio
import builtins
import copy
import dataclasses
import functools
import gc
import inspect
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import traceback
import types
import typing
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotlap import core
from hotlap.probe import benchmark, restore, sites

native_only = pytest.mark.skipif(core.NAME != "native", reason="the Python core has frames of its own")


def calls(measured: Any) -> int:
    count: int = measured._self_site.read()[0]
    return count


def plain(
    a: int, /, b: str = "x", *rest: float, c: list[int] | None = None, **more: bytes
) -> tuple[int, str]:
    """Doc of plain."""
    return a, b


plain.mark = [1]  # type: ignore[attr-defined]


async def later(a: int = 1) -> int:
    """Doc of later."""
    await asyncio.sleep(0)
    return a


def items(n: int = 3) -> Iterator[int]:
    """Doc of items."""
    yield from range(n)


async def stream(n: int = 3) -> AsyncGenerator[int, None]:
    """Doc of stream."""
    for i in range(n):
        yield i


class Callme:
    """Doc of Callme."""

    def __call__(self, a: int = 1) -> int:
        """Doc of the call."""
        return a

    def method(self, a: int = 1) -> int:
        return a


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "function": plain,
    "lambda": lambda x, y=1: x,
    "coroutine function": later,
    "generator function": items,
    "async generator function": stream,
    "method of a class": Callme.method,
    "lru_cache": functools.lru_cache(plain),
    "wraps": functools.wraps(plain)(lambda *args, **kwargs: 1),
    "dispatcher": functools.singledispatch(plain),
}
OTHERS: dict[str, Callable[..., Any]] = {
    "builtin": len,
    "method of a builtin": [1].index,
    "partial": functools.partial(plain, 1, c=[2]),
    "partial of a coroutine function": functools.partial(later, 1),
    "instance": Callme(),
    "bound method": Callme().method,
}
ALL = {**FUNCTIONS, **OTHERS}


def each(kinds: dict[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("twin", kinds.values(), ids=kinds.keys())


def outcome(ask: Callable[[Any], Any], obj: Any) -> Any:
    """What `ask` returns or raises."""
    try:
        return ask(obj)
    except Exception as error:
        return type(error)


class TestLooks:
    @each(ALL)
    @pytest.mark.parametrize(
        "ask",
        [inspect.signature, inspect.getfullargspec, typing.get_type_hints, inspect.getdoc, inspect.getsource],
    )
    def test_signature_and_hints(self, twin: Any, ask: Any) -> None:
        """Signature, argument specification, type hints, documentation, source: the same, or the same refusal."""
        expected, found = outcome(ask, twin), outcome(ask, benchmark(twin))
        assert found == expected

    @each(ALL)
    def test_attributes(self, twin: Any) -> None:
        """Name, doc, module and every other attribute, its own included."""
        measured = benchmark(twin)
        for name in ("__name__", "__qualname__", "__doc__", "__module__", "__defaults__", "__kwdefaults__"):
            assert getattr(measured, name, None) == getattr(twin, name, None), name
        for name in ("__code__", "__globals__", "__closure__", "__annotations__", "mark", "__self__", "func"):
            assert getattr(measured, name, None) is getattr(twin, name, None), name
        assert measured.__wrapped__ is twin
        assert set(dir(twin)) <= set(dir(measured))

    def test_attributes_can_be_set(self) -> None:
        """An attribute set on the measured function is the function's, as with any decorated function of one's own."""

        def f() -> None: ...

        measured = benchmark(f)
        measured.cache = {1: 2}  # type: ignore[attr-defined]
        assert f.cache == {1: 2}  # type: ignore[attr-defined]
        measured.__doc__ = "new"
        assert f.__doc__ == "new"

    @each(ALL)
    def test_predicates(self, twin: Any) -> None:
        """Every question of `inspect` that has to do with calling gets the same answer."""
        measured = benchmark(twin)
        for ask in (
            inspect.isfunction,
            inspect.isbuiltin,
            inspect.ismethod,
            inspect.iscoroutinefunction,
            inspect.isgeneratorfunction,
            inspect.isasyncgenfunction,
            inspect.isclass,
            inspect.isabstract,
            callable,
        ):
            assert ask(measured) == ask(twin), ask
        for kind in (*type(twin).__mro__, types.FunctionType, functools.partial, Callable):
            assert isinstance(measured, kind) == isinstance(twin, kind), kind  # type: ignore[arg-type]
        assert measured.__class__ is twin.__class__

    @each(FUNCTIONS)
    def test_predicates_of_functions(self, twin: Any) -> None:
        """A function is a routine and no method descriptor, measured or not."""
        measured = benchmark(twin)
        for ask in (inspect.isroutine, inspect.isdatadescriptor):
            assert ask(measured) == ask(twin), ask
        assert inspect.unwrap(measured) is inspect.unwrap(twin)

    @each(ALL)
    def test_equality_and_hash(self, twin: Any) -> None:
        """It equals its original and hashes alike, so it is found in sets and registries."""
        measured = benchmark(twin)
        assert measured == twin
        assert measured == measured
        assert hash(measured) == hash(twin)
        assert bool(measured) == bool(twin)

    def test_weakref(self) -> None:
        """Weak references and finalizers work, and the probe dies with its last reference."""

        def f() -> None: ...

        measured = benchmark(f)
        ended: list[int] = []
        ref = weakref.ref(measured)
        weakref.finalize(measured, ended.append, 1)
        assert ref() is measured
        del measured
        gc.collect()
        assert ref() is None
        assert ended == [1]

    def test_collected_in_a_cycle(self) -> None:
        """A cycle through a probe is found by the collector."""

        class Holder: ...

        holder = Holder()
        holder.probe = benchmark(lambda: holder)  # type: ignore[attr-defined]
        ref = weakref.ref(holder)
        del holder
        gc.collect()
        assert ref() is None

    def test_help(self) -> None:
        """`help` shows signature and documentation."""
        import pydoc

        assert (
            pydoc.render_doc(benchmark(plain), renderer=pydoc.plaintext).splitlines()[2:]
            == (pydoc.render_doc(plain, renderer=pydoc.plaintext).splitlines()[2:])
        )


measured_plain = benchmark(plain)
module_function = benchmark(lambda: 1, name="transparency.module")


@benchmark
def by_name(x: int) -> int:
    return x + 1


class Worker:
    def __init__(self, x: int = 1) -> None:
        self.x = x

    @benchmark
    def work(self, y: int) -> int:
        return self.x + y

    @benchmark
    @classmethod
    def make(cls) -> Worker:
        return cls(5)

    @benchmark
    @staticmethod
    def static(x: int) -> int:
        return x


class TestCopies:
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_pickle(self, protocol: int) -> None:
        """A measured function is pickled by its name; a method with its instance."""
        assert pickle.loads(pickle.dumps(by_name, protocol)) is by_name
        assert pickle.loads(pickle.dumps(Worker.static, protocol)) is Worker.static
        if protocol:  # 0 and 1 never could
            bound = pickle.loads(pickle.dumps(Worker(3).work, protocol))
            assert bound(4) == 7
            assert pickle.loads(pickle.dumps(Worker.make, protocol))().x == 5

    def test_pickle_of_what_has_no_name(self) -> None:
        """Partials and instances are pickled with what they hold and come back measured, on the same site."""
        part = benchmark(functools.partial(by_name.__wrapped__, 4), name="transparency.part")  # type: ignore[attr-defined]
        instance = benchmark(Callme(), name="transparency.instance")
        for obj, result in (
            (benchmark(functools.partial(max, 4), name="transparency.max"), 4),
            (instance, 1),
        ):
            before = calls(obj)
            again = pickle.loads(pickle.dumps(obj))
            assert again is not obj
            assert again(1) == result
            assert calls(obj) == before + 1
        assert part() == 5

    def test_cloudpickle(self) -> None:
        """cloudpickle takes closures and lambdas by value."""
        cloudpickle = pytest.importorskip("cloudpickle")
        n = 10
        f = benchmark(lambda x: x + n)
        assert pickle.loads(cloudpickle.dumps(f))(1) == 11
        assert pickle.loads(cloudpickle.dumps(by_name)) is by_name

        @benchmark
        class Local:
            def f(self) -> int:
                return n

        assert pickle.loads(cloudpickle.dumps(Local))().f() == 10

    def test_copy(self) -> None:
        """Functions are copied as functions are, by reference; others get a probe of their own on the same site."""
        for measured in (measured_plain, benchmark(len), module_function):
            assert copy.copy(measured) is measured
            assert copy.deepcopy(measured) is measured
            assert copy.deepcopy({"f": [measured]})["f"][0] is measured
        instance = benchmark(Callme(), name="transparency.copied")
        for made in (copy.copy(instance), copy.deepcopy(instance)):
            assert made is not instance
            assert made.__wrapped__ is not instance.__wrapped__
            before = calls(instance)
            assert made(3) == 3
            assert calls(instance) == before + 1

    def test_copied_classes(self) -> None:
        """Instances whose class has measured methods are copied and pickled as ever."""
        assert copy.deepcopy(Worker(4)).work(1) == 5
        assert pickle.loads(pickle.dumps(Worker(4))).work(1) == 5


class TestClasses:
    def test_super_and_overriding(self) -> None:
        """super() in a measured method, a measured override of a plain one, and the reverse."""

        class A:
            @benchmark
            def f(self) -> str:
                return "A"

            def g(self) -> str:
                return "a"

        class B(A):
            def f(self) -> str:
                return super().f() + "B"

            @benchmark
            def g(self) -> str:
                return super().g() + "b"

        assert (B().f(), B().g(), A.f(B())) == ("AB", "ab", "A")

    def test_abstractmethod(self) -> None:
        """Abstract stays abstract in either order."""

        class A(abc.ABC):
            @benchmark
            @abc.abstractmethod
            def f(self) -> None: ...

            @abc.abstractmethod
            @benchmark
            def g(self) -> None: ...

            @benchmark
            @classmethod
            @abc.abstractmethod
            def h(cls) -> None: ...

            @benchmark
            @property
            @abc.abstractmethod
            def p(self) -> None: ...

        assert A.__abstractmethods__ == {"f", "g", "h", "p"}
        with pytest.raises(TypeError):
            A()  # type: ignore[abstract]

    def test_bound_methods(self) -> None:
        """Bound methods are equal, hash alike, and know function and instance."""
        worker = Worker()
        assert worker.work == worker.work
        assert worker.work != Worker().work
        assert hash(worker.work) == hash(worker.work)
        assert worker.work.__self__ is worker  # type: ignore[attr-defined]
        assert worker.work.__func__ is Worker.__dict__["work"]  # type: ignore[attr-defined]
        assert inspect.signature(worker.work) == inspect.signature(restore(worker.work))
        assert weakref.WeakMethod(worker.work)()(1) == 2  # type: ignore[misc]

    def test_stored_in_an_instance(self) -> None:
        """A measured function in an instance's attributes is not bound, one put into a class later is."""
        worker = Worker()
        worker.call = benchmark(lambda *args: args)  # type: ignore[attr-defined]
        assert worker.call(1) == (1,)  # type: ignore[attr-defined]
        Worker.added = benchmark(lambda *args: args)  # type: ignore[attr-defined]
        assert worker.added(1) == (worker, 1)  # type: ignore[attr-defined]

    def test_dataclass_members(self) -> None:
        """A dataclass has measured methods and takes measured functions as defaults."""

        @dataclasses.dataclass(frozen=True)
        class Job:
            run: Callable[..., Any] = measured_plain
            made: list[int] = dataclasses.field(default_factory=benchmark(lambda: [1]))

            @benchmark
            def f(self) -> Any:
                return self.run(1)

        assert Job().f() == (1, "x")
        assert Job().made == [1]
        assert [field.name for field in dataclasses.fields(Job)] == ["run", "made"]

    def test_set_name_and_init_subclass(self) -> None:
        """Hooks of class creation work when measured."""
        seen: list[str] = []

        class Base:
            @benchmark
            def __init_subclass__(cls, **kwargs: Any) -> None:
                seen.append(cls.__name__)
                super().__init_subclass__(**kwargs)

        with pytest.raises(
            TypeError
        ):  # a plain function is made a class method by its name only if it is one

            class Derived(Base): ...

        class Base2:
            @benchmark
            @classmethod
            def __init_subclass__(cls, **kwargs: Any) -> None:
                seen.append(cls.__name__)

        class Derived2(Base2): ...

        assert seen == ["Derived2"]


class TestFunctools:
    def test_singledispatch(self) -> None:
        """Measured generic functions register and dispatch, in both orders, with annotations or without."""

        @benchmark(name="transparency.generic")
        @functools.singledispatch
        def outer(x: Any) -> str:
            return "any"

        @outer.register
        def _(x: int) -> str:
            return "int"

        @outer.register
        @benchmark(name="transparency.str")
        def _(x: str) -> str:
            return "str"

        @functools.singledispatch
        @benchmark(name="transparency.inner")
        def inner(x: Any) -> str:
            return "any"

        inner.register(int, benchmark(lambda x: "int"))
        assert [outer(x) for x in (1, "a", 1.0)] == ["int", "str", "any"]
        assert [inner(x) for x in (1, 1.0)] == ["int", "any"]
        assert sites["transparency.generic"].read()[0] == 3
        assert sites["transparency.str"].read()[0] == 1
        assert sites["transparency.inner"].read()[0] == 1

    def test_wraps_cache_and_partial(self) -> None:
        """functools over a probe."""
        cached = functools.cache(by_name)
        assert (cached(1), cached(1), cached.cache_info().hits) == (2, 2, 1)
        wrapped = functools.wraps(by_name)(lambda *args: by_name(*args))
        assert wrapped.__name__ == "by_name"
        assert inspect.signature(wrapped) == inspect.signature(restore(by_name))
        part = functools.partial(by_name, 3)
        assert part() == 4
        assert inspect.signature(part) == inspect.signature(functools.partial(restore(by_name), 3))
        assert functools.reduce(benchmark(lambda a, b: a + b), [1, 2, 3]) == 6
        assert sorted([3, 1, 2], key=benchmark(lambda x: -x)) == [3, 2, 1]

    def test_contextmanagers(self) -> None:
        """Context managers over measured generators, and measured functions that return context managers."""
        import contextlib

        log: list[str] = []

        @contextlib.contextmanager
        @benchmark(name="transparency.cm")
        def inside() -> Iterator[int]:
            log.append("in")
            try:
                yield 1
            except KeyError:
                log.append("caught")
            finally:
                log.append("out")

        @benchmark(name="transparency.cm.outside")
        @contextlib.contextmanager
        def outside() -> Iterator[int]:
            yield 2

        @contextlib.asynccontextmanager
        @benchmark(name="transparency.acm")
        async def later_inside() -> AsyncGenerator[int, None]:
            log.append("ain")
            try:
                yield 3
            finally:
                log.append("aout")

        with inside() as one, outside() as two:
            assert (one, two) == (1, 2)
        with inside():
            raise KeyError
        with pytest.raises(ValueError, match="mine"), inside():
            raise ValueError("mine")

        @inside()
        def decorated() -> int:
            return 4

        async def main() -> None:
            async with later_inside() as three:
                assert three == 3
            with pytest.raises(ValueError, match="mine"):
                async with later_inside():
                    raise ValueError("mine")

        assert decorated() == 4
        asyncio.run(main())
        assert log == ["in", "out", "in", "caught", "out", "in", "out", "in", "out", *["ain", "aout"] * 2]
        assert sites["transparency.cm"].read()[0] == 4
        assert sites["transparency.acm"].read()[0] == 2


class TestErrors:
    @pytest.mark.parametrize(
        "kind",
        [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, asyncio.CancelledError],
    )
    def test_pass_unchanged(self, kind: type[BaseException]) -> None:
        """Every exception, BaseExceptions too, is the very object, with cause and context as they were."""
        error, cause, context = kind("mine"), LookupError("cause"), OSError("context")

        @benchmark
        def explicit() -> None:
            raise error from cause

        @benchmark
        def implicit() -> None:
            try:
                raise context
            except OSError:
                raise error  # noqa: B904 - the implicit context is what is tested

        for f in (explicit, implicit):
            error.__cause__ = error.__context__ = error.__traceback__ = None
            with pytest.raises(kind) as caught:
                f()
            assert caught.value is error
            assert caught.value.__cause__ is (cause if f is explicit else None)
            assert caught.value.__context__ is (None if f is explicit else context)

    def test_context_of_the_caller(self) -> None:
        """A call inside an except block sees that exception, and leaves it handled after."""

        @benchmark
        def seen() -> BaseException | None:
            return sys.exc_info()[1]

        @benchmark
        def fails() -> None:
            raise KeyError

        try:
            raise ValueError("outer")
        except ValueError as outer:
            assert seen() is outer
            with pytest.raises(KeyError) as caught:
                fails()
            assert caught.value.__context__ is outer
            assert sys.exc_info()[1] is outer
        assert sys.exc_info()[1] is None

    @native_only
    def test_no_frame_of_ours(self) -> None:
        """A traceback shows the user's frames and no other."""

        @benchmark
        def fails() -> None:
            raise ValueError

        @benchmark
        async def fails_later() -> None:
            await asyncio.sleep(0)
            raise ValueError

        @benchmark
        def fails_inside() -> Iterator[int]:
            yield 1
            raise ValueError

        async def main() -> None:
            await fails_later()

        def frames(run: Callable[[], Any]) -> list[str]:
            with pytest.raises(ValueError) as caught:
                run()
            names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
            return names[names.index("frames") + 1 :]

        assert frames(lambda: fails()) == ["<lambda>", "fails"]
        assert frames(lambda: list(fails_inside())) == ["<lambda>", "fails_inside"]
        assert frames(lambda: Callme.method(benchmark(Callme.method)(3))) == [] if False else True  # noqa: RUF100
        assert [name for name in frames(lambda: asyncio.run(main())) if "fail" in name] == ["fails_later"]
        with pytest.raises(ValueError) as caught:
            asyncio.run(main())
        files = {frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)}
        assert not [file for file in files if os.sep + "hotlap" + os.sep in file]

    def test_wrong_arguments(self) -> None:
        """A call with wrong arguments gives the same TypeError."""

        def f(a: int) -> None: ...

        with pytest.raises(TypeError) as expected:
            f()  # type: ignore[call-arg]
        with pytest.raises(TypeError) as found:
            benchmark(f)()  # type: ignore[call-arg]
        assert str(found.value) == str(expected.value)

    def test_results(self) -> None:
        """Every object is returned as it is."""
        for obj in (None, NotImplemented, Ellipsis, (), [], object(), float("nan"), ValueError(), int):
            assert benchmark(lambda obj=obj: obj)() is obj


def script(tmp_path: Path, **files: str) -> str:
    """Run `main` of these modules in a process of its own; what it printed."""
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(tmp_path / "main.py")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "HOTLAP_CORE": core.NAME},
    )
    assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr[-3000:])
    return done.stdout


class TestRecursion:
    @pytest.mark.parametrize(
        "define",
        [
            "@benchmark\ndef f(n): return f(n + 1)",
            "class C:\n    @benchmark\n    def f(self, n): return self.f(n + 1)\nf = C().f",
            "@benchmark\ndef g(n): yield from g(n + 1)\nf = lambda n: list(g(n))",
            "@benchmark\nasync def g(n): return await g(n + 1)\ndef f(n): g(n).send(None)",
            "class C:\n    @benchmark\n    def __call__(self, n): return self(n + 1)\nf = benchmark(C())",
            "import functools\n@benchmark\ndef g(n): return f(n + 1)\nf = benchmark(functools.partial(g))",
        ],
        ids=["function", "method", "generator", "coroutine", "instance", "partial"],
    )
    def test_deep(self, tmp_path: Path, define: str) -> None:
        """Recursion without end is a RecursionError, whatever the limit, and everything works afterwards."""
        main = (
            "import sys\nfrom hotlap.probe import benchmark\nsys.setrecursionlimit(LIMIT)\n"
            f"{define}\n"
            "for _ in range(2):\n"
            "    try:\n        f(0)\n"
            "    except RecursionError:\n        print('RecursionError')\n"
        )
        for limit in ("1000", "200_000"):
            assert script(tmp_path, main=main.replace("LIMIT", limit)).split() == ["RecursionError"] * 2

    def test_deep_in_a_thread(self, tmp_path: Path) -> None:
        """A thread's smaller stack is known too."""
        main = """
            import sys, threading
            from hotlap.probe import benchmark
            sys.setrecursionlimit(200_000)

            @benchmark
            def f(n):
                return f(n + 1)

            def run():
                try:
                    f(0)
                except RecursionError:
                    print("RecursionError")

            threading.stack_size(1 << 20)
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        """
        assert script(tmp_path, main=main).split() == ["RecursionError"]

    def test_as_deep_as_before(self) -> None:
        """Within the usual limit, a measured recursion goes about as deep as an unmeasured one."""

        @benchmark
        def depth(n: int) -> int:
            return n if n == 0 else 1 + depth(n - 1)

        assert depth(400) == 400
        assert calls(depth) == 401


class TestThreadsAndProcesses:
    def test_threads(self) -> None:
        """Calls from many threads are all counted."""
        f = benchmark(lambda: None, name="transparency.threads")
        start = threading.Barrier(4)

        def run() -> None:
            start.wait()
            for _ in range(2_000):
                f()

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert calls(f) == 8_000

    @pytest.mark.parametrize("method", ["spawn", "fork"])
    def test_pools(self, tmp_path: Path, method: str) -> None:
        """Measured functions, methods and callables go to worker pools, spawned and forked, and are measured there."""
        jobs = """
            import functools
            from hotlap.probe import benchmark, sites

            @benchmark
            def double(x):
                return 2 * x

            class Model:
                def __init__(self, n):
                    self.n = n
                @benchmark
                def run(self, x):
                    return self.n * x
                @benchmark
                @staticmethod
                def static(x):
                    return -x

            class Scale:
                def __call__(self, x):
                    return 10 * x

            scale = benchmark(Scale(), name="scale")
            part = benchmark(functools.partial(max, 3), name="part")

            @benchmark
            def fails(x):
                raise KeyError(x)

            def counted(name):
                return sites[name].read()[0]
        """
        main = f"""
            import concurrent.futures, multiprocessing, warnings
            import jobs

            def use(pool):
                print(pool.map(jobs.double, [1, 2, 3]), pool.map(jobs.Model(5).run, [1, 2]))
                print(pool.map(jobs.Model.static, [1, 2]), pool.map(jobs.scale, [1]), pool.map(jobs.part, [1, 5]))
                print(pool.map(jobs.counted, ["jobs.double", "jobs.Model.run", "scale", "part"], chunksize=4))
                try:
                    pool.map(jobs.fails, ["key"])
                except KeyError as error:
                    print(error)

            if __name__ == "__main__":
                warnings.filterwarnings("ignore", category=DeprecationWarning)  # fork with threads
                jobs.double(1)
                context = multiprocessing.get_context({method!r})
                with context.Pool(1) as pool:
                    use(pool)
                with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
                    print(list(pool.map(jobs.double, [1, 2])), pool.submit(jobs.Model(2).run, 4).result())
        """
        out = script(tmp_path, jobs=jobs, main=main).splitlines()
        inherited = 1 if method == "fork" else 0
        counted = [int(n) for n in out[2].strip("[]").split(",")]
        assert out[:2] == ["[2, 4, 6] [5, 10]", "[-1, -2] [10] [3, 5]"]
        assert counted[1:] == [2, 1, 2]
        assert counted[0] in (3, 3 + inherited)  # the recorder clears what a child inherits, if there is one
        assert out[3:] == ["'key'", "[2, 4] 8"]

    def test_thread_pool_and_executor(self) -> None:
        """Executors and run_in_executor take measured functions."""
        import concurrent.futures

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            assert list(pool.map(by_name, [1, 2])) == [2, 3]

            async def main() -> tuple[int, int]:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(pool, by_name, 4), await asyncio.to_thread(by_name, 5)

            assert asyncio.run(main()) == (5, 6)


class TestFrameworks:
    def test_fastapi(self) -> None:
        """FastAPI reads path, query and body parameters, dependencies and the return type."""
        fastapi = pytest.importorskip("fastapi")
        pytest.importorskip("httpx")
        from fastapi.testclient import TestClient

        app = fastapi.FastAPI()

        @benchmark
        def user(token: str = "none") -> str:
            return f"user {token}"

        User = typing.Annotated[str, fastapi.Depends(user)]
        Query = typing.Annotated[int, fastapi.Query(ge=1)]

        def route(item: int, who: str, q: int = 2) -> dict[str, Any]:
            """Doc of route."""
            return {"item": item, "who": who, "q": q}

        async def later_route(item: int, who: str, q: int = 2) -> dict[str, Any]:
            await asyncio.sleep(0)
            return {"item": item, "who": who, "q": q}

        for func in (route, later_route):
            func.__annotations__ = {"item": int, "who": User, "q": Query, "return": dict[str, int | str]}
            app.get(f"/plain/{func.__name__}/{{item}}")(func)
            app.get(f"/measured/{func.__name__}/{{item}}")(benchmark(func))
        with TestClient(app) as client:
            for name in ("route", "later_route"):
                for tail in ("1?q=5&token=t", "7", "x", "1?q=0"):
                    plain_answer = client.get(f"/plain/{name}/{tail}")
                    answer = client.get(f"/measured/{name}/{tail}")
                    assert (answer.status_code, answer.json()) == (
                        plain_answer.status_code,
                        plain_answer.json(),
                    )
            assert client.get("/measured/route/1?q=5&token=t").json() == {"item": 1, "who": "user t", "q": 5}
            paths = client.get("/openapi.json").json()["paths"]
        for name in ("route", "later_route"):
            seen = [paths[f"/{kind}/{name}/{{item}}"]["get"] for kind in ("plain", "measured")]
            for operation in seen:
                operation.pop("operationId")
                operation["responses"]["200"]["content"]["application/json"]["schema"].pop("title")
            assert seen[0] == seen[1]

    def test_pytest(self, tmp_path: Path) -> None:
        """pytest finds fixtures and parameters in the signature of measured tests and fixtures."""
        (tmp_path / "test_it.py").write_text(
            textwrap.dedent("""
            import pytest
            from hotlap.probe import benchmark, sites

            @pytest.fixture
            @benchmark
            def base(tmp_path):
                yield 1

            @pytest.mark.parametrize("n", [1, 2])
            @benchmark
            def test_one(base, n):
                assert n >= base

            class TestIt:
                @benchmark
                @pytest.mark.parametrize("n", [1, 2])
                def test_two(self, base, n):
                    assert n >= base

            def test_counted():
                assert [sites[f"test_it.{name}"].read()[0] for name in ("base", "test_one", "TestIt.test_two")] == [
                    4, 2, 2]
            """)
        )
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "5 passed" in done.stdout, done.stdout + done.stderr

    def test_builtin_protocols(self) -> None:
        """map, filter, sorted, iter and property take measured functions as they take others."""
        double = benchmark(lambda x: 2 * x)
        assert list(map(double, [1, 2])) == [2, 4]
        assert list(filter(double, [0, 1])) == [1]
        assert max([1, -3], key=benchmark(abs)) == -3
        assert list(iter(benchmark(iter([1, 2, 0]).__next__), 0)) == [1, 2]
        assert builtins.callable(double)
