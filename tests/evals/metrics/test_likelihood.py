"""Multiple choice by likelihood, against the formulas of lm-evaluation-harness and TruthfulQA."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about
from tests.evals.metrics.outputs import asked, likely, wrote

from lmstack.core import InputError
from lmstack.evals.metrics.likelihood import (
    GOLD_BITS,
    MISSING,
    Mc1,
    Mc2,
    MultipleChoiceScorer,
    NextToken,
)

logprobs = st.lists(st.floats(-2000, -0.001), min_size=2, max_size=5)
choices = st.lists(
    st.text("ab é語🙂", min_size=1, max_size=8),
    min_size=5,
    max_size=5,
    unique=True,
)


@given(logprobs, choices, st.integers(0, 1))
def test_accuracies_are_the_harness(found: list[float], texts: list[str], gold: int) -> None:
    texts = texts[: len(found)]
    sample = asked(choices=tuple(texts), gold=(gold,))
    scores = MultipleChoiceScorer().score(sample, likely(*found))
    lengths = np.array([float(len(text)) for text in texts])
    sizes = np.array([float(len(text.encode())) for text in texts])
    assert scores["acc"] == float(np.argmax(found) == gold)
    assert scores["acc_norm"] == float(np.argmax(found / lengths) == gold)
    assert scores["acc_bytes"] == float(np.argmax(found / sizes) == gold)
    p = scipy.special.softmax(found)
    assert scores["gold_probability"] == pytest.approx(p[gold])
    assert scores["confidence"] == pytest.approx(p.max())
    best_wrong = max(each for place, each in enumerate(found) if place != gold)
    assert scores["margin"] == pytest.approx(found[gold] - best_wrong)


def test_characters_and_bytes_may_choose_otherwise() -> None:
    sample = asked(choices=("ééé", "abcd"), gold=(0,))
    scores = MultipleChoiceScorer().score(sample, likely(-6.0, -8.4))
    assert (scores["acc"], scores["acc_norm"], scores["acc_bytes"]) == (1, 1, 1)
    scores = MultipleChoiceScorer().score(sample, likely(-6.6, -8.4))
    assert (scores["acc_norm"], scores["acc_bytes"]) == (0, 1)


def test_ties_go_to_the_first_and_helm_shares_them() -> None:
    sample = asked(choices=("a", "b", "c"), gold=(1, 2))
    scores = MultipleChoiceScorer().score(sample, likely(-1.0, -1.0, -3.0, greedy=[1]))
    assert (scores["acc"], scores["acc_tied"], scores["exact_match"]) == (0, 0.5, 1)


def test_mutual_information_takes_off_what_a_choice_is_likely_without_the_question() -> None:
    sample = asked(choices=("a", "b"), gold=(1,))
    facts = {"unconditional_logprobs": [-1.0, -5.0]}
    scores = MultipleChoiceScorer().score(sample, likely(-1.0, -3.0, facts=facts))
    assert (scores["acc"], scores["acc_mutual_info"]) == (0, 1)
    assert math.isnan(MultipleChoiceScorer().score(sample, likely(-1.0, -3.0))["acc_mutual_info"])


@given(logprobs, st.data())
def test_mc2_is_truthfulqas_also_where_all_underflow(
    found: list[float], data: st.DataObject
) -> None:
    true = data.draw(st.integers(1, len(found) - 1))
    sample = asked(choices=tuple(map(str, range(len(found)))), gold=tuple(range(true)))
    scores = Mc2().score(sample, likely(*found))
    total = scipy.special.logsumexp(found)
    assert scores["mc2"] == pytest.approx(
        math.exp(scipy.special.logsumexp(found[:true]) - total), abs=1e-12
    )
    far = Mc2().score(sample, likely(*(each - 5000 for each in found)))
    assert far["mc2"] == pytest.approx(scores["mc2"], abs=1e-9)
    best = Mc1().score(sample, likely(*found))
    assert best["mc1"] == float(int(np.argmax(found)) < true)


def test_the_next_token_is_mmlus_and_a_letter_that_is_missing_has_minus_100() -> None:
    sample = asked(choices=("w", "x", "y", "z"), gold=(2,))
    table = {" A": -1.5, " C": -0.5, "C": -0.1}
    scores = NextToken().score(sample, wrote("", facts={"next_token_logprobs": table}))
    p = scipy.special.softmax([-1.5, MISSING, -0.5, MISSING])
    assert (scores["acc"], scores["letters_missing"]) == (1, 0.5)
    assert scores["gold_probability"] == pytest.approx(p[2])
    whole = NextToken().score(sample, likely(-1.5, -3.0, -2.0, -4.0))
    assert (whole["acc"], whole["letters_missing"]) == (0, 0)


def test_what_does_not_fit_together_is_refused() -> None:
    sample = asked(choices=("a", "b"), gold=(0,))
    with pytest.raises(
        InputError, match="has 2 choices, and the output 1 likelihoods", check=about("likelihoods")
    ):
        MultipleChoiceScorer().score(sample, likely(-1.0))
    with pytest.raises(InputError, match="which choice is right", check=about("gold")):
        Mc1().score(asked(choices=("a", "b")), likely(-1.0, -2.0))
    with pytest.raises(InputError, match="empty choice", check=about("choices")):
        MultipleChoiceScorer().score(asked(choices=("a", ""), gold=(0,)), likely(-1.0, -2.0))
    with pytest.raises(
        InputError, match="log-probabilities of the next token", check=about("next_token_logprobs")
    ):
        NextToken().score(sample, wrote("A"))


def test_bits_of_the_right_choice_are_counted_over_its_bytes() -> None:
    samples = [asked(choices=("né", "abcd"), gold=(0,)), asked(choices=("abc", "d"), gold=(0, 1))]
    found = [likely(-3.0, -1.0), likely(-9.0, -2.0)]
    rows = [MultipleChoiceScorer().score(s, o) for s, o in zip(samples, found, strict=True)]
    assert [(row["gold_logprob"], row["gold_bytes"]) for row in rows] == [(-3.0, 3), (-2.0, 1)]
    table = np.array([[row[name] for name in GOLD_BITS.columns] for row in rows])
    assert GOLD_BITS.statistic(table) == pytest.approx(5 / (4 * math.log(2)))
    assert GOLD_BITS.better == "lower"


def test_each_scorer_of_likelihoods_names_its_figures() -> None:
    names = {
        type(scorer).__name__: [(m.name, m.better, m.is_share) for m in scorer.metrics]
        for scorer in (MultipleChoiceScorer(), NextToken(), Mc1(), Mc2())
    }
    shares = [(name, "higher", True) for name in ("acc", "acc_norm", "acc_bytes")]
    means = [(name, "higher", False) for name in ("gold_probability", "margin")]
    bits = (GOLD_BITS.name, "lower", False)
    assert names == {
        "MultipleChoiceScorer": [*shares, *means, bits],
        "NextToken": [shares[0], means[0], ("letters_missing", "lower", False), means[1]],
        "Mc1": [("mc1", "higher", True)],
        "Mc2": [("mc2", "higher", False)],
    }


def test_tokens_and_a_question_without_a_wrong_choice() -> None:
    sample = asked(choices=("aa", "b"), gold=(0,))
    one, two = (likely(-4.0, -3.0, tokens=n).likelihoods for n in (4, 1))
    output = replace(likely(-4.0, -3.0), likelihoods=(one[0], two[1]))
    scores = MultipleChoiceScorer().score(sample, output)
    assert (scores["acc"], scores["acc_tokens"], scores["acc_norm"]) == (0.0, 1.0, 1.0)
    none = MultipleChoiceScorer().score(sample, likely(-4.0, -3.0, tokens=0))
    assert none["acc_tokens"] == 0.0
    right = asked(choices=("a", "b"), gold=(0, 1))
    assert math.isnan(MultipleChoiceScorer().score(right, likely(-1.0, -2.0))["margin"])
    assert (
        MultipleChoiceScorer().score(sample, likely(-1.0, -2.0, greedy=[1]))["exact_match"] == 0.0
    )
    facts = {"unconditional_logprobs": [-1.0]}
    with pytest.raises(InputError, match="2 choices, and 1", check=about("unconditional_logprobs")):
        MultipleChoiceScorer().score(sample, likely(-1.0, -2.0, facts=facts))
    table = {"A": -0.1, " B": -9.0}
    bare = NextToken("").score(sample, wrote("", facts={"next_token_logprobs": table}))
    assert (bare["acc"], bare["letters_missing"]) == (1.0, 0.5)
    with pytest.raises(InputError, match="which choice is right", check=about("gold")):
        NextToken().score(replace(sample, gold=()), wrote("", facts={"next_token_logprobs": table}))
