"""Memory touched for the first time, and memory that stays."""

from __future__ import annotations

from ..model import Context, Stats, Verdict
from .base import MOST_INFO, Limits, Rule, confidence, per_hour, severity
from .words import Megabytes, Share, duration, megabytes, share

__all__ = ["Growing", "Heavy", "Variance"]


class Heavy(Rule):
    """Each fresh page is a page fault and has to be zeroed: much of it in every call costs time."""

    id = "memory.heavy"
    title = "touches much fresh memory in each call"
    needs = "page faults of 5 sampled calls"
    measure = "fresh memory per call, MB"
    limits = Limits(100.0, 500.0)

    SAMPLES = 5  # one big load at the start is what memory is for

    def least(self, limits: Limits) -> tuple[str, float]:
        return "memory_mb", limits.info

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        mb, samples = stats.memory_mb, stats.samples
        if samples < self.SAMPLES:
            return self.unjudged("{} samples, needs {}", samples, self.SAMPLES)
        if mb is None:
            return self.unjudged("no page faults in the samples")
        if mb < limits.info:
            return self.within("{} of fresh memory per call, limit {}", Megabytes(mb), Megabytes(limits.info))
        hourly = mb * stats.calls * per_hour(stats)
        return self.found(
            stats,
            severity(mb, limits),
            f"{stats.site} touches {megabytes(mb)} of fresh memory in each call.",
            "Reuse a buffer, work in pieces or with generators, and look for copies of the whole input "
            "(slices, list() around an iterator, astype).",
            {
                "memory_mb": mb,
                "minor_faults": stats.minor_faults or 0.0,
                "calls": stats.calls,
                "samples": samples,
            },
            confidence=confidence(samples, self.SAMPLES),
            gain=f"{megabytes(hourly)} per hour that the kernel has to find and zero, page by page.",
        )


class Growing(Rule):
    """The process grows; charged to the sites that touch most of the fresh memory.

    Memory touched is not memory kept, so the site is a suspect: the confidence says so.
    """

    id = "memory.growing"
    title = "the process grows, and this site touches most of the new memory"
    needs = "a significant slope of the process's memory over 6 windows, and page faults of sampled calls"
    measure = "growth of the process charged to the site, MB per minute"
    limits = Limits(1.0, 20.0)

    WINDOWS = 6
    LEAST_MB = 10.0  # a smaller growth is the allocator's
    LEAST_PART = 0.05  # of the process's memory
    WARNING_PART = 0.2  # a cache that fills grows too: a warning when the process has grown by this part
    LEAST_SHARE = 0.25  # of the fresh memory touched
    MOSTLY_KEPT = 0.5  # of what the site touches: where most is freed again, it may be another that keeps it
    ANY_MB = 1e-9  # less than a page in a million calls

    def least(self, limits: Limits) -> tuple[str, float]:
        return "memory_mb", self.ANY_MB

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        if context.rss_windows < self.WINDOWS:
            return self.unjudged("{} windows, needs {}", context.rss_windows, self.WINDOWS)
        slope, growth, rss = context.rss_slope_mb_s, context.rss_growth_mb, context.rss_mb
        if slope is None or slope <= 0.0:
            return self.within("the process does not grow")
        mine = context.site_memory_share.get(stats.site)
        if mine is None or (stats.memory_mb or 0.0) < self.ANY_MB:
            return self.unjudged("no page faults in the samples")
        per_minute = 60.0 * slope
        charged = per_minute * mine
        if growth is None or rss is None or growth < self.LEAST_MB or growth < self.LEAST_PART * rss:
            return self.within("the process has grown by {}", Megabytes(growth or 0.0))
        if mine < self.LEAST_SHARE:
            return self.within(
                "the process grows by {} a minute, and {} of the fresh memory is touched here",
                Megabytes(per_minute),
                Share(mine),
            )
        level = severity(charged, limits)
        if level < 25.0:
            return self.within("{} a minute, limit {}", Megabytes(charged), Megabytes(limits.info))
        touched = (stats.memory_mb or 0.0) * stats.calls / stats.window_s if stats.window_s > 0.0 else 0.0
        kept = min(slope / touched, 1.0) if touched > 0.0 else 1.0
        if growth < self.WARNING_PART * (rss - growth) or kept < self.MOSTLY_KEPT:
            level = min(level, MOST_INFO)
        others = (
            ""
            if kept >= self.MOSTLY_KEPT
            else (
                f"At most {share(kept)} of what it touches can stay, and it need not be this function that keeps it: "
                "memory that it frees is given to others. "
            )
        )
        return self.found(
            stats,
            level,
            f"The process grows by {megabytes(per_minute)} a minute ({megabytes(growth)} so far, now "
            f"{megabytes(rss)}), and {share(mine)} of the fresh memory is touched in {stats.site}.",
            f"{others}Look for what is kept: a cache without a limit, a list or dict at module level, callbacks and "
            "tasks never removed. The difference between two snapshots of tracemalloc shows the lines.",
            {
                "rss_mb": rss,
                "rss_growth_mb": growth,
                "rss_slope_mb_s": slope,
                "memory_share": mine,
                "kept_share": kept,
                "windows": context.rss_windows,
            },
            confidence=0.8 * mine * (1.0 if not others else 0.5) * confidence(context.rss_windows, self.WINDOWS / 2),
            gain=f"At this rate the process is twice as big in {duration(rss / slope)}.",
        )


class Variance(Rule):
    """Calls that differ much in memory make a process hard to size. A note, unless it is by much."""

    id = "memory.variance"
    title = "some calls touch far more memory than others"
    needs = "page faults of 20 sampled calls"
    measure = "standard deviation of fresh memory per call, divided by its mean"
    limits = Limits(1.0, 3.0)

    SAMPLES = 20
    LEAST_MB = 10.0
    LARGE_MB = 200.0

    def least(self, limits: Limits) -> tuple[str, float]:
        return "memory_mb_std", self.LEAST_MB

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        mb, std, samples = stats.memory_mb, stats.memory_mb_std, stats.samples
        if samples < self.SAMPLES:
            return self.unjudged("{} samples, needs {}", samples, self.SAMPLES)
        if mb is None or std is None:
            return self.unjudged("no page faults in the samples")
        if std < self.LEAST_MB or mb <= 0.0:
            return self.within("calls differ by {} (standard deviation), which is little", Megabytes(std))
        level = severity(std / mb, limits)
        if level < 25.0:
            return self.within("standard deviation / mean is {:.2g}, limit {:g}", std / mb, limits.info)
        if std < self.LARGE_MB:
            level = min(level, MOST_INFO)
        return self.found(
            stats,
            level,
            f"{stats.site}: fresh memory per call varies widely, {megabytes(mb)} on average with a standard "
            f"deviation of {megabytes(std)}.",
            "See whether it follows the size of the input (give size=...). If it does, work in pieces of a fixed size; "
            "if not, look for a result that is computed whole now and then.",
            {"memory_mb": mb, "memory_mb_std": std, "ratio": std / mb, "samples": samples},
            confidence=confidence(samples, self.SAMPLES / 2),
            gain=f"A process that is planned for the mean needs some {megabytes(2 * std)} more for the larger calls "
            "(two standard deviations).",
        )
