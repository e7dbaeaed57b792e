"""Sites and their exact counters.

Short durations are counted by the nanosecond, the others wait in a list: both are folded into totals and
histogram by the hundred, or when somebody reads, so a read sees every call that has ended.

Threads. CPython with a GIL lets another thread in only after a call and at the end of a loop, so `x.n += 1` and
"compare, then store" without a call between are whole; Python 3.10 also where a condition does not hold, so what
must be whole is where it holds. On free-threaded builds the counting is under a lock.
"""

from __future__ import annotations

import math
import threading
import weakref
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import repeat
from operator import sub
from typing import TYPE_CHECKING, Any

from ..errors import OptionError, OptionTypeError
from ._base import FREE_THREADED, NEVER, REAL_CLOCK, state
from ._depth import CROWD, look_down
from .record import FLAG_CANCELLED, FLAG_ERROR, NO_PARENT

if TYPE_CHECKING:
    from ._sample import Ring

COUNT, TIME = 1, 2
COUNTERS = (
    "calls",
    "timed",
    "errors",
    "cancelled",
    "total_ns",
    "min_ns",
    "max_ns",
    "in_flight",
    "in_flight_peak",
    "run_ns",
    "suspensions",
    "longest_ns",
    "started",
)
# Durations folded at once, so that it takes some 10 us: fewer when they are spread over many buckets.
LOT, LOT_SPREAD, SPREAD = 256, 128, 40
SHORT = 1024  # ns
LONGEST_GAP = 2**62  # calls: for ever

# Held while durations are folded. Users' threads only try it; reentrant, since a signal handler may read.
fold_lock = threading.RLock()
count_lock = threading.Lock()  # free-threaded builds only
all_sites: weakref.WeakValueDictionary[int, Site] = weakref.WeakValueDictionary()
all_probes: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


# ---- histogram buckets -------------------------------------------------------------------------------------

BUCKETS = 1550
BUCKET_FIRST = -957


def _borders() -> list[int]:
    """The largest whole number of ns in each bucket: floor(10**9 * 2**((index + BUCKET_FIRST) / 32)); 0 in
    bucket 0.

    Exact: the 32 borders of one octave come from integer square roots with 20 bits to spare, the others by
    shifts.
    """
    octave = []
    for step in range(32):
        root = (10**288 << step) << (20 * 32)
        for _ in range(5):
            root = math.isqrt(root)
        octave.append(root)
    ups = (divmod(index + BUCKET_FIRST, 32) for index in range(1, BUCKETS))
    return [0, *(octave[step] >> (20 - up) for up, step in ups)]


UPPER = _borders()


def bucket_index(ns: int) -> int:
    """The histogram bucket, 0 to BUCKETS - 1, that counts a duration of `ns` nanoseconds."""
    return min(bisect_left(UPPER, ns), BUCKETS - 1)


_BUCKET_OF_SHORT = [bucket_index(ns) for ns in range(SHORT)]


def _random_unit() -> float:
    """splitmix64 (Steele, Lea, Flood 2014), uniform in (0, 1]: the native core's, and no import of
    `random`.
    """
    state.random = z = (state.random + 0x9E3779B97F4A7C15) & NEVER
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & NEVER
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & NEVER
    z ^= z >> 31
    return ((z >> 11) + 1.0) / 9007199254740992.0


DUE: repeat[None] = repeat(None, 0)  # the gap before a call that is sampled
ENDLESS: repeat[None] = repeat(None)


# ---- sites -------------------------------------------------------------------------------------------------


class Tally:
    """What a site counted in this process. A forked child gets a new one: calls begun before count in the
    old.

    Calls in flight are counted in two fields, so that a call that is alone, as most are, only has to set `busy`
    and to take it back. A call that finds it set counts in `more`, and looks whether there are more at once than
    ever. Together they are always right: `busy` may be set for none, to make the next one look, and `more` is one
    less then.
    """

    __slots__ = (
        "busy",
        "cancelled",
        "counted",
        "errors",
        "gap",
        "histogram",
        "limit",
        "longest_ns",
        "lot",
        "max_ns",
        "min_ns",
        "more",
        "peak",
        "pending",
        "run_ns",
        "short",
        "site",
        "suspensions",
        "tail",
        "timed",
        "total_ns",
    )

    def __init__(self, site: Site) -> None:
        self.site = site
        self.tail = 2**30 - 1  # the lower of tail_ns and of what an int of one digit holds: a quicker compare
        self.busy = False
        self.more = 0
        self.peak = 0  # calls in flight at most
        # Has an item for each call before the next one that is sampled: the quickest way to count calls.
        self.gap: repeat[None] = DUE
        self.lot = LOT_SPREAD
        self.limit = 0
        self.short: list[int] = []
        self.pending: list[int] = []
        self.histogram: dict[int, int] | None = None
        self.counted = self.timed = self.errors = self.cancelled = 0
        self.total_ns = self.max_ns = self.run_ns = self.suspensions = self.longest_ns = 0
        self.min_ns = NEVER
        self.take_peak()

    @property
    def flying(self) -> int:
        """Calls in flight."""
        return self.more + self.busy

    def take_peak(self) -> int:
        peak = self.peak
        if not self.busy:
            self.busy = True
            self.more -= 1
        self.peak = self.more + 1
        return peak

    def fold(self) -> None:
        """Fold one lot of pending durations, or raise and leave it; `fold_lock` is held."""
        lot = self.pending[: self.lot]
        size = end = len(lot)
        if not lot:
            return
        lot.sort()
        if lot[0] < 0:  # a clock that was set back
            lot = [max(0, ns) for ns in lot]
        found, start, bucket = [], 0, BUCKETS
        while start < end:
            bucket += 1  # durations of a site lie close together: often the next bucket is not empty
            if bucket >= BUCKETS or UPPER[bucket] < lot[start]:
                bucket = bucket_index(lot[start])
            stop = bisect_right(lot, UPPER[bucket], start) if bucket < BUCKETS - 1 else end
            if stop > start:
                found.append((bucket, stop - start))
                start = stop
        total = sum(lot)
        histogram = self._histogram()
        if lot[0] < SHORT and not self.short:
            self.short = [0] * SHORT
            self.set_limit()
        del self.pending[:size]  # others only append; from here on nothing is left undone
        for bucket, count in found:
            histogram[bucket] += count
        self.timed += size
        self.total_ns += total
        self.min_ns = min(self.min_ns, lot[0])
        self.max_ns = max(self.max_ns, lot[-1])
        self.lot = LOT_SPREAD if len(found) > SPREAD else LOT

    def fold_short(self) -> None:
        """Fold what was counted by the nanosecond; `fold_lock` is held."""
        short = self.short
        if not any(short):
            return
        histogram, total, timed, low, high = self._histogram(), 0, 0, SHORT, 0
        for ns, count in enumerate(short):
            if count:
                short[ns] -= count
                histogram[_BUCKET_OF_SHORT[ns]] += count
                timed += count
                total += count * ns
                high = ns
                low = min(low, ns)
        self.timed += timed
        self.total_ns += total
        self.min_ns = min(self.min_ns, low)
        self.max_ns = max(self.max_ns, high)

    def _histogram(self) -> dict[int, int]:
        if self.histogram is None:
            self.histogram = defaultdict(int)
        return self.histogram

    def fold_all(self) -> None:
        """Fold all that has been counted; `fold_lock` is held."""
        self.fold_short()
        for _ in range(-(-len(self.pending) // LOT_SPREAD)):
            self.fold()

    def fold_if_free(self) -> None:
        """Fold one lot, unless a reader is at it: for users' threads, which never wait."""
        if fold_lock.acquire(False):
            try:
                self.fold()
            finally:
                fold_lock.release()

    def set_limit(self) -> None:
        """Durations below `limit` are counted in `short`, with no further look: they are no tail either."""
        # A fake clock may run backwards, and -1 is an index.
        self.limit = min(SHORT, self.site.tail_ns + 1) if self.short and state.tick is REAL_CLOCK else 0


class Site:
    """Exact counters of one instrumented function or block, and when its next call is sampled."""

    __slots__ = (
        "__weakref__",
        "_cleared",
        "_mode",
        "_ring",
        "_tail_ns",
        "first",
        "forced",
        "id",
        "info",
        "metrics",
        "name",
        "parked",
        "probability",
        "quota",
        "size_of",
        "taken",
        "tally",
        "weight",
    )

    def __init__(self, id: int, name: str, info: object = None) -> None:
        if not 0 <= id < NO_PARENT:
            raise OptionError(f"site id {id!r}: must lie between 0 and {NO_PARENT - 1}")
        self.id = id
        self.name = name
        self.info: Any = info
        self._mode = TIME
        self._tail_ns = NEVER
        self._ring: Ring | None = None
        self._cleared: tuple[tuple[int, ...], dict[int, int]] | None = None
        self.size_of: Callable[..., float | None] | None = None
        self.metrics: dict[str, list[float]] | None = None
        self.probability = 1.0
        self.quota = 200
        self.taken = 0
        self.first = 10
        self.forced = False  # the drawn gap is that of one of the first calls
        self.weight = 1.0  # 1 / probability when the gap was drawn
        self.parked = False  # the gap ended while there was no ring
        self.tally = Tally(self)
        self.draw()
        all_sites[id_of(self)] = self

    def __repr__(self) -> str:
        return f"<Site {self.id} {self.name!r}: {self.read()[0]} calls>"

    @property
    def mode(self) -> int:
        """COUNT or TIME."""
        return self._mode

    @mode.setter
    def mode(self, mode: int) -> None:
        if mode not in (COUNT, TIME):
            raise OptionError(f"site mode {mode!r}: must be COUNT (1) or TIME (2)")
        self._mode = int(mode)
        for probe in probes():
            if probe._self_site is self:
                probe._switch()

    @property
    def tail_ns(self) -> int:
        """Calls slower than this leave a record."""
        return self._tail_ns

    @tail_ns.setter
    def tail_ns(self, ns: int) -> None:
        if not 0 <= ns <= NEVER:
            raise OverflowError(f"tail_ns {ns!r}: must lie between 0 and 2**64 - 1")
        self._tail_ns = ns
        self.tally.tail = min(ns, 2**30 - 1)
        self.tally.set_limit()

    @property
    def ring(self) -> Ring | None:
        """Where its records go; None: to the recorder's ring."""
        return self._ring

    @ring.setter
    def ring(self, ring: Ring | None) -> None:
        from ._sample import Ring  # which is on top of this module

        if ring is not None and type(ring) is not Ring:
            raise OptionTypeError(f"ring {ring!r}: must be a Ring of this core, or None")
        self._ring = ring
        self.wake()

    def sample(self, probability: float, quota: int, first: int | None = None) -> None:
        """Set the sampling of the coming window; a probability of 0 means never. The gap is drawn anew."""
        if not 0 <= probability <= 1:
            raise OptionError(f"sampling probability {probability!r}: must lie between 0 and 1")
        if quota < 1:
            raise OptionError(f"sampling quota {quota!r}: must be at least 1")
        if first is not None:
            if first < 0:
                raise OptionError(f"first calls {first!r}: must not be negative")
            self.first = first
        self.probability = float(probability)
        self.quota = quota
        self.taken = 0
        if first is not None or not self.forced:
            self.draw()

    def drawn(self, probability: float) -> tuple[int, float]:
        """A gap, in calls, to the next sampled one, and what such a sample weighs.

        Geometric gaps give every call the same chance whatever the calls' rhythm, and forget their past:
        drawing anew when the probability changes keeps the weights 1/probability exact (Horvitz and Thompson
        1952).
        """
        if probability >= 1:
            return 0, 1.0
        if probability <= 0:
            return LONGEST_GAP, 0.0
        gap = math.log(_random_unit()) / math.log1p(-probability)
        return int(min(gap, LONGEST_GAP)), 1 / probability

    def draw(self) -> None:
        """Draw the gap to the next sampled call anew, unless that is among the first calls."""
        gap, weight = self.drawn(self.probability)
        self.parked = False
        self.forced = self.first > 0
        if self.forced:
            self.first -= 1
            gap, weight = 0, 1.0
        self.weight = weight
        self.tally.gap = repeat(None, gap)

    def wake(self) -> None:
        """There is a ring again: a call that came due in the meantime is the next one, or is drawn anew."""
        if self.parked and self.forced:
            self.parked = False
            self.tally.gap = DUE
        elif self.parked:
            self.draw()

    def halved(self) -> float:
        """The probability once the next sample is taken: beyond the quota it halves again and again."""
        beyond = self.taken + 1 - self.quota
        if beyond >= 0 and beyond % max(1, self.quota // 2) == 0:
            return self.probability / 2
        return self.probability

    def read(self) -> tuple[int, ...]:
        """The exact counters in the order of COUNTERS."""
        now = self.lifetime()
        return now if self._cleared is None else tuple(map(sub, now, self._cleared[0]))

    def lifetime(self) -> tuple[int, ...]:
        """As read(), but that no clear() sets back what is counted: for who tells from two readings what came
        in between.
        """
        with fold_lock:
            t = self.tally
            t.fold_all()
            calls, flying = t.timed + t.counted, t.flying
            return (
                calls,
                t.timed,
                t.errors,
                t.cancelled,
                t.total_ns,
                t.min_ns,
                t.max_ns,
                flying,
                t.peak,
                t.run_ns,
                t.suspensions,
                t.longest_ns,
                calls + flying,
            )

    def histogram(self) -> list[int]:
        """The BUCKETS counts of the duration histogram."""
        counts = [0] * BUCKETS
        for bucket, count in self.touched():
            counts[bucket] = count
        return counts

    def touched(self) -> list[tuple[int, int]]:
        """(bucket, count) of the buckets that are not empty."""
        now = self.lifetime_touched()
        if self._cleared is None:
            return now
        gone = self._cleared[1]
        return [(bucket, count - gone.get(bucket, 0)) for bucket, count in now if count > gone.get(bucket, 0)]

    def lifetime_touched(self) -> list[tuple[int, int]]:
        with fold_lock:
            self.tally.fold_all()
            return list((self.tally.histogram or {}).items())

    def take_peak(self) -> int:
        """The peak of calls in flight since the last take_peak()."""
        return self.tally.take_peak()

    def clear(self) -> None:
        """Set all counters to zero; calls in flight go on and count when they end.

        A recorder sees nothing of it: advance() tells of calls as if they had not been cleared.
        """
        with fold_lock:
            calls, timed, errors, cancelled, total_ns, _, _, _, _, run_ns, suspensions, _, _ = self.lifetime()
            sums = calls, timed, errors, cancelled, total_ns, 0, 0, 0, 0, run_ns, suspensions, 0, calls
            t = self.tally
            self._cleared = sums, dict(t.histogram or {})
            t.min_ns, t.max_ns, t.longest_ns = NEVER, 0, 0
            t.take_peak()
            self.metrics = None

    def reborn(self) -> None:
        """After a fork, in the child."""
        self.tally = Tally(self)
        self._cleared = None
        self.tail_ns = self._tail_ns
        self.metrics = None
        self.draw()


id_of = id  # Site's own constructor argument shadows the builtin


def make_site(name: str, options: Mapping[str, object]) -> Site:
    """Stands in for the recorder's hook until there is one: a site for each new name."""
    if not isinstance(name, str):
        raise OptionTypeError(f"measure name {name!r}: must be a string")
    site = state.sites.get(name)
    if site is None:
        site = state.sites[name] = Site(len(state.sites), name)
    return site


def probes() -> list[Any]:
    return [probe for probe in (ref() for ref in all_probes.valuerefs()) if probe is not None]


def sites() -> list[Site]:
    return [site for site in (ref() for ref in all_sites.valuerefs()) if site is not None]


state.missing = make_site


# ---- one call, where it is not written out for speed -------------------------------------------------------


def count_in(tally: Tally) -> None:
    """Raises RecursionError before it counted, or not at all."""
    if tally.more >= CROWD:
        look_down(tally.more)
    if FREE_THREADED:
        count_lock.acquire()
    if not tally.busy:
        tally.busy = True
    else:
        more = tally.more + 1
        tally.more = more
        if more >= tally.peak:
            tally.peak = more + 1
    if FREE_THREADED:
        count_lock.release()


def count_outcome(tally: Tally, flags: int) -> None:
    if FREE_THREADED:
        count_lock.acquire()
    if flags & FLAG_ERROR:
        tally.errors += 1
    if flags & FLAG_CANCELLED:
        tally.cancelled += 1
    if FREE_THREADED:
        count_lock.release()


def count_out(tally: Tally, wall: int | None, flags: int, flown: int = 1) -> None:
    """The call is over. `wall` is None when it was not timed, `flown` 0 when it was never in flight."""
    if FREE_THREADED:
        count_lock.acquire()
    tally.more -= flown
    if flags:
        if flags & FLAG_ERROR:
            tally.errors += 1
        if flags & FLAG_CANCELLED:
            tally.cancelled += 1
    if wall is None:
        tally.counted += 1
    elif wall < tally.limit:
        tally.short[wall] += 1
    else:
        tally.pending.append(wall)
    if FREE_THREADED:
        count_lock.release()
    if len(tally.pending) >= tally.lot:
        try:
            tally.fold_if_free()
        except RecursionError:  # the call went to the edge: another one will fold
            return
