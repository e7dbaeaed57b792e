"""The core's probes: what they are to who looks at them, over both cores."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import operator
import pickle
import sys
import types
import weakref
from typing import Any

import pytest
import wrapt

from conftest import counts
from hotlap import core
from hotlap.errors import OptionTypeError
from probes import make
from subjects import FOLLOW_ALL, plain, site


def by_name(value: int) -> int:
    return value + 1


class TestProbe:
    def test_is_a_wrapt_wrapper(self) -> None:
        """A probe is a wrapt.FunctionWrapper, and passes for the function."""

        def f(a: int, b: str = "x") -> str:
            """Doc."""
            return b * a

        probe, site = make(f)
        assert isinstance(probe, wrapt.FunctionWrapper)
        assert isinstance(probe, types.FunctionType)
        assert issubclass(type(probe), core.Probe)
        assert inspect.signature(probe) == inspect.signature(f)
        assert (probe.__name__, probe.__doc__, probe.__module__) == ("f", "Doc.", __name__)
        assert probe.__wrapped__ is f
        assert probe._self_site is site
        assert probe._self_flow == core.FOLLOW_COROUTINE
        assert probe == f
        assert hash(probe) == hash(f)
        assert probe(2) == "xx"
        assert probe(a=2, b="y") == "yy"
        assert weakref.ref(probe)() is probe
        with pytest.raises(AttributeError):
            probe._self_site = site

    def test_wrong_arguments(self) -> None:
        """A TypeError is the function's own, and counts as an error."""

        def f(a: int) -> int:
            return a

        probe, site = make(f)
        with pytest.raises(TypeError, match=r"f\(\) missing 1 required positional argument: 'a'"):
            probe()
        assert counts(site)["errors"] == 1

    def test_methods(self) -> None:
        """FunctionProbe binds like a function."""
        site = core.Site(1, "m")

        class C:
            @functools.partial(core.FunctionProbe, site=site)
            def m(self, x: int) -> tuple[Any, int]:
                return self, x

        c = C()
        bound = c.m
        assert type(bound) is types.MethodType
        assert bound.__self__ is c
        assert bound.__func__ is C.__dict__["m"]
        assert bound(1) == c.m(1) == C.m(c, 1) == (c, 1)
        assert counts(site)["calls"] == 3

    def test_descriptors(self) -> None:
        """Probe asks what it wraps to bind, and is a probe over what comes of it."""
        site = core.Site(1, "m")

        class C:
            a = core.Probe(lambda self, x: (self, x), site)
            b = core.Probe(staticmethod(lambda x: x), site)

        c = C()
        assert c.a(1) == C.a(c, 1) == (c, 1)
        assert C.b(2) == c.b(2) == 2
        assert issubclass(type(c.a), core.Probe)
        assert c.a.__self__ is c
        assert c.a._self_site is site
        assert counts(site)["calls"] == 4
        bound = c.a
        core.enable(False)
        assert bound(1) == c.a(1) == (c, 1)
        core.enable(True)
        assert counts(site)["calls"] == 4

    def test_callables(self) -> None:
        """Builtins, partials, classes and callable instances."""
        site = core.Site(1, "c")

        class Adder:
            def __init__(self, n: int) -> None:
                self.n = n

            def __call__(self, x: int) -> int:
                return self.n + x

        assert core.Probe(len, site)([1]) == 1
        assert core.Probe(functools.partial(int, base=2), site)("11") == 3
        assert core.Probe(Adder, site)(2).n == 2
        assert core.Probe(Adder(3), site)(4) == 7
        assert counts(site)["calls"] == 4

        class Host:
            size = core.Probe(len, site)

        assert Host().size([1, 2]) == 2

    def test_wrapped_can_be_replaced(self) -> None:
        """Assigning __wrapped__ changes what is called."""
        probe, site = make(lambda: 1)
        probe.__wrapped__ = lambda: 2
        assert probe() == 2
        assert counts(site)["calls"] == 1

    @pytest.mark.parametrize("kind", [core.Probe, core.FunctionProbe])
    def test_refused(self, kind: Any) -> None:
        """What is not callable, and what is no site."""
        with pytest.raises(TypeError):
            kind(3, core.Site(1, "f"))
        with pytest.raises(TypeError):
            kind(lambda: None, "site")
        with pytest.raises(TypeError, match="not a plain function"):
            core.FunctionProbe(len, core.Site(1, "f"))

    def test_pickle(self, registry: dict[str, core.Site], monkeypatch: pytest.MonkeyPatch) -> None:
        """By name where there is one; a callable instance goes by value, with its site's name."""
        probe, _ = make(by_name)
        monkeypatch.setattr(sys.modules[__name__], "by_name", probe)
        assert pickle.loads(pickle.dumps(probe)) is probe
        site = registry["partial"] = core.Site(9, "partial")
        other = pickle.loads(pickle.dumps(core.Probe(functools.partial(int, base=2), site, 3)))
        assert other("11") == 3
        assert other._self_site is site
        assert other._self_flow == 3
        assert counts(site)["calls"] == 1

    def test_pickle_of_bound(self, registry: dict[str, core.Site]) -> None:
        """What is bound goes by value, in C too: the name of a method is not where the method is."""
        site = registry["bound"] = core.Site(9, "bound")
        for wrapped, given in (([1, 2].index, 2), ("abc".count, "b"), (Carrier().method, 1)):
            other = pickle.loads(pickle.dumps(core.Probe(wrapped, site)))
            assert type(other) is core.Probe
            assert other._self_site is site
            assert type(other.__wrapped__) is type(wrapped)
            assert other(given) is not None
        assert counts(site)["calls"] == 3

    def test_rebuilt_by_the_core_in_use(self) -> None:
        """Pickles name no core: who reads one may have the other. What is measured already stays as it is."""
        probe, _ = make(functools.partial(int))
        rebuild, arguments = probe.__reduce__()
        assert (rebuild.__module__, rebuild.__name__) == ("hotlap.core", "_rebuild")
        assert core._rebuild(probe, *arguments[1:]) is probe

    def test_copy(self) -> None:
        """Functions copy to themselves, callable instances to a probe over the copy."""
        probe, site = make(lambda: 1)
        assert copy.copy(probe) is probe
        assert copy.deepcopy([probe])[0] is probe

        class Box:
            def __init__(self) -> None:
                self.items = [1]

            def __call__(self) -> list[int]:
                return self.items

        instance = core.Probe(Box(), site)
        shallow, deep = copy.copy(instance), copy.deepcopy(instance)
        assert shallow() is instance()
        assert deep() == instance()
        assert deep() is not instance()
        assert deep._self_site is site

    def test_site(self) -> None:
        """id and name, a place for the registry's own, and weak references."""
        site = core.Site(3, "name", info={"a": 1})
        assert (site.id, site.name, site.info) == (3, "name", {"a": 1})
        site.info = None
        assert site.info is None
        assert weakref.ref(site)() is site
        assert "name" in repr(site)


class Carrier:
    def method(self, x: int) -> tuple[Any, int]:
        return self, x

    @classmethod
    def made(cls) -> Any:
        return cls


measured_method = core.Probe(Carrier().method, site("method"))
measured_class_method = core.Probe(Carrier.made, site("made"))


def attempted(send: Any) -> Any:
    try:
        return send(None)
    except StopIteration as stop:
        return stop.value


class TestMisuse:
    @pytest.mark.parametrize(
        "wrong",
        [None, "site", types.SimpleNamespace(tail_ns=1, mode=2, id=3), object()],
        ids=["None", "name", "alike", "object"],
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
