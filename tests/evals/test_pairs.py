"""The exact test of pairs against enumeration, and Tango's score against a numerical optimum."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import InputError
from lmstack.evals.pairs import (
    BinaryPairs,
    _chance,
    _largest,
    _least_gained,
    critical_gains,
    exact_pairs,
    pairs_power,
    tango,
)
from lmstack.evals.statistics import mcnemar

bounds = st.sampled_from([-0.2, -0.05, 0.0, 0.1])


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, int, int]:
    total = draw(st.integers(1, 60))
    gained = draw(st.integers(0, total))
    return gained, draw(st.integers(0, total - gained)), total


@given(tables(), st.sampled_from([-0.2, -0.05, 0.1]))
@settings(deadline=None, max_examples=50)
def test_the_score_has_the_variance_that_is_likeliest_at_the_bound(
    table: tuple[int, int, int], bound: float
) -> None:
    gained, lost, total = table

    def unlikely(share: float) -> float:
        return -float(
            scipy.special.xlogy(lost, share)
            + scipy.special.xlogy(gained, share + bound)
            + scipy.special.xlogy(total - gained - lost, 1 - 2 * share - bound)
        )

    low, high = max(0.0, -bound) + 1e-12, (1 - bound) / 2 - 1e-12
    share = scipy.optimize.minimize_scalar(
        unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-11}
    ).x
    theirs = (gained - lost - total * bound) / math.sqrt(total * (2 * share + bound * (1 - bound)))
    assert float(tango(gained, lost, total, bound)) == pytest.approx(theirs, rel=1e-4, abs=1e-5)


@given(tables())
def test_at_a_bound_of_nought_the_score_is_mcnemars(table: tuple[int, int, int]) -> None:
    gained, lost, total = table
    theirs = (gained - lost) / math.sqrt(gained + lost) if gained + lost else 0.0
    assert float(tango(gained, lost, total, 0.0)) == pytest.approx(theirs)


@given(tables(), bounds)
def test_the_score_rises_with_gained_and_falls_with_lost_pairs(
    table: tuple[int, int, int], bound: float
) -> None:
    gained, lost, total = table
    here = float(tango(gained, lost, total, bound))
    if gained + lost < total:
        assert float(tango(gained + 1, lost, total, bound)) >= here - 1e-9
        assert float(tango(gained, lost + 1, total, bound)) <= here + 1e-9


def outcomes(total: int) -> list[tuple[int, int]]:
    return [(b, a) for b in range(total + 1) for a in range(total + 1 - b)]


@pytest.mark.parametrize("bound", [-0.15, 0.0, 0.1])
def test_p_is_the_largest_tail_by_enumeration(bound: float) -> None:
    total = 12
    every = outcomes(total)
    scores = np.array([float(tango(b, a, total, bound)) for b, a in every])
    low, high = max(0.0, -bound), (1 - bound) / 2
    chances = np.array(
        [
            scipy.stats.multinomial.pmf(
                [(a, b, total - a - b) for b, a in every], total, [q, q + bound, 1 - 2 * q - bound]
            )
            for q in np.linspace(low, high - 1e-9, 400)
        ]
    )
    for place in (3, 20, 40, 60, 80):
        theirs = (chances * (scores >= scores[place] - 1e-9)).sum(1).max()
        assert exact_pairs(*every[place], total, bound) == pytest.approx(theirs, abs=2e-4)


@pytest.mark.parametrize("bound", [-0.1, -0.03, 0.0])
@pytest.mark.parametrize("total", [20, 75])
def test_the_size_is_at_most_alpha_for_every_share_of_discordant_pairs(
    total: int, bound: float
) -> None:
    """At the bound and beyond it, on a finer grid than the test's own."""
    sizes = [
        pairs_power(total, bound, 0.05, bound - worse, discordant)
        for worse in (0.0, 0.02, 0.1)
        for discordant in np.linspace(abs(bound - worse), 1, 151)
    ]
    assert max(sizes) <= 0.05 + 1e-4
    assert max(sizes) > 0.035  # and no less than it need be


@pytest.mark.parametrize("total", [30, 200])
def test_the_critical_table_is_where_p_reaches_alpha(total: int) -> None:
    least = critical_gains(total, -0.05, 0.05)
    for lost in (0, 1, 4):
        gained = int(least[lost])
        assert exact_pairs(gained, lost, total, -0.05) <= 0.0501
        if gained:
            assert exact_pairs(gained - 1, lost, total, -0.05) > 0.0499


def test_it_shows_all_that_mcnemars_test_shows() -> None:
    """Which conditions on how many pairs differ, and so wastes some of its level."""
    least = critical_gains(60, 0.0, 0.05)
    for lost in range(15):
        gained = next(b for b in range(61) if b > lost and mcnemar(b, lost) / 2 <= 0.05)
        assert least[lost] <= gained


def test_limits_leave_out_the_bounds_that_are_refuted() -> None:
    pairs = BinaryPairs(12, 7, 150)
    low, high = pairs.lower(0.05), pairs.upper(0.05)
    assert low < pairs.value < high
    assert pairs.p_above(low - 1e-3) <= 0.05 < pairs.p_above(low + 1e-3)
    assert pairs.p_below(high + 1e-3) <= 0.05 < pairs.p_below(high - 1e-3)


def test_limits_of_many_pairs_are_those_of_the_exact_test() -> None:
    pairs = BinaryPairs(60, 66, 1200)
    low = pairs.lower(0.05)
    assert pairs.p_above(low) == pytest.approx(0.05, abs=0.004)


def test_a_detectable_effect_has_the_power_wanted() -> None:
    pairs = BinaryPairs(20, 20, 300)
    effect = pairs.detectable(-0.05, 0.05, 0.8)
    assert pairs.power(-0.05, 0.05, -0.05 + effect) == pytest.approx(0.8, abs=1e-3)
    few, many = BinaryPairs(40, 40, 600), BinaryPairs(400, 400, 6000)
    assert many.detectable(-0.05, 0.05, 0.8) == pytest.approx(
        few.detectable(-0.05, 0.05, 0.8) / math.sqrt(10), rel=0.08
    )


def test_all_won_and_all_lost_are_no_accident() -> None:
    assert BinaryPairs(0, 50, 50).p_below(-0.05) < 1e-9
    assert BinaryPairs(50, 0, 50).p_above(0.0) < 1e-9
    assert BinaryPairs(0, 50, 50).lower(0.05) == -1
    assert BinaryPairs(50, 0, 50).upper(0.05) == 1


def test_no_table_is_refused() -> None:
    with pytest.raises(InputError, match="no table of pairs"):
        exact_pairs(30, 30, 50, 0.0)


def test_the_power_of_many_pairs_is_the_normal_one() -> None:
    """By hand: the spread at the bound, and the one that is true."""
    pairs, normal = BinaryPairs(30, 50, 999), NormalDist()
    discordant = 80.5 / 1000
    assert pairs.discordant == discordant
    for bound, true, share in (
        (-0.05, 0.0, discordant),
        (0.02, 0.2, 0.2),
        (-0.3, 0.01, discordant),
    ):
        at_bound = math.sqrt((max(share, abs(bound)) - bound**2) / 999)
        here = math.sqrt((share - true**2) / 999)
        z = (true - bound - normal.inv_cdf(0.95) * at_bound) / here
        assert pairs.power(bound, 0.05, true) == pytest.approx(normal.cdf(z))
    few = BinaryPairs(10, 12, 500)
    assert few.power(-0.05, 0.05, 0.0) == pairs_power(500, -0.05, 0.05, 0.0, 22.5 / 501)
    assert few.power(-0.05, 0.05, 0.1) == pairs_power(500, -0.05, 0.05, 0.1, 0.1)
    scarce = BinaryPairs(0, 0, 501)
    spread = math.sqrt((0.05 - 0.0025) / 501)
    z = (0.05 - normal.inv_cdf(0.95) * spread) / math.sqrt(0.5 / 502 / 501)
    assert scarce.power(-0.05, 0.05, 0.0) == pytest.approx(normal.cdf(z))


def test_figures_of_pairs_by_hand() -> None:
    pairs = BinaryPairs(12, 7, 150)
    differences = np.array([1.0] * 12 + [-1.0] * 7 + [0.0] * 131)
    assert pairs.value == pytest.approx(differences.mean())
    assert pairs.error == pytest.approx(differences.std() / math.sqrt(150))
    assert (pairs.samples, pairs.range) == (150, (-1.0, 1.0))
    assert BinaryPairs(9, 0, 9).error == 0.0
    assert (pairs.p_above(-1.0), pairs.p_below(1.0)) == (1.0, 1.0)
    assert pairs.p_above(-0.999) < 1e-6
    assert pairs.p_below(0.05) == exact_pairs(7, 12, 150, -0.05)
    assert pairs.p_above(0.05) == exact_pairs(12, 7, 150, 0.05)
    assert pairs.upper(0.05) == -BinaryPairs(7, 12, 150).lower(0.05)


@pytest.mark.parametrize(
    ("table", "bound"),
    [
        ((-1, 3, 9), 0.0),
        ((3, -1, 9), 0.0),
        ((5, 5, 9), 0.0),
        ((3, 3, 9), -1.0),
        ((3, 3, 9), 1.0),
    ],
)
def test_what_is_no_table_or_no_bound_is_refused(table: tuple[int, int, int], bound: float) -> None:
    with pytest.raises(InputError, match="no table of pairs"):
        exact_pairs(*table, bound)


def test_a_score_without_a_variance_is_nought_or_endless() -> None:
    found = [float(tango(*table, 10, 0.0)) for table in ((0, 0), (1, 0))]
    assert found == [0.0, 1.0]
    assert float(tango(0, 0, 10, -1e-14)) > 0
    assert float(tango(10, 0, 10, 1.0)) == 0.0
    assert float(tango(0, 10, 10, 1.0)) < 0


def test_limits_have_the_level_of_the_exact_test_up_to_five_hundred_pairs() -> None:
    for table in ((3, 2, 40), (12, 7, 150), (0, 4, 60)):
        pairs = BinaryPairs(*table)
        for alpha in (0.05, 0.2):
            low = pairs.lower(alpha)
            assert pairs.p_above(low - 2e-4) <= alpha + 1e-3
            assert pairs.p_above(low + 2e-4) >= alpha - 1e-3
    assert BinaryPairs(0, 9, 9).lower(0.05) == -1.0


def test_a_detectable_effect_is_the_least_with_the_power() -> None:
    for pairs in (BinaryPairs(5, 5, 100), BinaryPairs(30, 30, 2000)):
        for power in (0.5, 0.9):
            effect = pairs.detectable(-0.05, 0.05, power)
            assert pairs.power(-0.05, 0.05, -0.05 + effect) >= power
            assert pairs.power(-0.05, 0.05, -0.05 + effect - 1e-3) < power
    assert BinaryPairs(0, 0, 1).detectable(0.0, 0.05, 0.8) == 1.0


def test_of_many_pairs_fewer_shares_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmstack.evals.pairs._MANY", 30)
    for total, shares in ((30, 97), (31, 25)):
        least = _least_gained(total, -0.05, 0.8)
        low, high = 0.05, 1.05 / 2
        tried = low + (high - low) * np.linspace(0, 1, shares) ** 2
        chances = [_chance(total, least, q, q - 0.05) for q in tried.tolist()]
        assert _largest(total, least, -0.05) == pytest.approx(max(chances), abs=1e-6)
    least = _least_gained(20, 0.1, 1.0)
    few = [_chance(20, least, q, q + 0.1) for q in (0.0, 0.45 / 4, 0.45)]
    assert _largest(20, least, 0.1, 3) == pytest.approx(max(few))


def test_where_no_gain_is_enough_one_more_than_there_are_pairs_is_needed() -> None:
    assert _least_gained(5, 0.0, 99.0).tolist() == [6, 5, 4, 3, 2, 1]
    assert _least_gained(5, 0.0, -99.0).tolist() == [0] * 6
    assert _least_gained(4, 0.0, 1.0).tolist() == [1, 3, 3, 2, 1]
