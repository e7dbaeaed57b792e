"""Stats -> verdicts: the rules, their registry, and judge(). Pure: nothing is logged or remembered here.

base.py       what a rule is: id, limits, severity, and the three kinds of verdict
time.py ...   the rules, one module for each topic
words.py      numbers in human units

A rule of one's own: a subclass of Rule, given to `register`. A rule that raises is reported in
Judgement.failed; the caller says so once and goes on with `rules.without(...)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import NamedTuple

from ..config import Config, RuleConfig, nearest
from ..errors import OptionError, OptionTypeError
from ..model import Context, Finding, Stats, Verdict, Verdicts
from . import algorithm, concurrency, cpu, errors, io, memory, recorder, time
from .base import Limits, Rule, check_limits, severity
from .words import either

__all__ = [
    "PROCESS_SITE",
    "Judgement",
    "Limits",
    "Rule",
    "RuleFailure",
    "Rules",
    "judge",
    "judge_process",
    "register",
    "registered",
    "severity",
    "unregister",
]

PROCESS_SITE = "hotlap"  # the site that findings about the whole process belong to

_BUILT_IN: tuple[Rule, ...] = (
    time.Slow(),
    time.Tail(),
    cpu.Bound(),
    io.Waiting(),
    io.NPlusOne(),
    memory.Heavy(),
    memory.Growing(),
    memory.Variance(),
    errors.Rate(),
    concurrency.Contention(),
    algorithm.Growth(),
    recorder.Lost(),
)
_users: dict[str, Rule] = {}


def registered() -> tuple[Rule, ...]:
    """All rules: hotlap's own, then the users', in the order in which they came."""
    return (*_BUILT_IN, *_users.values())


def register(rule: Rule) -> Rule:
    """Add a rule of one's own; it counts from the next Rules(...) on. Returns the rule.

    Raises OptionTypeError for anything but a Rule, OptionError for an id that is taken or has no topic, for
    limits that make no sense and for an unknown scope.
    """
    if not isinstance(rule, Rule):
        raise OptionTypeError(f"{rule!r} is no rule: give an instance of a subclass of hotlap.rules.Rule")
    topic, _, name = rule.id.partition(".")
    if not topic or not name:
        raise OptionError(f'id={rule.id!r} of {rule!r} is not allowed: give a topic and a name, "topic.name"')
    if any(rule.id == other.id for other in registered()):
        raise OptionError(f"id={rule.id!r} is taken: give the rule another id, or unregister the other one first")
    if rule.scope not in ("site", "process"):
        raise OptionError(f'scope={rule.scope!r} of rule {rule.id!r} is not allowed: give "site" or "process"')
    check_limits(rule.limits, rule.id)
    _users[rule.id] = rule
    return rule


def unregister(rule_id: str) -> None:
    """Take a user's rule away again. Raises OptionError when there is none of that id."""
    if rule_id not in _users:
        raise OptionError(f"no rule of yours has the id {rule_id!r}: yours are {', '.join(_users) or 'none'}")
    del _users[rule_id]


class RuleFailure(NamedTuple):
    """A rule that raised."""

    rule: str
    error: Exception


class Judgement(NamedTuple):
    """The verdicts about one site, one for each rule, and the rules that raised."""

    verdicts: Sequence[Verdict]
    failed: tuple[RuleFailure, ...]


_Check = Callable[[Stats, Context, Limits], Verdict]
_NUMBERS = frozenset(field.name for field in fields(Stats) if field.type in ("int", "float", "float | None"))


class Rules:
    """The rules in force and their limits: immutable. Raises OptionError for unknown ids and bad limits."""

    __slots__ = ("_asked", "_gauges", "_later", "_least", "_off", "_process", "_site", "_yields", "limits", "rules")

    def __init__(
        self,
        config: Config | None = None,
        rules: Iterable[Rule] | None = None,
        off: Mapping[str, str] | None = None,
    ) -> None:
        self.rules = registered() if rules is None else tuple(rules)
        options: Mapping[str, RuleConfig] = {} if config is None else config.rules
        known = [rule.id for rule in self.rules]
        for rule_id in options:
            if rule_id not in known:
                raise OptionError(f"there is no rule {rule_id!r} to configure: {nearest(rule_id, known)}")
        self.limits: dict[str, Limits] = {}
        reasons = dict(off or {})
        for rule in self.rules:
            own = options.get(rule.id, RuleConfig())
            info = rule.limits.info if own.info is None else own.info
            warning = rule.limits.warning if own.warning is None else own.warning
            self.limits[rule.id] = check_limits(Limits(info, warning), rule.id)
            if not own.enabled:
                reasons.setdefault(rule.id, "switched off in the configuration")
        self._arrange(reasons)

    def _arrange(self, reasons: Mapping[str, str]) -> None:
        """Bind what judge() and find() call, so that their loops look nothing up."""
        self._off = dict(reasons)
        plans: dict[str, list[tuple[str, _Check | Verdict, Limits]]] = {"site": [], "process": []}
        asked: list[tuple[str, float, tuple[str, _Check, Limits]]] = []
        for rule in self.rules:
            reason, limits = self._off.get(rule.id), self.limits[rule.id]
            check = rule.check if reason is None else Verdict(rule.id, None, f"not judged: {reason}", False)
            plans[rule.scope].append((rule.id, check, limits))
            if reason is None and rule.scope == "site":
                gauge, least = rule.least(limits)
                if gauge not in _NUMBERS or not isinstance(least, (int, float)):
                    raise OptionError(
                        f"least()={gauge!r}, {least!r} of rule {rule.id!r} is not allowed: give the name of a field of "
                        "Stats that is a number, and a number"
                    )
                asked.append((gauge, least, (rule.id, rule.check, limits)))
        self._site, self._process = tuple(plans["site"]), tuple(plans["process"])
        self._asked = tuple(plan for _, _, plan in asked)
        self._least = tuple(least for _, least, _ in asked)
        # The last two make it a tuple, however many rules there are.
        self._gauges = attrgetter(*(gauge for gauge, _, _ in asked), "site", "site")
        self._yields = {rule.id: rule.yields_to for rule in self.rules if rule.yields_to}
        self._later = self._verdicts  # one bound method for the verdicts of all sites

    @property
    def off(self) -> Mapping[str, str]:
        """Rules that are switched off, with the reason."""
        return dict(self._off)

    def without(self, failed: Iterable[RuleFailure]) -> Rules:
        """These rules with the failed ones switched off; their verdicts say why."""
        new = object.__new__(Rules)
        new.rules, new.limits = self.rules, self.limits
        reasons = {failure.rule: f"switched off, it raised {failure.error!r}" for failure in failed}
        new._arrange({**self._off, **reasons})
        return new

    def judge(self, stats: Stats, context: Context) -> Judgement:
        """What each rule for sites says about one site. Never raises because of a rule."""
        verdicts, failed = _judge(self._site, stats, context)
        found = [verdict.finding for verdict in verdicts if verdict.finding is not None]
        kept = self.standing(found)
        if len(kept) < len(found):
            verdicts = tuple(self._silenced(verdict, found, kept) for verdict in verdicts)
        return Judgement(verdicts, failed)

    def find(self, stats: Stats, context: Context) -> Judgement:
        """As judge(), but with verdicts that are worked out when they are read: only findings are kept."""
        findings: list[Finding] = []
        failed: tuple[RuleFailure, ...] = ()
        for value, least, plan in zip(self._gauges(stats), self._least, self._asked, strict=False):
            if value is None or value < least:
                continue
            rule_id, check, limits = plan
            try:
                finding = check(stats, context, limits).finding
            except Exception as error:
                failed += (RuleFailure(rule_id, error),)
            else:
                if finding is not None:
                    findings.append(finding)
        if len(findings) > 1:
            findings = self.standing(findings)
        return Judgement(Verdicts(tuple(findings), self._later, stats, context), failed)

    def standing(self, findings: Sequence[Finding]) -> list[Finding]:
        """The findings without those that yield to another one about the same site."""
        found = {(finding.rule, finding.site) for finding in findings}
        return [
            finding
            for finding in findings
            if not any((other, finding.site) in found for other in self._yields.get(finding.rule, ()))
        ]

    def _silenced(self, verdict: Verdict, found: list[Finding], kept: list[Finding]) -> Verdict:
        if verdict.finding is None or verdict.finding in kept:
            return verdict
        others = [one.rule for one in found if one.rule in self._yields[verdict.rule]]
        return Verdict(verdict.rule, None, f"not judged: {either(others)} says it", False)

    def _verdicts(self, stats: Stats, context: Context) -> Sequence[Verdict]:
        return self.judge(stats, context).verdicts

    def judge_process(self, context: Context, window_s: float = 0.0) -> Judgement:
        """What each rule for the process says; its findings belong to the site PROCESS_SITE."""
        return _judge(self._process, Stats(site=PROCESS_SITE, window_s=window_s), context)


_Plan = tuple[tuple[str, "_Check | Verdict", Limits], ...]


def _judge(plan: _Plan, stats: Stats, context: Context) -> Judgement:
    verdicts: list[Verdict] = []
    failed: tuple[RuleFailure, ...] = ()
    for rule_id, check, limits in plan:
        if type(check) is Verdict:
            verdicts.append(check)
            continue
        try:
            verdict = check(stats, context, limits)  # type: ignore[operator]  # no Verdict: a check
            if type(verdict) is not Verdict:
                raise TypeError(f"check returned {verdict!r}, which is no Verdict")
        except Exception as error:  # a rule is an observer: it must not break its host
            failed += (RuleFailure(rule_id, error),)
            verdict = Verdict(rule_id, None, f"not judged: the rule raised {error!r}", False)
        verdicts.append(verdict)
    return Judgement(tuple(verdicts), failed)


def judge(stats: Stats, context: Context | None = None, rules: Rules | None = None) -> Judgement:
    """What the rules say about one site: for a single look. In a loop, make `Rules(config)` once."""
    return (rules or Rules()).judge(stats, context or Context())


def judge_process(context: Context, rules: Rules | None = None) -> Judgement:
    """What the rules for the whole process say."""
    return (rules or Rules()).judge_process(context)
