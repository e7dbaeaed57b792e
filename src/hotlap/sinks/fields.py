"""Reports as flat fields: name -> number or text, for log events and span attributes.

A name carries its unit, as in the model. What has no evidence (None) is left out: it must not read as zero.
"""

from __future__ import annotations

from dataclasses import fields
from enum import Enum
from operator import attrgetter
from typing import TYPE_CHECKING, TypeAlias

from ..model import Context, Stats

if TYPE_CHECKING:
    from ..model import Cycle, Finding, Report

Field: TypeAlias = "str | bool | int | float"

_STATS = tuple(field.name for field in fields(Stats))
_CONTEXT = tuple(field.name for field in fields(Context))
_stats_values = attrgetter(*_STATS)
_context_values = attrgetter(*_CONTEXT)


def of_report(report: Report) -> dict[str, Field]:
    """The site's stats and score; with `points_<part>`, `tag.<name>`, and `metric.<name>.count` and so on."""
    stats, score = report.stats, report.score
    flat: dict[str, Field] = {}
    for name, value in zip(_STATS, _stats_values(stats), strict=True):
        if isinstance(value, (str, int, float)):  # what is nested is taken apart below, or left out
            flat[name] = value.value if isinstance(value, Enum) else value
    if score.value is not None:
        flat["score"] = score.value
    if score.category is not None:
        flat["category"] = score.category.value
    if score.caveats:
        flat["caveats"] = "; ".join(score.caveats)
    for part in score.parts:
        flat[f"points_{part.name}"] = part.points
    for name, tag in stats.tags.items():
        flat[f"tag.{name}"] = tag
    for name, metric in stats.metrics.items():
        flat[f"metric.{name}.count"] = metric.count
        flat[f"metric.{name}.total"] = metric.total
        flat[f"metric.{name}.min"] = metric.min
        flat[f"metric.{name}.max"] = metric.max
    if stats.parents:
        parent = max(stats.parents, key=stats.parents.__getitem__)
        flat["parent"] = parent
        flat["parent_share"] = stats.parents[parent]
    return flat


def of_finding(finding: Finding) -> dict[str, Field]:
    """The finding; its evidence as `evidence.<name>`."""
    flat: dict[str, Field] = {
        "rule": finding.rule,
        "topic": finding.topic,
        "site": finding.site,
        "severity": finding.severity,
        "summary": finding.summary,
        "advice": finding.advice,
        "gain": finding.gain,
        "confidence": finding.confidence,
    }
    if finding.gain_s_per_hour is not None:
        flat["gain_s_per_hour"] = finding.gain_s_per_hour
    if finding.location is not None:
        flat["location"] = finding.location
    for name, value in finding.evidence.items():
        flat[f"evidence.{name}"] = value
    return flat


def of_cycle(cycle: Cycle) -> dict[str, Field]:
    """The cycle and the process it looked at; counts in place of the reports themselves."""
    context = cycle.context
    flat: dict[str, Field] = {
        "cycle": cycle.number,
        "started_at": cycle.started_at,
        "window_s": cycle.window_s,
        "cost_s": cycle.cost_s,
        "sites": len(cycle.reports),
        "calls": sum(report.stats.calls for report in cycle.reports),
        "errors": sum(report.stats.errors for report in cycle.reports),
        "findings": sum(len(report.findings) for report in cycle.reports),
    }
    known = zip(_CONTEXT, _context_values(context), strict=True)
    flat.update((name, value) for name, value in known if isinstance(value, (str, int, float)))
    for kind, count in context.faults.items():
        flat[f"faults_{kind}"] = count
    if context.sinks_failed:
        flat["sinks_failed"] = ",".join(context.sinks_failed)
    if context.rules_failed:
        flat["rules_failed"] = ",".join(context.rules_failed)
    return flat
