"""`hotlap rules`: what the rules look for, and what they said about a site."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ..config import load
from ..errors import OptionError
from ..rules import Rules
from ..sinks.jsonfile import read
from .output import console, digits, number, table


def rules(
    report: Annotated[
        Path | None, typer.Option(help="A file written under report_path, or by `hotlap demo --save`.")
    ] = None,
    site: Annotated[str | None, typer.Option(help="The site whose verdicts to show; needs --report.")] = None,
) -> None:
    """List the rules; with a report its sites; with a site what each rule says about it, and why."""
    if report is None:
        if site is not None:
            raise OptionError(f"--site {site} needs measurements: add --report FILE (see report_path)")
        console().print(_listed())
    else:
        reports = {each["stats"]["site"]: each for each in read(report)["reports"]}
        if site is None:
            console().print(_sites(reports))
        elif site in reports:
            console().print(_verdicts(reports[site]))
        else:
            raise OptionError(f"--site {site!r} is not in {report}: {_nearest(site, list(reports))}")


def _listed() -> Table:
    """The rules in force here, with the limits that the configuration gives them."""
    known = Rules(load())
    rows = table("rule", "finds", "needs", "limits on", "info", "warning", right=("info", "warning"))
    for rule in known.rules:
        limits = known.limits[rule.id]
        rows.add_row(rule.id, rule.title, rule.needs, rule.measure, digits(limits.info), digits(limits.warning))
        if rule.id in known.off:
            rows.add_row("", Text(known.off[rule.id], style="dim"))
    return rows


def _sites(reports: dict[str, dict[str, Any]]) -> Table:
    rows = table("site", "calls", "score", "findings", right=("calls", "score"))
    for name, each in sorted(reports.items()):
        score = each["score"]["value"]
        found = [verdict["rule"] for verdict in each["verdicts"] if verdict["finding"]]
        rows.add_row(
            name,
            number(each["stats"]["calls"]),
            "-" if score is None else f"{score:.0f}",
            ", ".join(found) or "none",
        )
    return rows


def _verdicts(report: dict[str, Any]) -> Table:
    rows = table("rule", "verdict", "why")
    for verdict in report["verdicts"]:
        finding = verdict["finding"]
        if finding is not None:
            rows.add_row(verdict["rule"], f"finding {finding['severity']:.0f}", finding["summary"])
        else:
            said, _, why = verdict["reason"].partition(": ")
            rows.add_row(verdict["rule"], said, why)
    return rows


def _nearest(site: str, known: list[str]) -> str:
    """What may have been meant: names like it, also by their last part; otherwise some of what there is."""
    last = {name.rpartition(".")[2]: name for name in known}
    close = get_close_matches(site, known, n=3, cutoff=0.5)
    close += [last[name] for name in get_close_matches(site.rpartition(".")[2], last, n=3) if last[name] not in close]
    if close:
        return f"did you mean {' or '.join(map(repr, close[:3]))}?"
    return (
        f"its sites are {', '.join(sorted(known)[:10])}{', ...' if len(known) > 10 else ''}" if known else "it is empty"
    )
