"""Perplexity by token, word and byte, and bits per byte, of a whole data set.

    exp(-sum of log-probabilities / sum of tokens, words or bytes)

A word is what lm-evaluation-harness counts, a part of ``re.split(r"\\s+", text)``; bytes are those
of UTF-8. By words and bytes models with different tokenizers can be compared, by tokens not. Not
covered: how a text is cut (`windows`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lmstack.core import InputError
from lmstack.evals.dataset import Sample
from lmstack.evals.metrics.scoring import ConfiguredScorer
from lmstack.evals.statistics import Floats
from lmstack.evals.task import Metric, ModelOutput

__all__ = ["Perplexity", "bits_each", "perplexity_of"]


def perplexity_of(rows: Floats) -> Floats:
    """(..., N, 2) to (...): the columns being a log-probability (natural logarithm) and how many
    tokens, words or bytes it is of."""
    sums = rows.sum(-2)
    found: Floats = np.exp(-sums[..., 0] / sums[..., 1])
    return found


def bits_each(rows: Floats) -> Floats:
    """As `perplexity_of`, its logarithm to base 2."""
    sums = rows.sum(-2)
    found: Floats = -sums[..., 0] / (sums[..., 1] * math.log(2))
    return found


@dataclass(frozen=True)
class Perplexity(ConfiguredScorer):
    """Reads the likelihoods of an output as those of the sample's targets or, where it has none, of
    the windows of its text. ``counted``: the name of another text in the sample's metadata whose
    words and bytes count, such as that before it was detokenized."""

    name: ClassVar[str] = "perplexity"
    version: ClassVar[int] = 2
    counted: str = ""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        by = {"token": "tokens", "word": "words", "byte": "bytes"}
        return (
            *(
                Metric(
                    f"{unit}_perplexity",
                    ("logprob", column),
                    perplexity_of,
                    "lower",
                    is_share=False,
                )
                for unit, column in by.items()
            ),
            Metric("bits_per_byte", ("logprob", "bytes"), bits_each, "lower", is_share=False),
        )

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        texts: tuple[Any, ...] = sample.targets or (sample.text,)
        if self.counted:
            texts = (sample.metadata.get(self.counted),)
        if not all(isinstance(text, str) and text for text in texts):
            raise InputError(
                f"sample {sample.id} has no text to count words and bytes of",
                param=self.counted or "input",
            )
        tokens = sum(each.num_tokens for each in output.likelihoods)
        if not tokens:
            raise InputError(
                f"the output of sample {sample.id} has the likelihood of no token",
                hint="perplexity needs a solver that scores texts",
                param="likelihoods",
            )
        return {
            "logprob": math.fsum(each.logprob for each in output.likelihoods),
            "tokens": float(tokens),
            "words": float(sum(len(re.split(r"\s+", text)) for text in texts)),
            "bytes": float(sum(len(text.encode()) for text in texts)),
        }
