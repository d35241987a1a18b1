"""Distributions against scipy's, and against closed forms where scipy has none."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmstack.evals.distributions import (
    _saddlepoint,
    exponentials_below,
    incomplete_beta,
    log_factorials,
    student_cdf,
    student_quantile,
)

shapes = st.floats(0.3, 3000)


@example(2, 3, 0.0)
@example(2, 3, 1.0)
@given(shapes, shapes, st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_the_incomplete_beta_is_scipys(a: float, b: float, x: float) -> None:
    theirs = scipy.special.betainc(a, b, x)
    assert incomplete_beta(a, b, x) == pytest.approx(theirs, rel=1e-9, abs=1e-12)


@given(st.floats(-50, 50), st.floats(1, 1e6))
@settings(deadline=None, max_examples=40)
def test_students_distribution_is_scipys(t: float, degrees: float) -> None:
    theirs = scipy.stats.t.cdf(t, degrees)
    assert student_cdf(t, degrees) == pytest.approx(theirs, rel=1e-8, abs=1e-14)


@pytest.mark.parametrize("degrees", [1, 2, 3, 10, 99, 2.5, 12_345])
@pytest.mark.parametrize("p", [1e-6, 0.025, 0.05, 0.4, 0.5, 0.8, 0.975, 0.9999])
def test_students_quantile_is_scipys(p: float, degrees: float) -> None:
    assert student_quantile(p, degrees) == pytest.approx(
        scipy.stats.t.ppf(p, degrees), rel=1e-9, abs=1e-12
    )


@given(st.integers(1, 400), st.integers(0, 400), st.floats(0.01, 0.99))
@settings(deadline=None, max_examples=40)
def test_exponentials_of_two_weights_are_a_beta(ones: int, noughts: int, share: float) -> None:
    """The share of the first weights in all of them is a beta variable."""
    weights = [1 - share] * ones + [-share] * (noughts + 1)
    theirs = scipy.stats.beta.cdf(share, ones, noughts + 1)
    assert exponentials_below(weights) == pytest.approx(theirs, rel=1e-7, abs=1e-13)


@given(st.sets(st.integers(-9, 9).filter(bool), min_size=1, max_size=6))
@settings(deadline=None, max_examples=40)
def test_exponentials_of_unlike_weights_have_a_closed_form(weights: set[int]) -> None:
    values = np.array(sorted(weights), float)
    above = sum(
        np.prod([w / (w - other) for other in values if other != w]) for w in values if w > 0
    )
    assert exponentials_below(values) == pytest.approx(1 - above, rel=1e-7, abs=1e-12)


def test_exponentials_of_many_weights_are_normal_in_the_limit() -> None:
    weights = np.random.default_rng(0).normal(0.01, 1, 4_000)
    theirs = scipy.stats.norm.cdf(-weights.sum() / np.sqrt((weights**2).sum()))
    assert exponentials_below(weights) == pytest.approx(theirs, abs=0.01)


@pytest.mark.parametrize(
    ("weights", "chance"), [([0, 0], 1), ([1, 0], 0), ([-1, 0], 1), ([1, -1], 0.5)]
)
def test_exponentials_of_one_sign_are_certain(weights: list[float], chance: float) -> None:
    assert exponentials_below(weights) == pytest.approx(chance)


def test_factorials() -> None:
    found = log_factorials(300)
    assert found == pytest.approx(scipy.special.gammaln(np.arange(301) + 1.0))
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1.0  # it is shared with whoever asks next


def test_the_saddlepoint_is_where_the_integrand_is_least() -> None:
    values, counts = np.array([-0.7, 0.2, 1.0]), np.array([2, 3, 1])

    def height(s: float) -> float:
        return float(-counts @ np.log1p(-s * values) - np.log(-s))

    least = scipy.optimize.minimize_scalar(height, bounds=(1 / -0.7, 0), method="bounded").x
    assert _saddlepoint(values, counts) == pytest.approx(least, abs=1e-4)
