"""Perplexities of a corpus are of its sums, as lm-evaluation-harness has them."""

from __future__ import annotations

import math

import pytest
from tests.errors import about
from tests.evals.metrics.outputs import figure, likely

from lmstack.core import InputError
from lmstack.evals.metrics.likelihood import Perplexity
from lmstack.evals.task import Sample

TEXTS = ("Two  words", "é ist ein Buchstabe\n")


def test_all_units_by_hand() -> None:
    scorer = Perplexity()
    outputs = (likely(-3.0, -2.0, tokens=2), likely(-7.0, tokens=3))
    scores = [
        scorer.score(Sample(text, text), output)
        for text, output in zip(TEXTS, outputs, strict=True)
    ]
    words, size = 2 + 5, len("".join(TEXTS).encode())  # an empty word follows the last line break
    found = {metric.name: figure(metric, scores) for metric in scorer.metrics}
    assert found == pytest.approx(
        {
            "token_perplexity": math.exp(12 / 7),
            "word_perplexity": math.exp(12 / words),
            "byte_perplexity": math.exp(12 / size),
            "bits_per_byte": 12 / size / math.log(2),
        }
    )


def test_words_and_bytes_may_be_those_of_another_text() -> None:
    sample = Sample("a", "it's", metadata={"page": "it 's"})
    scores = Perplexity("page").score(sample, likely(-1.0))
    assert (scores["words"], scores["bytes"]) == (2, 5)
    with pytest.raises(InputError, match="no text to count", check=about("paeg")):
        Perplexity("paeg").score(sample, likely(-1.0))
    with pytest.raises(InputError, match="likelihood of no token", check=about("likelihoods")):
        Perplexity().score(sample, likely())
