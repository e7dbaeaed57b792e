"""Values far from the others: classed and counted, never dropped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from .sample import finite, quantiles

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Outliers", "classes", "outliers"]

_EFFECTS: tuple[tuple[float, Literal["no", "slight", "moderate", "severe"]], ...] = (
    (0.01, "no"),
    (0.1, "slight"),
    (0.5, "moderate"),
    (math.inf, "severe"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outliers:
    """How many of the n values lie beyond Tukey's fences, and what they do to the variance."""

    n: int
    low_severe: int  # below q1 - 3 * iqr
    low_mild: int  # below q1 - 1.5 * iqr
    high_mild: int  # above q3 + 1.5 * iqr
    high_severe: int  # above q3 + 3 * iqr
    low_fence: float  # the inner fences, in the unit of the values
    high_fence: float
    variance_fraction: float  # of the variance that is gone without the outliers, 0 .. 1
    effect: Literal["no", "slight", "moderate", "severe"]  # of the outliers on the variance, in a word

    @property
    def count(self) -> int:
        """All of them."""
        return self.low_severe + self.low_mild + self.high_mild + self.high_severe

    def sentence(self) -> str:
        """Where they lie and what they do."""
        if not self.count:
            return f"no outliers among {self.n:,}"
        kinds = ("low severe", "low mild", "high mild", "high severe")
        counts = (self.low_severe, self.low_mild, self.high_mild, self.high_severe)
        parts = ", ".join(f"{count:,} {kind}" for count, kind in zip(counts, kinds, strict=True) if count)
        share = f"{100.0 * self.count / self.n:.2g} %"
        return (
            f"{self.count:,} outlier{'s' if self.count > 1 else ''} among {self.n:,} ({share}): {parts}; "
            f"{self.effect} effect, {100.0 * self.variance_fraction:.0f} % of the variance"
        )


def classes(values: ArrayLike) -> NDArray[np.int8]:
    """The class of each value, shape (n,): -2 and -1 are severely and mildly low, 0 is inside, 1 and 2 are high.

    Tukey (1977): mild beyond 1.5, severe beyond 3 interquartile ranges from the quartiles, which are those of
    `quantiles`. OptionError as in `finite`.
    """
    x = finite(values)
    low, high = quantiles(x, (0.25, 0.75)).tolist()
    width = high - low
    result = np.zeros(len(x), np.int8)
    for fence in (1.5, 3.0):
        result += x > high + fence * width
        result -= x < low - fence * width
    return result


def outliers(values: ArrayLike) -> Outliers:
    """The outliers among `values` of shape (n,), in `classes`, and how much of the variance is theirs.

    The effect has the words and the borders of Haskell's criterion (O'Sullivan, 2009): no below 1 %, slight below
    10 %, moderate below 50 %, else severe. What is measured is not criterion's quantity, which is large for
    values that are merely scattered: it is 1 - variance without the outliers / variance with them. Of normal
    values 0.7 % are outliers and take 6 % of the variance with them: slight. OptionError as in `finite`.
    """
    x = finite(values)
    found = classes(x)
    q1, q3 = quantiles(x, (0.25, 0.75)).tolist()
    variance = float(x.var())
    share = max(0.0, 1.0 - float(x[found == 0].var()) / variance) if variance > 0.0 and found.any() else 0.0
    low_severe, low_mild, _, high_mild, high_severe = np.bincount(found + 2, minlength=5).tolist()
    return Outliers(
        n=len(x),
        low_severe=low_severe,
        low_mild=low_mild,
        high_mild=high_mild,
        high_severe=high_severe,
        low_fence=q1 - 1.5 * (q3 - q1),
        high_fence=q3 + 1.5 * (q3 - q1),
        variance_fraction=share,
        effect=next(word for border, word in _EFFECTS if share < border),
    )
