"""Grid: the reports over combinations of parameters, and how the time grows with each of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Real
from typing import Any

from ..errors import OptionError, OptionTypeError
from ..readers import nearest
from ..rules.words import duration
from ..stats.growth import Growth, growth
from .report import BenchmarkReport

__all__ = ["Grid", "points_of", "scaling_of"]


@dataclass(frozen=True, slots=True, repr=False)
class Grid:
    """The reports over a grid of parameters, and how the time grows with each. `for report in grid` goes through the
    reports, `len(grid)` is their number, `print(grid)` shows them.

    reports      one for each point, in the order of the grid, the last parameter fastest; each has its `parameters`
    scaling      parameter -> Growth: the exponent of time ~ parameter**exponent with its interval, whether such a law
                 `fits`, and all of that as a `sentence()`; `float()` of it is the exponent alone
    planned      points of the whole grid
    interrupted  it ended by Ctrl-C: `reports` are those until then, the last of them incomplete
    """

    reports: tuple[BenchmarkReport, ...]
    scaling: Mapping[str, Growth]
    planned: int
    interrupted: bool = False

    def __iter__(self) -> Iterator[BenchmarkReport]:
        return iter(self.reports)

    def __len__(self) -> int:
        return len(self.reports)

    def apart(self, name: str) -> dict[str, Growth]:
        """How time grows with one parameter at each combination of the others: "kind='a', size=3" -> Growth.

        Where one exponent does not fit all of them. Raises OptionError for an unknown parameter.
        """
        if name not in self.scaling:
            raise OptionError(f"name={name!r} is no parameter of this grid: {nearest(str(name), self.scaling)}")
        others: dict[str, list[BenchmarkReport]] = {}
        for report in self.reports:
            others.setdefault(_others(report, name), []).append(report)
        return {held: scaling_of(name, reports) for held, reports in others.items()}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def __repr__(self) -> str:
        ended = ", interrupted" if self.interrupted else ""
        return f"<Grid over {', '.join(self.scaling)}: {len(self)} of {self.planned} points{ended}>"

    def _lines(self) -> Iterator[str]:
        for report in self.reports:
            mean = report.summary["avg_execution_time"]
            intervals = report.summary.get("confidence_intervals", {})
            ends = intervals.get("avg_execution_time")
            around = f" [{duration(ends[0])}, {duration(ends[1])}]" if ends else ""
            time = "no successful call" if mean is None else f"{duration(mean)}{around}"
            yield f"{_described(report.parameters)}: {time}, {report.verdict.sentence}"
        if self.interrupted:
            yield f"interrupted after {len(self)} of {self.planned} points"
        if incomplete := sum(not report.verdict.complete for report in self.reports):
            yield f"{incomplete} incomplete, and in no scaling"
        for name, one in self.scaling.items():
            yield f"{name}: {one.sentence()}"
            if one.exponent is not None and not one.fits:
                held = self.apart(name)
                yield from (f"  {others}: {each.sentence()}" for others, each in held.items() if len(held) > 1)


def points_of(parameters: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The points of a grid. Raises OptionTypeError for what is none, OptionError for one without points."""
    if not isinstance(parameters, Mapping) or not parameters:
        raise OptionTypeError(
            f"parameters={parameters!r} is no grid: give names with their values, such as {{'n': [10, 100]}}"
        )
    values = {}
    for name, given in parameters.items():
        if not isinstance(name, str):
            raise OptionTypeError(f"parameters has the name {name!r}: give a string, the name of an argument")
        try:
            if isinstance(given, (str, bytes, Mapping)):
                raise TypeError
            values[name] = list(given)
        except TypeError:
            raise OptionTypeError(
                f"parameters[{name!r}]={given!r} is no list of values: give {{{name!r}: [{given!r}]}} for one value"
            ) from None
    points = [dict(zip(values, point, strict=True)) for point in product(*values.values())]
    if not points:
        raise OptionError(f"parameters={parameters!r} is empty: give at least one value for each name")
    return points


def scaling_of(name: str, reports: Sequence[BenchmarkReport]) -> Growth:
    """How time grows with one parameter, the others held: of the complete reports alone."""
    complete = [report for report in reports if report.verdict.complete]
    return growth(
        [_size(report.parameters[name]) for report in complete],
        [[metric.execution_time for metric in report.metrics if metric.error_rate == 0.0] for report in complete],
        [_others(report, name) for report in complete],
        name=name,
        level=reports[0].config.confidence if reports else 0.95,
    )


def _others(report: BenchmarkReport, name: str) -> str:
    return _described({key: value for key, value in report.parameters.items() if key != name})


def _size(value: Any) -> float:
    """0 for what is no number: no power of it."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return 0.0
    try:
        return float(value)
    except OverflowError:
        return 0.0


def _described(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in point.items())
