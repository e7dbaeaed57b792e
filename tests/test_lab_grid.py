"""A grid of parameters: a report for each point, and how time grows with each of them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hotlap import BenchmarkConfig, PerformanceBenchmarker
from hotlap.lab.grid import Grid, scaling_of
from hotlap.stats.growth import Growth

PLANES = {"n": [1, 10, 100], "kind": ["a", "b"], "width": [1, 2, 4]}
QUICK = BenchmarkConfig(iterations=12, warmup_iterations=1)


def triangle(n: int, kind: str = "") -> int:
    return sum(i * j for i in range(n) for j in range(i))


def measured(function: Any, parameters: Any, **options: Any) -> Grid:
    return PerformanceBenchmarker().benchmark_parameters(function, parameters, config=QUICK, **options)


def test_each_point_has_a_report() -> None:
    """In the order of the grid, the last parameter fastest; any collection of values will do."""
    grid = measured(triangle, {"n": range(1, 4), "kind": ("a", "b")})
    points = [{"n": n, "kind": kind} for n in (1, 2, 3) for kind in ("a", "b")]
    assert [report.parameters for report in grid.reports] == points
    assert list(grid) == list(grid.reports)
    assert (len(grid), grid.planned, grid.interrupted) == (6, 6, False)
    assert repr(grid) == "<Grid over n, kind: 6 of 6 points>"


def test_the_scaling_is_a_power_with_its_interval() -> None:
    """Of each numeric parameter, with the others held; numpy's numbers are numbers."""
    grid = measured(triangle, {"n": np.array([20, 60, 180, 540]), "kind": ["a", "b"]})
    found = grid.scaling["n"]
    assert isinstance(found, Growth)
    assert (found.values, found.left_out) == (4, 0)
    assert found.low is not None
    assert found.high is not None
    assert found.low < float(found) < found.high
    assert float(found) > 0.5  # 700 times the work, on a machine that may be busy
    assert grid.scaling["kind"].sentence().startswith("no power of kind: 0 values, needs 3")


def test_two_values_have_a_reason_and_no_power() -> None:
    assert measured(triangle, {"n": [10, 100]}).scaling["n"].sentence() == "no power of n: 2 values, needs 3"


@pytest.mark.parametrize("value", [True, None, "text", 10**400, -3, 0])
def test_what_is_no_size_is_left_out(value: Any) -> None:
    grid = PerformanceBenchmarker().benchmark_parameters(
        lambda n: None, {"n": [value]}, config=BenchmarkConfig(iterations=2)
    )
    assert grid.scaling["n"].left_out == 1


def test_a_grid_can_be_read() -> None:
    """A line for each point, and one for each parameter."""
    grid = measured(triangle, {"n": [20, 60, 180]})
    lines = str(grid).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["n=20", "n=60", "n=180", "n"]
    assert lines[3] == f"n: {grid.scaling['n'].sentence()}"
    assert all(report.verdict.sentence in line for report, line in zip(grid, lines, strict=False))


def timed(law: Callable[..., float], parameters: Any) -> Grid:
    """A grid as if its calls had taken exactly that long."""
    reports = measured(lambda **_: None, parameters).reports
    for report in reports:
        for metric in report.metrics:
            metric.execution_time = law(**report.parameters)
    return Grid(reports, {name: scaling_of(name, reports) for name in parameters}, len(reports))


def test_the_power_is_that_of_the_times() -> None:
    grid = timed(lambda n, kind, width: (3.0 if kind == "a" else 1.0) * n**2 / width, PLANES)
    assert grid.scaling["n"].sentence().startswith("time grows as n**2 [")
    assert grid.scaling["width"].sentence().startswith("time falls as width**-1 [")


def test_what_grows_differently_is_told_apart() -> None:
    """No exponent fits both, and each has its own."""
    grid = timed(lambda n, kind, width: n**2 if kind == "a" else n, PLANES | {"width": [1]})
    assert not grid.scaling["n"].fits
    apart = grid.apart("n")
    assert list(apart) == ["kind='a', width=1", "kind='b', width=1"]
    assert [round(float(one), 6) for one in apart.values()] == [2.0, 1.0]
    assert "  kind='a', width=1: time grows as n**2 [2, 2]" in str(grid).splitlines()
    with pytest.raises(ValueError, match="did you mean 'kind'"):
        grid.apart("kin")


class TestInterrupted:
    """Ctrl-C ends the grid, and not only the point that is measured."""

    def grid(self, at: int, calls: list[int]) -> Grid:
        def work(n: int) -> None:
            calls.append(n)
            if len(calls) == at:
                signal.raise_signal(signal.SIGINT)
            time.sleep(1e-5)

        config = BenchmarkConfig(iterations=10, warmup_iterations=0, loops=1)
        return PerformanceBenchmarker().benchmark_parameters(work, {"n": [1, 10, 100, 1000]}, config=config)

    def test_no_further_point_is_begun(self) -> None:
        calls: list[int] = []
        grid = self.grid(25, calls)
        assert len(calls) == 25
        assert grid.interrupted
        assert [report.parameters["n"] for report in grid] == [1, 10, 100]
        assert [report.verdict.interrupted for report in grid] == [False, False, True]
        assert len(grid.reports[2].metrics) == 4

    def test_the_incomplete_point_is_in_no_scaling(self) -> None:
        grid = self.grid(25, [])
        assert grid.scaling["n"].values == 2
        assert "interrupted after 3 of 4 points" in str(grid)
        assert "1 incomplete, and in no scaling" in str(grid)
        assert repr(grid) == "<Grid over n: 3 of 4 points, interrupted>"

    def test_before_anything_was_measured(self) -> None:
        grid = self.grid(1, [])
        assert (len(grid), grid.interrupted) == (1, True)
        assert grid.reports[0].metrics == []
        assert "no successful call, interrupted" in str(grid)

    def test_while_a_report_is_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The reports before it are not lost."""
        lab = PerformanceBenchmarker()
        keep, kept = lab._keep, []

        def interrupted(report: Any) -> Any:
            kept.append(report)
            if len(kept) == 3:
                signal.raise_signal(signal.SIGINT)
            return keep(report)

        monkeypatch.setattr(lab, "_keep", interrupted)
        grid = lab.benchmark_parameters(triangle, {"n": [1, 2, 3, 4]}, config=BenchmarkConfig(iterations=2))
        assert (len(grid), grid.interrupted) == (2, True)
