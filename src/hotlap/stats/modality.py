"""How many humps the times have: the dip test, and where the modes lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import OptionError
from .relation import distinct
from .sample import finite, fraction, quantiles

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["Modality", "Mode", "dip", "dip_p", "modality"]

# sqrt(n) * dip of n uniform values, not exceeded with these probabilities: our own simulation, a million
# samples for each n up to 200, then fewer, down to 250,000.
_PROBABILITIES = (0.05, 0.1, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999)
_DIPS = {
    4: (0.2500, 0.2500, 0.2500, 0.2651, 0.3146, 0.3748, 0.4142, 0.4475, 0.4630, 0.4744, 0.4840, 0.4890, 0.4964),
    5: (0.2236, 0.2236, 0.2721, 0.3295, 0.3603, 0.3956, 0.4170, 0.4331, 0.4396, 0.4432, 0.4455, 0.4464, 0.4471),
    6: (0.2041, 0.2041, 0.3016, 0.3444, 0.3661, 0.3899, 0.4037, 0.4388, 0.4697, 0.4951, 0.5214, 0.5373, 0.5708),
    7: (0.1926, 0.2165, 0.3119, 0.3451, 0.3615, 0.3823, 0.4237, 0.4640, 0.4868, 0.5055, 0.5241, 0.5348, 0.5545),
    8: (0.2091, 0.2319, 0.3140, 0.3410, 0.3551, 0.4013, 0.4356, 0.4701, 0.4895, 0.5056, 0.5260, 0.5484, 0.6057),
    9: (0.2197, 0.2411, 0.3125, 0.3377, 0.3690, 0.4094, 0.4397, 0.4709, 0.4926, 0.5180, 0.5471, 0.5657, 0.6106),
    10: (0.2273, 0.2467, 0.3091, 0.3476, 0.3756, 0.4127, 0.4414, 0.4769, 0.5041, 0.5276, 0.5547, 0.5708, 0.6190),
    12: (0.2346, 0.2507, 0.3153, 0.3565, 0.3811, 0.4159, 0.4505, 0.4894, 0.5142, 0.5363, 0.5640, 0.5845, 0.6400),
    15: (0.2363, 0.2488, 0.3239, 0.3607, 0.3858, 0.4262, 0.4595, 0.4986, 0.5259, 0.5506, 0.5806, 0.6023, 0.6636),
    20: (0.2359, 0.2540, 0.3280, 0.3688, 0.3952, 0.4349, 0.4705, 0.5116, 0.5396, 0.5663, 0.5976, 0.6190, 0.6890),
    30: (0.2436, 0.2597, 0.3366, 0.3775, 0.4049, 0.4461, 0.4826, 0.5266, 0.5565, 0.5842, 0.6171, 0.6404, 0.7106),
    50: (0.2495, 0.2666, 0.3456, 0.3876, 0.4160, 0.4587, 0.4967, 0.5415, 0.5726, 0.6012, 0.6373, 0.6629, 0.7409),
    100: (0.2566, 0.2741, 0.3548, 0.3980, 0.4274, 0.4715, 0.5111, 0.5575, 0.5905, 0.6214, 0.6593, 0.6858, 0.7678),
    200: (0.2617, 0.2797, 0.3616, 0.4055, 0.4354, 0.4805, 0.5208, 0.5693, 0.6029, 0.6340, 0.6725, 0.7000, 0.7854),
    500: (0.2669, 0.2850, 0.3682, 0.4125, 0.4427, 0.4889, 0.5302, 0.5795, 0.6149, 0.6481, 0.6873, 0.7181, 0.8197),
    1000: (0.2696, 0.2878, 0.3713, 0.4161, 0.4463, 0.4926, 0.5342, 0.5841, 0.6194, 0.6523, 0.6915, 0.7200, 0.8054),
    2000: (0.2714, 0.2895, 0.3734, 0.4189, 0.4494, 0.4959, 0.5379, 0.5881, 0.6238, 0.6572, 0.6977, 0.7258, 0.8181),
    5000: (0.2732, 0.2915, 0.3757, 0.4212, 0.4521, 0.4989, 0.5409, 0.5915, 0.6270, 0.6603, 0.7007, 0.7297, 0.8214),
    20000: (0.2750, 0.2932, 0.3777, 0.4230, 0.4540, 0.5009, 0.5434, 0.5959, 0.6326, 0.6662, 0.7073, 0.7375, 0.8270),
}

_SMALLEST_P = 1.0 - _PROBABILITIES[-1]
_GRID = 512  # cells of the density estimate
_LEAST_SHARE = 0.05  # of the values: fewer are outliers, not a mode
_LEAST = 5  # values


class Mode(NamedTuple):
    """One hump: where it is highest, in the unit of the values, and the share of the values it has, 0 .. 1."""

    place: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Modality:
    """The humps of a sample in ascending order, and the dip test of there being one only; see `modality`."""

    n: int
    dip: float  # of the values, ties spread over the resolution
    p: float  # of "one mode", at least 0.0001
    modes: tuple[Mode, ...]

    @property
    def multimodal(self) -> bool:
        """Whether there is more than one."""
        return len(self.modes) > 1

    def sentence(self) -> str:
        """The modes and the evidence; places in the unit of the values."""
        if not self.multimodal:
            return f"one mode near {self.modes[0].place:.4g}"
        places = ", ".join(f"{100.0 * mode.share:.0f} % near {mode.place:.4g}" for mode in self.modes)
        sign = "<=" if self.p <= _SMALLEST_P else "="
        return f"{len(self.modes)} modes: {places} (dip test, p {sign} {self.p:.2g})"


def modality(values: ArrayLike, level: float = 0.95, resolution: float | None = None) -> Modality:
    """Whether `values` of shape (n,) have one hump or several, and where.

    The dip test (Hartigan and Hartigan, 1985) decides at 1 - level. Then the sample is cut in two in the valley
    of the smoothest density that has one: a Gaussian kernel with the critical bandwidth of Silverman (1981). Both
    parts are tested in the same way, at half the level. Less than 5 % of the values, or 5 of them, are no mode.

    A clock that ticks gives many equal values, and these are not modes: they are spread over `resolution`, the
    tick in the unit of the values. Unless given, it is taken from the distances between the distinct values;
    with only a handful of those, give it. OptionError for a level outside 0 .. 1, a resolution that is
    not positive, and as in `finite`.
    """
    x = np.sort(finite(values))
    alpha = 1.0 - fraction(level, "level")
    if resolution is not None and not 0.0 < resolution < math.inf:
        raise OptionError(f"resolution is {resolution!r}; it must be positive, in the unit of the values")
    spread = _spread(x, resolution)
    distance = dip(spread)
    parts = _parts(spread, alpha, max(_LEAST, math.ceil(_LEAST_SHARE * len(x))))
    return Modality(
        n=len(x),
        dip=distance,
        p=dip_p(distance, len(x)),
        modes=tuple(Mode(_peak(part), len(part) / len(x)) for part in parts),
    )


def dip(values: ArrayLike) -> float:
    """Hartigan's dip: the largest distance of the empirical distribution of `values` (n,) from a unimodal one.

    Between 1/(2n) and 1/4, without unit. The algorithm of Hartigan and Hartigan (1985) on the distinct values: a
    mode may be one value that is there many times, a second such value is a dip. OptionError as in `finite`.
    """
    x, _, counts = distinct(finite(values))
    upto = np.cumsum(counts).astype(np.float64)
    below = upto - counts
    # All heights and distances are counts; the distance of a distribution function is half of d / n.
    low, high, result = 0, len(x) - 1, 1.0
    while low < high:
        minorant = low + _hull(x[low : high + 1], below[low : high + 1])
        majorant = low + _hull(x[low : high + 1], -upto[low : high + 1])
        under = np.interp(x, x[minorant], below[minorant])
        over = np.interp(x, x[majorant], upto[majorant])
        at_minorant, at_majorant = (over - below)[minorant], (upto - under)[majorant]
        if max(at_minorant.max(), at_majorant.max()) <= result:
            break
        if at_minorant.max() > at_majorant.max():
            left = int(minorant[at_minorant.argmax()])
            right = int(majorant[np.searchsorted(majorant, left)])
        else:
            right = int(majorant[at_majorant.argmax()])
            left = int(minorant[np.searchsorted(minorant, right, "right") - 1])
        result = max(
            result,
            float((upto - under)[low:left].max(initial=0.0)),
            float((over - below)[right + 1 : high + 1].max(initial=0.0)),
        )
        if (left, right) == (low, high):
            break
        low, high = left, right
    return result / (2.0 * float(upto[-1]))


def dip_p(distance: float, n: int) -> float:
    """The chance that n values of a uniform distribution have at least this dip: 0.0001 .. 1; 1 for n < 4.

    Of all unimodal distributions the uniform has the largest dips (Hartigan and Hartigan, 1985). From simulated
    quantiles of sqrt(n) * dip, interpolated in log n, and beyond the last n the same.
    """
    least = 0.5 / n  # the smallest dip of all
    if n < min(_DIPS) or distance <= least:
        return 1.0
    sizes = np.log(np.array(list(_DIPS), np.float64))
    table = np.array(list(_DIPS.values()))
    borders = [float(np.interp(math.log(n), sizes, column)) for column in table.T]
    ends = [math.sqrt(n) * least, *borders]
    return 1.0 - float(np.interp(math.sqrt(n) * distance, ends, [0.0, *_PROBABILITIES]))


def _hull(x: Floats, y: Floats) -> NDArray[np.intp]:
    """Where the greatest convex minorant of the points touches them: indices in ascending order."""
    xs, ys = x.tolist(), y.tolist()
    kept: list[int] = []
    for i, (a, b) in enumerate(zip(xs, ys, strict=True)):
        while len(kept) > 1:
            j, k = kept[-2], kept[-1]
            if (ys[k] - ys[j]) * (a - xs[k]) < (b - ys[k]) * (xs[k] - xs[j]):
                break
            kept.pop()
        kept.append(i)
    return np.array(kept, np.intp)


def _spread(x: Floats, resolution: float | None) -> Floats:
    """`x` in ascending order, with equal values spread evenly over the tick around them; shape (n,)."""
    levels, _, counts = distinct(x)
    if len(levels) < 2 or (resolution is None and len(levels) == len(x)):
        return x
    gaps = np.diff(levels)
    tick = float(quantiles(gaps, (0.75,), "inverted_cdf")[0]) if resolution is None else resolution
    gaps = np.minimum(np.concatenate(([tick], gaps, [tick])), tick)
    within = np.arange(len(x)) - np.repeat(np.cumsum(counts) - counts, counts)
    part = (within + 0.5) / np.repeat(counts, counts)
    starts, widths = levels - gaps[:-1] / 2.0, (gaps[:-1] + gaps[1:]) / 2.0
    result: Floats = np.repeat(starts, counts) + part * np.repeat(widths, counts)
    return result


def _parts(x: Floats, alpha: float, least: int) -> list[Floats]:
    """The sample, in ascending order, in one part for each mode; `least` values belong to a mode."""
    if len(x) < 2 * least or dip_p(dip(x), len(x)) > alpha:
        return [x]
    valley = _valley(x, least)
    if valley is None:
        return [x]
    at = int(np.searchsorted(x, valley))
    return _parts(x[:at], alpha / 2.0, least) + _parts(x[at:], alpha / 2.0, least)


def _valley(x: Floats, least: int) -> float | None:
    """Where the smoothest density with two modes has its minimum, with `least` values on both sides; or None."""
    inner = x[least - 1 : len(x) - least + 1]
    bandwidth = 0.5 * float(inner[-1] - inner[0])
    narrowest = 4.0 * bandwidth / _GRID
    while bandwidth > narrowest:
        places, density = _density(inner, bandwidth)
        valleys = 1 + np.flatnonzero((density[1:-1] < density[:-2]) & (density[1:-1] <= density[2:]))
        if len(valleys):
            before = np.maximum.accumulate(density)[valleys]
            after = np.maximum.accumulate(density[::-1])[::-1][valleys]
            return float(places[valleys[(density[valleys] / np.minimum(before, after)).argmin()]])
        bandwidth *= 0.85
    return None


def _peak(x: Floats) -> float:
    """Where the density is highest, with the bandwidth of Silverman (1986, 3.31); x in ascending order."""
    low, high = quantiles(x, (0.25, 0.75)).tolist()
    spread = min(float(x.std()), (high - low) / 1.349) or float(x.std())
    inner = x[(x >= low - 3.0 * spread) & (x <= high + 3.0 * spread)]
    if inner[0] == inner[-1]:
        return float(inner[0])
    places, density = _density(inner, 0.9 * spread * len(x) ** -0.2)
    return float(places[density.argmax()])


def _density(x: Floats, bandwidth: float) -> tuple[Floats, Floats]:
    """A Gaussian kernel density, not normalised, on a grid over the range of x; both of shape (_GRID,)."""
    low, high = float(x[0]), float(x[-1])
    cells = ((x - low) * (_GRID / (high - low))).astype(np.intp)
    counts = np.bincount(np.minimum(cells, _GRID - 1), minlength=_GRID).astype(np.float64)
    width = (high - low) / _GRID
    apart = np.arange(1 - _GRID, _GRID) * (width / bandwidth)
    places: Floats = low + (np.arange(_GRID, dtype=np.float64) + 0.5) * width
    return places, np.convolve(counts, np.exp(-0.5 * apart * apart), "valid")
