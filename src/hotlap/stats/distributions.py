"""Student's t and the binomial distribution: what the tests need and the standard library lacks."""

from __future__ import annotations

import math
from functools import lru_cache

__all__ = ["binomial_cdf", "student_cdf", "student_quantile"]


def student_cdf(t: float, freedom: float) -> float:
    """P(T <= t) for Student's t with `freedom` > 0 degrees of freedom."""
    tail = 0.5 * _beta_cdf(freedom / (freedom + t * t), freedom / 2.0, 0.5)
    return 1.0 - tail if t > 0.0 else tail


@lru_cache(maxsize=256)
def student_quantile(probability: float, freedom: float) -> float:
    """t with P(T <= t) = probability, 0 < probability < 1, by bisection to the last digits."""
    if probability < 0.5:
        return -student_quantile(1.0 - probability, freedom)
    low, high = 0.0, 1.0
    while student_cdf(high, freedom) < probability:
        low, high = high, 2.0 * high
    while (middle := 0.5 * (low + high)) not in (low, high):
        low, high = (middle, high) if student_cdf(middle, freedom) < probability else (low, middle)
    return high


def binomial_cdf(successes: int, trials: float, probability: float) -> float:
    """P(B <= successes) of `trials`, which need not be whole, each successful with 0 < probability < 1."""
    if successes < 0:
        return 0.0
    if successes >= trials:
        return 1.0
    return _beta_cdf(1.0 - probability, trials - successes, successes + 1.0)


def _beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b): the continued fraction DLMF 8.17.22, by Lentz (1976)."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1.0) / (a + b + 2.0):  # the fraction converges quickly on the other side alone
        return 1.0 - _beta_cdf(1.0 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    value, c, d = 1.0, 1.0, 0.0
    for step in range(100_000):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        d = 1.0 / ((1.0 + term * d) or 1e-300)
        c = (1.0 + term / c) or 1e-300
        value *= c * d
        if step and abs(1.0 - c * d) < 1e-15:
            break
    return front * (value - 1.0) / a
