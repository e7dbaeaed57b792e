"""The types that the stages hand to each other. Immutable; plain numbers; formatted only at the edges.

Units are in the names: `_s` seconds, `_ns` nanoseconds, `_mb` 10**6 bytes, `_percent` 0-100, `_rate`,
`_fraction` and `_share` 0-1. None means: no evidence, which is not the same as zero.

What is made thousands of times in a cycle (Part, Score, Metric, Exemplar, TailCall, Verdict) is no frozen
dataclass, because making one of those costs five times as much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, NamedTuple, overload

from .options import BenchmarkType, SiteOptions, seconds

__all__ = [
    "BenchmarkResult",
    "BenchmarkType",
    "Context",
    "Cycle",
    "Exemplar",
    "Finding",
    "Metric",
    "Part",
    "Report",
    "Score",
    "SiteOptions",
    "Stats",
    "TailCall",
    "Verdict",
    "category",
    "seconds",
]


def _number(value: float, unit: str) -> str:
    """A value for a table: three digits in a unit that fits, and a fraction as a percentage."""
    if unit == "fraction":
        return f"{100 * value:.4g} %"
    if unit == "s" and 0.0 < value < 1.0:
        return f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} us"
    return f"{value:.3g} {unit}" if abs(value) < 1000 else f"{value:,.0f} {unit}"


class BenchmarkResult(str, Enum):
    """The category of a score."""

    EXCELLENT = "excellent"
    GOOD = "good"
    AVERAGE = "average"
    POOR = "poor"
    CRITICAL = "critical"

    __str__ = str.__str__


_CATEGORIES = (
    (90.0, BenchmarkResult.EXCELLENT),
    (75.0, BenchmarkResult.GOOD),
    (60.0, BenchmarkResult.AVERAGE),
    (40.0, BenchmarkResult.POOR),
)
_ROUNDING = 1e-9  # a weighted mean can miss a border by some 1e-14


def category(value: float) -> BenchmarkResult:
    """The category of a score or of the points of one part: a border belongs to the better one."""
    for border, result in _CATEGORIES:
        if value >= border - _ROUNDING:
            return result
    return BenchmarkResult.CRITICAL


class Metric(NamedTuple):
    """One numeric field that the user recorded in the window."""

    count: int  # type: ignore[assignment]  # hides tuple.count, on purpose
    total: float
    min: float
    max: float

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None


class Exemplar(NamedTuple):
    """A slow sampled call and the trace it happened in."""

    trace_id: int
    span_id: int
    start_ns_epoch: int
    wall_s: float
    error: bool = False
    tail: bool = False


class TailCall(NamedTuple):
    """A slow or failed sampled call that can be shown as a span of the trace it happened in."""

    site: str
    start_epoch_ns: int
    wall_ns: int
    error: bool
    tail: bool
    trace_id: int
    span_id: int
    thread: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """One site in one window. Seconds, fractions, counts; None where there is no evidence."""

    site: str
    type: BenchmarkType = BenchmarkType.FUNCTION
    location: str | None = None  # "path/file.py:12"
    tags: Mapping[str, str] = field(default_factory=dict)
    slo_s: float | None = None
    started_at: float = 0.0  # unix seconds
    window_s: float = 0.0

    # exact, every call
    calls: int = 0  # ended in the window
    timed: int = 0  # those of them that were clocked
    errors: int = 0
    cancelled: int = 0
    throughput: float = 0.0  # calls per second
    error_rate: float | None = None
    success_rate: float | None = None
    mean_s: float | None = None
    std_s: float | None = None
    min_s: float | None = None
    max_s: float | None = None
    p50_s: float | None = None
    p90_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None
    p999_s: float | None = None
    total_s: float | None = None
    in_flight: int = 0
    in_flight_peak: int = 0

    # exact, async and generator calls: means per call, and the longest single run
    run_s: float | None = None
    suspended_s: float | None = None
    suspensions: float | None = None
    longest_run_s: float | None = None

    # from records
    samples: int = 0  # unbiased ones
    tail_samples: int = 0  # left only because they were slow: in no estimate
    cpu_s: float | None = None  # weighted mean CPU seconds of a call
    cpu_fraction: float | None = None  # CPU / wall of the same calls
    cpu_percent: float | None = None  # share of one core: the CPU part of the time of all calls
    own_s: float | None = None
    own_fraction: float | None = None
    gc_s: float | None = None
    voluntary: float | None = None  # context switches per call
    involuntary: float | None = None
    minor_faults: float | None = None  # per call
    major_faults: float | None = None
    memory_mb: float | None = None  # fresh memory touched per call: minor faults * page size
    memory_mb_std: float | None = None
    in_flight_slope: float | None = None  # relative increase of wall time for each further call in flight
    in_flight_correlation: float | None = None  # Spearman's rho
    in_flight_p: float | None = None
    size_exponent: float | None = None
    parents: Mapping[str, float] = field(default_factory=dict)  # share of the sampled calls, by parent site
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    slowest: tuple[Exemplar, ...] = ()
    counting: bool = False  # the governor has switched timing off

    @classmethod
    def rows(cls, columns: Mapping[str, Sequence[Any]]) -> list[Stats]:
        """One Stats for each row of `columns`, which must name every field and be of one length.

        As the constructor would make them, in a fifth of the time: a cycle makes a thousand.
        """
        names = [field.name for field in fields(cls)]
        made = [cls.__new__(cls) for _ in columns[names[0]]]
        for name in names:
            column = columns[name]
            if len(column) != len(made):
                raise ValueError(f"column {name!r} has {len(column)} rows, {names[0]!r} has {len(made)}")
            set_slot = cls.__dict__[name].__set__
            deque(map(set_slot, made, column), maxlen=0)  # column by column: no bytecode for a single value
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The process in one window: what the rules need to know beyond one site."""

    rss_mb: float | None = None
    rss_slope_mb_s: float | None = None  # Theil-Sen over the past windows; None when not significant
    rss_growth_mb: float | None = None  # over those windows
    rss_windows: int = 0
    process_cpu_percent: float | None = None
    cpus: int = 1
    records_lost: int = 0  # in the window
    records: int = 0  # drained in the window
    overhead_fraction: float | None = None  # the recorder's own share of one core
    budget: float = 0.01
    sinks_failed: tuple[str, ...] = ()
    rules_failed: tuple[str, ...] = ()
    faults: Mapping[str, int] = field(default_factory=dict)  # what failed or was left out: size, trace, record
    site_memory_share: Mapping[str, float] = field(default_factory=dict)  # of the fresh memory touched
    site_calls: Mapping[str, int] = field(default_factory=dict)  # calls in the window, by site
    site_total_s: Mapping[str, float] = field(default_factory=dict)  # wall seconds in the window, by site


class Part(NamedTuple):
    """One part of a score. Thresholds are the values that give 90, 75, 60 and 40 points."""

    name: str
    value: float
    unit: str
    weight: float  # nominal
    effective_weight: float  # shared out among the parts with evidence
    points: float  # 0-100
    thresholds: tuple[float, float, float, float]  # excellent, good, average, poor


class Score(NamedTuple):
    """0-100 with its parts; value and category are None when no part had evidence.

    A weighted mean forgives a broken promise: `category` is that of the value and of nothing else, and
    `caveats` say what it forgave. Show both, as `summary` does.
    """

    value: float | None
    category: BenchmarkResult | None
    parts: tuple[Part, ...] = ()
    missing: tuple[str, ...] = ()  # names of the parts without evidence
    slo_s: float | None = None  # the promise that p95 is held against

    @property
    def caveats(self) -> tuple[str, ...]:
        """The promises that are not kept, in words: an SLO that p95 misses, a success rate below `good`."""
        said = []
        for part in self.parts:
            if part.name == "execution_time" and self.slo_s is not None and part.value > self.slo_s:
                said.append(f"misses its SLO of {_number(self.slo_s, 's')} (p95 {_number(part.value, 's')})")
            elif part.name == "success_rate" and part.value < part.thresholds[1]:
                said.append(f"{100.0 * (1.0 - part.value):.3g} % of its calls fail")
        return tuple(said)

    @property
    def summary(self) -> str:
        """The category with its caveats: "good, but 30 % of its calls fail"; "none" without a score."""
        if self.category is None:
            return "none"
        bad = self.category in (BenchmarkResult.POOR, BenchmarkResult.CRITICAL)
        caveats = " and ".join(self.caveats)
        return self.category.value + ((": " if bad else ", but ") + caveats if caveats else "")

    def explain(self) -> str:
        """Summary, then value, thresholds, weight and points of each part in aligned lines, then what is missing."""
        if self.value is None or self.category is None:
            lines = ["score: none, no part had evidence"]
        else:
            lines = [f"score: {self.value:.1f} of 100, {self.summary}"]
        if self.parts:
            rows: list[tuple[str, ...]] = [
                ("part", "value", "excellent", "good", "average", "poor", "weight", "points")
            ]
            for part in self.parts:
                share = f"{part.weight:.2f}"
                if abs(part.effective_weight - part.weight) > 5e-4:
                    share += f" -> {part.effective_weight:.3f}"
                limits = [_number(limit, part.unit) for limit in part.thresholds]
                rows.append((part.name, _number(part.value, part.unit), *limits, share, f"{part.points:.1f}"))
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            for row in rows:
                cells = [row[0].ljust(widths[0])]
                cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
                lines.append("  " + "  ".join(cells))
        if self.missing:
            rest = "" if self.value is None else "; their weight is shared among the other parts"
            lines.append(f"  no evidence: {', '.join(self.missing)}{rest}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule's verdict that something is worth changing."""

    rule: str
    topic: str
    site: str
    severity: float  # 0-100: 25 at the rule's info limit, 75 at its warning limit
    summary: str
    advice: str
    evidence: Mapping[str, float | int | str] = field(default_factory=dict)
    gain: str = ""  # a sentence with its basis
    gain_s_per_hour: float | None = None
    confidence: float = 1.0  # 0-1
    location: str | None = None

    @property
    def level(self) -> str:
        """ "warning" from severity 75 on, "info" from 25 on, "ok" below."""
        return "warning" if self.severity >= 75.0 else "info" if self.severity >= 25.0 else "ok"


class Verdict:
    """What one rule says about one site: a finding, or the reason why there is none.

    The reason may be a template for str.format, with its numbers apart: it is formatted when it is read.
    Thirty rules over a thousand sites give thirty thousand verdicts a cycle, and almost nobody reads them.
    """

    __slots__ = ("_numbers", "_reason", "finding", "judged", "rule")

    def __init__(
        self,
        rule: str,
        finding: Finding | None = None,
        reason: str = "",
        judged: bool = True,
        numbers: tuple[object, ...] = (),
    ) -> None:
        self.rule = rule
        self.finding = finding
        self.judged = judged
        self._reason = reason
        self._numbers = numbers

    @property
    def reason(self) -> str:
        """Why nothing was found, or why the rule could not judge; the summary when there is a finding."""
        if self._numbers:
            try:
                return self._reason.format(*self._numbers)
            except (ValueError, IndexError, KeyError, TypeError, AttributeError):
                return f"{self._reason} {self._numbers}"  # a slip in a rule must not stop a sink
        if self.finding is not None and not self._reason:
            return self.finding.summary
        return self._reason

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Verdict):
            return NotImplemented
        mine = (self.rule, self.judged, self.reason, self.finding)
        return mine == (other.rule, other.judged, other.reason, other.finding)

    __hash__ = None  # type: ignore[assignment]  # a finding holds a mapping

    def __repr__(self) -> str:
        return f"Verdict(rule={self.rule!r}, finding={self.finding!r}, reason={self.reason!r}, judged={self.judged!r})"


class Verdicts(Sequence[Verdict]):
    """Verdicts that are worked out when somebody reads them; their findings are known from the start.

    Rules are pure, so it does not matter when they are asked. Of a thousand sites' verdicts hardly one is
    read, and to make and keep them all would cost more than the rules do.
    """

    __slots__ = ("_context", "_judge", "_made", "_stats", "findings")

    def __init__(
        self,
        findings: tuple[Finding, ...],
        judge: Callable[[Stats, Context], Sequence[Verdict]],
        stats: Stats,
        context: Context,
    ) -> None:
        self.findings = findings
        self._judge, self._stats, self._context = judge, stats, context
        self._made: tuple[Verdict, ...] | None = None

    def _all(self) -> tuple[Verdict, ...]:
        if self._made is None:
            self._made = tuple(self._judge(self._stats, self._context))
        return self._made

    @overload
    def __getitem__(self, index: int) -> Verdict: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Verdict, ...]: ...

    def __getitem__(self, index: int | slice) -> Verdict | tuple[Verdict, ...]:
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Verdicts, tuple)):
            return NotImplemented
        return self._all() == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # as Verdict

    def __repr__(self) -> str:
        return f"Verdicts{self._all()!r}"


@dataclass(frozen=True, slots=True)
class Report:
    """One site's stats, score and verdicts for one window or one lab run."""

    stats: Stats
    score: Score
    verdicts: Sequence[Verdict] = ()

    @property
    def site(self) -> str:
        return self.stats.site

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings among the verdicts, most severe first."""
        if isinstance(self.verdicts, Verdicts):
            found = list(self.verdicts.findings)
        else:
            found = [verdict.finding for verdict in self.verdicts if verdict.finding is not None]
        found.sort(key=lambda finding: -finding.severity)
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """What one round of the aggregator hands to the sinks."""

    number: int
    started_at: float  # unix seconds
    window_s: float
    reports: tuple[Report, ...]  # sites with calls in the window
    context: Context
    cost_s: float = 0.0  # what the cycle itself took
    tail_calls: tuple[TailCall, ...] = ()
