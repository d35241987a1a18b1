"""Bounded and studentized means: scipy's exact tests, and their levels in simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import InputError
from lmstack.evals.clustered import cluster_sums
from lmstack.evals.distributions import student_cdf
from lmstack.evals.noninferiority import BoundedMean, MeanTest, StudentizedMean, _counts, _draw
from lmstack.evals.statistics import wilson

ALPHA, GATES = 0.05, 500
Floats = np.ndarray


def shares(values: Floats) -> BoundedMean:
    return BoundedMean(cluster_sums(values), 0.0, 1.0)


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.02, 0.98))
@settings(deadline=None, max_examples=40)
def test_of_ones_and_noughts_it_is_the_binomial_test(hits: int, misses: int, bound: float) -> None:
    total = hits + misses
    if not total:
        return
    test = shares(np.array([1.0] * hits + [0.0] * misses))
    theirs = scipy.stats.binomtest(hits, total, bound, alternative="greater").pvalue
    assert test.p_above(bound) == pytest.approx(theirs, abs=1e-9)
    theirs = scipy.stats.binomtest(hits, total, bound, alternative="less").pvalue
    assert test.p_below(bound) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("hits", [0, 1, 17, 40])
def test_limits_of_ones_and_noughts_are_clopper_and_pearsons(hits: int) -> None:
    test = shares(np.array([1.0] * hits + [0.0] * (40 - hits)))
    theirs = scipy.stats.binomtest(hits, 40).proportion_ci(0.9, method="exact")
    assert (test.lower(0.05), test.upper(0.05)) == pytest.approx(theirs, abs=1e-8)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
@settings(deadline=None, max_examples=40)
def test_p_rises_with_the_bound_and_mirrors(values: list[float]) -> None:
    test, mirrored = shares(np.array(values)), shares(1 - np.array(values))
    ps = [test.p_above(bound) for bound in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(ps))
    assert mirrored.p_below(0.7) == pytest.approx(test.p_above(0.3), abs=1e-9)


def level(draw: Callable[[np.random.Generator], float], gates: int = GATES) -> tuple[float, float]:
    """Share of p at most ALPHA, by its interval's ends."""
    rng = np.random.default_rng(0)
    found = wilson(sum(draw(rng) <= ALPHA for _ in range(gates)), gates)
    return found.low, found.high


# Distributions from 0 to 1 with their means, among them such as bring down a t-test.
BOUNDED = {
    "uniform": (lambda rng, n: rng.random(n), 0.5),
    "rare failures": (lambda rng, n: np.where(rng.random(n) < 0.05, 0.0, 1.0), 0.95),
    "rare halves": (lambda rng, n: 1 - (rng.random(n) < 0.06) * rng.random(n), 0.97),
    "skewed": (lambda rng, n: rng.beta(8, 0.5, n), 8 / 8.5),
    "three values": (lambda rng, n: rng.choice([0, 0.5, 1], n, p=[0.1, 0.1, 0.8]), 0.85),
}


@pytest.mark.parametrize("size", [10, pytest.param(40, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", BOUNDED)
def test_a_bounded_mean_keeps_its_level(name: str, size: int) -> None:
    sample, mean = BOUNDED[name]
    low, _ = level(lambda rng: shares(sample(rng, size)).p_above(mean))
    assert low <= ALPHA


def test_a_studentized_mean_does_not_keep_it_there() -> None:
    """So that the trap is one: it is for many clusters, of which no kind is rare."""
    sample, mean = BOUNDED["rare failures"]
    low, _ = level(lambda rng: StudentizedMean(sample(rng, 40), 40).p_above(mean), 500)
    assert low > ALPHA


@pytest.mark.parametrize("size", [4, pytest.param(9, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "middle", [0.3, *(pytest.param(v, marks=pytest.mark.long) for v in (0.6, 0.9))]
)
def test_no_distribution_of_three_values_breaks_the_level(size: int, middle: float) -> None:
    """By enumeration of all samples, so that chance cannot hide it: the level is a conjecture."""
    counts = np.array([(i, j, size - i - j) for i in range(size + 1) for j in range(size + 1 - i)])
    values, levels = np.array([0.0, middle, 1.0]), np.array([0.01, 0.05, 0.1, 0.2])
    for low, mid in itertools.product(np.linspace(0.02, 0.9, 9), repeat=2):
        if low + mid > 0.98:
            continue
        chances = np.array([low, mid, 1 - low - mid])
        of_sample = scipy.stats.multinomial.pmf(counts, size, chances)
        bound = float(chances @ values)
        p = np.array([shares(np.repeat(values, count)).p_above(bound) for count in counts])
        assert (of_sample @ (p[:, None] <= levels) <= levels + 1e-9).all()


def test_whole_clusters_that_fail_together_keep_the_level() -> None:
    def one(rng: np.random.Generator) -> float:
        sizes = rng.integers(1, 9, 40)
        failed = rng.random(40) < 0.05
        values = np.repeat(np.where(failed, 0.0, 1.0), sizes)
        names = list(np.repeat([str(i) for i in range(40)], sizes))
        return BoundedMean(cluster_sums(values, names), 0.0, 1.0).p_above(0.95)

    assert level(one)[0] <= ALPHA


UNBOUNDED = {
    "skewed down": lambda rng, n: 2 - rng.gamma(2, size=n),
    "normal": lambda rng, n: rng.normal(0, 1, n),
    "heavy tails": lambda rng, n: rng.standard_t(4, n),
    "skewed up": lambda rng, n: rng.gamma(2, size=n) - 2,
}


@pytest.mark.parametrize(
    "name",
    [*UNBOUNDED][:1] + [pytest.param(name, marks=pytest.mark.long) for name in [*UNBOUNDED][1:]],
)
def test_a_studentized_mean_keeps_its_level(name: str) -> None:
    low, _ = level(lambda rng: StudentizedMean(UNBOUNDED[name](rng, 40), 40).p_above(0.0))
    assert low <= ALPHA


def test_of_many_normal_values_it_is_students_test() -> None:
    values = np.random.default_rng(0).normal(0.1, 1, 300)
    theirs = scipy.stats.ttest_1samp(values, 0, alternative="greater")
    test = StudentizedMean(values, 300)
    assert test.p_above(0.0) == pytest.approx(theirs.pvalue, abs=0.01)
    assert test.p_above(0.0) >= theirs.pvalue - 1e-12
    low = theirs.confidence_interval(0.95).low
    assert test.lower(0.05) == pytest.approx(low, abs=0.01)


def test_values_that_are_all_alike_are_tested_by_their_signs() -> None:
    same = StudentizedMean(np.full(10, 0.3), 10)
    assert same.p_above(0.0) == 0.5**10
    assert same.p_above(0.3) == 1.0
    assert StudentizedMean(np.array([5.0]), 7).p_above(0.0) == 1.0


def test_a_statistic_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="not finite", check=about("values")):
        StudentizedMean(np.array([1.0, math.nan]), 2)


@pytest.mark.parametrize("clustered", [False, True])
def test_as_many_samples_as_needed_are_enough(clustered: bool) -> None:
    """A study of the size that a smaller one asks for shows the effect as often as was wanted."""
    rng = np.random.default_rng(0)

    def study(samples: int) -> BoundedMean:
        count = samples // 4 if clustered else samples
        values = rng.beta(6, 2, count) if clustered else rng.beta(3, 1, count)
        names = list(np.repeat([str(i) for i in range(count)], 4)) if clustered else []
        noise = np.repeat(values, 4) if clustered else values
        return BoundedMean(cluster_sums(noise, names), 0.0, 1.0)

    pilot = study(400)
    needed = pilot.needed(0.72, ALPHA, 0.8, 0.75)
    assert needed is not None
    shown = [study(needed).p_above(0.72) <= ALPHA for _ in range(400)]
    assert 0.7 < np.mean(shown) < 0.9


def test_no_number_of_samples_shows_what_is_not_so() -> None:
    test = shares(np.random.default_rng(0).random(50))
    assert test.needed(0.6, ALPHA, 0.8, 0.55) is None
    assert StudentizedMean(np.array([1.0]), 1).needed(0.0, ALPHA, 0.8, 1.0) is None


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=6), st.floats(-1, 1))
def test_the_bootstrap_never_claims_more_than_student(values: list[float], bound: float) -> None:
    test = StudentizedMean(np.array(values), len(values))
    if test.error > 0:
        t = (test.value - bound) / test.error
        assert test.p_above(bound) >= student_cdf(-t, len(values) - 1)
        assert test.p_below(bound) >= student_cdf(t, len(values) - 1)


def test_four_values_prove_no_more_than_student_says() -> None:
    """Hardly a resample of them is as far from their mean as the bound is."""
    test = StudentizedMean(np.array([1.0, 0.1, 0.1, 0.1]), 4)
    t = (test.value + 0.14) / test.error
    assert (
        test.p_above(-0.14) == pytest.approx(student_cdf(-t, 3)) == pytest.approx(0.0646, abs=1e-3)
    )
    mirrored = StudentizedMean(-test.values, 4)
    assert mirrored.p_below(0.14) == test.p_above(-0.14)


def test_samples_that_are_needed_are_rounded_up() -> None:
    test = shares(np.random.default_rng(0).binomial(1, 0.8, 100).astype(float))
    needed = test.needed(0.7, ALPHA, 0.8, 0.8)
    assert needed is not None
    reach, cost = test.detectable(0.7, ALPHA, 0.8), test.cost

    def effect(samples: int) -> float:
        """What so many samples show with that power."""
        return cost * 100 / samples + (reach - cost) * math.sqrt(100 / samples)

    assert effect(needed) <= 0.1 < effect(needed - 1)


def test_how_far_a_studentized_mean_scatters_is_by_the_delta_method() -> None:
    """With skewness and kurtosis as SciPy has them; at no reach it is the error itself."""
    values = np.array([0.1, 0.4, 0.2, 2.5, 0.3, 0.9])
    test = StudentizedMean(values, 12)
    assert test.error == pytest.approx(scipy.stats.sem(values))
    assert test.scatter(0.0) == pytest.approx(test.error)
    for t in (-2.0, 0.5, 6.0):
        skewness = scipy.stats.skew(values)
        kurtosis = scipy.stats.kurtosis(values, fisher=False)
        share = 1 - t * skewness / math.sqrt(6) + t**2 * (kurtosis - 1) / 24
        assert test.scatter(t * test.error) == pytest.approx(test.error * math.sqrt(share))
    lopsided = StudentizedMean(np.array([0.0, 0.0, 0.0, 1.0]), 4)
    assert lopsided.scatter(2 * lopsided.error) == pytest.approx(lopsided.error / 2)
    alike = StudentizedMean(np.array([2.0, 2.0, 2.0 + 1e-13]), 3)
    assert (alike.error, alike.scatter(1.0), alike.range) == (0.0, 0.0, pytest.approx((0, 4)))
    assert math.isnan(StudentizedMean(np.array([2.0]), 1).scatter(1.0))
    assert StudentizedMean(np.array([0.5, 0.5]), 2).range == (-0.5, 1.5)
    assert test.range == pytest.approx(
        (test.value - 1000 * test.error, test.value + 1000 * test.error)
    )
    assert test.samples == 12


def test_values_all_alike_are_tested_by_their_sign() -> None:
    alike = StudentizedMean(np.full(5, 0.25), 5)
    assert (alike.p_above(0.2), alike.p_above(0.25), alike.p_above(0.3)) == (1 / 32, 1.0, 1.0)
    assert (alike.p_below(0.3), alike.p_below(0.25)) == (1 / 32, 1.0)
    single = StudentizedMean(np.array([3.0]), 1)
    assert (single.p_above(0.0), single.p_below(9.0)) == (1.0, 1.0)
    for value in (math.nan, math.inf):
        with pytest.raises(InputError, check=about("values")):
            StudentizedMean(np.array([1.0, value]), 2)


def test_resamples_are_those_of_the_seed() -> None:
    rng = np.random.default_rng(3)
    expected = rng.multinomial(5, np.full(5, 1 / 5), len(_draw(5, 3)))
    assert np.array_equal(_draw(5, 3), expected)
    assert np.array_equal(_counts(5, 3), expected)
    values = np.random.default_rng(1).gamma(1.0, size=12)
    drawn = [StudentizedMean(values, 12, seed)._drawn for seed in (0, 1)]
    assert np.array_equal(drawn[0], StudentizedMean(values, 12)._drawn)
    assert not np.array_equal(*drawn)


class Known(MeanTest):
    """Of a mean 0.3 of 100 samples with the error 0.1; p falls with the distance."""

    name = "known"

    def __init__(self, cost: float = 0.0, error: float = 0.1) -> None:
        self._cost, self._error = cost, error

    value = property(lambda _: 0.3)  # type: ignore[assignment]
    samples = property(lambda _: 100)  # type: ignore[assignment]
    range = property(lambda _: (-1.0, 2.0))  # type: ignore[assignment]
    error = property(lambda self: self._error)  # type: ignore[assignment]
    cost = property(lambda self: self._cost)  # type: ignore[assignment]

    def p_above(self, bound: float) -> float:
        return float(scipy.stats.norm.sf((0.3 - bound) / 0.1))

    def p_below(self, bound: float) -> float:
        return float(scipy.stats.norm.cdf((0.3 - bound) / 0.1))


def test_limits_power_and_needs_of_a_normal_mean() -> None:
    test, z = Known(), scipy.stats.norm.ppf
    reach = z(0.95) * 0.1
    assert (test.lower(0.05), test.upper(0.05)) == pytest.approx((0.3 - reach, 0.3 + reach))
    assert test.lower(0.05) < 0.3 - reach + 1e-11
    assert test.reach(0.0, 0.05) == pytest.approx(reach)
    effect = reach + z(0.8) * 0.1
    assert test.detectable(0.1, 0.05, 0.8) == pytest.approx(effect)
    power = scipy.stats.norm.cdf((0.4 - 0.1 - reach) / 0.1)
    assert test.power(0.1, 0.05, 0.4) == pytest.approx(power)
    assert test.needed(0.1, 0.05, 0.8, 0.4) == math.ceil(100 * (effect / 0.3) ** 2)
    assert test.needed(0.1, 0.05, 0.8, 0.1) is None
    assert test.needed(0.1, 0.05, 0.8, 0.05) is None
    assert Known(error=math.nan).needed(0.1, 0.05, 0.8, 0.4) is None
    sure = Known(error=0.0)
    assert [sure.power(0.0, 0.05, true) for true in (reach + 0.01, reach - 0.01)] == [1.0, 0.0]
    assert sure.power(0.0, 0.05, sure.reach(0.0, 0.05)) == 1.0


def test_a_cost_falls_with_the_samples_and_the_rest_with_their_root() -> None:
    test = Known(cost=0.05)
    found = test.detectable(0.0, 0.05, 0.8)
    for true in (0.05, 0.4):
        needed = test.needed(0.0, 0.05, 0.8, true)
        assert needed is not None
        x = math.sqrt(100 / needed)
        assert 0.05 * x * x + (found - 0.05) * x == pytest.approx(true, rel=0.02)
    all_cost = Known(cost=9.0)
    assert all_cost.needed(0.0, 0.05, 0.8, 0.1) == math.ceil(100 * found / 0.1)
    sums = cluster_sums([0.2, 0.6, 0.4, 0.1], ["a", "a", "b", ""])
    bounded = BoundedMean(sums, 0.0, 1.0)
    assert bounded.cost == pytest.approx(2 * (0.325 - 0.0) / 4)
    assert (bounded.samples, bounded.range, bounded.value) == (4, (0.0, 1.0), pytest.approx(0.325))
    assert bounded.error == sums.error
    below = BoundedMean(cluster_sums([-0.2, -0.6]), -1.0, 0.0)
    assert below.cost == pytest.approx((1 - 0.4) / 2)
