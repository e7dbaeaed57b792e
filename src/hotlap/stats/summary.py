"""From a window's columns to one Stats for each site: all sites at once, in numpy.

What is exact (counts, sums, the histogram) is taken as it is. What is sampled is estimated with weights 1/p,
the estimator of Horvitz and Thompson (1952) as a ratio: a mean is sum(w*x) / sum(w). Records that exist only
because the call was slow have weight zero and never enter an estimate.
"""

from __future__ import annotations

import os
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import core
from .. import sites as registry
from ..model import Exemplar, Metric, Stats
from ..options import SiteOptions
from ..window import SLOWEST
from .histogram import RELATIVE_ERROR, Filled
from .relation import distinct, exponent, rank_correlation, relative_slope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ..window import Window

    Floats = NDArray[np.float64]

__all__ = ["QUANTILES", "fill", "summarise"]

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
_MB_PER_PAGE = os.sysconf("SC_PAGE_SIZE") / 1e6 if hasattr(os, "sysconf") else 4096 / 1e6
_RELATED = 30  # fewer samples say nothing about a relation between two columns
_ENOUGH = 2000  # more samples add nothing to it
_DEFAULT = SiteOptions()


def fill(window: Window) -> Filled:
    """The histograms of the window's rows."""
    rows, buckets, counts = window.buckets.T
    return Filled(rows, buckets, counts, len(window.sites))


def summarise(
    window: Window,
    filled: Filled | None = None,
    slo_for: Callable[[str, float | None], float | None] | None = None,
    counting: frozenset[int] = frozenset(),
) -> list[Stats]:
    """One Stats for each row of the window, in its order. `filled` are its histograms, if known."""
    if filled is None:
        filled = fill(window)
    columns = _described(window, slo_for, counting)
    columns.update(_exact(window, filled))
    columns.update(_sampled(window))
    return Stats.rows(columns)


def _described(
    window: Window,
    slo_for: Callable[[str, float | None], float | None] | None,
    counting: frozenset[int],
) -> dict[str, list[Any]]:
    """What is known of the sites and the window without their numbers."""
    sites, count = window.sites, len(window.sites)
    options = [getattr(site.info, "options", _DEFAULT) for site in sites]
    names = [site.name for site in sites]
    slos = [one.slo_s for one in options]
    nothing: dict[str, Any] = {}  # one for all: a thousand empty dicts are work for the garbage collector
    return {
        "site": names,
        "type": [one.type for one in options],
        "location": [getattr(site.info, "location", None) for site in sites],
        "tags": [dict(one.tags) if one.tags else nothing for one in options],
        "slo_s": slos if slo_for is None else list(map(slo_for, names, slos)),
        "started_at": [window.started_at] * count,
        "window_s": [window.seconds] * count,
        "metrics": [_metrics(given) if given else nothing for given in window.metrics],
        "counting": [site.id in counting for site in sites],
    }


def _metrics(given: Mapping[str, list[float]]) -> dict[str, Metric]:
    # A copy first: the thread that recorded last may not have let go of the mapping yet.
    return {name: Metric(int(v[0]), float(v[1]), float(v[2]), float(v[3])) for name, v in dict(given).items()}


def _or_none(column: Floats) -> list[float | None]:
    """A column as Python floats, None for NaN: made at once, because one by one it is slow."""
    values: list[Any] = column.tolist()
    if np.isnan(column).any():
        return [None if isnan(value) else value for value in values]
    return values


def _exact(window: Window, filled: Filled) -> dict[str, list[Any]]:
    calls = window.column("calls").astype(np.float64)
    timed = window.column("timed").astype(np.float64)
    errors = window.column("errors").astype(np.float64)
    total_s = window.column("total_ns") / 1e9
    run = window.column("run_ns") / 1e9
    is_flow = run > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        error_rate = errors / calls
        mean = total_s / timed
        _, std = filled.means_and_deviations()
        run_s = np.where(is_flow, run / timed, np.nan)
        suspensions = np.where(is_flow, window.column("suspensions") / timed, np.nan)
    times = filled.quantiles(QUANTILES)
    low, high = _extremes(window, filled)
    # Buckets are good to 1 %, the mean is exact: it lies between the two, and is both of a single call.
    low = np.where(timed == 1, mean, np.fmin(low, mean))
    high = np.where(timed == 1, mean, np.fmax(high, mean))
    not_timed = timed == 0
    total_s[not_timed] = np.nan
    std[not_timed] = np.nan
    # Exact when it is the longest of the site's life; otherwise the longest among the records.
    longest = np.maximum(window.column("longest_ns"), window.longest_run_ns) / 1e9
    longest[~is_flow | (longest == 0)] = np.nan
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


def _extremes(window: Window, filled: Filled) -> tuple[Floats, Floats]:
    """Shortest and longest call of the window, from the outermost buckets: within 1.08 %.

    Never beyond the exact extremes of the site's whole life.
    """
    low, high = filled.extremes()
    life_low, life_high = window.column("min_ns") / 1e9, window.column("max_ns") / 1e9
    low, high = np.clip(low, life_low, life_high), np.clip(high, life_low, life_high)
    # The slowest call has mostly left a record, which is exact: the one that lies in the outermost bucket.
    near = window.longest_ns / 1e9 >= high * (1 - 2 * RELATIVE_ERROR)
    return low, np.where(near, window.longest_ns / 1e9, high)


def _sampled(window: Window) -> dict[str, list[Any]]:
    """What the records say."""
    count = len(window.sites)
    total = window.sum
    calls = window.column("calls").astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = total("weight")
        cpu_fraction = np.minimum(total("cpu_ns") / total("cpu_of"), 1.0)
        # From the exact mean, of which CPU time is a part: a few samples' mean may lie beyond it.
        mean_s = window.column("total_ns") / 1e9 / window.column("timed")
        cpu_s = np.minimum(total("cpu_ns") / total("cpu_weight") / 1e9, mean_s)
        faults = total("minor_faults") / weight
        variance = total("minor_faults_squared") / weight - faults * faults
        columns = {
            "cpu_s": cpu_s,
            "cpu_fraction": cpu_fraction,
            "cpu_percent": 100.0 * cpu_fraction * mean_s * calls / window.seconds,
            "own_s": total("own_ns") / total("own_weight") / 1e9,
            "own_fraction": np.minimum(total("own_ns") / total("own_of"), 1.0),
            "gc_s": total("gc_ns") / weight / 1e9,
            "voluntary": total("voluntary") / weight,
            "involuntary": total("involuntary") / weight,
            "minor_faults": faults,
            "major_faults": total("major_faults") / weight,
            "memory_mb": faults * _MB_PER_PAGE,
            "memory_mb_std": np.sqrt(np.maximum(variance, 0.0)) * _MB_PER_PAGE,
        }
    made: dict[str, list[Any]] = {name: _or_none(column) for name, column in columns.items()}
    made["samples"] = total("samples").astype(np.int64).tolist()
    made["tail_samples"] = total("tails").astype(np.int64).tolist()
    made["parents"] = _parents(window)
    made["slowest"] = _slowest(window)
    for name in ("in_flight_correlation", "in_flight_p", "in_flight_slope", "size_exponent"):
        made[name] = [None] * count
    _relate(window, made)
    return made


def _relate(window: Window, made: dict[str, list[Any]]) -> None:
    """Fill in how wall time goes with the calls in flight at entry, and with size, where that can be told."""
    crowded = window.column("in_flight_peak") > 1
    sized = np.isfinite(window.records["size"])
    has_size = np.bincount(window.rows[sized & (window.rows >= 0)], minlength=len(crowded)) >= _RELATED
    wanted = (crowded | has_size) & (window.sum("samples") >= _RELATED)
    if not wanted.any():
        return
    mine = np.flatnonzero(wanted[window.rows] & (window.rows >= 0))
    mine = mine[np.argsort(window.rows[mine], kind="stable")]
    rows = window.rows[mine]
    for row in np.flatnonzero(wanted):
        part = mine[np.searchsorted(rows, row) : np.searchsorted(rows, row, "right")]
        if len(part) < _RELATED:
            continue
        records = window.records[part[:: len(part) // _ENOUGH + 1]]
        wall = records["wall_ns"].astype(np.float64)
        if crowded[row]:
            in_flight = records["in_flight"].astype(np.float64)
            found, slope = rank_correlation(in_flight, wall), relative_slope(in_flight, wall)
            if found is not None and slope is not None:
                made["in_flight_correlation"][row], made["in_flight_p"][row] = found
                made["in_flight_slope"][row] = slope
        if has_size[row]:
            made["size_exponent"][row] = exponent(records["size"], wall)


def _parents(window: Window) -> list[dict[str, float]]:
    """Share of each site's calls that were made in each parent site."""
    nothing: dict[str, float] = {}
    result = [nothing] * len(window.sites)
    parents = window.records["parent"]
    known = (parents != core.NO_PARENT) & (window.rows >= 0)
    if not known.any():
        return result
    weight = window.records["weight"].astype(np.float64)
    counted = window.rows >= 0
    totals = np.bincount(window.rows[counted], weight[counted], len(window.sites))
    keys = window.rows[known].astype(np.uint64) << np.uint64(32) | parents[known]
    pairs, where, _ = distinct(keys)
    sums = np.bincount(where, weight[known])
    names = {site.id: site.name for site in list(registry.sites.values())}
    for pair, share in zip(pairs.tolist(), sums.tolist(), strict=True):
        row = pair >> 32
        if result[row] is nothing:
            result[row] = {}
        result[row][names.get(pair & 0xFFFF_FFFF, "?")] = share / float(totals[row])
    return result


def _slowest(window: Window) -> list[tuple[Exemplar, ...]]:
    """The slowest calls with a trace, tails among them: here no estimate is made."""
    result: list[tuple[Exemplar, ...]] = [()] * len(window.sites)
    rows, records = window.traced_rows, window.traced
    order = np.lexsort((-records["wall_ns"].astype(np.int64), rows))
    for index in order[rows[order] >= 0]:
        row = rows[index]
        if len(result[row]) < SLOWEST:
            record = records[index]
            result[row] += (
                Exemplar(
                    trace_id=int(record["trace_hi"]) << 64 | int(record["trace_lo"]),
                    span_id=int(record["span"]),
                    start_ns_epoch=int(record["start_ns"]) + window.epoch_ns,
                    wall_s=int(record["wall_ns"]) / 1e9,
                    error=bool(record["flags"] & core.FLAG_ERROR),
                    tail=bool(record["flags"] & core.FLAG_TAIL),
                ),
            )
    return result
