"""stats.comparison: what process means can say, and how often they say it wrongly."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from hotlap.errors import OptionError
from hotlap.stats.change import in_words
from hotlap.stats.comparison import Comparison, compare, holm, process_means, rank

TRIALS = 1000
# A test at 5 % makes 50 claims in a thousand trials without a difference, give or take: 99.9 % of the time
# no more than this (the binomial distribution).
CHANCE = 73
Side = Callable[[np.random.Generator], object]


def processes(random: np.random.Generator, n: int = 10, spread: float = 0.02, mean: float = 1.0) -> np.ndarray:
    """The means of n processes, lognormal around `mean`."""
    return mean * np.exp(random.normal(0.0, spread, n))


def iterations(random: np.random.Generator) -> np.ndarray:
    """10 processes with 2 % between them, 60 iterations each: heavy-tailed, and each like the ones before it.

    Noise is Pareto with tail exponent 2.5, smoothed over five neighbours; shape (10, 60).
    """
    noise = random.pareto(2.5, (10, 64))
    smooth = sum(noise[:, i : i + 60] for i in range(5)) / 5.0
    return processes(random)[:, None] * (1.0 + 0.05 * smooth)


def claims(side: Side, other: Side | None = None, trials: int = TRIALS, **options: object) -> int:
    """How many of the trials call one side faster than the other."""
    random = np.random.default_rng(20)
    found = 0
    for _ in range(trials):
        one = compare(side(random), (other or side)(random), resamples=499, **options)  # type: ignore[arg-type]
        found += one.verdict in ("faster", "slower")
    return found


@pytest.mark.parametrize(
    "side",
    [
        pytest.param(processes, id="2 % between processes"),
        pytest.param(iterations, id="heavy-tailed, autocorrelated iterations"),
        pytest.param(lambda random: 1.0 + 0.02 * np.abs(random.standard_t(2, 10)), id="heavy-tailed processes"),
        pytest.param(lambda random: np.round(processes(random), 2), id="quantised"),
    ],
)
def test_the_same_thing_is_seldom_called_different(side: Side) -> None:
    """A/A: at most 5 % of a thousand trials, and what chance adds to it."""
    assert claims(side) <= CHANCE


def test_the_chance_of_a_false_claim_is_five_per_cent_at_most() -> None:
    """Counted out, not sampled: of all 252 ways to deal ten means to two sides, 12 are called different."""
    from itertools import combinations

    means = processes(np.random.default_rng(5))
    called = 0
    for chosen in combinations(range(10), 5):
        rest = [i for i in range(10) if i not in chosen]
        called += compare(means[list(chosen)], means[rest], margin=1e-9).p <= 0.05
    assert called / 252 <= 0.05
    assert called == 12


def test_spread_that_differs_does_not_look_like_a_difference() -> None:
    """A/A with four times the spread on one side: the test is about the mean."""
    assert claims(processes, lambda random: processes(random, spread=0.08)) <= CHANCE


def test_ten_per_cent_are_found_with_ten_processes() -> None:
    """Every time, and in the right direction."""
    random = np.random.default_rng(1)
    found = [compare(processes(random), processes(random, mean=1.1), resamples=999) for _ in range(200)]
    assert {one.verdict for one in found} == {"slower"}
    assert {compare(processes(random, mean=1.1), processes(random)).verdict for _ in range(20)} == {"faster"}


@pytest.mark.parametrize(("n", "paired"), [(4, False), (10, False), (6, True)])
def test_the_smallest_detectable_difference_is_found_with_80_per_cent_power(n: int, paired: bool) -> None:
    """It is told from the spread alone, and that much is then found in about 80 % of the trials."""
    random = np.random.default_rng(2)
    aa = [compare(processes(random, n), processes(random, n), paired=paired, resamples=999) for _ in range(200)]
    smallest = math.sqrt(np.mean([one.smallest_detectable**2 for one in aa if one.smallest_detectable is not None]))
    found = 0
    for _ in range(300):
        base, new = processes(random, n), processes(random, n, mean=1.0 + smallest)
        found += compare(base, new, paired=paired, margin=1e-9, resamples=999).verdict == "slower"
    assert 0.74 <= found / 300 <= 0.9


def test_the_interval_holds_the_true_ratio() -> None:
    """95 % of five hundred, to within 2.5 standard errors."""
    random = np.random.default_rng(3)
    held = 0
    for _ in range(500):
        one = compare(processes(random, 5), processes(random, 5, mean=1.3))
        assert one.low is not None
        assert one.high is not None
        held += one.low <= 1.3 <= one.high
    assert held / 500 == pytest.approx(0.95, abs=0.025)


def test_interval_and_test_never_contradict_each_other() -> None:
    """The interval excludes 1 exactly when p <= 0.05: both are read off the same arrangements."""
    random = np.random.default_rng(4)
    for n, m in ((5, 5), (4, 7), (12, 12), (1, 45)):
        for shift in (1.0, 1.01, 1.02, 1.03):
            one = compare(processes(random, n), processes(random, m, mean=shift), resamples=999)
            assert one.low is not None
            assert one.high is not None
            assert (one.p <= 0.05) == (not one.low <= 1.0 <= one.high)


def welch(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    variance = a.var(axis=axis, ddof=1) / a.shape[axis] + b.var(axis=axis, ddof=1) / b.shape[axis]
    return (b.mean(axis=axis) - a.mean(axis=axis)) / np.sqrt(variance)


@pytest.mark.parametrize(("n", "m"), [(6, 6), (4, 7), (8, 5)])
def test_p_is_that_of_scipys_exact_permutation_test(n: int, m: int) -> None:
    """All arrangements, the Welch statistic on the logarithms; equal and unequal sides."""
    permutation_test = pytest.importorskip("scipy.stats").permutation_test
    random = np.random.default_rng(n)
    a, b = processes(random, n), processes(random, m, mean=1.02)
    theirs = permutation_test((np.log(a), np.log(b)), welch, n_resamples=np.inf)
    ours = compare(a, b)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-12)
    assert ours.method == f"permutation test, all {math.comb(n + m, n):,} arrangements"


def test_random_arrangements_estimate_the_exact_p() -> None:
    """Twelve against twelve have 2.7 million arrangements: 9,999 random ones agree with the t test."""
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(6)
    a, b = processes(random, 12), processes(random, 12, mean=1.012)
    ours = compare(a, b)
    assert ours.method == "permutation test, 9,999 random arrangements"
    assert ours.p == pytest.approx(stats.ttest_ind(np.log(a), np.log(b)).pvalue, abs=0.015)
    assert ours == compare(a, b)
    assert ours.p != compare(a, b, seed=1).p


def test_fishers_paired_permutation_test_of_darwins_maize() -> None:
    """Fisher (1935, section 21): of the 32,768 sign flips of Darwin's 15 differences 1,726 are as extreme."""
    eighths_of_an_inch = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    one = compare(np.ones(15), np.exp(np.array(eighths_of_an_inch) / 1000.0), paired=True)
    assert one.p * 32_768 == 1_726
    assert one.verdict == "no evidence"


def test_the_interval_is_students_for_normal_values() -> None:
    """The permutation interval of twenty normal differences is the t interval to within a few per cent."""
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(8)
    a, b = processes(random, 20), processes(random, 20, mean=1.1)
    theirs = stats.ttest_ind(np.log(b), np.log(a)).confidence_interval()
    ours = compare(a, b)
    assert [ours.low, ours.high] == pytest.approx(np.exp([theirs.low, theirs.high]), rel=0.002)


def test_equivalence_is_shown_not_assumed() -> None:
    """Twenty quiet processes of one thing are equivalent within 1 %; twenty noisy ones show nothing."""
    random = np.random.default_rng(9)
    quiet = compare(processes(random, 20, 0.004), processes(random, 20, 0.004))
    noisy = compare(processes(random, 20, 0.05), processes(random, 20, 0.05))
    assert quiet.verdict == "equivalent"
    assert quiet.sentence() == "equivalent within 1 %"
    assert noisy.verdict == "no evidence"
    assert compare(processes(random, 20, 0.05), processes(random, 20, 0.05), margin=0.1).verdict == "equivalent"


def test_what_differs_by_the_margin_is_seldom_called_equivalent() -> None:
    """The two one-sided tests err in at most 5 % of the trials at the border, on either side."""
    random = np.random.default_rng(10)
    for ratio in (1.02, 1.0 / 1.02):
        found = [
            compare(processes(random, 6, 0.01), processes(random, 6, 0.01, ratio), margin=0.02, resamples=999)
            for _ in range(300)
        ]
        assert sum(one.verdict == "equivalent" for one in found) <= 28  # 99.9 % of the time, at 5 % of 300


def test_equivalence_p_is_that_of_two_one_sided_t_tests() -> None:
    """Schuirmann's: the larger of both one-sided p values, here by scipy's t test on the logarithms."""
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(11)
    a, b = np.log(processes(random, 20, 0.02)), np.log(processes(random, 20, 0.02))
    within = math.log(1.015)
    lower = stats.ttest_ind(b + within, a, alternative="greater").pvalue
    upper = stats.ttest_ind(b - within, a, alternative="less").pvalue
    ours = compare(np.exp(a), np.exp(b), margin=0.015, resamples=50_000)
    assert ours.p_equivalent == pytest.approx(max(lower, upper), abs=0.005)


def test_a_certain_difference_within_the_margin_counts_as_equivalent() -> None:
    """Half a per cent, found with certainty, does not matter to who said that one per cent does not."""
    random = np.random.default_rng(12)
    one = compare(processes(random, 10, 0.001), processes(random, 10, 0.001, 1.005), margin=0.01)
    assert one.p < 0.001
    assert one.verdict == "equivalent"
    assert compare(processes(random, 10, 0.001), processes(random, 10, 0.001, 1.005), margin=0.001).verdict == "slower"


@pytest.mark.parametrize(
    ("n", "m", "paired", "sentence"),
    [
        (3, 3, False, "no evidence: 3 and 3 processes cannot give p <= 0.05, take 4 or more"),
        (2, 4, False, "no evidence: 2 and 4 processes cannot give p <= 0.05, take 4 or more"),
        (1, 1, False, "no evidence: 1 and 1 processes cannot give p <= 0.05, take 4 or more"),
        (5, 5, True, "no evidence: 5 rounds cannot give p <= 0.05, take 6 or more"),
    ],
)
def test_too_few_processes_are_said(n: int, m: int, paired: bool, sentence: str) -> None:
    """3 against 3 have 20 arrangements: p is 0.1 at least, however large the difference. No verdict, no interval."""
    random = np.random.default_rng(13)
    one = compare(processes(random, n), processes(random, m, mean=3.0), paired=paired)
    assert one.smallest_p > 0.05
    assert (one.verdict, one.low, one.high, one.smallest_detectable) == ("no evidence", None, None, None)
    assert one.sentence() == sentence


def test_the_least_number_that_can_decide_does() -> None:
    """Four against four, six rounds; and three against three at the 10 % level."""
    random = np.random.default_rng(14)
    assert compare(processes(random, 4), processes(random, 4, mean=2.0)).verdict == "slower"
    assert compare(processes(random, 6), processes(random, 6, mean=2.0), paired=True).verdict == "slower"
    assert compare(processes(random, 3), processes(random, 3, mean=2.0), level=0.9).verdict == "slower"


def test_sentences_say_by_how_much() -> None:
    """With the interval in the same direction, the smaller change first."""
    base = np.array([0.99, 1.0, 1.0, 1.01, 1.0])
    assert compare(base, 0.8 * base).sentence() == "faster by 20 % [19.2 %, 20.8 %]"
    assert compare(base, 1.5 * base).sentence() == "slower by 50 % [48.5 %, 51.5 %]"
    one = compare(base, 1.002 * base)
    assert one.smallest_detectable is not None
    assert one.sentence() == f"no evidence, could have seen {100 * one.smallest_detectable:.1f} %"


def test_from_twice_on_a_change_is_a_factor() -> None:
    """Nobody reads 127,600 per cent; and 99.92 and 99.96 per cent look alike, but are not."""
    base = np.array([0.99, 1.0, 1.0, 1.01, 1.0])
    assert compare(base, 1277.0 * base).sentence() == "slower by a factor of 1,277 [1,264, 1,290]"
    assert compare(base, base / 34.0).sentence() == "faster by a factor of 34 [33.7, 34.3]"
    assert in_words(2.5, 1.9, 3.2) == "slower by a factor of 2.5 [1.9, 3.2]"
    assert in_words(1.277) == "slower by 27.7 %"
    assert in_words(1.277e12) == "slower by a factor of 1.28e+12"


def test_what_rounds_share_cancels_when_paired() -> None:
    """5 % are hidden by rounds that differ by 20 %, unless each round is compared with itself."""
    random = np.random.default_rng(15)
    rounds = processes(random, 10, 0.2)
    base, new = rounds * processes(random), rounds * processes(random, mean=1.05)
    assert compare(base, new).verdict == "no evidence"
    assert compare(base, new, paired=True).verdict == "slower"


def test_the_same_rounds_are_seldom_called_different() -> None:
    """A/A with shared noise, paired."""
    random = np.random.default_rng(16)
    found = 0
    for _ in range(TRIALS):
        rounds = processes(random, 10, 0.2)
        found += compare(rounds * processes(random), rounds * processes(random), paired=True).p <= 0.05
    assert found <= CHANCE


def test_iterations_are_never_pooled() -> None:
    """A thousand iterations of one process are one value: their number changes neither p nor n."""
    random = np.random.default_rng(17)
    a, b = processes(random, 6), processes(random, 6, mean=1.02)
    many = [[np.full(1 + 100 * i, mean) for i, mean in enumerate(side)] for side in (a, b)]
    ours, theirs = compare(*many), compare(a, b)
    assert ours.p == theirs.p
    assert ours.n == (6, 6)
    assert ours.ratio == pytest.approx(theirs.ratio)


def test_constant_times_are_compared_without_a_spread() -> None:
    """A coarse clock gives equal values: a difference is certain, sameness is equivalence, nothing is NaN."""
    faster = compare([2e-6] * 5, [1e-6] * 5)
    assert (faster.verdict, faster.ratio, faster.low, faster.high) == ("faster", *[pytest.approx(0.5)] * 3)
    same = compare([1e-6] * 5, [1e-6] * 5)
    assert (same.verdict, same.p, same.ratio) == ("equivalent", 1.0, 1.0)
    assert compare([0.1] * 5, [0.1] * 5, paired=True).p == 1.0


def test_ratios_go_both_ways() -> None:
    """Exchanging the sides inverts the ratio and its interval, and nothing else."""
    random = np.random.default_rng(18)
    a, b = processes(random, 6), processes(random, 6, mean=1.1)
    there, back = compare(a, b), compare(b, a)
    assert back.ratio == pytest.approx(1.0 / there.ratio)
    assert (there.low, there.high) == (pytest.approx(1.0 / back.high), pytest.approx(1.0 / back.low))  # type: ignore[operator]
    assert (there.p, there.verdict, back.verdict) == (pytest.approx(back.p), "slower", "faster")


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ([1.0, 0.0], r"base\[1\] has the mean 0.0"),
        ([[1.0, -3.0], [1.0]], r"base\[0\] has the mean -1.0"),
        ([1.0, math.nan], r"base\[1\] is nan"),
        ([[1.0], []], r"base\[1\]: no values"),
        ([], "base: no values"),
        (3.0, "base is 3.0; give a sequence"),
        ("ab", r"base\[0\]: not numbers"),
        (np.ones(5000), "5,000 process means, more than 1,000: these look like single iterations"),
    ],
)
def test_what_is_no_side_is_refused(base: object, message: str) -> None:
    """With the value, and what to give instead."""
    with pytest.raises(OptionError, match=message):
        compare(base, [1.0, 2.0])  # type: ignore[arg-type]


def test_bad_options_are_refused() -> None:
    """A level in per cent, a margin of nothing, rounds without a partner, too few resamples."""
    with pytest.raises(OptionError, match="level is 95"):
        compare([1.0, 2.0], [1.0, 2.0], level=95)
    with pytest.raises(OptionError, match=r"margin is 0\.0; it must be positive"):
        compare([1.0, 2.0], [1.0, 2.0], margin=0.0)
    with pytest.raises(OptionError, match="need the same rounds: there are 3 and 2"):
        compare([1.0, 2.0, 3.0], [1.0, 2.0], paired=True)
    with pytest.raises(OptionError, match="at least 99"):
        compare([1.0, 2.0], [1.0, 2.0], resamples=9)


def test_process_means_of_every_shape() -> None:
    """Numbers, arrays of different length, one array of (processes, iterations)."""
    assert process_means([1, 2.5, np.float32(3.0)]).tolist() == [1.0, 2.5, 3.0]
    assert process_means([[1, 3], np.array([5.0])]).tolist() == [2.0, 5.0]
    assert process_means(np.array([[1, 3], [5, 7]])).tolist() == [2.0, 6.0]


def test_holms_adjusted_p_values() -> None:
    """By hand: 4 * 0.005, 3 * 0.01, 2 * 0.03, and 0.04 no less than the one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_ranking_orders_and_groups() -> None:
    """From the fastest on, what cannot be told apart in one place; ratios to the fastest."""
    random = np.random.default_rng(19)
    ranking = rank(
        {
            "slow": processes(random, mean=2.0),
            "b": processes(random, mean=1.002),
            "a": processes(random),
            "also slow": processes(random, mean=2.005),
        }
    )
    assert ranking.reference == ranking.rows[0].name
    assert [set(group) for group in ranking.groups] == [{"a", "b"}, {"slow", "also slow"}]
    assert [row.place for row in ranking.rows] == [1, 1, 3, 3]
    first, second, *slow = ranking.rows
    assert first.comparison is None
    assert second.comparison is not None
    assert second.comparison.verdict == "no evidence"
    for row in slow:
        assert row.comparison is not None
        assert row.interval is not None
        assert row.comparison.verdict == "slower"
        assert row.comparison.ratio == pytest.approx(2.0, rel=0.05)
        assert row.interval.low <= row.mean <= row.interval.high


def test_a_ranking_to_a_named_base() -> None:
    """Ratios are to the base, wherever it stands; its own row has none."""
    random = np.random.default_rng(20)
    ranking = rank({"old": processes(random), "new": processes(random, mean=0.8)}, base="old")
    new, old = ranking.rows
    assert (ranking.reference, new.name, old.name, old.comparison) == ("old", "new", "old", None)
    assert new.comparison is not None
    assert new.comparison.verdict == "faster"
    assert new.comparison.ratio == pytest.approx(0.8, rel=0.05)


def test_many_of_the_same_are_seldom_ranked() -> None:
    """Five times the same thing: any claim at all in at most 5 % of the rankings, though the extremes are compared."""
    random = np.random.default_rng(21)
    found = 0
    for _ in range(60):
        ranking = rank({name: processes(random, 6) for name in "abcde"})
        found += len(ranking.groups) > 1
    assert found <= 9  # 99.9 % of the time, at 5 % of 60


def test_more_comparisons_need_more_processes() -> None:
    """Four against four give p = 0.029 at best: enough for two, too little for three pairs, and that is said."""
    random = np.random.default_rng(22)
    sides = {name: processes(random, 4, mean=mean) for name, mean in (("a", 1.0), ("b", 2.0), ("c", 3.0))}
    last = rank(sides).rows[-1].comparison
    assert isinstance(last, Comparison)
    assert last.sentence() == "no evidence: 4 and 4 processes cannot give p <= 0.05 in 3 comparisons, take 5 or more"
    two = rank({name: sides[name] for name in "ab"}).rows[-1].comparison
    assert two is not None
    assert two.verdict == "slower"


def test_a_ranking_of_one_and_of_none() -> None:
    """One is first; none, or an unknown base, is refused with the names there are."""
    only = rank({"a": [1.0, 2.0]}).rows
    assert [(row.place, row.name, row.n, row.mean, row.comparison) for row in only] == [(1, "a", 2, 1.5, None)]
    with pytest.raises(OptionError, match="nothing to rank"):
        rank({})
    with pytest.raises(OptionError, match="'c' is not among 'a', 'b'"):
        rank({"a": [1.0], "b": [2.0]}, base="c")
