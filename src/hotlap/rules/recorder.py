"""What the recorder itself could not do."""

from __future__ import annotations

from ..model import Context, Stats, Verdict
from .base import Limits, Rule, confidence, severity
from .words import Share, share

__all__ = ["Lost"]


class Lost(Rule):
    """Records overwritten before they were read. Counts and times stay exact; the evidence gets thinner."""

    id = "recorder.lost"
    title = "the recorder lost records"
    needs = "the ring's own counts"
    measure = "share of the records lost"
    limits = Limits(0.01, 0.25)
    scope = "process"

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        lost = context.records_lost
        written = context.records + lost
        if lost == 0:
            return self.within("no record was lost")
        part = lost / written
        level = severity(part, limits)
        if level < 25.0:
            return self.within("{} of {} records were lost, limit {}", lost, written, Share(limits.info))
        return self.found(
            stats,
            level,
            f"{lost:,} of {written:,} records ({share(part)}) were overwritten before they were read.",
            "Make the ring larger (ring_capacity), the interval shorter (interval), or take fewer records "
            "(sample_rate). Counts, times and quantiles are exact all the same; CPU, memory and the like rest on fewer "
            "samples.",
            {"records_lost": lost, "records": context.records, "lost_share": part},
            confidence=confidence(lost, 1.0),
            gain="Evidence from all sampled calls again.",
        )
