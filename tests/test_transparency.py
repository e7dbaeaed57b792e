"""A measured callable cannot be told from its undecorated twin by what programs look at."""

from __future__ import annotations

import abc
import asyncio
import copy
import dataclasses
import functools
import gc
import inspect
import pickle
import types
import typing
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest

from hotlap.probe import benchmark, restore, sites


def calls(measured: Any) -> int:
    count: int = measured._self_site.read()[0]
    return count


def plain(a: int, /, b: str = "x", *rest: float, c: list[int] | None = None, **more: bytes) -> object:
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
    @pytest.mark.parametrize("ask", [inspect.signature, typing.get_type_hints, inspect.getdoc, inspect.getsource])
    def test_signature_and_hints(self, twin: Any, ask: Any) -> None:
        """Signature, type hints, documentation, source: the same, or the same refusal."""
        assert outcome(ask, benchmark(twin)) == outcome(ask, twin)

    # Not of a partial or an instance: getfullargspec takes whatever has __get__ for a builtin.
    @each({**FUNCTIONS, "builtin": len, "bound method": OTHERS["bound method"]})
    def test_getfullargspec(self, twin: Any) -> None:
        """The argument specification is the same, or the same refusal."""
        assert outcome(inspect.getfullargspec, benchmark(twin)) == outcome(inspect.getfullargspec, twin)

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
        """An attribute that is set on the measured function is set on the function."""

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
        holder.probe = benchmark(functools.partial(print, holder))  # type: ignore[attr-defined]
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
        """Functions are copied by reference; a copy of anything else is measured on the same site."""
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

    def test_implicit_kinds(self) -> None:
        """__new__, __init_subclass__ and __class_getitem__ need no decorator of their own."""

        class Base:
            @benchmark
            def __new__(cls, *args: Any) -> Any:
                return super().__new__(cls)

            @benchmark
            def __init_subclass__(cls, mark: int, **kwargs: Any) -> None:
                cls.mark = mark  # type: ignore[attr-defined]
                super().__init_subclass__(**kwargs)

            @benchmark
            def __class_getitem__(cls, item: Any) -> Any:
                return cls, item

        class Derived(Base, mark=5): ...

        assert Derived.mark == 5  # type: ignore[attr-defined]
        assert Derived[int] == (Derived, int)  # type: ignore[misc]
        assert type(Derived(1, 2)) is Derived
        assert inspect.isfunction(restore(Base.__dict__["__new__"]))


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
