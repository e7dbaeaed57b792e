"""benchmark on methods of every kind, and how everything is restored."""

from __future__ import annotations

import asyncio
import functools
import operator
import types
from typing import Any

import pytest
import wrapt

from hotlap import core
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


class Service:
    """One of each kind of method, decorated one by one, in either order."""

    def __init__(self) -> None:
        self.stored = 0

    @benchmark
    def method(self, x: int = 1) -> tuple[str, int]:
        return type(self).__name__, x

    @benchmark
    @classmethod
    def class_outside(cls, x: int = 1) -> tuple[str, int]:
        return cls.__name__, x

    @classmethod
    @benchmark
    def class_inside(cls, x: int = 1) -> tuple[str, int]:
        return cls.__name__, x

    @benchmark
    @staticmethod
    def static_outside(x: int = 1) -> int:
        return x

    @staticmethod
    @benchmark
    def static_inside(x: int = 1) -> int:
        return x

    @benchmark
    @property
    def value(self) -> int:
        """The value."""
        return self.stored

    @value.setter
    def value(self, value: int) -> None:
        self.stored = value

    @property
    @benchmark
    def inside(self) -> int:
        return self.stored

    @benchmark
    @functools.cached_property
    def cached(self) -> object:
        return object()

    def base(self, x: int, y: int = 0) -> tuple[str, int, int]:
        return type(self).__name__, x, y

    part = benchmark(functools.partialmethod(base, 1))

    @benchmark
    @functools.singledispatchmethod
    def dispatch(self, x: Any) -> str:
        return f"{type(self).__name__} any"

    @dispatch.register
    def _(self, x: int) -> str:
        return f"{type(self).__name__} int"

    @benchmark
    @functools.lru_cache  # noqa: B019 - the instance lives as long as the test
    def remembered(self, x: int) -> object:
        return object()

    @benchmark
    async def later(self, x: int = 1) -> int:
        await asyncio.sleep(0)
        return x

    @benchmark
    def items(self, n: int) -> Any:
        yield from range(n)


class Child(Service):
    pass


class TestMethods:
    @pytest.mark.parametrize("cls", [Service, Child])
    @pytest.mark.parametrize("name", ["class_outside", "class_inside"])
    def test_classmethod(self, cls: type, name: str) -> None:
        """A class method gets the class it was called on, from the class and an instance, either order."""
        before = names(path(Service)).get(name, 0)
        assert getattr(cls, name)(2) == (cls.__name__, 2)
        assert getattr(cls(), name)(x=3) == (cls.__name__, 3)
        assert names(path(Service))[name] == before + 2
        assert type(Service.__dict__[name]) is classmethod

    @pytest.mark.parametrize("name", ["static_outside", "static_inside"])
    def test_staticmethod(self, name: str) -> None:
        """A static method gets no instance, either order."""
        before = names(path(Service)).get(name, 0)
        assert getattr(Service, name)(2) == 2
        assert getattr(Child(), name)(x=3) == 3
        assert names(path(Service))[name] == before + 2
        assert type(Service.__dict__[name]) is staticmethod

    def test_method(self) -> None:
        """A method is bound as a method, called on the class as a function, and inherited."""
        before = names(path(Service))["method"]
        service, child = Service(), Child()
        assert service.method() == ("Service", 1)
        assert Child.method(child, 2) == ("Child", 2)
        bound = child.method
        assert isinstance(bound, types.MethodType)
        assert bound.__self__ is child
        assert bound(x=3) == ("Child", 3)
        assert names(path(Service))["method"] == before + 3

    def test_property(self) -> None:
        """A property is measured, and a setter that is added afterwards works."""
        service = Service()
        service.value = 5
        before = names(path(Service))["value"]
        assert service.value == 5
        assert service.inside == 5
        assert names(path(Service))["value"] == before + 1
        assert type(Service.__dict__["value"]) is property
        assert Service.value.__doc__ == "The value."

    def test_cached_property(self) -> None:
        """A cached property is computed, and counted, once per instance."""
        service = Service()
        before = names(path(Service))["cached"]
        assert service.cached is service.cached
        assert names(path(Service))["cached"] == before + 1

    def test_partialmethod(self) -> None:
        """A partial method keeps its arguments and its binding."""
        assert Child().part(y=2) == ("Child", 1, 2)
        assert Service.part(Service(), 3) == ("Service", 1, 3)
        assert names(path(Service))["partialmethod(base)"] == 2

    def test_singledispatchmethod(self) -> None:
        """A generic method dispatches as before, also to what is registered after it was measured."""
        before = names(path(Service))["dispatch"]
        assert Child().dispatch(1) == "Child int"
        assert Service().dispatch("x") == "Service any"
        assert names(path(Service))["dispatch"] == before + 2

    def test_lru_cache(self) -> None:
        """A cached method is bound, cached and still has its cache's functions."""
        service = Service()
        before = names(path(Service))["remembered"]
        assert service.remembered(1) is service.remembered(1)
        assert Service.remembered.cache_info().hits >= 1
        assert names(path(Service))["remembered"] == before + 2

    def test_async_and_generator(self) -> None:
        """A coroutine method counts when it ends, a generator method when it is exhausted."""
        service = Service()
        before = names(path(Service))
        assert asyncio.run(service.later(4)) == 4
        assert list(service.items(3)) == [0, 1, 2]
        after = names(path(Service))
        assert after["later"] == before["later"] + 1
        assert after["items"] == before["items"] + 1

    def test_bound_method(self) -> None:
        """A bound method can be measured by itself; one that is measured already stays as it is."""
        service = Service()
        measured = benchmark(service.base, name="methods.bound")
        assert measured(1) == ("Service", 1, 0)
        assert calls(measured) == 1
        assert measured.__self__ is service  # type: ignore[attr-defined]
        bound = service.method
        assert benchmark(bound) is bound

    def test_wrapt_decorated(self) -> None:
        """Over a wrapt decorator, in a class, the instance still reaches it."""

        @wrapt.decorator
        def seen(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            return instance, wrapped(*args, **kwargs)

        class C:
            @benchmark
            @seen
            def f(self, x: int) -> int:
                return x

            @benchmark
            @seen
            @classmethod
            def g(cls, x: int) -> int:
                return x

        c = C()
        assert c.f(2) == (c, 2)
        assert c.g(3) == (C, 3)
        assert calls(C.__dict__["f"]) == calls(C.__dict__["g"]) == 1


class TestRestore:
    def test_each_kind(self) -> None:
        """`restore` gives the very object that was decorated."""

        def f(self: Any) -> int:
            return 1

        for original in (
            f,
            len,
            functools.partial(f),
            functools.lru_cache(f),
            operator.itemgetter(1),
            classmethod(f),
            staticmethod(f),
            property(f),
            property(f, f, f, "doc"),
            functools.cached_property(f),
            functools.partialmethod(f, 1),
            functools.singledispatchmethod(f),
            Service().base,
        ):
            measured = benchmark(original)  # type: ignore[type-var]
            assert measured is not original
            assert restore(measured) is original
            assert restore(original) is original

    def test_keeps_attributes(self) -> None:
        """Attributes of a class method or cached property stay, before and after."""

        def f(self: Any) -> int:
            """Doc."""
            return 1

        for kind in (classmethod, staticmethod, functools.cached_property):
            original: Any = kind(f)
            original.mark = 5
            measured = benchmark(original)
            assert measured.mark == 5
            assert measured.__doc__ == "Doc."

    def test_measured_inside(self) -> None:
        """What was put over a probe is made anew over the original."""

        def f(self: Any) -> int:
            return 1

        g = benchmark(f)
        assert restore(classmethod(g)).__func__ is f
        assert restore(staticmethod(g)).__func__ is f
        assert restore(property(g, None, g)).fdel is f
        assert restore(functools.cached_property(g)).func is f
        assert restore(functools.partialmethod(g, 1)).args == (1,)
        generic = functools.singledispatchmethod(g)
        generic.register(int, g)
        again = restore(generic).dispatcher
        assert (again.dispatch(str), again.dispatch(int)) == (f, f)
        assert not any(isinstance(each, core.Probe) for each in again.registry.values())
        later = benchmark(property(f)).setter(f)
        assert (restore(later).fget, restore(later).fset) == (f, f)

    def test_bound(self) -> None:
        """A bound method of a measured function gives the original, bound."""
        service = Service()
        original = restore(service.method)
        assert original.__self__ is service
        assert original.__func__ is Service.__dict__["method"].__wrapped__
        assert original() == ("Service", 1)
        bound = service.base
        assert restore(bound) is bound

    def test_unmeasured(self) -> None:
        """What is not measured is returned as it is."""
        for obj in (3, len, int, property(), classmethod(len)):
            assert restore(obj) is obj
