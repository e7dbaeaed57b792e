"""Blocks: `with measure(name)`, also in coroutines and generators, over both cores."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from typing import Any

import pytest

from conftest import FakeClock, counts
from flows import make as make_flow
from flows import pause, run
from hotlap import HotlapError, core
from hotlap.core import record
from probes import Records


class TestBlock:
    def test_measures(self, fake: FakeClock, records: Records, registry: dict[str, core.Site]) -> None:
        """A block is a site: counted, timed, sampled, with a size."""
        with core.Measurement("block", size=17) as m:
            assert isinstance(m, core.Measurement)
            fake.advance(12)
        site = registry["block"]
        assert (counts(site)["calls"], counts(site)["total_ns"]) == (1, 12)
        (row,) = records()
        assert (row["wall_ns"], row["own_ns"], row["size"], row["site"]) == (12, 12, 17, site.id)
        assert row["flags"] == core.FLAG_BLOCK | core.FLAG_EVIDENCE | core.FLAG_FIRST

    def test_options(self) -> None:
        """A new name, or options, ask the registry's hook; a known name alone does not."""
        asked: list[Any] = []
        own: dict[str, core.Site] = {}

        def missing(name: str, options: Any) -> core.Site:
            asked.append((name, dict(options)))
            return own.setdefault(name, core.Site(1, name))

        core.set_sites(own, missing)
        core.Measurement("a")
        core.Measurement("a", size=3)
        core.Measurement("a", slo=0.5, tags={"k": "v"})
        assert asked == [("a", {}), ("a", {"slo": 0.5, "tags": {"k": "v"}})]
        for bad in (3, None, ["a"]):
            with pytest.raises(TypeError):
                core.Measurement(bad)

    def test_exceptions(self, registry: dict[str, core.Site]) -> None:
        """An exception counts as an error and goes through."""
        error = ValueError()
        with pytest.raises(ValueError) as caught, core.Measurement("block"):
            raise error
        assert caught.value is error
        with pytest.raises(GeneratorExit), core.Measurement("block"):
            raise GeneratorExit
        read = counts(registry["block"])
        assert (read["calls"], read["errors"], read["cancelled"], read["in_flight"]) == (2, 1, 1, 0)

    def test_nested(self, fake: FakeClock, records: Records, registry: dict[str, core.Site]) -> None:
        """Blocks and calls are each other's parents."""
        probe = core.FunctionProbe(lambda: fake.advance(5), core.Site(1, "f"))
        with core.Measurement("outer"):
            fake.advance(1)
            with core.Measurement("inner"):
                fake.advance(2)
                probe()
        call, inner, outer = records()
        assert (call["parent"], inner["parent"], outer["parent"]) == (
            inner["site"],
            outer["site"],
            record.NO_PARENT,
        )
        assert (inner["wall_ns"], inner["own_ns"]) == (7, 2)
        assert (outer["wall_ns"], outer["own_ns"]) == (8, 1)

    def test_reentrant(self, fake: FakeClock, records: Records, registry: dict[str, core.Site]) -> None:
        """One object may be entered again while it is open."""
        m = core.Measurement("block")
        with m:
            fake.advance(1)
            with m, m:
                fake.advance(2)
                assert counts(registry["block"])["in_flight"] == 3
        with m:
            pass
        assert records()["wall_ns"].tolist() == [2, 2, 3, 0]
        assert counts(registry["block"])["in_flight"] == 0

    def test_threads(self, registry: dict[str, core.Site]) -> None:
        """One object in several threads."""
        m = core.Measurement("block")
        gate = threading.Barrier(3)

        def run() -> None:
            for _ in range(50):
                with m:
                    gate.wait()
                gate.wait()

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        read = counts(registry["block"])
        assert (read["calls"], read["in_flight"], read["in_flight_peak"]) == (150, 0, 3)

    def test_switched_off(self, registry: dict[str, core.Site]) -> None:
        """Entered while off it counts nothing, whatever happens inside; entered while on it counts."""
        m = core.Measurement("block")
        core.enable(False)
        with m:
            core.enable(True)
            with m:
                core.enable(False)
                m.record(rows=1)
        core.enable(True)
        read = counts(registry["block"])
        assert (read["calls"], read["in_flight"]) == (1, 0)
        assert not registry["block"].metrics

    def test_count_mode(self, registry: dict[str, core.Site], records: Records) -> None:
        """On counting alone."""
        m = core.Measurement("block")
        registry["block"].mode = core.COUNT
        with pytest.raises(KeyError), m:
            raise KeyError
        read = counts(registry["block"])
        assert (read["calls"], read["timed"], read["errors"], read["in_flight"]) == (1, 0, 1, 0)
        assert len(records()) == 0

    def test_tail(self, fake: FakeClock, registry: dict[str, core.Site], records: Records) -> None:
        """A slow block leaves a record."""
        m = core.Measurement("block")
        registry["block"].sample(0.0, 1, 0)
        registry["block"].tail_ns = 10
        with m:
            fake.advance(11)
        (row,) = records()
        assert row["flags"] == core.FLAG_TAIL | core.FLAG_BLOCK

    def test_exit_without_enter(self, registry: dict[str, core.Site]) -> None:
        """Left more often than entered: an error, and no harm."""
        m = core.Measurement("block")
        with pytest.raises(HotlapError):
            m.__exit__(None, None, None)
        with m:
            pass
        assert counts(registry["block"])["calls"] == 1

    def test_metrics(self, registry: dict[str, core.Site]) -> None:
        """record() adds numbers: count, total, min, max."""
        with core.Measurement("block") as m:
            m.record(rows=17, hits=0.5)
            m.record(rows=3)
        metrics = registry["block"].metrics
        assert metrics is not None
        assert {name: list(entry) for name, entry in metrics.items()} == {
            "rows": [2, 20.0, 3.0, 17.0],
            "hits": [1, 0.5, 0.5, 0.5],
        }
        for bad in ("17", None, True):
            with pytest.raises(TypeError):
                m.record(rows=bad)
        assert metrics["rows"][0] == 2

    def test_decorator(self, registry: dict[str, core.Site]) -> None:
        """As a decorator it asks the hook."""
        asked: list[Any] = []

        def decorate(name: str, options: Any, func: Any) -> Any:
            asked.append((name, dict(options), func))
            return "probe"

        core.set_decorate(decorate)
        assert core.Measurement("block", slo=1)(len) == "probe"
        assert asked == [("block", {"slo": 1}, len)]
        core.set_decorate(None)
        with pytest.raises(HotlapError):
            core.Measurement("block")(len)


class TestInFlows:
    def test_in_a_measured_coroutine(self, fake: FakeClock, records: Records, registry: dict[str, core.Site]) -> None:
        """A block across suspensions stays the parent of what happens in it."""
        leaf, _ = make_flow(lambda: fake.advance(1), id=1)

        async def f() -> None:
            async with core.Measurement("block"):
                leaf()
                await pause()
                leaf()
            leaf()

        probe, _ = make_flow(f, id=2)
        run(probe(), lambda: (fake.advance(100), leaf()))
        rows = records()
        block = registry["block"].id
        assert rows["site"].tolist() == [1, 1, 1, block, 1, 2]
        parents = rows["parent"].tolist()
        assert (parents[0], parents[1], parents[3], parents[4], parents[5]) == (
            block,
            record.NO_PARENT,
            2,
            2,
            record.NO_PARENT,
        )
        assert parents[2] in {block, 2, record.NO_PARENT}
        assert rows["wall_ns"][3] == 103

    def test_interleaved(self, records: Records, registry: dict[str, core.Site]) -> None:
        """Blocks in coroutines that nobody measures end in any order: whole counts, no foreign parents."""
        leaf, _ = make_flow(lambda: None, id=1)
        shared = core.Measurement("shared")

        async def worker(name: str, turns: int) -> None:
            with core.Measurement(name), shared:
                for _ in range(turns):
                    await asyncio.sleep(0)
            leaf()

        async def stranger() -> None:
            for _ in range(4):
                leaf()
                await asyncio.sleep(0)

        async def main() -> None:
            await asyncio.gather(worker("a", 5), worker("b", 2), stranger(), worker("c", 7), worker("d", 1))

        asyncio.run(main())
        leaf()
        rows = records()
        assert set(rows["parent"][rows["site"] == 1].tolist()) == {record.NO_PARENT}
        for name in "abcd":
            read = counts(registry[name])
            assert (read["calls"], read["in_flight"]) == (1, 0)
        read = counts(registry["shared"])
        assert (read["calls"], read["in_flight"], read["in_flight_peak"]) == (4, 0, 4)
        blocks = rows[rows["flags"] & core.FLAG_BLOCK != 0]
        assert len(blocks) == 8
        assert set(blocks["own_ns"].tolist()) == {-1}

    def test_in_a_generator(self, records: Records, registry: dict[str, core.Site]) -> None:
        """A block left open by a plain generator, ended after the block around it: no harm."""
        leaf, _ = make_flow(lambda: None, id=1)

        def f() -> Generator[None, None, None]:
            with core.Measurement("inner"):
                yield

        generator = f()
        with core.Measurement("outer"):
            next(generator)
        generator.close()
        leaf()
        assert counts(registry["inner"])["in_flight"] == counts(registry["outer"])["in_flight"] == 0
        rows = records()
        assert rows["parent"][rows["site"] == 1].tolist() == [record.NO_PARENT]
