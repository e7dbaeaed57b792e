"""benchmark on classes."""

from __future__ import annotations

import abc
import asyncio
import enum
import functools
from typing import Any, NamedTuple, Protocol, runtime_checkable

import pytest

from hotlap import core
from hotlap.errors import OptionError, OptionTypeError
from hotlap.options import SiteOptions
from hotlap.probe import benchmark, restore, sites


def counts(site: Any) -> dict[str, int]:
    site = sites[site] if isinstance(site, str) else site
    return dict(zip(core.COUNTERS, site.read(), strict=True))


def calls(measured: Any) -> int:
    return counts(measured._self_site)["calls"]


def options(measured: Any) -> SiteOptions:
    result: SiteOptions = measured._self_site.info.options
    return result


def names(start: str) -> dict[str, int]:
    """Calls by the rest of the name, of every site whose name begins with `start` and a dot."""
    return {
        name.removeprefix(start + "."): counts(site)["calls"]
        for name, site in sites.items()
        if name.startswith(start + ".")
    }


def path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@benchmark
def plain(x: int, y: int = 2) -> int:
    """Adds."""
    return x + y


class TestClasses:
    def test_every_method_of_its_own(self) -> None:
        """A class is measured in place: its own public methods of every kind, and __init__ and __call__."""

        class Base:
            def inherited(self) -> int:
                return 0

        class C(Base):
            def __init__(self) -> None:
                self.x = 1

            def __call__(self) -> int:
                return 1

            def __repr__(self) -> str:
                return "C()"

            def method(self) -> int:
                return 2

            def _private(self) -> int:
                return 3

            def __secret(self) -> int:
                return 4

            @classmethod
            def made(cls) -> Any:
                return cls()

            @staticmethod
            def static() -> int:
                return 5

            @property
            def prop(self) -> int:
                return self.x

            @prop.setter
            def prop(self, value: int) -> None:
                self.x = value

            @prop.deleter
            def prop(self) -> None:
                self.x = 0

            @functools.cached_property
            def cached(self) -> int:
                return 6

            part = functools.partialmethod(method)

            async def later(self) -> int:
                return 7

            def items(self) -> Any:
                yield 8

            class Nested:
                def f(self) -> int:
                    return 9

            other = Nested
            number = 10

        nested = C.__dict__["Nested"]
        assert benchmark(C) is C
        c = C.made()
        assert (c(), c.method(), c._private(), c.static(), c.inherited(), repr(c)) == (1, 2, 3, 5, 0, "C()")
        c.prop = 4
        assert c.prop == 4
        del c.prop
        assert c.prop == 0
        assert (c.cached, c.part(), asyncio.run(c.later()), list(c.items())) == (6, 2, 7, [8])
        assert C.__dict__["Nested"] is C.__dict__["other"] is nested
        assert C.Nested().f() == 9
        assert names(path(C)) == {
            "__init__": 1,
            "__call__": 1,
            "method": 1,
            "made": 1,
            "static": 1,
            "prop": 2,
            "prop.setter": 1,
            "prop.deleter": 1,
            "cached": 1,
            "part": 1,
            "later": 1,
            "items": 1,
        }

    def test_private(self) -> None:
        """`private=True` adds the methods that begin with an underscore; `name` begins their names."""

        @benchmark(private=True, name="classes.private", tags={"a": "b"})
        class C:
            def _private(self) -> int:
                return 3

            def __secret(self) -> int:
                return 4

            def call(self) -> int:
                return self.__secret() + self._private()

            def __eq__(self, other: object) -> bool:
                return True

            __hash__ = None  # type: ignore[assignment]

        assert C().call() == 7
        assert names("classes.private") == {"_private": 1, "_C__secret": 1, "call": 1}
        assert options(C.__dict__["call"]).tags == (("a", "b"),)

    def test_measured_members_stay(self) -> None:
        """A method that is decorated already is not measured twice, whatever kind it is."""

        class C:
            @benchmark(name="classes.own")
            def f(self) -> int:
                return 1

            @benchmark
            @classmethod
            def g(cls) -> int:
                return 2

            @property
            @benchmark
            def h(self) -> int:
                return 3

            def i(self) -> int:
                return 4

        before = dict(vars(C))
        benchmark(C, slo=1)
        assert {name for name in before if vars(C)[name] is not before[name]} == {"i"}
        changed = dict(vars(C))
        benchmark(C)
        assert dict(vars(C)) == changed

    def test_restore(self) -> None:
        """`restore` gives every method of a class back, the very objects."""

        class C:
            def f(self) -> int:
                return 1

            g = classmethod(f)
            h = staticmethod(f)
            i = property(f, f)
            j = functools.cached_property(f)
            k = functools.partialmethod(f)

            @functools.singledispatchmethod
            def m(self, x: int) -> int:
                return 1

            n = functools.lru_cache(f)

        before = dict(vars(C))
        benchmark(C)
        assert all(vars(C)[name] is not before[name] for name in "fghijkmn")
        assert restore(C) is C
        assert {name: value for name, value in vars(C).items() if value is not before[name]} == {}

    def test_size(self) -> None:
        """An argument's name goes to the methods that have it; one that none has is refused."""

        @benchmark(size="docs")
        class C:
            def rank(self, docs: list[int]) -> None: ...

            def close(self) -> None: ...

            @property
            def docs(self) -> None: ...

            @docs.setter
            def docs(self, docs: list[int]) -> None: ...

        assert options(C.__dict__["rank"]).size == "docs"
        assert options(C.__dict__["close"]).size is None
        assert options(C.docs.fset).size == "docs"
        assert options(C.docs.fget).size is None
        with pytest.raises(OptionError, match="a parameter of no method"):
            benchmark(size="pages")(C.__class__("D", (), {"f": lambda self: 1}))

    def test_slots_and_dataclass(self) -> None:
        """Slots and generated __init__ are no obstacle."""
        import dataclasses

        @benchmark
        @dataclasses.dataclass
        class Point:
            __slots__ = ("x", "y")
            x: int
            y: int

            def sum(self) -> int:
                return self.x + self.y

        point = Point(1, 2)
        assert point.sum() == 3
        assert point == Point(1, 2)
        assert repr(point).endswith("Point(x=1, y=2)")
        assert dataclasses.replace(point, x=5) == Point(5, 2)
        assert dataclasses.asdict(point) == {"x": 1, "y": 2}
        assert names(path(Point)) == {"__init__": 4, "sum": 1}

        @dataclasses.dataclass
        @benchmark
        class Later:
            x: int
            call: Any = plain

            def f(self) -> int:
                return self.x

        assert Later(3).f() == 3
        assert Later(3).call is plain
        assert names(path(Later)) == {"f": 1}

    def test_enum(self) -> None:
        """An Enum's methods are measured, its members stay members."""

        @benchmark
        class Colour(enum.Enum):
            RED = 1
            BLUE = 2

            def mixed(self, other: Colour) -> int:
                return self.value + other.value

            @classmethod
            def first(cls) -> Colour:
                return next(iter(cls))

            @property
            def low(self) -> str:
                return self.name.lower()

            @benchmark
            def decorated(self) -> int:
                return self.value

        assert [colour.name for colour in Colour] == ["RED", "BLUE"]
        assert Colour.RED.mixed(Colour.BLUE) == 3
        assert Colour.first() is Colour(1) is Colour["RED"]
        assert Colour.RED.low == "red"
        assert Colour.BLUE.decorated() == 2
        assert names(path(Colour)) == {"mixed": 1, "first": 1, "low": 1, "decorated": 1}
        restore(Colour)
        assert Colour.RED.mixed(Colour.BLUE) == 3

    def test_named_tuple_protocol_and_exception(self) -> None:
        """Classes with machinery of their own keep it."""

        @benchmark
        class Pair(NamedTuple):
            a: int
            b: int = 2

            def sum(self) -> int:
                return self.a + self.b

        assert Pair(1).sum() == 3
        assert Pair(1)._replace(b=5) == (1, 5)

        @benchmark
        @runtime_checkable
        class Runs(Protocol):
            def run(self) -> int: ...

        class Explicit(Runs):
            def __init__(self) -> None:
                self.made = True

            def run(self) -> int:
                return 1

        class Implicit:
            def run(self) -> int:
                return 1

        assert Explicit().made
        assert isinstance(Implicit(), Runs)
        with pytest.raises(TypeError):
            Runs()  # type: ignore[misc]

        @benchmark
        class Failed(Exception):
            def __init__(self, code: int) -> None:
                super().__init__(f"code {code}")
                self.code = code

        with pytest.raises(Failed, match="code 7") as caught:
            raise Failed(7)
        assert caught.value.code == 7

    def test_abstract(self) -> None:
        """Abstract methods stay abstract, and the implementation in a subclass can be measured."""

        @benchmark
        class Base(abc.ABC):
            @abc.abstractmethod
            def f(self) -> int: ...

            @property
            @abc.abstractmethod
            def p(self) -> int: ...

        assert Base.__abstractmethods__ == {"f", "p"}
        with pytest.raises(TypeError, match="abstract"):
            Base()  # type: ignore[abstract]

        @benchmark
        class Real(Base):
            def f(self) -> int:
                return 1

            @property
            def p(self) -> int:
                return 2

        assert (Real().f(), Real().p) == (1, 2)

    def test_builtin_type(self) -> None:
        """A class whose attributes cannot be set is refused, and stays as it was."""
        done: list[str] = []

        class Sealed(type):
            def __setattr__(cls, name: str, value: Any) -> None:
                if done:
                    raise AttributeError("sealed")
                super().__setattr__(name, value)

        class C(metaclass=Sealed):
            made = staticmethod(dict)  # holds a class: no method

            def f(self) -> int:
                return 1

            def g(self) -> int:
                return 2

        before = dict(vars(C))
        done.append("sealed")
        with pytest.raises(OptionTypeError, match="measure a subclass"):
            benchmark(C)
        done.clear()
        assert {name for name in before if vars(C)[name] is not before[name]} == set()
        benchmark(C)
        assert {name for name in before if vars(C)[name] is not before[name]} == {"f", "g"}
        assert benchmark(int) is int  # no method of it is written in Python

    def test_no_recursion_through_super(self) -> None:
        """A measured subclass calls its measured base; each counts its own."""

        @benchmark
        class Base:
            def f(self) -> list[str]:
                return ["base"]

        @benchmark
        class Derived(Base):
            def f(self) -> list[str]:
                return [*super().f(), "derived"]

        assert Derived().f() == ["base", "derived"]
        assert names(path(Base)) == names(path(Derived)) == {"f": 1}
