"""From a window's columns to one Stats for each site: all sites at once, in numpy.

What is exact (counts, sums, the histogram) is taken as it is. What is sampled is estimated with weights 1/p, the
estimator of Horvitz and Thompson (1952) as a ratio: a mean is sum(w*x) / sum(w). Records that exist only because
the call was slow have weight zero and never enter an estimate.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import core
from ..model import Exemplar, Metric, Stats
from ..options import SiteOptions
from .histogram import means_and_deviations, quantiles, representatives
from .relation import exponent, rank_correlation, relative_slope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ..window import Window

    Floats = NDArray[np.float64]

__all__ = ["QUANTILES", "summarise", "window_quantiles"]

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
_MB_PER_PAGE = os.sysconf("SC_PAGE_SIZE") / 1e6 if hasattr(os, "sysconf") else 4096 / 1e6
_NO_PARENT = 0xFFFF_FFFF
_RELATED = 30  # fewer samples say nothing about a relation between two columns
_DEFAULT = SiteOptions()


def window_quantiles(window: Window) -> Floats:
    """p50, p90, p95, p99, p99.9 in seconds, (rows, 5); NaN where nothing was timed."""
    return quantiles(window.histogram, QUANTILES, window.low)


def summarise(
    window: Window,
    times: Floats | None = None,
    slo_for: Callable[[str, float | None], float | None] | None = None,
    counting: frozenset[int] = frozenset(),
) -> list[Stats]:
    """One Stats for each row of the window, in its order. `times` are the window_quantiles, if already known."""
    if times is None:
        times = window_quantiles(window)
    sampled = _sampled(window)
    exact = _exact(window, times)
    result = []
    names = {site.id: site.name for site in _all_sites()} if sampled else {}
    for row, site in enumerate(window.sites):
        options: SiteOptions = getattr(site.info, "options", _DEFAULT)
        slo_s = options.slo_s if slo_for is None else slo_for(site.name, options.slo_s)
        fields: dict[str, Any] = {key: column[row] for key, column in exact.items()}
        if row in sampled:
            fields.update(sampled[row])
            calls = fields["calls"]
            if fields["cpu_s"] is not None:
                fields["cpu_percent"] = 100.0 * fields["cpu_s"] * calls / window.seconds
            fields["parents"] = {
                names.get(parent, "?"): share for parent, share in fields["parents"].items()
            }
        result.append(
            Stats(
                site=site.name,
                type=options.type,
                location=getattr(site.info, "location", None),
                tags=dict(options.tags),
                slo_s=slo_s,
                started_at=window.started_at,
                window_s=window.seconds,
                metrics=_metrics(window.metrics[row]),
                counting=site.id in counting,
                **fields,
            )
        )
    return result


def _all_sites() -> list[core.Site]:
    from .. import sites as registry

    return list(registry.sites.values())


def _metrics(given: Mapping[str, list[float]] | None) -> dict[str, Metric]:
    if not given:
        return {}
    return {name: Metric(int(v[0]), *(float(x) for x in v[1:])) for name, v in list(given.items())}


def _or_none(column: Floats) -> list[float | None]:
    """A column as Python floats, None for NaN: made at once, because a thousand conversions one by one are slow."""
    values: list[float | None] = column.tolist()
    if np.isnan(column).any():
        return [None if value != value else value for value in values]
    return values


def _exact(window: Window, times: Floats) -> dict[str, list[Any]]:
    calls = window.column("calls").astype(np.float64)
    timed = window.column("timed").astype(np.float64)
    errors = window.column("errors").astype(np.float64)
    total_s = window.column("total_ns") / 1e9
    run = window.column("run_ns") / 1e9
    is_flow = run > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        error_rate = errors / calls
        mean = total_s / timed
        _, std = means_and_deviations(window.histogram, window.low)
        run_s = np.where(is_flow, run / timed, np.nan)
        suspensions = np.where(is_flow, window.column("suspensions") / timed, np.nan)
    low, high = _extremes(window)
    not_timed = timed == 0
    total_s[not_timed] = np.nan
    std[not_timed] = np.nan
    longest = np.where(is_flow, window.column("longest_ns") / 1e9, np.nan)
    columns = {
        "error_rate": error_rate,
        "success_rate": 1.0 - error_rate,
        "mean_s": mean,
        "std_s": std,
        "min_s": low,
        "max_s": high,
        "p50_s": times[:, 0],
        "p90_s": times[:, 1],
        "p95_s": times[:, 2],
        "p99_s": times[:, 3],
        "p999_s": times[:, 4],
        "total_s": total_s,
        "run_s": run_s,
        "suspended_s": np.maximum(mean - run_s, 0.0),
        "suspensions": suspensions,
        "longest_run_s": longest,
    }
    # A bucket's representative may lie up to 1 % outside the extremes, which are known better.
    for key in ("p50_s", "p90_s", "p95_s", "p99_s", "p999_s"):
        columns[key] = np.clip(columns[key], low, high)
    exact: dict[str, list[Any]] = {key: _or_none(column) for key, column in columns.items()}
    exact["throughput"] = (calls / window.seconds).tolist()
    for key in ("calls", "timed", "errors", "cancelled", "in_flight", "in_flight_peak"):
        exact[key] = window.column(key).tolist()
    return exact


def _extremes(window: Window) -> tuple[Floats, Floats]:
    """Shortest and longest call of the window, from the outermost buckets: within 1.08 %, and never beyond the
    exact extremes of the site's whole life."""
    counts = window.histogram
    if counts.size == 0:
        nothing = np.full(len(window.sites), np.nan)
        return nothing, nothing.copy()
    filled = counts > 0
    values = representatives()[window.low : window.low + counts.shape[1]]
    some = filled.any(axis=1)
    low = values[filled.argmax(axis=1)]
    high = values[counts.shape[1] - 1 - filled[:, ::-1].argmax(axis=1)]
    life_low, life_high = window.column("min_ns") / 1e9, window.column("max_ns") / 1e9
    low, high = np.clip(low, life_low, life_high), np.clip(high, life_low, life_high)
    # The slowest calls leave records, which are exact.
    if len(window.records):
        walls = window.records["wall_ns"] / 1e9
        near = np.flatnonzero(walls >= high[window.rows] * (1 - 0.02))
        exact_high = np.zeros(len(high))
        np.maximum.at(exact_high, window.rows[near], walls[near])
        high = np.where(exact_high > 0, exact_high, high)
    return np.where(some, low, np.nan), np.where(some, high, np.nan)


def _sampled(window: Window) -> dict[int, dict[str, Any]]:
    """What the records say, for each row that has any."""
    records, rows = window.records, window.rows
    if len(records) == 0:
        return {}
    count = len(window.sites)
    flags = records["flags"]
    random = (flags & core.FLAG_EVIDENCE) != 0
    tails = np.bincount(rows[(flags & core.FLAG_TAIL) != 0], minlength=count)
    r, row = (records, rows) if random.all() else (records[random], rows[random])
    weight = r["weight"].astype(np.float64)
    samples = np.bincount(row, minlength=count)
    total_weight = np.bincount(row, weight, count)

    def mean(values: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> Floats:
        """Weighted mean of `values` for each row; NaN where there is none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            if mask is None:
                result: Floats = np.bincount(row, weight * values, count) / total_weight
                return result
            w = np.where(mask, weight, 0.0)
            result = np.bincount(row, w * values, count) / np.bincount(row, w, count)
            return result

    wall = r["wall_ns"].astype(np.float64)
    cpu_ns = r["cpu_ns"].astype(np.float64)
    own_ns = r["own_ns"].astype(np.float64)
    run_ns = r["run_ns"].astype(np.float64)
    minor = r["minor_faults"].astype(np.float64)
    has_cpu, has_own = cpu_ns >= 0, own_ns >= 0
    cpu, faults = mean(cpu_ns, None if has_cpu.all() else has_cpu), mean(minor)
    own, own_of = (
        (mean(own_ns), mean(run_ns))
        if has_own.all()
        else (mean(own_ns, has_own), mean(run_ns, has_own))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        cpu_fraction = cpu / (mean(wall) if has_cpu.all() else mean(wall, has_cpu))
        own_fraction = own / own_of
        variance = mean(minor * minor) - faults * faults
    columns = {
        "cpu_s": cpu / 1e9,
        "cpu_fraction": np.minimum(cpu_fraction, 1.0),
        "own_s": own / 1e9,
        "own_fraction": np.minimum(own_fraction, 1.0),
        "gc_s": mean(r["gc_ns"]) / 1e9,
        "voluntary": mean(r["voluntary"]),
        "involuntary": mean(r["involuntary"]),
        "minor_faults": faults,
        "major_faults": mean(r["major_faults"]),
        "memory_mb": faults * _MB_PER_PAGE,
        "memory_mb_std": np.sqrt(np.maximum(variance, 0.0)) * _MB_PER_PAGE,
    }
    made = {key: _or_none(column) for key, column in columns.items()}
    parents = _parents(row, r["parent"], weight, total_weight)
    slowest = _slowest(window)
    starts = np.searchsorted(row, np.arange(count + 1))
    peaks = window.column("in_flight_peak")
    sized = np.bincount(row[np.isfinite(r["size"])], minlength=count)
    result: dict[int, dict[str, Any]] = {}
    for index in np.flatnonzero(samples + tails):
        fields: dict[str, Any] = {key: column[index] for key, column in made.items()}
        fields["samples"], fields["tail_samples"] = int(samples[index]), int(tails[index])
        fields["parents"] = parents.get(index, {})
        fields["slowest"] = slowest.get(index, ())
        mine = slice(starts[index], starts[index + 1])
        if peaks[index] > 1 and samples[index] >= _RELATED:
            fields.update(_crowding(r["in_flight"][mine], wall[mine]))
        if sized[index] >= _RELATED:
            fields["size_exponent"] = exponent(r["size"][mine], wall[mine])
        result[int(index)] = fields
    return result


def _crowding(in_flight: NDArray[Any], wall: Floats) -> dict[str, float]:
    """How wall time goes with the calls in flight at entry."""
    found = rank_correlation(in_flight.astype(np.float64), wall)
    slope = relative_slope(in_flight.astype(np.float64), wall)
    if found is None or slope is None:
        return {}
    return {"in_flight_correlation": found[0], "in_flight_p": found[1], "in_flight_slope": slope}


def _parents(
    row: NDArray[np.intp], parent: NDArray[Any], weight: Floats, total: Floats
) -> dict[int, dict[int, float]]:
    """Share of a site's calls that were made in each parent site, by ids."""
    known = parent != _NO_PARENT
    if not known.any():
        return {}
    keys, where = np.unique(row[known].astype(np.uint64) << np.uint64(32) | parent[known], return_inverse=True)
    sums = np.bincount(where, weight[known])
    result: dict[int, dict[int, float]] = {}
    for key, share in zip(keys.tolist(), sums.tolist(), strict=True):
        index = key >> 32
        result.setdefault(index, {})[key & 0xFFFF_FFFF] = share / float(total[index])
    return result


def _slowest(window: Window, most: int = 5) -> dict[int, tuple[Exemplar, ...]]:
    """The slowest calls with a trace, tails among them: here no estimate is made."""
    traced = np.flatnonzero(window.records["span"])
    if len(traced) == 0:
        return {}
    order = traced[np.lexsort((-window.records["wall_ns"][traced].astype(np.int64), window.rows[traced]))]
    result: dict[int, list[Exemplar]] = {}
    for index in order:
        mine = result.setdefault(int(window.rows[index]), [])
        if len(mine) < most:
            record = window.records[index]
            mine.append(
                Exemplar(
                    trace_id=int(record["trace_hi"]) << 64 | int(record["trace_lo"]),
                    span_id=int(record["span"]),
                    start_ns_epoch=int(record["start_ns"]) + window.epoch_ns,
                    wall_s=int(record["wall_ns"]) / 1e9,
                    error=bool(record["flags"] & core.FLAG_ERROR),
                    tail=bool(record["flags"] & core.FLAG_TAIL),
                )
            )
    return {row: tuple(found) for row, found in result.items()}
