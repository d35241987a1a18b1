"""The expected calibration error: by hand, and nought where probabilities hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmstack.evals.calibration import calibration_bins, calibration_error


def test_by_hand() -> None:
    # Two bins of two: confidence 0.3 and 0.9 on average, right half of the time.
    assert calibration_error([0.2, 0.4, 0.8, 1.0], [1, 0, 0, 1], bins=2) == pytest.approx(0.3)
    assert math.isnan(calibration_error([], []))


def test_probabilities_that_hold_have_next_to_no_error_and_bold_ones_have_their_excess() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    right = rng.random(20_000) < p
    assert calibration_error(p, right) < 0.02
    assert calibration_error(np.minimum(p + 0.2, 1), right) == pytest.approx(0.18, abs=0.02)


def test_bins_have_as_many_predictions_each_and_all_of_them() -> None:
    found = calibration_bins(np.linspace(0, 1, 103), np.ones(103))
    assert sum(each.count for each in found) == 103
    assert {each.count for each in found} == {10, 11}
    assert [each.confidence for each in found] == sorted(each.confidence for each in found)
