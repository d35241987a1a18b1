"""What the retrieval benchmark computes equals trec_eval and the textbook."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

_SPEC = importlib.util.spec_from_file_location(
    "ranking", Path(__file__).parents[2] / "benchmarks" / "ranking.py"
)
ranking = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(ranking)

documents = st.integers(0, 30)


@given(st.lists(documents, unique=True, max_size=20), st.sets(documents, min_size=1, max_size=12))
def test_metrics_equal_trec_eval(found, relevant):
    run = {"q": {str(each): float(len(found) - place) for place, each in enumerate(found)}}
    judged = {"q": {str(each): 1 for each in relevant}}
    theirs = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut_10", "recall_10"}).evaluate(run)
    first = {"q": dict(list(run["q"].items())[:10])}
    reciprocal = pytrec_eval.RelevanceEvaluator(judged, {"recip_rank"}).evaluate(first)
    expected = [
        theirs.get("q", {}).get("ndcg_cut_10", 0.0),
        theirs.get("q", {}).get("recall_10", 0.0),
        reciprocal.get("q", {}).get("recip_rank", 0.0),
    ]
    assert [metric(found, relevant) for metric in ranking.METRICS.values()] == pytest.approx(
        expected, abs=1e-4
    )


def test_interval_holds_the_mean_and_narrows_with_more_queries():
    few, many = (np.random.default_rng(1).random(size) for size in (20, 2000))
    for values in (few, many):
        low, high = ranking.interval(values)
        assert low < values.mean() < high
    assert np.diff(ranking.interval(many)) < np.diff(ranking.interval(few))


def test_interval_of_a_normal_mean_is_the_textbooks():
    values = np.random.default_rng(2).normal(size=1000)
    error = 1.96 * values.std() / 1000**0.5
    assert ranking.interval(values) == pytest.approx(
        (values.mean() - error, values.mean() + error), abs=0.005
    )


def test_p_value_is_exact_for_few_queries():
    # All eight of eight signs alike: 2 of 256 flips are as large.
    assert ranking.p_value([0.1] * 8) == pytest.approx(2 / 256, abs=0.003)
    assert ranking.p_value([0.1, -0.1]) == 1.0
    assert ranking.p_value([0.0, 0.0]) == 1.0


def test_holm_multiplies_by_what_is_left_and_never_descends():
    adjusted = ranking.holm({"a": 0.04, "b": 0.01, "c": 0.03})
    assert adjusted == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})
    assert list(adjusted) == ["a", "b", "c"]
