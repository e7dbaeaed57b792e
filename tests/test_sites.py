"""The registry of sites, and the size of a call."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from hotlap import core, probe
from hotlap.errors import OptionError, OptionTypeError
from hotlap.options import SiteOptions
from hotlap.probe import benchmark, sites


def counts(site: Any) -> dict[str, int]:
    site = sites[site] if isinstance(site, str) else site
    return dict(zip(core.COUNTERS, site.read(), strict=True))


def calls(measured: Any) -> int:
    return counts(measured._self_site)["calls"]


def options(measured: Any) -> SiteOptions:
    result: SiteOptions = measured._self_site.info.options
    return result


def record_sizes(run: Any) -> list[float]:
    np = pytest.importorskip("numpy")
    dtype = np.dtype(
        {
            "names": [row[0] for row in core.RECORD_LAYOUT],
            "formats": [row[1] for row in core.RECORD_LAYOUT],
            "offsets": [row[2] for row in core.RECORD_LAYOUT],
            "itemsize": core.RECORD_BYTES,
        }
    )
    ring = core.Ring(64)
    core.set_ring(ring)
    try:
        run()
        return list(np.frombuffer(ring.drain(), dtype=dtype)["size"])
    finally:
        core.set_ring(None)


class TestRedeclared:
    def test_closures_made_in_a_loop(self) -> None:
        """The same name is the same site, and the newest options hold."""

        def make(n: int) -> Any:
            @benchmark(slo=n)
            def f() -> int:
                return n

            return f

        made = [make(n) for n in (1, 2, 3)]
        assert [f() for f in made] == [1, 2, 3]
        assert len({f._self_site for f in made}) == 1
        assert calls(made[0]) == 3
        assert options(made[0]).slo_s == 3.0

    def test_newest_size(self) -> None:
        """Declared again without a size, a site has none."""
        f = benchmark(lambda x: x, name="redeclared.size", size="x")
        assert f._self_site.size_of is not None  # type: ignore[attr-defined]
        benchmark(lambda x: x, name="redeclared.size")
        assert f._self_site.size_of is None  # type: ignore[attr-defined]

    def test_ids_are_unique(self) -> None:
        """Every site has its own id."""
        ids = [site.id for site in sites.values()]
        assert len(set(ids)) == len(ids)


class TestLimit:
    def test_other(self) -> None:
        """Beyond the limit there is one warning, and the calls count under `other`."""
        f = benchmark(lambda: 1, name="limit.early")
        before = sites["other"].read()[0] if "other" in sites else 0
        probe.set_limit(max(1, len(sites) - ("other" in sites)))
        try:
            with pytest.warns(RuntimeWarning, match="'limit.1'.*max_sites") as warned:
                late = [benchmark(lambda: 1, name=f"limit.{n}", slo=1) for n in range(1, 4)]
            assert len(warned) == 1
            with probe.measure("limit.block"):
                pass
            assert warned[0].filename == __file__
            assert [f() for f in late] == [1, 1, 1]
            assert "limit.1" not in sites
            assert counts("other")["calls"] == before + 4
            assert sites["other"].info.options == SiteOptions()
            assert benchmark(lambda: 1, name="limit.early")._self_site is f._self_site  # type: ignore[attr-defined]
        finally:
            probe.set_limit(10_000)

    @pytest.mark.parametrize(("limit", "error"), [(0, OptionError), (True, OptionTypeError), ("9", OptionTypeError)])
    def test_refused(self, limit: Any, error: type[Exception]) -> None:
        """The limit is a whole number from 1."""
        with pytest.raises(error, match="max_sites"):
            probe.set_limit(limit)


class TestSize:
    @pytest.mark.parametrize(
        ("call", "expected"),
        [
            (lambda f: f([1, 2, 3]), 3),
            (lambda f: f(docs="four"), 4),
            (lambda f: f(7.5), 7.5),
            (lambda f: f(), 2),
            (lambda f: f(None), None),
        ],
    )
    def test_argument(self, call: Any, expected: float | None) -> None:
        """An argument's size: its length, itself if it is a number, its default if it was not passed."""

        @benchmark(name="size.argument", size="docs")
        def f(docs: Any = (1, 2)) -> None: ...

        given: list[tuple[Any, Any]] = []
        call(lambda *args, **kwargs: given.append((args, kwargs)))
        ((args, kwargs),) = given
        assert f._self_site.size_of(*args, **kwargs) == expected  # type: ignore[attr-defined]

    def test_every_kind_of_parameter(self) -> None:
        """Positional-only, keyword-only and starred parameters are found too."""

        def f(a: Any, /, b: Any, *rest: Any, key: Any = (1,), **more: Any) -> None: ...

        def size(name: str, *args: Any, **kwargs: Any) -> Any:
            benchmark(f, name=f"size.{name}", size=name)
            return sites[f"size.{name}"].size_of(*args, **kwargs)

        assert size("a", "xx", 2, a="yyy") == 2
        assert size("b", 1, b="xyz") == 3
        assert size("rest", 1, 2, 3, 4, 5) == 3
        assert size("rest", 1, 2) == 0
        assert size("key", 1, 2, key=[1, 2]) == 2
        assert size("key", 1, 2) == 1
        assert size("more", 1, 2, key=3, x=4, y=5) == 2

    def test_numpy_and_decimal(self) -> None:
        """What has no length is a number, if it can be one."""
        import decimal

        np = pytest.importorskip("numpy")
        size_of = benchmark(lambda x: x, name="size.numbers", size="x")._self_site.size_of  # type: ignore[attr-defined]
        assert size_of(decimal.Decimal("2.5")) == 2.5
        assert size_of(np.zeros((3, 4))) == 3
        assert size_of(np.float32(1.5)) == 1.5
        with pytest.raises(TypeError):
            size_of(object())

    def test_method_and_callable(self) -> None:
        """In a method the instance is not counted as an argument; a callable gets all arguments."""

        class C:
            @benchmark(name="size.method", size="docs")
            def f(self, docs: Any) -> None: ...

            @benchmark(name="size.class", size="docs")
            @classmethod
            def g(cls, docs: Any) -> None: ...

            @benchmark(name="size.callable", size=lambda self, docs: 2 * len(docs))
            def h(self, docs: Any) -> None: ...

            @benchmark(name="size.dispatch", size="docs")
            @functools.singledispatchmethod
            def d(self, docs: Any) -> None: ...

            @benchmark(name="size.cached", size="docs")
            @functools.lru_cache  # noqa: B019 - the instance lives as long as the test
            def c(self, docs: Any) -> None: ...

        def run() -> None:
            c = C()
            c.f([1, 2]), c.g(docs=[1]), C.g([1, 2, 3]), c.h([1]), c.d([1, 2])
            c.c("four"), C.c(c, "three")

        assert record_sizes(run) == [2.0, 1.0, 3.0, 2.0, 2.0, 4.0, 5.0]

    def test_failing(self) -> None:
        """A size function that raises never reaches the user's call."""
        faults: list[Any] = []
        core.set_fault(lambda kind, site, error: faults.append((kind, site.name, type(error))))
        try:
            f = benchmark(lambda x: x, name="size.failing", size=lambda x: 1 / 0)
            (size,) = {str(size) for size in record_sizes(lambda: (f(1), f(2)))}
        finally:
            core.set_fault(None)
        assert size == "nan"
        assert faults == [("size", "size.failing", ZeroDivisionError)]
