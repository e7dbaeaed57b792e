"""Retention: whether calls keep memory for good, who keeps it, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...rules.words import megabytes, number, share
from ...stats.leak import FILLING, LEAK, NONE, NOT_JUDGED, PLATEAU, Growth
from ..report import Mark
from .caches import Cache
from .tracing import AllocationSite

__all__ = ["BLOCK_BYTES", "Retention", "amount"]

_GROWS = (LEAK, FILLING)
_STILL = (NONE, PLATEAU)
_REPLACED = 0.5  # of what was traced as growth: what is in use has grown by less
BLOCK_BYTES = 512  # the largest that Python's own allocator gives out


def amount(size: float) -> str:
    """ "1 byte", "120 bytes", "1.5 kB", "3.2 MB" (powers of ten)."""
    if abs(size) < 999.5:
        return f"{number(size)} byte{'' if size == 1 else 's'}"
    return megabytes(size / 1e6)


@dataclass(frozen=True, slots=True)
class Retention:
    """The growth of each level that was read from one block of calls to the next; None where there is none.

    `traced` is what tracemalloc saw. The others were read without tracing: `python` is the number of Python's own
    blocks, `native` what malloc has given out, `resident` the resident memory; bytes but for `python`.

    tracemalloc sees what is made, but not that what was made before tracing is freed. So `kept` tells what of the
    traced growth is one: bytes in use more after the traced calls than before, at most; None where it is not known.
    """

    traced: Growth
    python: Growth | None = None
    native: Growth | None = None
    resident: Growth | None = None
    sites: Sequence[AllocationSite] = ()  # bytes and blocks per call
    caches: Sequence[Cache] = ()
    confidence: float = 0.95
    kept: float | None = None

    @property
    def replaces(self) -> bool | None:
        """Whether what was traced only takes the place of what earlier calls, not traced, had kept; None: not known."""
        return None if self.kept is None else self.kept < _REPLACED * self.traced.grown

    @property
    def levelled(self) -> bool:
        """Whether what is in use does not grow, although what was traced did."""
        size = self.traced.per_call
        blocks = max(sum(site.blocks for site in self.sites), size / BLOCK_BYTES)
        if self.traced.kind not in (*_GROWS, NOT_JUDGED):  # by fits and starts, where a ring was filled on the way
            return False
        if self._large is None and self.python is None:
            return bool(self.replaces)
        return _is_still(self._large, size) and _is_still(self.python, blocks)

    @property
    def _large(self) -> Growth | None:
        """What sees objects that are too large for Python's own blocks, and is not traced."""
        return self.native if self.native is not None else self.resident

    def _small(self, size: float) -> bool:
        """Whether Python's own blocks do not grow, or by so few that they cannot be so many bytes per call."""
        return self.python is None or self.python.kind in _STILL or BLOCK_BYTES * self.python.high < 0.5 * size

    @property
    def filling(self) -> Cache | None:
        """The cache with a bound that grows with the calls, if any does."""
        filling = [cache for cache in self.caches if cache.fills]
        return max(filling, key=lambda cache: cache.added, default=None)

    @property
    def outside(self) -> Growth | None:
        """What grows beside Python's objects, or by more than they do: malloc's bytes, or resident memory."""
        native = self.native is not None and self.native.kind in _GROWS
        level, margin = (self.native, 1.2) if native else (self.resident, 1.5)
        if level is None or level.kind != LEAK:
            return None
        if self.traced.kind == NOT_JUDGED:
            return level  # whoever it is that keeps it
        if self.traced.kind in _STILL or self.levelled:
            return level if self._small(level.low) else None
        return level if level.low > margin * self.traced.high else None

    @property
    def growth(self) -> Growth:
        """What the verdict is about."""
        outside = self.outside
        if outside is None and self.levelled:
            return self._large or self.traced
        return self.traced if outside is None or self.traced.kind in _GROWS else outside

    @property
    def kind(self) -> str:
        if self.outside is not None:
            return LEAK
        if self.levelled:
            return PLATEAU
        return FILLING if self.traced.kind == LEAK and self.filling is not None else self.traced.kind

    @property
    def mark(self) -> Mark | None:
        """That of a run whose subject leaks, in bytes per call."""
        growth = self.growth
        if self.kind != LEAK:
            return None
        within = f"[{amount(growth.low)}, {amount(growth.high)}]"
        return Mark("leak", growth.per_call, 0.0, f"it leaks {amount(growth.per_call)} per call {within}", False)

    @property
    def sentence(self) -> str:
        """The verdict with its evidence."""
        growth, outside = self.growth, self.outside
        if self.kind == NOT_JUDGED:
            return f"Whether it leaks is not judged: {growth.reason}."
        within = f"[{amount(growth.low)}, {amount(growth.high)}]"
        kept = f"{amount(growth.per_call)} per call {within}"
        basis = f"{share(self.confidence)} interval, from {growth.calls:,} calls"
        if outside is not None and growth is outside:
            what = "given out by malloc" if outside is self.native else "of resident memory"
            if self.traced.kind == NOT_JUDGED:
                return f"It leaks: {kept} {what} stay ({basis}). Python's part is not judged: {self.traced.reason}."
            return (
                f"It leaks outside of Python's objects: {kept} {what} stay ({basis}). Python's objects do not grow, so "
                "look for what C code allocates and nobody frees."
            )
        if self.kind == LEAK:
            more = "" if outside is None else f" With what is not Python's it is {amount(outside.per_call)} per call."
            return f"It leaks: it keeps {kept} ({basis}){self._where()}.{more}{self._unbounded()}"
        if self.kind == FILLING:
            return f"It keeps {kept} ({basis}){self._where()}, {self._filling()}"
        if self.kind == PLATEAU:
            return f"No leak: {self._plateau()}"
        return (
            f"No leak was seen: what it keeps per call lies in {within} ({basis}). A leak of "
            f"{amount(growth.detectable)} per call would have been seen in four of five such runs."
        )

    def _where(self) -> str:
        if not self.sites:
            return ""
        first = self.sites[0]
        return f", most of it allocated at {first.place}" if self.sites[1:] else f", allocated at {first.place}"

    def _plateau(self) -> str:
        stays = f"{amount(self.traced.grown)} of what it allocated stay, but what is in use does not grow"
        if self.replaces:
            return f"{stays}: they take the place of what earlier calls had kept."
        if self.kept is None:
            return f"{stays} any more: something is made once, or a cache is full."
        kept = f"{amount(min(self.traced.grown, self.kept))} within {self.traced.settled_after_calls:,} calls"
        return f"it kept {kept}, and no more in those that followed: something is made once, or a cache is full."

    def _filling(self) -> str:
        cache = self.filling
        if cache is not None:
            return (
                f"while the lru_cache of {cache.name} fills: it has {cache.entries:,} entries of {cache.maxsize:,}. "
                "Whether the calls keep anything beside these can be told once it is full."
            )
        return (
            f"and less and less: {amount(max(self.traced.at_end, 0.0))} per call at the end, as a cache does that "
            "fills. More iterations will tell."
        )

    def _unbounded(self) -> str:
        free = [cache for cache in self.caches if cache.maxsize is None]
        if not free:
            return ""
        most = max(free, key=lambda cache: cache.added)
        return f" The lru_cache of {most.name} has no maxsize: it has {most.added:,} entries more than before."

    def details(self) -> dict[str, Any]:
        """For the report: plain numbers and texts; bytes."""
        growth = self.growth
        return {
            "kind": self.kind,
            "sentence": self.sentence,
            "where": _where(self.kind, native=growth is self.outside),
            "bytes_per_call": growth.per_call,
            "bytes_per_call_low": growth.low,
            "bytes_per_call_high": growth.high,
            "confidence": self.confidence,
            "smallest_seen_bytes_per_call": growth.detectable,
            "calls": growth.calls,
            "blocks": growth.blocks,
            "levels": {
                name: asdict(level)
                for name, level in (
                    ("traced_bytes", self.traced),
                    ("python_blocks", self.python),
                    ("native_bytes", self.native),
                    ("rss_bytes", self.resident),
                )
                if level is not None
            },
            "sites": [asdict(site) for site in self.sites],
            "caches": [asdict(cache) for cache in self.caches],
        }


def _is_still(level: Growth | None, growth: float) -> bool:
    """Whether a level does not grow, or not by so much per call: its interval lies below that."""
    return level is not None and level.kind in _STILL and level.high < 0.8 * growth


def _where(kind: str, native: bool) -> str | None:
    if kind in (NONE, NOT_JUDGED):
        return None
    return "native" if native else "python"
