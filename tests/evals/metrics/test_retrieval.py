"""Measures of rankings equal trec_eval."""

from __future__ import annotations

import math

import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about
from tests.evals.metrics.outputs import asked, wrote

from lmstack.core import InputError
from lmstack.evals.metrics.retrieval import RANKING_MEASURES, Retrieval, ndcg

documents = st.integers(0, 30).map(str)
KS = (1, 5, 10)
NAMES = {"ndcg": "ndcg_cut", "recall": "recall", "precision": "P", "map": "map_cut"}


@given(
    st.lists(documents, unique=True, min_size=1, max_size=20),
    st.dictionaries(documents, st.integers(0, 3), min_size=1, max_size=12).filter(
        lambda grades: any(grades.values())
    ),
)
@settings(deadline=None)
def test_all_measures_equal_trec_eval(ranking: list[str], grades: dict[str, int]) -> None:
    run = {"q": {each: float(len(ranking) - place) for place, each in enumerate(ranking)}}
    wanted = {f"{name}.{','.join(map(str, KS))}" for name in NAMES.values()}
    theirs = pytrec_eval.RelevanceEvaluator({"q": grades}, wanted).evaluate(run)["q"]
    scorer = Retrieval(KS)
    sample = asked(metadata={"relevance": grades})
    ours = scorer.score(sample, wrote("", facts={"ranking": ranking}))
    for k in KS:
        for name, trec in NAMES.items():
            assert ours[f"{name}@{k}"] == pytest.approx(theirs[f"{trec}_{k}"], abs=1e-4), name
        first = {"q": dict(list(run["q"].items())[:k])}
        reciprocal = pytrec_eval.RelevanceEvaluator({"q": grades}, {"recip_rank"}).evaluate(first)
        expected = reciprocal["q"]["recip_rank"]
        assert ours[f"mrr@{k}"] == pytest.approx(expected, abs=1e-4)


def test_targets_are_the_relevant_documents_all_alike() -> None:
    ours = Retrieval((3,)).score(asked("b", "d"), wrote("", facts={"ranking": ["a", "b", "c"]}))
    assert ours["recall@3"] == 0.5
    assert ours["mrr@3"] == 0.5
    assert ours["ndcg@3"] == pytest.approx(ndcg(["a", "b", "c"], {"b": 1.0, "d": 1.0}, 3))
    assert {f"{name}@3" for name in RANKING_MEASURES} == set(ours)


def test_the_whole_ranking_counts_without_a_limit() -> None:
    ranking = [str(n) for n in range(30)]
    assert ndcg(ranking, {"29"}, None) > ndcg(ranking, {"29"}) == 0
    assert RANKING_MEASURES["precision"](ranking, {"29"}, None) == pytest.approx(1 / 30)


def test_ten_count_unless_a_number_is_given_and_of_average_precision_all() -> None:
    ranking = [str(n) for n in range(30)]
    for name, measure in RANKING_MEASURES.items():
        limit = None if name == "map" else 10
        for place in (9, 10):
            relevant = {str(place)}
            by_default = measure(ranking, relevant)  # type: ignore[call-arg]
            assert by_default == measure(ranking, relevant, limit), name
            assert (by_default > 0) == (place < 10 or name == "map"), name
    assert Retrieval().k == (10,)


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(InputError, match="no relevant document", check=about("targets")):
        Retrieval().score(asked(metadata={"relevance": {"a": 0}}), wrote("", facts={"ranking": []}))
    with pytest.raises(InputError, match="holds a document twice", check=about("ranking")):
        Retrieval().score(asked("a"), wrote("", facts={"ranking": ["a", "a"]}))
    with pytest.raises(InputError, match="for a ranking", check=about("ranking")):
        Retrieval().score(asked("a"), wrote("text"))


def test_measures_by_hand_of_two_relevant_ones() -> None:
    ranking, grades = ["a", "b", "c", "d"], {"b": 2.0, "d": 1.0, "x": 0.0}
    found = {name: measure(ranking, grades, 4) for name, measure in RANKING_MEASURES.items()}
    best = 2 + 1 / math.log2(3)
    assert found == pytest.approx(
        {
            "ndcg": (2 / math.log2(3) + 1 / math.log2(5)) / best,
            **{"recall": 1.0, "precision": 0.5, "mrr": 0.5, "map": (1 / 2 + 2 / 4) / 2},
        }
    )
    assert RANKING_MEASURES["precision"]([], grades, None) == 0.0
    assert RANKING_MEASURES["precision"](["b"], grades, 4) == 0.25
    assert [metric.name for metric in Retrieval((1, 2)).metrics][:6] == [
        *(f"{name}@1" for name in RANKING_MEASURES),
        "ndcg@2",
    ]
    with pytest.raises(InputError, check=about("ranking")):
        Retrieval().score(asked("a"), wrote("", facts={"ranking": "a"}))
    assert Retrieval().score(asked("a"), wrote("", facts={"ranking": ("a",)}))["mrr@10"] == 1.0
