"""One benchmark, from the subject to the report: run, examine, summarise, score, judge."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..model import Context, Finding, Stats
from ..rules import Rules, registered
from ..rules.words import share
from ..score import Scorer
from .config import BenchmarkConfig, DebugLevel
from .environment import Spread, advice, cpus, environment
from .examination import Examination
from .isolation import Processes, joined
from .kinds.kind import Kind
from .load.level import LoadOutcome
from .plain import plain
from .profiler import PerformanceProfiler
from .progress import Reporter
from .report import BenchmarkReport, Mark, RunVerdict
from .runs.limits import Guard
from .runs.run import Outcome
from .summary import as_waited_for, memory_mb, metrics_of, process_means, stats_of, summarise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["benchmark", "report_of"]

# Rules about how busy its callers keep a function: in a loop of calls whatever computes keeps a CPU busy.
_OF_TRAFFIC = ("cpu.bound",)


def benchmark(kind: Kind, config: BenchmarkConfig, level: DebugLevel, profiler: PerformanceProfiler) -> BenchmarkReport:
    """Run a kind's benchmark, in this process or in fresh ones, and report what it found; profiled at that level."""
    if level is DebugLevel.PROFILING:
        profiler.check()  # that it can: before anything is run
    subject = kind.subject
    reporter = Reporter(subject.name, config)
    try:
        means_s: list[float] = []
        if config.isolate:
            outcome, examination, means_s = _isolated(kind, config, level, reporter)
        else:
            outcome = kind.run(reporter)
            subject.check(outcome.result)
            examination = _examined(kind, config, outcome, reporter)
        report = report_of(kind, config, level, outcome, examination)
        if means_s:
            report.summary["process_means"] = process_means(means_s, config)
        if level is DebugLevel.PROFILING and report.verdict.complete and not examination.interrupted:
            reporter.phase("profiling", 0)
            _profile(profiler, kind, _rest(config, outcome), report)
    finally:
        reporter.close()
    return report


def _examined(kind: Kind, config: BenchmarkConfig, outcome: Outcome, reporter: Reporter) -> Examination:
    """What the kind finds in the time that is left: a run that was ended has something to tell, too."""
    try:
        with Guard(_rest(config, outcome)) as guard:
            return kind.examine(outcome, guard, reporter)
    except KeyboardInterrupt:
        return Examination(notes=["Interrupted before all was looked at."], interrupted=True)


def _rest(config: BenchmarkConfig, outcome: Outcome) -> BenchmarkConfig:
    """The configuration with what is left of its time."""
    return replace(config, timeout=max(config.timeout - (time.time() - outcome.started), 1e-3))


def _isolated(
    kind: Kind, config: BenchmarkConfig, level: DebugLevel, reporter: Reporter
) -> tuple[Outcome, Examination, list[float]]:
    """Run it in fresh processes, the first of which also examines; with the mean time in each."""
    outcomes: list[Outcome] = []
    examination = Examination()
    reporter.phase("processes", config.isolate)
    interrupted = False
    processes = Processes(config, level, config.timeout)
    try:
        while len(outcomes) < config.isolate and not processes.over:
            done = processes.run(kind, examine=not outcomes)
            if done is not None:
                examination = examination if outcomes else done[1]
                outcomes.append(done[0])
                reporter.advance()
    except KeyboardInterrupt:  # the process that it ended is in no number
        interrupted = True
    means = [float(one.series.good.mean()) for one in outcomes if len(one.series.good)]
    planned = config.isolate * config.iterations
    return joined(outcomes, planned, interrupted, processes.ending), examination, means


def _profile(profiler: PerformanceProfiler, kind: Kind, config: BenchmarkConfig, report: BenchmarkReport) -> None:
    with Guard(config) as guard:
        profile = profiler.profile_subject(kind.subject, config, guard)
    report.details["profile"] = plain(profile.details())
    report.overhead["profiling_slowdown"] = profile.slowdown
    if profile.interrupted:
        report.verdict = replace(report.verdict, complete=False, interrupted=True)


def report_of(
    kind: Kind, config: BenchmarkConfig, level: DebugLevel, outcome: Outcome, examination: Examination
) -> BenchmarkReport:
    """The report of what was measured."""
    series, subject = outcome.series, kind.subject
    memory = memory_mb(series, examination.memory_mb)
    summary = summarise(outcome, memory, config)
    stats = stats_of(subject, kind.type, summary, outcome, memory)
    score = Scorer().score(as_waited_for(stats, summary))
    known = environment()
    marks = _marks(config, summary, outcome)
    failures = outcome.failures.failures(series.time_s, summary["avg_execution_time"])
    findings = _findings(stats, outcome)
    spread = Spread.of(series, outcome.users if isinstance(outcome, LoadOutcome) else None)
    noise = advice(known, outcome.noise, spread)
    notes = [*subject.doubts(outcome.result), *_shortcomings(config, outcome, summary), *examination.notes, *noise]
    interrupted = outcome.interrupted or examination.interrupted
    recommendations = [mark.sentence for mark in marks]
    recommendations += [f"{finding.summary} {finding.advice}" for finding in findings]
    recommendations += [
        f"{failure.count} calls raised {failure.type} at {failure.place}: {failure.message or 'no message'}. "
        + " ".join(failure.patterns)
        for failure in failures
    ]
    recommendations += examination.advice
    return BenchmarkReport(
        benchmark_name=subject.name,
        benchmark_type=kind.type,
        config=config,
        metrics=metrics_of(outcome, memory, config),
        summary=plain(summary),
        recommendations=recommendations,
        performance_score=score.value,
        result_category=score.category,
        timestamp=outcome.started,
        findings=findings,
        environment=plain({**known, **asdict(outcome.noise)}),
        verdict=RunVerdict(
            len(series.time_s) >= outcome.planned and not interrupted,
            (*marks, *examination.marks),
            tuple(notes),
            interrupted,
        ),
        failures=failures,
        overhead=plain(_overhead(level, outcome)),
        details=plain(examination.details),
    )


def _findings(stats: Stats, outcome: Outcome) -> list[Finding]:
    """What the rules of the live recorder find. Gains per hour are left out: nobody calls it like this all day."""
    cpu = None if stats.cpu_percent is None else stats.cpu_percent * cpus()
    context = Context(process_cpu_percent=cpu, cpus=cpus(), records=stats.samples)
    judged = Rules(rules=[rule for rule in registered() if rule.id not in _OF_TRAFFIC]).judge(stats, context)
    found = [verdict.finding for verdict in judged.verdicts if verdict.finding is not None]
    return [replace(one, gain="", gain_s_per_hour=None) for one in sorted(found, key=lambda one: -one.severity)]


def _marks(config: BenchmarkConfig, summary: dict[str, Any], outcome: Outcome) -> list[Mark]:
    """The limits that the run passed."""
    marks = [] if outcome.ended is None else [outcome.ended]
    error_rate, cpu = summary["error_rate"], summary["avg_cpu_usage"]
    mean = summary.get("avg_latency_s", summary["avg_execution_time"])  # under load from when a call was due
    if error_rate is not None and error_rate > config.error_threshold:
        sentence = f"{share(error_rate)} of the calls failed, more than {share(config.error_threshold)}"
        marks.append(Mark("error_threshold", error_rate, config.error_threshold, sentence, False))
    if cpu is not None and cpu > config.cpu_limit and cpus() > 1:
        sentence = f"the calls used {cpu:.0f} % of the {cpus()} CPUs, more than {config.cpu_limit:g} %"
        sentence += "; cpu_limit=100 allows all of them"
        marks.append(Mark("cpu_limit", cpu, config.cpu_limit, sentence, False))
    if mean is not None and mean > config.performance_threshold:
        sentence = f"a call took {mean:.3g} s on average, more than {config.performance_threshold:g} s"
        marks.append(Mark("performance_threshold", mean, config.performance_threshold, sentence, False))
    if outcome.ended is None and outcome.peak_mb > config.memory_limit:
        sentence = f"the run added {outcome.peak_mb:.0f} MB to the process, more than {config.memory_limit:g} MB"
        marks.append(Mark("memory_limit", outcome.peak_mb, config.memory_limit, sentence, False))
    return marks


def _shortcomings(config: BenchmarkConfig, outcome: Outcome, summary: dict[str, Any]) -> list[str]:
    said = []
    if not isinstance(outcome, LoadOutcome) and (config.concurrent_users > 1 or config.arrival_rate is not None):
        said.append(
            "One caller made all calls: concurrent_users is for benchmark_concurrent and benchmark_stress, "
            "arrival_rate for benchmark_concurrent."
        )
    measured = len(outcome.series.time_s)
    if outcome.interrupted:
        said.append(f"Interrupted after {measured} of {outcome.planned} iterations.")
    elif measured < outcome.planned:
        said.append(f"{measured} of {outcome.planned} iterations were measured.")
    cpu = summary["avg_cpu_usage"]
    if cpu is not None and cpu > config.cpu_limit and cpus() == 1:
        said.append(
            f"The calls used {cpu:.0f} % of the one CPU there is, more than {config.cpu_limit:g} %: so does any loop "
            "of calls that compute, and it is not held against them."
        )
    if outcome.unprepared:
        said.append(f"The run ended when {outcome.unprepared}.")
    if outcome.cut_off and not isinstance(outcome, LoadOutcome):  # which says which
        said.append("A call was cut off: it is in no number.")
    steady = summary.get("steady_state")
    if steady is not None and not steady["reached"]:
        said.append(steady["reason"])
    modes = summary.get("modes")
    if modes is not None and modes["count"] > 1:
        said.append(modes["sentence"])
    return said


def _overhead(level: DebugLevel, outcome: Outcome) -> dict[str, Any]:
    """What this level of looking cost, in seconds, and what of it was subtracted from the times."""
    timer, series = outcome.timer, outcome.series
    sample = float(np.median(series.raw_s)) if len(series.raw_s) else None
    return {
        "level": level.value,
        "timer_s": timer.timer_s,
        "loop_s": timer.loop_s,
        "subtracted_s": timer.timer_s / series.loops + timer.loop_s,  # from each call
        "recording_s": timer.iteration_s,  # beside each iteration, in no time
        "recording_share": None if not sample else timer.iteration_s / sample,
        "calls_before": outcome.calls_before,  # the first iteration: calibration and warm-up; None under load
        "resolution_s": timer.resolution_s,
        "resolution_share": None if not sample else timer.share_of(sample),
    }
