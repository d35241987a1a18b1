"""BLEU from the counts of samples is sacrebleu's BLEU of the corpus, whatever is resampled."""

from __future__ import annotations

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from tests.errors import about
from tests.evals.metrics.outputs import asked, figure, rows, wrote

from lmstack.core import ExtraMissingError, InputError
from lmstack.evals.metrics.bleu import Bleu, bleu_of
from lmstack.evals.statistics import bootstrap

words = st.sampled_from(
    ["the", "The", "cat", "sat", "on", "mat.", "3,5", "a-b", "né", "&amp;", ","]
)
sentences = st.lists(words, min_size=1, max_size=12).map(" ".join)
pairs = st.lists(st.tuples(sentences | st.just(""), sentences, sentences), min_size=1, max_size=6)
settings_of = st.fixed_dictionaries(
    {
        "tokenize": st.sampled_from(["13a", "intl", "char", "none"]),
        "lowercase": st.booleans(),
        "smooth_method": st.sampled_from(["exp", "floor", "add-k", "none"]),
        "max_ngram_order": st.integers(1, 5),
        "effective_order": st.booleans(),
    }
)


@given(pairs, settings_of)
@settings(max_examples=60, deadline=None)
def test_a_corpus_is_sacrebleus(found: list[tuple[str, str, str]], chosen: dict) -> None:
    scorer = Bleu(**chosen)
    scores = [scorer.score(asked(one, other), wrote(text)) for text, one, other in found]
    texts, *references = map(list, zip(*found, strict=True))
    theirs = BLEU(**chosen).corpus_score(texts, references).score
    assert figure(scorer.metrics[0], scores) == pytest.approx(theirs, abs=1e-9)


@given(sentences | st.just(""), sentences, sentences)
@settings(max_examples=30, deadline=None)
def test_a_sentence_is_sacrebleus(text: str, one: str, other: str) -> None:
    ours = Bleu().score(asked(one, other), wrote(text))["sentence_bleu"]
    assert ours == pytest.approx(sacrebleu.sentence_bleu(text, [one, other]).score, abs=1e-9)


@pytest.mark.parametrize(("method", "value"), [("floor", 0.3), ("add-k", 2.0)])
def test_the_value_of_a_smoothing_is_sacrebleus(method: str, value: float) -> None:
    chosen = {"smooth_method": method, "smooth_value": value}
    text, target = "the cat sat on a rug", "the cat is on the rug"
    ours = figure(Bleu(**chosen).metrics[0], [Bleu(**chosen).score(asked(target), wrote(text))])
    assert ours == pytest.approx(BLEU(**chosen).corpus_score([text], [[target]]).score)


def test_a_resample_has_the_bleu_of_that_corpus() -> None:
    texts = ["the cat sat on the mat", "a dog barked at night", "no", "the end of all things"]
    targets = ["the cat sat on a mat", "a dog barked", "never", "it is the end of all things"]
    scorer = Bleu()
    scores = [scorer.score(asked(t), wrote(x)) for x, t in zip(texts, targets, strict=True)]
    metric = scorer.metrics[0]
    places = np.array([[0, 0, 2, 3], [1, 1, 1, 1], [3, 2, 1, 0]])
    ours = metric.statistic(rows(metric, scores)[places])
    theirs = [
        BLEU().corpus_score([texts[i] for i in row], [[targets[i] for i in row]]).score
        for row in places
    ]
    assert ours == pytest.approx(theirs)
    interval = bootstrap(rows(metric, scores), metric.statistic)
    assert interval.low < interval.value < interval.high


def test_the_signature_is_the_one_that_sacrebleu_prints() -> None:
    metric = BLEU(lowercase=True, tokenize="char", smooth_method="floor")
    metric.corpus_score(["a b", "c"], [["a", "c"], ["b", "d"]])
    ours = Bleu(lowercase=True, tokenize="char", smooth_method="floor")
    assert ours.signature([asked("a", "b"), asked("c", "d")]) == str(metric.get_signature())
    assert ours.signature([asked("a", "b"), asked("c")]).startswith("nrefs:var|")
    assert Bleu().protocol["sacrebleu"] == sacrebleu.__version__


def test_a_reference_that_is_empty_is_left_out_and_the_only_one_refused() -> None:
    ours = Bleu().score(asked("", "the cat sat"), wrote("the cat sat"))
    assert ours == Bleu().score(asked("the cat sat"), wrote("the cat sat"))
    with pytest.raises(
        InputError, match="empty text for its only reference", check=about("targets")
    ):
        Bleu().score(asked(""), wrote("x"))
    with pytest.raises(InputError, match="tokenize", check=about("tokenize")):
        Bleu(tokenize="words")


def test_a_tokenizer_without_its_packages_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**settings: object) -> None:
        raise RuntimeError("MeCab")

    monkeypatch.setattr("sacrebleu.metrics.BLEU", fails)
    with pytest.raises(ExtraMissingError, check=about("tokenize")) as error:
        Bleu(tokenize="ja-mecab").score(asked("x"), wrote("x"))
    assert error.value.hint == "pip install 'sacrebleu[ja]'"


def test_many_corpora_at_once_have_the_bleu_of_each() -> None:
    """Also where one of them has no match at all, which makes it nothing of the others."""
    texts = ["the cat sat on the mat", "zzz yyy"]
    for chosen in (
        {},
        {"smooth_method": "floor"},
        {"smooth_method": "add-k"},
        {"effective_order": True},
    ):
        scorer = Bleu(**chosen)
        scores = [scorer.score(asked("the cat sat on a mat"), wrote(text)) for text in texts]
        metric = scorer.metrics[0]
        tables = rows(metric, scores)[:, None]
        apart = [float(metric.statistic(table)) for table in tables]
        assert metric.statistic(tables) == pytest.approx(apart)
        assert metric.statistic(tables[:, None]).shape == (2, 1)
        assert apart[1] == 0.0


def test_bleu_of_counts_by_its_defaults() -> None:
    counts = np.array([[6.0, 7, 5, 3, 1, 0, 6, 5, 4, 3]])
    precisions = np.array([5 / 6, 3 / 5, 1 / 4, 0.5 / 3])
    expected = 100 * np.exp(1 - 7 / 6 + np.log(precisions).mean())
    assert bleu_of(counts) == pytest.approx(expected)
    assert bleu_of(counts) == bleu_of(counts, 4, "exp", None, False)
    floor = np.array([5 / 6, 3 / 5, 1 / 4, 0.1 / 3])
    assert bleu_of(counts, 4, "floor") == pytest.approx(100 * np.exp(-1 / 6 + np.log(floor).mean()))
    added = np.array([5 / 6, 4 / 6, 2 / 5, 1 / 4])
    found = bleu_of(counts, 4, "add-k")
    assert found == pytest.approx(100 * np.exp(-1 / 6 + np.log(added).mean()))
    assert bleu_of(counts, 4, "none") == 0.0
    twice = np.array([[3.0, 3, 2, 0, 0, 0, 3, 2, 1, 0]])
    missed = np.log([2 / 3, 0.5 / 2, 0.25 / 1])
    assert bleu_of(twice, effective_order=True) == pytest.approx(100 * np.exp(missed.mean()))
    assert bleu_of(np.zeros((1, 10))) == 0.0
    assert bleu_of(np.array([[0.0, 5, *[0] * 8]]), 4, "add-k") == 0.0


def test_settings_of_bleu_are_sacrebleus() -> None:
    shown = Bleu(max_ngram_order=2)
    assert shown.columns == (
        *("bleu_length", "bleu_reference_length", "bleu_matches_1", "bleu_matches_2"),
        *("bleu_totals_1", "bleu_totals_2"),
    )
    scores = shown.score(asked("the cat sat"), wrote("the cat ran off"))
    assert [scores[name] for name in shown.columns] == [4, 3, 2, 1, 4, 3]
    corpus, sentence = shown.metrics
    assert (corpus.name, corpus.is_share, corpus.decimals) == ("bleu", False, 2)
    assert (sentence.name, sentence.decimals) == ("sentence_bleu", 2)
    chosen = {
        **{"tokenize": "char", "lowercase": True, "smooth_method": "add-k", "smooth_value": 2.0},
        **{"max_ngram_order": 3, "effective_order": True},
    }
    theirs = BLEU(**chosen)
    theirs.corpus_score(["a"], [["a"]])
    assert Bleu(**chosen).signature([asked("a")]) == str(theirs.get_signature())
