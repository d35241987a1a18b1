"""chrF and chrF++ (Popović, 2015 and 2017), as sacrebleu computes them: F-scores of n-grams.

sacrebleu counts (the extra ``evals``); the counts of each sample are kept as its scores, as those
of `bleu` are. The reference that gives a sample the highest score is the one that is counted.

Legend: M orders, those of characters and then those of words; a row is, for each of them,
[n-grams of the text, n-grams of the reference, matches].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from lmstack.core import allowed, require
from lmstack.evals.dataset import Sample
from lmstack.evals.metrics.bleu import references_of, sacrebleu_signature
from lmstack.evals.metrics.scoring import ConfiguredScorer, average
from lmstack.evals.statistics import Floats
from lmstack.evals.task import Metric, ModelOutput

__all__ = ["Chrf", "chrf_of", "corpus_chrf"]

_EPSILON = 1e-16  # of chrF++.py, which sacrebleu follows where it smooths


def chrf_of(rows: Floats, beta: float = 2, eps_smoothing: bool = False) -> Floats:
    """(..., N, 3M) to (...): the chrF of the corpus of the N rows, between 0 and 100. ``beta``: how
    many times recall counts."""
    sums = rows.sum(-2)
    ours, theirs, matches = (sums[..., place::3] for place in range(3))
    factor = beta**2
    if eps_smoothing:
        floor = np.full_like(ours, _EPSILON)
        precision = np.divide(matches, ours, out=floor.copy(), where=ours > 0)
        recall = np.divide(matches, theirs, out=floor.copy(), where=theirs > 0)
        below = factor * precision + recall
        above = (1 + factor) * precision * recall
        each = np.divide(above, below, out=floor, where=below > 0)
        smoothed: Floats = 100 * each.mean(-1)
        return smoothed
    counted = (ours > 0) & (theirs > 0)
    orders = np.maximum(counted.sum(-1), 1)
    precision, recall = (
        np.divide(matches, of, out=np.zeros_like(of), where=counted).sum(-1) / orders
        for of in (ours, theirs)
    )
    below = factor * precision + recall
    above = 100 * (1 + factor) * precision * recall
    found: Floats = np.divide(above, below, out=np.zeros_like(below), where=below > 0)
    return found


@lru_cache(maxsize=16)
def _sacrebleu(
    char_order: int, word_order: int, beta: int, lowercase: bool, whitespace: bool, eps: bool
) -> Any:
    return require("sacrebleu.metrics", "evals").CHRF(
        char_order=char_order,
        word_order=word_order,
        beta=beta,
        lowercase=lowercase,
        whitespace=whitespace,
        eps_smoothing=eps,
    )


def corpus_chrf(texts: Sequence[str], references: Sequence[str]) -> float:
    """Of ``texts`` with a reference each, by the defaults, between 0 and 100."""
    scorer = Chrf()
    pairs = zip(texts, references, strict=True)
    return float(scorer.of_counts(np.array([scorer.counts(text, (ref,)) for text, ref in pairs])))


@dataclass(frozen=True)
class Chrf(ConfiguredScorer):
    """Parameters as in sacrebleu: ``word_order`` 2 makes it chrF++."""

    name: ClassVar[str] = "chrf"
    char_order: int = allowed(6, int, 1, 20)
    word_order: int = allowed(0, int, 0, 9)
    beta: int = allowed(2, int, 1, 10)
    lowercase: bool = allowed(False, bool)
    whitespace: bool = allowed(False, bool)
    eps_smoothing: bool = allowed(False, bool)

    @property
    def columns(self) -> tuple[str, ...]:
        orders = [f"char_{n}" for n in range(1, self.char_order + 1)]
        orders += [f"word_{n}" for n in range(1, self.word_order + 1)]
        kinds = ("found", "wanted", "matches")
        return tuple(f"chrf_{kind}_{order}" for order in orders for kind in kinds)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric("chrf", self.columns, self.of_counts, is_share=False, decimals=2),
            average("sentence_chrf", decimals=2),
        )

    @property
    def protocol(self) -> Mapping[str, Any]:
        version = require("sacrebleu", "evals").__version__
        return {**super().protocol, "sacrebleu": version}

    def signature(self, samples: Sequence[Sample]) -> str:
        """``nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:...``."""
        return sacrebleu_signature(self._metric, samples)

    @property
    def _metric(self) -> Any:
        return _sacrebleu(
            self.char_order,
            self.word_order,
            self.beta,
            self.lowercase,
            self.whitespace,
            self.eps_smoothing,
        )

    def counts(self, text: str, references: Sequence[str]) -> list[float]:
        """The row of one sample."""
        # sacrebleu shows these counts to its own significance tests alone
        found = self._metric._extract_corpus_statistics([text], [[each] for each in references])
        return [float(value) for value in found[0]]

    def of_counts(self, rows: Floats) -> Floats:
        return chrf_of(rows, self.beta, self.eps_smoothing)

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        row = self.counts(output.text, references_of(sample))
        sentence = self.of_counts(np.array([row], np.float64))
        return {"sentence_chrf": float(sentence), **dict(zip(self.columns, row, strict=True))}
