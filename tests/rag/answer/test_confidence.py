"""A score becomes a probability, for models whose scores are known to mean something."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.core import ModelInfo
from lmstack.rag.answer.confidence import Calibration, Certainty, SharedNorm, calibration_of
from lmstack.rag.retrieve.hybrid import Hit

SCORES = st.floats(-1e6, 1e6)


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


PLAIN, LEADING = Calibration(2.0, 0.0), Calibration(0.0, 0.0, lead=1.0, floor=-3.0)


def _hits(*scores: float | None, similarity: float = 0.5) -> list[Hit]:
    ranks = {"dense": 1, "lexical": None}
    return [
        Hit(n, 1.0, "", 0, 0, "", None, ranks, n, n, "", (), "", similarity, score)
        for n, score in enumerate(scores, 1)
    ]


@given(SCORES, SCORES, SCORES)
def test_what_stands_out_from_the_others_is_likelier(score, one, other):
    low, high = sorted([one, other])
    assert LEADING(score, high) <= LEADING(score, low)


def test_a_passage_stands_out_from_those_behind_the_first_three():
    hits = _hits(5.0, 4.0, 3.0, 1.0, 2.0)
    assert Certainty(hits, LEADING, None)(hits[0]) == pytest.approx(LEADING(5.0, 1.5))
    few = _hits(5.0, 4.0, 3.0)
    assert Certainty(few, LEADING, None)(few[0]) == pytest.approx(LEADING(5.0, -3.0))


def test_a_reranker_counts_where_it_read_and_the_embedder_where_none_did():
    hits = _hits(1.0, None)
    certainty = Certainty(hits, PLAIN, LEADING)
    assert certainty(hits[0]) == pytest.approx(PLAIN(1.0))
    assert certainty(hits[1]) is None
    assert certainty.odds(hits[0]) == pytest.approx(7.389, abs=1e-3)
    unread = _hits(None, None)
    assert Certainty(unread, LEADING, PLAIN)(unread[0]) == pytest.approx(PLAIN(0.5))
    assert not Certainty(unread, LEADING, PLAIN).by_reranker


def test_nothing_is_certain_of_a_model_without_a_curve():
    hits, unread = _hits(1.0), _hits(None)
    assert Certainty(hits, None, PLAIN)(hits[0]) is None
    assert Certainty(unread, PLAIN, None)(unread[0]) is None
    assert Certainty(hits, None, None).odds(hits[0]) is None


@given(st.lists(st.floats(-50, 50), max_size=10), st.floats(0.1, 10), st.floats(-10, 10))
def test_a_reader_shares_its_probability_with_none(scores, temperature, null):
    found = SharedNorm(temperature, null).probabilities(scores)
    odds = np.exp((np.array([null, *scores]) - null) / temperature)
    assert found == pytest.approx((odds / odds.sum())[1:], abs=1e-9)


def test_a_reader_far_below_none_is_certain_of_nothing():
    assert SharedNorm(1.0, 0.0).probabilities([-1e6, -2e6]) == [0.0, 0.0]
    assert SharedNorm(1.0, 0.0).probabilities([1e6, -1e6]) == [1.0, 0.0]


def test_what_a_model_says_of_its_scores_counts_for_it():
    info = ModelInfo("ms-marco-minilm-l12", shared_norm=(3.0, 2.0))
    hits = _hits(2.0, 2.0)
    certainty = Certainty(hits, calibration_of(info), None)
    assert certainty(hits[0]) == pytest.approx(1 / 3)
