"""chrF and chrF++ from the counts of samples are sacrebleu's of the corpus."""

from __future__ import annotations

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF
from tests.evals.metrics.outputs import asked, figure, wrote

from lmstack.evals.metrics.bleu import Chrf, corpus_chrf

sentences = st.text(st.sampled_from("abcABC d.,é語"), min_size=1, max_size=20).filter(str.strip)
pairs = st.lists(st.tuples(sentences | st.just(""), sentences, sentences), min_size=1, max_size=5)
settings_of = st.fixed_dictionaries(
    {
        "char_order": st.integers(1, 7),
        "word_order": st.integers(0, 3),
        "beta": st.integers(1, 3),
        "lowercase": st.booleans(),
        "whitespace": st.booleans(),
        "eps_smoothing": st.booleans(),
    }
)


@given(pairs, settings_of)
@settings(max_examples=60, deadline=None)
def test_a_corpus_is_sacrebleus(found: list[tuple[str, str, str]], chosen: dict) -> None:
    scorer = Chrf(**chosen)
    scores = [scorer.score(asked(one, other), wrote(text)) for text, one, other in found]
    texts, *references = map(list, zip(*found, strict=True))
    theirs = CHRF(**chosen).corpus_score(texts, references).score
    assert figure(scorer.metrics[0], scores) == pytest.approx(theirs, abs=1e-9)
    alone = CHRF(**chosen).sentence_score(texts[0], [each[0] for each in references]).score
    assert scores[0]["sentence_chrf"] == pytest.approx(alone, abs=1e-9)


def test_a_corpus_of_pairs_has_the_defaults_of_sacrebleu() -> None:
    texts = ["Y dijo Dios: Sea la luz", "el gato"]
    targets = ["Y dijo Dios: Sea la luz: y fué la luz.", "un gato negro"]
    assert corpus_chrf(texts, targets) == pytest.approx(54.02720922455808)
    assert corpus_chrf(["abc"], ["xyz"]) == 0
    assert corpus_chrf(["a"], ["a"]) == pytest.approx(100)


def test_the_signature_is_the_one_that_sacrebleu_prints() -> None:
    metric = CHRF(word_order=2)
    metric.corpus_score(["a b", "c"], [["a", "c"]])
    assert Chrf(word_order=2).signature([asked("a"), asked("c")]) == str(metric.get_signature())
    assert Chrf().protocol["sacrebleu"] == sacrebleu.__version__
