"""What a rule is.

A rule looks at the stats of one site (or, with scope "process", only at the context), compares one number
with two limits, and says what a good colleague would say, or why it says nothing. It never guesses: with too
little evidence it does not judge.

Severity is a function of that one number and the two limits, the same for all rules (`severity`). A rule may
cap it below the warning level where its number alone does not prove that anybody has a problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import NamedTuple

from ..errors import OptionError, OptionTypeError
from ..model import Context, Finding, Stats, Verdict

__all__ = [
    "INFO",
    "MOST_INFO",
    "WARNING",
    "Limits",
    "Rule",
    "check_limits",
    "confidence",
    "gave_up_cpu",
    "per_hour",
    "severity",
    "waiting_share",
]

INFO = 25.0
WARNING = 75.0
MOST_INFO = 74.0  # severity of a finding that is capped below the warning level
_MOST = 99.9


class Limits(NamedTuple):
    """Where a rule's number becomes worth a note, and where it needs attention."""

    info: float
    warning: float


def check_limits(limits: Limits, rule: str) -> Limits:
    """`limits` themselves. Raises OptionError or OptionTypeError when they make no sense."""
    for name, value in zip(Limits._fields, limits, strict=True):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise OptionTypeError(f"{name}={value!r} of rule {rule!r} is no number: give a number more than 0")
        if not (isfinite(value) and value > 0):
            raise OptionError(f"{name}={value!r} of rule {rule!r} is not allowed: give a number more than 0")
    if not limits.info < limits.warning:
        raise OptionError(
            f"info={limits.info!r} of rule {rule!r} is not below warning={limits.warning!r}: "
            "a note comes before a warning"
        )
    return limits


def severity(value: float, limits: Limits) -> float:
    """0 to below 100, continuous and monotone: 25 at limits.info, 75 at limits.warning.

    25 * value / info below info, linear between the limits, 100 - 25 * warning / value above warning.
    """
    info, warning = limits
    if value <= 0.0:
        return 0.0
    if value < info:
        return INFO * value / info
    if value < warning:
        return INFO + (WARNING - INFO) * ((value - info) / (warning - info))
    return min(100.0 - (100.0 - WARNING) * warning / value, _MOST)


def confidence(amount: float, needed: float) -> float:
    """0 to below 1 by the amount of evidence: 0.75 with three times what is needed, 0.5 with just that."""
    return amount / (amount + needed) if amount > 0 else 0.0


def waiting_share(stats: Stats) -> float | None:
    """Share of the wall time in which the calls do not compute, 0-1; None without evidence.

    Exact for async calls, from what they are suspended for: the CPU time of a coroutine's thread is not its own alone.
    """
    if stats.suspended_s and stats.mean_s:
        return min(stats.suspended_s / stats.mean_s, 1.0)
    return None if stats.cpu_fraction is None else max(0.0, 1.0 - stats.cpu_fraction)


def gave_up_cpu(stats: Stats) -> bool:
    """Whether calls that do not compute let go of the CPU, rather than have it taken by other threads or processes.

    Half a voluntary switch a call says so; fewer where only some calls wait, if it was not more often taken.
    """
    if stats.suspended_s or stats.voluntary is None:
        return True
    switches = stats.voluntary + (stats.major_faults or 0.0)
    return switches >= 0.5 or (switches >= 0.1 and switches > (stats.involuntary or 0.0))


def per_hour(stats: Stats) -> float:
    """What turns a sum over the window into a sum per hour."""
    return 3600.0 / stats.window_s if stats.window_s > 0 else 0.0


class Rule:
    """One rule. Subclasses set the fields and write `check`; `check` must not change anything.

    id        "topic.name", unique
    title     what it looks for, in a few words
    needs     the evidence it needs, in words
    measure   the number that is compared with the limits, in words, with its unit
    limits    default limits of that number
    scope     "site": once for each site; "process": once for the process, with the stats of the site "hotlap"
    yields_to rules whose finding about the same site says all that this one would: then it says nothing
    """

    id: str = ""
    title: str = ""
    needs: str = ""
    measure: str = ""
    limits: Limits = Limits(1.0, 2.0)
    scope: str = "site"
    yields_to: tuple[str, ...] = ()

    @property
    def topic(self) -> str:
        return self.id.partition(".")[0]

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        """What the rule says about this site in this window."""
        raise NotImplementedError

    def least(self, limits: Limits) -> tuple[str, float]:
        """A field of Stats, and how much of it there must be for `check` to find anything.

        With less, or with None, nobody asks for the verdict unless somebody reads it: most of a thousand sites
        are spared that in each cycle. By default all are asked. A `check` of yours that finds things with less than
        the `least` it inherits needs its own.
        """
        return "calls", 0.0

    # What `check` returns: one of these three.

    def unjudged(self, why: str, *numbers: object) -> Verdict:
        """Too little evidence; `why` may be a str.format template, filled with `numbers` when it is read."""
        return Verdict(self.id, None, "not judged: " + why, False, numbers)

    def within(self, why: str, *numbers: object) -> Verdict:
        """Judged, and nothing to say."""
        return Verdict(self.id, None, "within limits: " + why, True, numbers)

    def found(
        self,
        stats: Stats,
        severity: float,
        summary: str,
        advice: str,
        evidence: Mapping[str, float | int | str],
        *,
        confidence: float,
        gain: str = "",
        gain_s_per_hour: float | None = None,
    ) -> Verdict:
        """A finding."""
        return Verdict(
            self.id,
            Finding(
                rule=self.id,
                topic=self.topic,
                site=stats.site,
                severity=severity,
                summary=summary,
                advice=advice,
                evidence=evidence,
                gain=gain,
                gain_s_per_hour=gain_s_per_hour,
                confidence=confidence,
                location=stats.location,
            ),
        )
