"""Calibration against its definitions and scikit-learn, and what a curve and abstaining give."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about
from tests.oracles import linear_model, metrics

from lmstack.core import InputError
from lmstack.evals.metrics.calibration import (
    PlattScaling,
    _descended,
    _loss,
    brier,
    calibration_bins,
    calibration_error,
    calibration_metrics,
    log_score,
    risk_coverage,
)
from lmstack.evals.statistics import bootstrap

predictions = st.lists(
    st.tuples(st.floats(0, 1) | st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 1)),
    min_size=1,
    max_size=30,
).map(lambda found: tuple(np.array(side, float) for side in zip(*found, strict=True)))


def drawn(count: int, slope: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and what came of them if their log-odds are ``slope`` times too small."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.05, 0.95, count)
    true = 1 / (1 + ((1 - p) / p) ** slope)
    return p, (rng.random(count) < true).astype(float)


def test_by_hand() -> None:
    # Two bins of two: confidence 0.3 and 0.9 on average, right half of the time.
    assert calibration_error([0.2, 0.4, 0.8, 1.0], [1, 0, 0, 1], bins=2) == pytest.approx(0.3)
    assert math.isnan(calibration_error([], []))


def test_probabilities_that_hold_have_next_to_no_error_and_bold_ones_have_their_excess() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    right = rng.random(20_000) < p
    for by in ("mass", "width"):
        assert calibration_error(p, right, by=by) < 0.02
        bold = calibration_error(np.minimum(p + 0.2, 1), right, by=by)
        assert bold == pytest.approx(0.18, abs=0.02)


def test_bins_have_as_many_predictions_each_and_all_of_them() -> None:
    found = calibration_bins(np.linspace(0, 1, 103), np.ones(103))
    assert sum(each.count for each in found) == 103
    assert {each.count for each in found} == {10, 11}
    assert [each.confidence for each in found] == sorted(each.confidence for each in found)


@given(predictions, st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_bins_of_equal_width_are_guos(found: tuple[np.ndarray, np.ndarray], bins: int) -> None:
    p, right = found
    expected = 0.0
    for place in range(bins):
        low, high = place / bins, (place + 1) / bins
        inside = (p > low) & (p <= high) if place else (p <= high)
        if inside.any():
            expected += inside.mean() * abs(p[inside].mean() - right[inside].mean())
    assert calibration_error(p, right, bins, "width") == pytest.approx(expected, abs=1e-12)


@given(predictions)
@settings(max_examples=25, deadline=None)
def test_proper_scores_are_scikit_learns(found: tuple[np.ndarray, np.ndarray]) -> None:
    p, right = found
    assert brier(p, right) == pytest.approx(metrics.brier_score_loss(right, p, pos_label=1))
    assert log_score(p, right) == pytest.approx(metrics.log_loss(right, p, labels=[0, 1]))


@pytest.mark.parametrize("slope", [0.4, 1.0, 2.5])
def test_platt_scaling_is_logistic_regression_without_a_penalty(slope: float) -> None:
    p, right = drawn(400, slope)
    x = np.log(p / (1 - p))[:, None]
    theirs = linear_model.LogisticRegression(C=1e10, solver="newton-cg", tol=1e-10).fit(x, right)
    ours = PlattScaling.fit(p, right)
    assert ours.slope == pytest.approx(theirs.coef_[0, 0], rel=1e-5)
    assert ours.intercept == pytest.approx(theirs.intercept_[0], abs=1e-5)
    assert ours(p) == pytest.approx(theirs.predict_proba(x)[:, 1], abs=1e-5)


@given(predictions)
@settings(max_examples=50, deadline=None)
def test_a_fitted_curve_never_has_a_worse_log_score(found: tuple[np.ndarray, np.ndarray]) -> None:
    p, right = found
    if not 0 < right.mean() < 1:
        with pytest.raises(InputError, match="says nothing about a curve", check=about("correct")):
            PlattScaling.fit(p, right)
        return
    curve = PlattScaling.fit(p, right)
    assert math.isfinite(curve.slope)
    assert log_score(curve(p), right) <= log_score(p, right) + 1e-7


def test_right_and_wrong_that_are_apart_have_a_steep_curve() -> None:
    curve = PlattScaling.fit([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])
    assert curve([0.2, 0.8]) == pytest.approx([0, 1], abs=1e-6)


def test_scaling_repairs_confidence_that_is_too_low() -> None:
    p, right = drawn(4000, 2.5)
    later, came = drawn(4000, 2.5, seed=1)
    curve = PlattScaling.fit(p, right)
    assert calibration_error(later, came) > 0.1
    assert calibration_error(curve(later), came) < 0.03


@given(predictions.filter(lambda found: len(found[0]) <= 6))
@settings(max_examples=40, deadline=None)
def test_the_curve_of_ties_is_the_mean_over_their_orders(
    found: tuple[np.ndarray, np.ndarray],
) -> None:
    p, right = found
    orders = [
        order
        for order in itertools.permutations(range(len(p)))
        if all(p[a] >= p[b] for a, b in itertools.pairwise(order))
    ]
    counts = np.arange(1, len(p) + 1)
    expected = np.mean([np.cumsum(right[list(order)]) / counts for order in orders], axis=0)
    curve = risk_coverage(p, right)
    assert curve.accuracy == pytest.approx(expected)
    assert curve.coverage == pytest.approx(counts / len(p))
    assert curve.area == pytest.approx(1 - expected.mean())


def test_accuracy_at_a_coverage_is_that_of_the_surest() -> None:
    curve = risk_coverage(np.arange(100) / 100, [0] * 90 + [1] * 10)
    assert curve.accuracy_at(0.1) == 1
    assert curve.accuracy_at(0.2) == 0.5
    assert curve.accuracy_at(0.001) == 1
    assert curve.accuracy_at(1) == pytest.approx(0.1)
    falling = risk_coverage(-np.arange(100), [1] * 7 + [0] * 93)
    for count in range(7, 101):  # 0.07 * 100 is more than 7, and 0.29 * 100 less than 29
        assert falling.accuracy_at(count / 100) == pytest.approx(7 / count)
    with pytest.raises(InputError, match="coverage", check=about("coverage")):
        curve.accuracy_at(0)


def test_figures_have_intervals() -> None:
    p, right = drawn(60, 2)
    table = np.stack([p, right], axis=1)
    by_name = {metric.name: metric for metric in calibration_metrics(scaled=True)}
    found = {
        name: bootstrap(table, metric.statistic, resamples=100) for name, metric in by_name.items()
    }
    assert all(each.low <= each.value <= each.high for each in found.values())
    assert found["ece"].value == pytest.approx(calibration_error(p, right))
    assert found["auc"].value == pytest.approx(metrics.roc_auc_score(right, p))
    assert found["accuracy_at_0.5"].value == risk_coverage(p, right).accuracy_at(0.5)
    assert by_name["brier"].better == "lower"
    assert by_name["auc"].better == "higher"


@settings(max_examples=60, deadline=None)
@given(predictions, st.integers(1, 3))
def test_figures_of_many_tables_at_once_are_those_of_each(
    found: tuple[np.ndarray, np.ndarray], tables: int
) -> None:
    rng = np.random.default_rng(0)
    one = np.stack(found, axis=1)
    rows = one[rng.integers(0, len(one), (tables, len(one)))]
    of_each = {
        "ece": calibration_error,
        "ece_equal_width": lambda p, y: calibration_error(p, y, by="width"),
        "brier": brier,
        "aurc": lambda p, y: risk_coverage(p, y).area,
        "accuracy_at_0.5": lambda p, y: risk_coverage(p, y).accuracy_at(0.5),
    }
    figures = {metric.name: metric.statistic for metric in calibration_metrics()}
    for name, figure in of_each.items():
        expected = [figure(table[:, 0], table[:, 1]) for table in rows]
        assert figures[name](rows) == pytest.approx(expected, abs=1e-12), name
        assert float(figures[name](one)) == pytest.approx(figure(*found), abs=1e-12)


def test_what_is_all_right_or_all_wrong_has_no_error_after_scaling() -> None:
    metric = next(m for m in calibration_metrics(scaled=True) if m.name == "ece_after_platt")
    p, right = drawn(40, 2.0)
    for same in (np.ones(40), np.zeros(40)):
        assert math.isnan(float(metric.statistic(np.stack([p, same], axis=1))))
    scaled = calibration_error(PlattScaling.fit(p, right)(p), right)
    assert float(metric.statistic(np.stack([p, right], axis=1))) == pytest.approx(scaled)
    assert metric.better == "lower"


def test_which_figures_there_are_and_what_they_read() -> None:
    metrics = calibration_metrics("sure", "right", coverages=(0.25,))
    lower = ["ece", "ece_equal_width", "brier", "log_score", "aurc"]
    assert [(m.name, m.better) for m in metrics] == [
        *((name, "lower") for name in lower),
        ("accuracy_at_0.25", "higher"),
        ("auc", "higher"),
    ]
    assert {(m.columns, m.is_share) for m in metrics} == {(("sure", "right"), False)}
    names = [m.name for m in calibration_metrics()]
    assert names[5:7] == ["accuracy_at_0.1", "accuracy_at_0.5"]
    assert calibration_metrics()[0].columns == ("confidence", "acc")
    assert [m.name for m in calibration_metrics(scaled=True)][2] == "ece_after_platt"


def test_bins_by_mass_and_by_width_unless_told_are_ten() -> None:
    p = np.linspace(0.005, 0.995, 100)
    right = np.arange(100) % 2.0
    assert calibration_bins(p, right) == calibration_bins(p, right, 10, "mass")
    assert len(calibration_bins(p, right, by="width")) == 10
    assert len(calibration_bins(p[:3], right[:3])) == 3
    assert calibration_error(p, right) == calibration_error(p, right, 10, "mass")
    found = calibration_bins([0.0, 0.5, 0.51, 1.0], [1, 0, 1, 1], 2, "width")
    assert [(each.confidence, each.accuracy, each.count) for each in found] == [
        (0.25, 0.5, 2),
        (0.755, 1.0, 2),
    ]
    assert calibration_bins([], []) == []


def test_truths_and_whole_numbers_are_read_as_numbers() -> None:
    sure, right = [1, 0, 1], [True, False, False]
    floats = (np.array(sure, float), np.array(right, float))
    assert brier(sure, right) == brier(*floats)
    assert log_score(sure, right) == log_score(*floats)
    assert calibration_error(sure, right) == calibration_error(*floats)
    texts = (["0.25", "0.75"], ["0", "1"])
    assert brier(*texts) == pytest.approx(0.0625)
    assert log_score(*texts) == pytest.approx(-math.log(0.75))
    assert risk_coverage(*texts).accuracy.tolist() == [1.0, 0.5]
    least = np.finfo(np.float64).eps
    assert log_score([1.0], [0.0]) == pytest.approx(-math.log(least))


def test_a_steep_step_is_halved_until_the_loss_falls() -> None:
    """A step far beyond the minimum, and one that never leads down."""
    design, y = np.array([[1.0, 1.0], [-1.0, 1.0], [2.0, 1.0]]), np.array([1.0, 0.0, 0.0])
    start = np.zeros(2)
    loss = _loss(start, design, y)
    moved, lower = _descended(start, np.array([-64.0, 0.0]), loss, design, y)
    assert lower == _loss(moved, design, y) <= loss
    stuck, same = _descended(start, np.array([1.0, 0.0]), loss - 1.0, design, y)
    assert (stuck.tolist(), same) == ([0.0, 0.0], loss - 1.0)
