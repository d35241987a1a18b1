"""BERTScore against bert-score's own steps in float64, written out with loops."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about
from tests.evals.metrics.outputs import asked, wrote

from lmstack.core import InputError
from lmstack.evals.metrics.bertscore import BertScore, TokenVectors, bert_score, token_idf

sentences = st.lists(st.sampled_from("abcdefg"), max_size=6).map(" ".join)


class HashedEncoder:
    """A vector for each token that depends on its neighbours too, as an encoder's does."""

    digest, layer = "sha256:0123", 9

    def token_vectors(self, texts: Sequence[str]) -> list[TokenVectors]:
        return [self._encoded(["[CLS]", *text.split(), "[SEP]"]) for text in texts]

    def _encoded(self, tokens: list[str]) -> TokenVectors:
        rows = []
        for place in range(len(tokens)):
            near = " ".join(tokens[max(place - 1, 0) : place + 2])
            own, other = (
                np.random.default_rng(list(hashlib.sha256(each.encode()).digest())).normal(size=8)
                for each in (tokens[place], near)
            )
            rows.append(own + 0.3 * other)
        special = [token.startswith("[") for token in tokens]
        return TokenVectors(tuple(tokens), np.array(rows, np.float32), tuple(special))


ENCODER = HashedEncoder()


def by_the_paper(
    text: TokenVectors, target: TokenVectors, weights: dict[str, float], unseen: float
) -> tuple[float, float, float]:
    def cosine(x: np.ndarray, y: np.ndarray) -> float:
        x, y = x.astype(float), y.astype(float)
        return float(x @ y / math.sqrt(x @ x) / math.sqrt(y @ y))

    def side(one: TokenVectors, other: TokenVectors) -> float:
        idf = [weights.get(token, unseen) for token in one.tokens]
        best = [max(cosine(x, y) for y in other.vectors) for x in one.vectors]
        return sum(w * b for w, b in zip(idf, best, strict=True)) / sum(idf)

    p, r = side(text, target), side(target, text)
    return p, r, 2 * p * r / (p + r)


@given(sentences.filter(bool), sentences.filter(bool))
@settings(max_examples=60, deadline=None)
def test_equal_weights_are_those_of_bert_score(one: str, other: str) -> None:
    text, target = ENCODER.token_vectors([one, other])
    expected = by_the_paper(text, target, {"[CLS]": 0, "[SEP]": 0}, 1)
    assert bert_score(text, target) == pytest.approx(expected)


@given(sentences.filter(bool), st.lists(sentences.filter(bool), min_size=2, max_size=5))
@settings(max_examples=60, deadline=None)
def test_weights_by_document_frequency_are_those_of_bert_score(one: str, many: list[str]) -> None:
    encoded = ENCODER.token_vectors(many)
    sets = [set(each.tokens) for each in encoded]
    weights = {
        token: math.log((len(many) + 1) / (sum(token in each for each in sets) + 1))
        for token in set().union(*sets)
    }
    (text,) = ENCODER.token_vectors([one])
    found = bert_score(text, encoded[0], token_idf(encoded))
    if not all(sum(weights.get(t, 1) for t in each.tokens) for each in (text, encoded[0])):
        assert math.isnan(found.f1)  # no token tells one text from another
    else:
        expected = by_the_paper(text, encoded[0], weights, math.log(len(many) + 1))
        assert found == pytest.approx(expected)


def test_an_empty_text_scores_nothing_and_a_text_itself_all() -> None:
    empty, text = ENCODER.token_vectors(["", "a b"])
    assert bert_score(empty, text) == bert_score(text, empty) == (0, 0, 0)
    assert bert_score(text, text) == pytest.approx((1, 1, 1))


def test_the_best_reference_counts_and_a_baseline_is_taken_off() -> None:
    sample = asked("a b c", "x y", "a c b")
    plain = BertScore(ENCODER).score(sample, wrote("a b d"))
    each = np.array(
        [
            bert_score(*ENCODER.token_vectors(["a b d", target]))
            for target in ("a b c", "x y", "a c b")
        ]
    )
    names = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
    assert [plain[name] for name in names] == pytest.approx(each.max(0).tolist())
    scaled = asyncio.run(BertScore(ENCODER, None, (0.2, 0.3, 0.25))(sample, wrote("a b d")))
    expected = (each.max(0) - [0.2, 0.3, 0.25]) / [0.8, 0.7, 0.75]
    assert [scaled[name] for name in names] == pytest.approx(expected.tolist())


def test_the_signature_names_all_that_a_score_depends_on() -> None:
    samples = [asked("a b"), asked("b c")]
    scorers = [
        BertScore(ENCODER),
        BertScore.with_idf(ENCODER, samples),
        BertScore.with_idf(ENCODER, samples[:1]),
        BertScore(ENCODER, None, (0.1, 0.1, 0.1)),
    ]
    signatures = [each.signature for each in scorers]
    assert len(set(signatures)) == 4
    assert all(each.startswith("sha256:0123_L9_") for each in signatures)
    assert signatures[0].endswith("no-idf_v1")
    assert scorers[1].protocol["signature"] == signatures[1]
    with pytest.raises(InputError, match="baseline", check=about("baseline")):
        BertScore(ENCODER, None, (0.1, 0.1, 1.0))


def test_a_scorer_weighs_by_the_references_of_all_samples() -> None:
    """Rare tokens more; of several texts the best, and rescaled beside it."""
    samples = [asked("a b", "a c"), asked("a d")]
    encoded = ENCODER.token_vectors(["a b", "a c", "a d"])
    idf = token_idf(encoded)
    assert idf.weights["a"] < idf.weights["b"] < idf.unseen == math.log(4)
    scorer = BertScore.with_idf(ENCODER, samples, (0.1, 0.2, 0.3))
    assert (scorer.idf, scorer.baseline) == (idf, (0.1, 0.2, 0.3))
    (text,) = ENCODER.token_vectors(["a b x"])
    rows = [bert_score(text, target, idf) for target in encoded[:2]]
    assert rows[0] != bert_score(text, encoded[0])
    expected = (np.max(rows, axis=0) - [0.1, 0.2, 0.3]) / [0.9, 0.8, 0.7]
    found = scorer.score(samples[0], wrote("a b x"))
    assert list(found.values()) == pytest.approx(expected.tolist())
    assert [metric.name for metric in scorer.metrics] == [
        "bertscore_f1",
        "bertscore_precision",
        "bertscore_recall",
    ]
    assert all(set(metric.columns) <= set(found) for metric in scorer.metrics)
    assert scorer.signature.endswith(f"_idf[{idf.digest[:12]}]_rescaled[0.1,0.2,0.3]_v1")
    assert scorer.protocol == {"name": "bert_score", "version": 1, "signature": scorer.signature}


@pytest.mark.parametrize("baseline", [(0.1, 0.1), (0.1,) * 4, (0.1, 0.1, -1.1), (1.0, 0.1, 0.1)])
def test_a_baseline_is_three_numbers_below_one(baseline: tuple[float, ...]) -> None:
    with pytest.raises(InputError, check=about("baseline")):
        BertScore(ENCODER, None, baseline)  # type: ignore[arg-type]
    BertScore(ENCODER, None, (-1.0, -1.0, 0.999))


def test_opposite_texts_have_no_f1() -> None:
    one = TokenVectors(("a",), np.array([[1, 0]]), (False,))
    other = TokenVectors(("b",), np.array([[0, 1]]), (False,))
    assert bert_score(one, other) == (0, 0, 0)
    digests = {token_idf([one]).digest, token_idf([other]).digest, token_idf([one, one]).digest}
    assert len(digests) == 3
