"""benchmark: what it accepts, what it names, what it counts, and how it is undone."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import functools
import operator
import os
import subprocess
import sys
import textwrap
import types
from typing import Any

import pytest

from hotlap import core, probe
from hotlap.errors import HotlapError, OptionError, OptionTypeError
from hotlap.options import BenchmarkType, SiteOptions
from hotlap.probe import benchmark, restore, sites


def counts(site: Any) -> dict[str, int]:
    site = sites[site] if isinstance(site, str) else site
    return dict(zip(core.COUNTERS, site.read(), strict=True))


def calls(measured: Any) -> int:
    return counts(measured._self_site)["calls"]


def options(measured: Any) -> SiteOptions:
    result: SiteOptions = measured._self_site.info.options
    return result


@benchmark
def plain(x: int, y: int = 2) -> int:
    """Adds."""
    return x + y


class TestForms:
    def test_bare(self) -> None:
        """`@benchmark` measures, and the site has module and qualified name, and the place of the code."""
        before = calls(plain)
        assert plain(1) == 3
        assert calls(plain) == before + 1
        site = plain._self_site  # type: ignore[attr-defined]
        assert site.name == f"{__name__}.plain"
        assert sites[site.name] is site
        code = plain.__wrapped__.__code__  # type: ignore[attr-defined]
        assert site.info.location == f"{code.co_filename}:{code.co_firstlineno}"
        assert site.info.options == SiteOptions()

    def test_called_without_options(self) -> None:
        """`@benchmark()` is `@benchmark`."""

        @benchmark()
        def f() -> int:
            return 1

        assert f() == 1
        assert calls(f) == 1

    def test_options(self) -> None:
        """Every option reaches the site, checked and in its final form."""

        @benchmark(
            name="forms.options",
            type="cpu",
            slo="50ms",
            size="docs",
            tags={"team": "search", "a": "b"},
            sample=5,
        )
        def f(docs: list[int]) -> int:
            return len(docs)

        assert f([1]) == 1
        assert f._self_site.name == "forms.options"  # type: ignore[attr-defined]
        assert options(f) == SiteOptions(BenchmarkType.CPU, 0.05, "docs", (("a", "b"), ("team", "search")), 5.0)

    def test_one_decorator_for_many(self) -> None:
        """The decorator that options give can be used again."""
        quick = benchmark(slo=0.1)
        f, g = quick(lambda: 1), quick(lambda: 2)
        assert (f(), g()) == (1, 2)
        assert options(f).slo_s == options(g).slo_s == 0.1

    def test_sample_zero_leaves_no_records(self) -> None:
        """`sample=0`: counted and timed, but no record."""
        ring = core.Ring(64)
        core.set_ring(ring)
        try:
            benchmark(lambda: None, sample=0, name="forms.nosample")()
            assert counts("forms.nosample")["timed"] == 1
            assert not ring.drain()
            benchmark(lambda: None, sample=5, name="forms.nosample")()
            assert len(ring.drain()) == core.RECORD_BYTES
        finally:
            core.set_ring(None)


class TestRefused:
    @pytest.mark.parametrize(
        ("given", "error", "says"),
        [
            ({"name": 5}, OptionTypeError, "name=5 is no string"),
            ({"name": ""}, OptionError, "name='' is empty"),
            ({"name": " a"}, OptionError, "blanks"),
            ({"slo": -1}, OptionError, "slo=-1"),
            ({"slo": 0}, OptionError, "slo=0"),
            ({"slo": float("nan")}, OptionError, "slo=nan"),
            ({"slo": "soon"}, OptionError, "slo='soon'"),
            ({"slo": [1]}, OptionTypeError, r"slo=\[1\]"),
            ({"type": "fast"}, OptionError, "type='fast'.*known are"),
            ({"type": "cpus"}, OptionError, "did you mean 'cpu'"),
            ({"type": 3}, OptionTypeError, "type=3"),
            ({"size": 3}, OptionTypeError, "size=3"),
            ({"size": "docs"}, OptionError, "size='docs'.*parameters are x"),
            ({"tags": ["a"]}, OptionTypeError, r"tags=\['a'\]"),
            ({"tags": {"a": 1}}, OptionTypeError, "'a': 1.*write 'a': '1'"),
            ({"tags": {1: "a"}}, OptionTypeError, "1: 'a'"),
            ({"sample": -1}, OptionError, "sample=-1"),
            ({"sample": float("nan")}, OptionError, "sample=nan"),
            ({"sample": True}, OptionTypeError, "sample=True"),
            ({"sample": "20"}, OptionTypeError, "sample='20'"),
            ({"private": 1}, OptionTypeError, "private=1"),
            ({"private": True}, OptionError, "private=True is for a class"),
            ({"slow": 1}, OptionTypeError, "no option slow=1; did you mean 'slo'"),
            ({"colour": 1}, OptionTypeError, "known are name, private, sample"),
        ],
    )
    def test_wrong_options(self, given: dict[str, Any], error: type[Exception], says: str) -> None:
        """A wrong option is refused at once with the value, the rule and the fix, and makes no site."""
        before = set(sites)
        with pytest.raises(error, match=says) as caught:
            benchmark(lambda x: x, **given)
        assert isinstance(caught.value, HotlapError)
        assert isinstance(caught.value, (TypeError, ValueError))
        assert set(sites) == before

    def test_before_there_is_a_function(self) -> None:
        """Options alone are checked before the function is seen."""
        with pytest.raises(OptionError, match="slo=-1"):
            benchmark(slo=-1)

    @pytest.mark.parametrize("obj", ["search.rank", 3, None, [1]])
    def test_not_callable(self, obj: Any) -> None:
        """Only callables, methods, properties and classes can be measured; a text was meant as a name."""
        says = "write benchmark\\(name='search.rank'\\)" if isinstance(obj, str) else "cannot be measured"
        with pytest.raises(OptionTypeError, match=says):
            benchmark(obj)

    def test_size_without_signature(self) -> None:
        """A builtin that tells no signature cannot name an argument."""
        with pytest.raises(OptionError, match="callable of the arguments"):
            benchmark(builtins.max, size="x")

    def test_static_class(self) -> None:
        """A static method that holds a class is no method."""
        with pytest.raises(OptionTypeError, match="holds a class"):
            benchmark(staticmethod(dict))


class TestNames:
    def test_lambda_has_its_line(self) -> None:
        """Lambdas are told apart by their lines."""
        f = benchmark(lambda: 1)
        line = f.__code__.co_firstlineno
        where = "TestNames.test_lambda_has_its_line.<locals>.<lambda>"
        assert f._self_site.name == f"{__name__}.{where}:{line}"  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("func", "name"),
        [
            (len, "builtins.len"),
            (str.upper, "builtins.str.upper"),
            ([1].index, "builtins.list.index"),
            (functools.partial(operator.add, 1), "_operator.partial(add)"),
            (functools.partial(len), "builtins.partial(len)"),
            (operator.itemgetter(0), "operator.itemgetter.__call__"),
            (os.path.join, "posixpath.join"),
        ],
    )
    def test_default(self, func: Any, name: str) -> None:
        """Each kind of callable has a name of its own."""
        assert benchmark(func)._self_site.name == name

    def test_explicit_names_of_a_property(self) -> None:
        """A named property's setter and deleter follow its name."""

        def get(self: Any) -> int:
            return 1

        def put(self: Any, value: int) -> None: ...

        prop = benchmark(property(get, put), name="names.size")
        assert prop.fget._self_site.name == "names.size"  # type: ignore[union-attr]
        assert prop.fset._self_site.name == "names.size.setter"  # type: ignore[union-attr]
        unnamed = benchmark(property(get, put))
        assert unnamed.fget._self_site.name.endswith(".get")  # type: ignore[union-attr]
        assert unnamed.fset._self_site.name.endswith(".put")  # type: ignore[union-attr]

    def test_location_of_builtins(self) -> None:
        """What is not written in Python has no place in the code."""
        assert benchmark(len)._self_site.info.location is None  # type: ignore[attr-defined]


class TestTwice:
    def test_same_probe(self) -> None:
        """Decorating a probe gives the same probe: one call counts once."""
        f = benchmark(lambda: 1)
        assert benchmark(f) is f
        assert benchmark()(f) is f

    def test_new_options(self) -> None:
        """New options are merged into those the site has."""
        f = benchmark(lambda: 1, name="twice.options", slo=1.0, tags={"a": "b"})
        again = benchmark(f, slo=2.0, type="cpu")
        again()
        assert counts("twice.options")["calls"] == 1
        assert options(again) == SiteOptions(BenchmarkType.CPU, 2.0, None, (("a", "b"),), None)

    def test_new_name(self) -> None:
        """A new name gives a probe over the inner original, with the options of both."""
        f = benchmark(lambda: 1, name="twice.first", slo=1.0)
        g = benchmark(f, name="twice.second", sample=3)
        g()
        assert g.__wrapped__ is f.__wrapped__  # type: ignore[attr-defined]
        assert (counts("twice.first")["calls"], counts("twice.second")["calls"]) == (0, 1)
        assert options(g) == SiteOptions(slo_s=1.0, sample=3.0)
        assert options(f) == SiteOptions(slo_s=1.0)

    def test_through_other_decorators(self) -> None:
        """With a probe further down, a wrapper is returned as it is; with a name it is measured too."""

        def logged(func: Any) -> Any:
            @functools.wraps(func)
            def wrapper(*args: Any) -> Any:
                return func(*args)

            return wrapper

        inner = benchmark(lambda x: x, name="twice.inner")
        middle = logged(logged(inner))
        assert benchmark(middle) is middle
        assert benchmark(middle, slo=3) is middle
        assert options(inner).slo_s == 3.0
        outer = benchmark(middle, name="twice.outer")
        assert outer(5) == 5
        assert (calls(inner), calls(outer)) == (1, 1)

    def test_endless_chain(self) -> None:
        """An object that makes up attributes, __wrapped__ too, is still measured."""

        class Anything:
            def __getattr__(self, name: str) -> Any:
                return self

            def __call__(self) -> int:
                return 1

        measured = benchmark(Anything(), name="twice.endless")
        assert measured() == 1
        assert calls(measured) == 1

    def test_holders(self) -> None:
        """Class methods, properties and the others with a probe inside are returned as they are."""

        def f(self: Any) -> int:
            return 1

        g = benchmark(f)
        for holder in (
            classmethod(g),
            staticmethod(g),
            property(g),
            functools.cached_property(g),
            functools.partialmethod(g),
            functools.singledispatchmethod(g),
        ):
            assert benchmark(holder) is holder  # type: ignore[type-var]
            measured = benchmark(restore(holder))
            assert benchmark(measured) is measured


class TestResults:
    def test_counts_of_each_kind(self) -> None:
        """Errors and cancellations are counted apart, and normal ends of iterators are no errors."""

        @benchmark(name="results.call")
        def call(error: BaseException | None) -> None:
            if error is not None:
                raise error

        for error in (ValueError(), KeyboardInterrupt(), StopIteration(), asyncio.CancelledError(), None):
            with contextlib.suppress(BaseException):
                call(error)
        found = counts("results.call")
        assert (found["calls"], found["errors"], found["cancelled"]) == (5, 2, 1)

    def test_generator_not_followed_when_returned(self) -> None:
        """A plain function that returns a generator, awaitable or context manager gives that very object."""
        for made in ((n for n in (1, 2)), contextlib.nullcontext(), functools.partial(len)):
            assert benchmark(lambda made=made: made, name="results.same")() is made

    def test_future_passes_through(self) -> None:
        """An awaitable that is no coroutine is returned as it is and can be awaited."""

        async def main() -> int:
            future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            future.set_result(3)
            returned = benchmark(lambda: future, name="results.future")()
            assert returned is future
            return await returned

        assert asyncio.run(main()) == 3

    def test_function_that_returns_a_coroutine(self) -> None:
        """A plain function that returns a coroutine is followed to the coroutine's end."""

        async def work() -> int:
            await asyncio.sleep(0)
            return 3

        f = benchmark(lambda: work(), name="results.coroutine")

        async def main() -> int:
            coroutine = f()
            assert counts("results.coroutine")["calls"] == 0
            return await coroutine

        assert asyncio.run(main()) == 3
        found = counts("results.coroutine")
        assert (found["calls"], found["suspensions"]) == (1, 1)

    def test_types_coroutine(self) -> None:
        """A generator-based coroutine can still be awaited."""

        @benchmark(name="results.types")
        @types.coroutine
        def pause() -> Any:
            yield
            return 5

        async def main() -> int:
            return await pause()

        assert asyncio.run(main()) == 5
        assert counts("results.types")["calls"] == 1

    def test_callable_instances(self) -> None:
        """Instances are called as before, also those whose __call__ is async or a generator."""

        class Sync:
            def __call__(self, x: int) -> int:
                return x

        class Async:
            async def __call__(self, x: int) -> int:
                return x

        class Yields:
            def __call__(self, x: int) -> Any:
                yield x

        assert benchmark(Sync(), name="results.sync")(1) == 1
        assert asyncio.run(benchmark(Async(), name="results.async")(2)) == 2
        assert list(benchmark(Yields(), name="results.yields")(3)) == [3]
        assert [counts(f"results.{kind}")["calls"] for kind in ("sync", "async", "yields")] == [1, 1, 1]
        assert counts("results.yields")["run_ns"] > 0

    def test_builtins_and_partials(self) -> None:
        """Builtins, methods of builtin types and partials are called as before."""
        assert benchmark(len, name="results.len")([1]) == 1
        assert benchmark(str.upper, name="results.upper")("a") == "A"
        assert benchmark("a-b".split, name="results.split")("-") == ["a", "b"]
        assert benchmark(functools.partial(max, 3), name="results.max")(2) == 3


class TestSwitch:
    def test_disable_and_enable(self) -> None:
        """`disable` lets calls and blocks through unmeasured, `enable` measures again."""
        f = benchmark(lambda: 1, name="switch.f")
        probe.disable()
        try:
            assert not core.enabled()
            assert f() == 1
            with probe.measure("switch.f"):
                pass
            assert calls(f) == 0
        finally:
            probe.enable()
        f()
        assert calls(f) == 1

    def run(self, code: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code]
        env = {**os.environ, **env}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)

    @pytest.mark.parametrize("word", ["1", "true", "YES", "on"])
    def test_disabled_by_the_environment(self, word: str) -> None:
        """HOTLAP_DISABLED=1: all is returned as it is, options are still checked, blocks do nothing."""
        code = """
            import asyncio, functools
            from hotlap.errors import OptionError
            from hotlap.probe import benchmark, measure, restore, sites
            def f(): return 1
            class C:
                def f(self): return 2
            before = dict(vars(C))
            assert benchmark(f) is f and benchmark(slo=1)(f) is f
            assert benchmark(C) is C and dict(vars(C)) == before
            for kind in (classmethod, staticmethod, property, functools.cached_property):
                held = kind(f)
                assert benchmark(held) is held and restore(held) is held
            try:
                benchmark(f, slo=-1)
            except OptionError:
                pass
            else:
                raise AssertionError
            with measure("x", size=3) as m:
                m.record(rows=1)
            async def a():
                async with measure("x") as m:
                    m.record(rows=1)
            asyncio.run(a())
            assert measure("x")(f) is f
            assert not sites
        """
        done = self.run(textwrap.dedent(code), HOTLAP_DISABLED=word)
        assert (done.returncode, done.stderr) == (0, "")

    def test_not_disabled(self) -> None:
        """HOTLAP_DISABLED=0 measures; an unknown word is an error that names it."""
        code = "from hotlap.probe import benchmark; assert benchmark(len) is not len"
        assert self.run(code, HOTLAP_DISABLED="0").returncode == 0
        done = self.run(code, HOTLAP_DISABLED="maybe")
        assert done.returncode != 0
        assert "HOTLAP_DISABLED='maybe'" in done.stderr
