"""A score becomes a probability, for models whose scores are known to mean something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.core import ModelInfo
from lmstack.rag.answers.confidence import Calibration, calibration_of

SCORES = st.floats(allow_nan=False)


@given(SCORES, SCORES, st.floats(0.01, 20), st.floats(-10, 10))
def test_a_higher_score_is_never_less_likely_and_all_are_probabilities(one, other, slope, at):
    calibration = Calibration(slope, at)
    low, high = (calibration(score) for score in sorted([one, other]))
    assert 0 <= low <= high <= 1


@pytest.mark.parametrize(("score", "probability"), [(2.5, 0.5), (3.5, 0.8808), (1.5, 0.1192)])
def test_the_curve_is_logistic(score, probability):
    assert Calibration(2.0, -5.0)(score) == pytest.approx(probability, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "far", "near"), [("ms-marco-minilm-l12", -11.0, 9.0), ("all-minilm-l6-v2", 0.1, 0.9)]
)
def test_models_that_were_fitted_tell_near_from_far(name, far, near):
    calibration = calibration_of(ModelInfo(name))
    assert calibration is not None
    assert calibration(far, far) < 0.15
    assert calibration(near, far) > 0.9
    assert calibration(near, near) < calibration(near, far)


@pytest.mark.parametrize("name", ["words", "hash", ""])
def test_a_model_that_nobody_fitted_has_no_probability(name):
    assert calibration_of(ModelInfo(name)) is None
