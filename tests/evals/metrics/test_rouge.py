"""ROUGE equals the rouge-score package."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about
from tests.evals.metrics.outputs import asked, wrote
from tests.oracles import rouge_scorer

from lmstack.core import InputError
from lmstack.evals.metrics.rouge import ROUGE_TYPES, Rouge, rouge

TYPES = (*ROUGE_TYPES, "rouge3")
# Few words, so that much is in common in another order; marks, lines and letters that are no words.
words = st.sampled_from(
    [
        "cat",
        "cats",
        "sitting",
        "relational",
        "dies",
        "happily",
        "Cat",
        "dog",
        "the",
        "3",
        "x-y",
        "né",
        "İ",
        "it's",
        ".",
        "\n",
        "\t",
        "語",
    ]
)
texts = st.lists(words, max_size=24).map(" ".join)


@functools.cache
def reference(stemming: bool = False) -> Any:
    return rouge_scorer.RougeScorer(list(TYPES), use_stemmer=stemming)


@given(texts, texts, st.booleans())
@settings(max_examples=150, deadline=None)
def test_all_types_are_those_of_rouge_score(text: str, target: str, stemming: bool) -> None:
    theirs = reference(stemming).score(target, text)
    for kind, ours in rouge(text, target, TYPES, stemming=stemming).items():
        assert ours == pytest.approx(tuple(theirs[kind])), kind


@given(st.lists(texts, min_size=1, max_size=3), texts)
@settings(max_examples=30, deadline=None)
def test_of_several_targets_it_is_rouge_scores_choice(targets: list[str], text: str) -> None:
    theirs = reference().score_multi(targets, text)
    ours = Rouge(TYPES).score(asked(*targets), wrote(text))
    for kind in TYPES:
        expected = theirs[kind].precision, theirs[kind].recall, theirs[kind].fmeasure
        found = tuple(ours[f"{kind}_{side}"] for side in ("precision", "recall", "f1"))
        assert found == pytest.approx(expected)


def test_sentences_are_lines_for_the_summary_form_alone() -> None:
    text, target = "the cat sat\nthe dog ran", "the dog ran\nthe cat sat"
    found = rouge(text, target)
    assert found["rougeLsum"].f1 == 1
    assert found["rougeL"].f1 == pytest.approx(3 / 6)


def test_an_unknown_type_names_the_nearest() -> None:
    with pytest.raises(InputError, check=about("types")) as error:
        Rouge(("rouge-1",))
    assert error.value.hint == "did you mean 'rouge1'?"


def test_no_types_one_type_and_their_defaults() -> None:
    with pytest.raises(InputError, match="rouge has no types"):
        Rouge(())
    with pytest.raises(InputError, match="no type 'zzz'", check=about("types")) as error:
        Rouge(("rouge1", "zzz"))
    assert (
        error.value.hint
        == f"known: {', '.join(f'rouge{n}' for n in range(1, 10))}, rougeL, rougeLsum"
    )
    one = Rouge("rouge9")  # type: ignore[arg-type]
    assert one.types == ("rouge9",)
    assert [metric.name for metric in one.metrics] == [
        f"rouge9_{side}" for side in ("f1", "precision", "recall")
    ]
    with pytest.raises(InputError):
        Rouge(("rouge10",))
    assert (Rouge().types, Rouge().stemming) == (ROUGE_TYPES, False)
    assert Rouge().protocol["nltk"] is None
    assert Rouge(stemming=True).protocol["nltk"]
    assert rouge("cats", "cat")["rouge1"].f1 == 0
    short = Rouge(("rouge1",), stemming=True)
    assert short.score(asked("cats"), wrote("cat"))["rouge1_f1"] == 1
    assert short.score(asked("was"), wrote("wa"))["rouge1_f1"] == 0  # three letters stay
