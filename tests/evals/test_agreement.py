"""Agreement against scikit-learn and a published example; corrected estimates by coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tests.errors import about
from tests.oracles import metrics

from lmstack.core import InputError
from lmstack.evals.agreement import (
    _distance,
    _one_less,
    cohen_kappa,
    corrected_share,
    krippendorff_alpha,
    prediction_powered,
)
from lmstack.evals.statistics import bootstrap

NAN = math.nan
# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): four observers, twelve units.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=4, max_size=30))
@settings(deadline=None, max_examples=15)
def test_kappa_is_scikit_learns(weights: str | None, pairs: list[tuple[int, int]]) -> None:
    first, second = zip(*pairs, strict=True)
    if len({*first, *second}) < 2:
        return
    labels = [0, 1, 2, 3]
    theirs = metrics.cohen_kappa_score(first, second, weights=weights, labels=labels)
    ours = cohen_kappa(first, second, weights=weights, labels=labels)
    assert ours.value == pytest.approx(theirs)
    assert ours.low <= ours.value + 1e-9


def test_kappa_of_words_has_an_interval() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(["no", "yes"], 200)
    other = np.where(rng.random(200) < 0.2, rng.choice(["no", "yes"], 200), truth)
    found = cohen_kappa(list(truth), list(other))
    assert 0.6 < found.low < found.value < found.high < 0.95


def test_raters_who_say_one_thing_have_no_kappa() -> None:
    assert math.isnan(cohen_kappa(["a", "a"], ["a", "a"]).value)


@pytest.mark.parametrize(
    ("level", "alpha"),
    [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)],
)
def test_alpha_of_the_published_example(level: str, alpha: float) -> None:
    found = krippendorff_alpha(PUBLISHED, level=level)
    assert found.value == pytest.approx(alpha, abs=5e-4)
    assert found.low < found.value < found.high


def test_alpha_is_disagreement_within_items_over_that_between_any_two_ratings() -> None:
    ratings = np.random.default_rng(0).integers(0, 4, (3, 20)).astype(float)
    ratings[0, :5] = NAN
    items = [column[~np.isnan(column)] for column in ratings.T]
    within = sum(
        sum((a - b) ** 2 for a, b in itertools.permutations(item, 2)) / (len(item) - 1)
        for item in items
    )
    every = np.concatenate(items)
    between = sum((a - b) ** 2 for a, b in itertools.permutations(every, 2)) / (len(every) - 1)
    found = krippendorff_alpha(ratings, level="interval")
    assert found.value == pytest.approx(1 - within / between)


def test_alpha_of_nothing_to_agree_on_is_none() -> None:
    assert math.isnan(krippendorff_alpha([[1, NAN], [NAN, 2]]).value)
    assert math.isnan(krippendorff_alpha([[1, 1], [1, 1]]).value)


def test_a_judge_narrows_the_interval_and_its_bias_does_not_move_it() -> None:
    rng = np.random.default_rng(0)
    covered, widths, alone = 0, [], []
    for _ in range(400):
        truth = rng.random(1200) < 0.6
        judged = np.where(rng.random(1200) < 0.12, ~truth, truth) | (rng.random(1200) < 0.1)
        found = prediction_powered(truth[:200], judged[:200], judged[200:])
        covered += found.low <= 0.6 <= found.high
        widths.append(found.high - found.low)
        alone.append(2 * 1.96 * truth[:200].std(ddof=1) / math.sqrt(200))
    assert 0.91 < covered / 400 < 0.98
    assert np.mean(widths) < 0.85 * np.mean(alone)


def test_a_judge_who_says_one_thing_changes_nothing() -> None:
    human = np.random.default_rng(0).random(50)
    found = prediction_powered(human, np.ones(50), np.ones(500))
    assert found.value == pytest.approx(human.mean())


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_a_corrected_share_covers_the_true_one(share: float) -> None:
    rng = np.random.default_rng(1)
    hit, rejected = 0.85, 0.92
    chance = share * hit + (1 - share) * (1 - rejected)
    covered = 0
    for _ in range(1000):
        positives = (int(rng.binomial(500, chance)), 500)
        known = (int(rng.binomial(60, hit)), 60), (int(rng.binomial(60, rejected)), 60)
        found = corrected_share(positives, *known)
        covered += found.low <= share <= found.high
    assert 0.93 < covered / 1000 <= 1


def test_limits_of_a_corrected_share_are_those_of_lang_and_reiczigel() -> None:
    """By their formulas with a pocket calculator: coverage is too coarse to see a wrong term."""
    found = corrected_share((120, 500), (50, 60), (55, 60))
    assert (found.low, found.high) == pytest.approx((0.0954173, 0.2946189), abs=1e-6)
    found = corrected_share((300, 500), (40, 60), (50, 70))
    assert (found.low, found.high) == pytest.approx((0.5582370, 1), abs=1e-6)


def test_a_perfect_judge_is_not_corrected() -> None:
    assert corrected_share((30, 100), (50, 50), (50, 50)).value == pytest.approx(0.3)


def test_what_cannot_be_estimated_is_refused() -> None:
    with pytest.raises(InputError, match="no better than chance"):
        corrected_share((30, 100), (10, 50), (40, 50))
    with pytest.raises(InputError, match="sensitivity are 3 of 2", check=about("sensitivity")):
        corrected_share((30, 100), (3, 2), (40, 50))
    with pytest.raises(InputError, match="did you mean 'linear'", check=about("weights")):
        cohen_kappa([1, 2], [1, 2], weights="linar")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="did you mean 'ordinal'", check=about("level")):
        krippendorff_alpha([[1, 2], [1, 2]], level="ordinel")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="none of the labels", check=about("labels")):
        cohen_kappa([1, 3], [1, 2], labels=[1, 2])
    with pytest.raises(InputError, match="the other 1"):
        cohen_kappa([1, 2], [1])
    with pytest.raises(InputError, match="not finite"):
        prediction_powered([0, NAN], [0, 1], [1, 1])


@pytest.mark.parametrize("ratings", [[1, 2], 3.0, [[[1.0]]]])
def test_ratings_are_a_table(ratings: object) -> None:
    with pytest.raises(InputError, match="ratings have the shape", check=about("ratings")):
        krippendorff_alpha(ratings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("human", "judged", "rest"),
    [
        ([1.0], [1.0], [1.0, 0.0]),
        ([1.0, 0.0], [1.0], [1.0, 0.0]),
        ([1.0, 0.0], [1.0, 0.0], [1.0]),
        ([[1.0, 0.0]] * 2, [[1.0, 0.0]] * 2, [1.0, 0.0]),
        ([1.0, 0.0], [1.0, 0.0], [[1.0, 0.0], [1.0, 0.0]]),
    ],
)
def test_too_few_labels_or_none_of_the_same_items_are_refused(
    human: object, judged: object, rest: object
) -> None:
    with pytest.raises(InputError, match="people labelled"):
        prediction_powered(human, judged, rest)  # type: ignore[arg-type]
    prediction_powered([1.0, 0.0], [1.0, 0.0], [0.0, 1.0])


@pytest.mark.parametrize("place", range(3))
def test_labels_that_are_not_finite_are_refused_on_every_side(place: int) -> None:
    sides = [[0.0, 1.0, 1.0] for _ in range(3)]
    sides[place][1] = NAN
    with pytest.raises(InputError, match="not finite"):
        prediction_powered(*sides)


def test_the_estimate_by_a_judge_is_that_of_its_paper() -> None:
    """Angelopoulos et al. (2023), with the weight that makes the variance least, cut to [0, 1]."""
    rng = np.random.default_rng(2)
    y = rng.random(30)
    for f, g in (
        (y + rng.normal(0, 0.3, 30), rng.random(80) + 0.2),
        (-y, rng.random(80)),
        (0.3 * y, 0.3 * rng.random(80)),
    ):
        spread = np.var([*f, *g], ddof=1)
        weight = np.clip(np.cov(y, f)[0, 1] / spread / (1 + 30 / 80), 0, 1)
        value = weight * g.mean() + (y - weight * f).mean()
        error = math.sqrt(weight**2 * g.var(ddof=1) / 80 + (y - weight * f).var(ddof=1) / 30)
        found = prediction_powered(y, f, g)
        half = stats.norm.ppf(0.975) * error
        expected = (value, value - half, value + half)
        assert (found.value, found.low, found.high) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["positives", "sensitivity", "specificity"])
@pytest.mark.parametrize("counts", [(-1, 5), (6, 5), (0, 0)])
def test_counts_of_a_share_are_checked_each(name: str, counts: tuple[int, int]) -> None:
    given = {"positives": (3, 9), "sensitivity": (9, 9), "specificity": (9, 9), name: counts}
    with pytest.raises(InputError, match=f"{name} are", check=about(name)):
        corrected_share(*given.values())


def test_a_share_at_its_ends_and_limits_that_say_nothing() -> None:
    assert corrected_share((0, 9), (9, 9), (9, 9)).value == 0.0
    assert corrected_share((9, 9), (9, 9), (9, 9)).value == 1.0
    assert corrected_share((0, 99), (90, 99), (90, 99)).value == 0.0
    assert corrected_share((99, 99), (90, 99), (90, 99)).value == 1.0
    assert corrected_share((1, 2), (1, 1), (1, 9)).value == 0.0
    vague = corrected_share((5, 9), (1, 1), (1, 99))
    assert (vague.low, vague.high) == (0.0, 1.0)
    with pytest.raises(InputError, match=r"sensitivity 0\.500, specificity 0\.500"):
        corrected_share((5, 9), (1, 2), (1, 2))


def test_kappa_by_places_among_the_labels_and_by_seed() -> None:
    first, second = list("aabbccab"), list("abbbcaac")
    order = ["c", "a", "b", "never"]
    ours = cohen_kappa(first, second, weights="linear", labels=order)
    theirs = metrics.cohen_kappa_score(first, second, weights="linear", labels=order)
    assert ours.value == pytest.approx(theirs)
    plain = cohen_kappa(first, second)
    assert plain.value == pytest.approx(metrics.cohen_kappa_score(first, second))
    assert plain == cohen_kappa(first, second, seed=0)
    assert plain != cohen_kappa(first, second, seed=1)
    for one, other in (([], []), (["a"], [])):
        with pytest.raises(InputError, match="one rater has"):
            cohen_kappa(one, other)
    with pytest.raises(InputError, check=about("weights")) as error:
        cohen_kappa([1], [1], weights="zzz")  # type: ignore[arg-type]
    assert error.value.hint == "known: linear, quadratic"


def test_resamples_without_chance_disagreement_count_as_nought() -> None:
    observed, chance = np.array([0.0, 0.2]), np.array([0.0, 0.4])
    assert _one_less(observed, chance).tolist() == [0.0, 0.5]
    assert math.isnan(float(_one_less(np.float64(0), np.float64(0))))
    assert float(_one_less(np.float64(0.1), np.float64(0.4))) == 0.75
    apart = _distance(np.array([0.0, 1.0, 3.0]), np.ones(3), "ratio")
    assert apart.tolist() == [[0, 1, 1], [1, 0, 0.25], [1, 0.25, 0]]
    values = np.random.default_rng(3).integers(0, 4, (3, 30)).astype(float)
    assert krippendorff_alpha(values) == krippendorff_alpha(values, level="nominal", seed=0)
    assert krippendorff_alpha(values) != krippendorff_alpha(values, seed=1)


def test_the_interval_of_kappa_is_that_of_resampled_items() -> None:
    rng = np.random.default_rng(7)
    first = rng.integers(0, 3, 14)
    second = np.where(rng.random(14) < 0.3, rng.integers(0, 3, 14), first)

    def kappa(rows: np.ndarray) -> np.ndarray:
        shares = [(rows[..., k, None] == np.arange(3)).mean(-2) for k in (0, 1)]
        agreed = (rows[..., 0] == rows[..., 1]).mean(-1)
        chance = (shares[0] * shares[1]).sum(-1)
        return (agreed - chance) / np.where(chance < 1, 1 - chance, np.inf)

    expected = bootstrap(np.stack([first, second], axis=1), kappa)
    found = cohen_kappa(first.tolist(), second.tolist(), labels=[0, 1, 2])
    shown = (found.value, found.low, found.high)
    assert shown == pytest.approx((expected.value, expected.low, expected.high), rel=0.02)


def test_alpha_of_a_narrow_scale_is_that_of_a_wide_one() -> None:
    ratings = np.random.default_rng(0).integers(1, 5, (3, 12)).astype(float)
    wide, narrow = (krippendorff_alpha(ratings * scale, level="interval") for scale in (1, 0.01))
    assert narrow.value == pytest.approx(wide.value)
    assert (narrow.low, narrow.high) == pytest.approx((wide.low, wide.high))
