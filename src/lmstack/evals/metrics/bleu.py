"""BLEU (Papineni et al., 2002), chrF and chrF++ (Popović, 2015 and 2017), of a corpus and of
sentences, as sacrebleu computes them.

sacrebleu tokenizes and counts (Post, 2018; the extra ``evals``). The counts of each sample are kept
as its scores, so that the figure of any resample is that of the corpus, not a mean of sentences.
The figure comes with sacrebleu's own signature. For chrF, the reference that gives a sample the
highest score is the one that is counted.

Legend: n the highest order; a row of BLEU is [length, reference length, n matches, n totals]. M
orders of chrF, those of characters and then those of words; a row is, for each of them, [n-grams of
the text, n-grams of the reference, matches].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, ClassVar, Literal

import numpy as np

from lmstack.core import ExtraMissingError, InputError, allowed, require
from lmstack.evals.metrics.scoring import ConfiguredScorer, average, needed_targets
from lmstack.evals.statistics import Floats
from lmstack.evals.task import Metric, ModelOutput, Sample

__all__ = [
    "Bleu",
    "Chrf",
    "bleu_of",
    "chrf_of",
    "corpus_chrf",
    "references_of",
    "sacrebleu_signature",
]

Smoothing = Literal["exp", "floor", "add-k", "none"]
_SMOOTHING_VALUES = {"floor": 0.1, "add-k": 1.0}  # sacrebleu's defaults
_TOKENIZERS = ("13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "none")
_EPSILON = 1e-16  # of chrF++.py, which sacrebleu follows where it smooths


def bleu_of(
    rows: Floats,
    order: int = 4,
    smoothing: Smoothing = "exp",
    smoothing_value: float | None = None,
    effective_order: bool = False,
) -> Floats:
    """(..., N, 2 + 2n) to (...): the BLEU of the corpus of the N rows, between 0 and 100."""
    sums = rows.sum(-2)
    length, wanted = sums[..., 0], sums[..., 1]
    matches, totals = sums[..., 2 : 2 + order], sums[..., 2 + order : 2 + 2 * order]
    has_match = (matches > 0).any(-1)
    value = _SMOOTHING_VALUES.get(smoothing, 0.0) if smoothing_value is None else smoothing_value
    if smoothing == "add-k":
        later = (np.arange(order) > 0) * value
        matches, totals = matches + later, totals + later
    reached = totals > 0
    missed = reached & (matches == 0)
    if smoothing == "exp":
        matches = np.where(missed, 0.5 ** np.cumsum(missed, -1), matches)
    elif smoothing == "floor":
        matches = np.where(missed, value, matches)
    with np.errstate(divide="ignore"):  # the logarithm of no match is -inf, and BLEU then 0
        logs = np.log(np.divide(matches, totals, out=np.zeros_like(totals), where=reached))
    if effective_order:
        logs = np.where(reached, logs, 0.0)
        orders = np.maximum(reached.sum(-1), 1)
    else:
        orders = np.full(has_match.shape, order)
    ratio = np.divide(wanted, length, out=np.full_like(wanted, np.inf), where=length > 0)
    brevity = np.minimum(1 - ratio, 0.0)
    found: Floats = np.where(has_match, 100 * np.exp(brevity + logs.sum(-1) / orders), 0.0)
    return found


def _sacrebleu(tokenize: str, **settings: Any) -> Any:
    module = require("sacrebleu.metrics", "evals")
    try:
        return module.BLEU(tokenize=tokenize, force=True, **settings)
    except (ImportError, RuntimeError) as error:  # raised for packages of a tokenizer's own
        raise ExtraMissingError(
            f"sacrebleu's tokenizer {tokenize} needs packages that are not installed",
            hint=f"pip install 'sacrebleu[{tokenize[:2]}]'",
            param="tokenize",
        ) from error


@lru_cache(maxsize=16)
def _counter(tokenize: str, lowercase: bool, order: int) -> Any:
    """sacrebleu's BLEU, for its counts: without smoothing, which would change them."""
    return _sacrebleu(tokenize, lowercase=lowercase, smooth_method="none", max_ngram_order=order)


def references_of(sample: Sample) -> tuple[str, ...]:
    """The targets that are not empty, which sacrebleu leaves out."""
    found = tuple(target for target in needed_targets(sample) if target)
    if not found:
        raise InputError(
            f"sample {sample.id} has an empty text for its only reference", param="targets"
        )
    return found


def sacrebleu_signature(metric: Any, samples: Sequence[Sample]) -> str:
    """The signature that sacrebleu prints: ``nrefs`` is "var" where samples have different numbers
    of references."""
    counts = {len(references_of(sample)) for sample in samples}
    metric.num_refs = counts.pop() if len(counts) == 1 else -1
    return str(metric.get_signature())


@dataclass(frozen=True)
class Bleu(ConfiguredScorer):
    """Parameters as in sacrebleu. The sentence's own BLEU has the effective order, as
    ``sacrebleu.sentence_bleu`` has it; its mean is no corpus BLEU."""

    name: ClassVar[str] = "bleu"
    tokenize: str = allowed("13a", str, also=_TOKENIZERS)
    lowercase: bool = allowed(False, bool)
    smooth_method: Smoothing = allowed("exp", str, also=("exp", "floor", "add-k", "none"))
    smooth_value: float | None = allowed(None, float, 0, 100)
    max_ngram_order: int = allowed(4, int, 1, 9)
    effective_order: bool = allowed(False, bool)

    @property
    def columns(self) -> tuple[str, ...]:
        orders = range(1, self.max_ngram_order + 1)
        return (
            *("bleu_length", "bleu_reference_length"),
            *(f"bleu_matches_{n}" for n in orders),
            *(f"bleu_totals_{n}" for n in orders),
        )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        corpus = partial(self._of, effective_order=self.effective_order)
        return (
            Metric("bleu", self.columns, corpus, is_share=False, decimals=2),
            average("sentence_bleu", decimals=2),
        )

    @property
    def protocol(self) -> Mapping[str, Any]:
        version = require("sacrebleu", "evals").__version__
        return {**super().protocol, "sacrebleu": version}

    def signature(self, samples: Sequence[Sample]) -> str:
        """``nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:...``."""
        metric = _sacrebleu(
            self.tokenize,
            lowercase=self.lowercase,
            smooth_method=self.smooth_method,
            smooth_value=self.smooth_value,
            max_ngram_order=self.max_ngram_order,
            effective_order=self.effective_order,
        )
        return sacrebleu_signature(metric, samples)

    def _of(self, rows: Floats, effective_order: bool) -> Floats:
        return bleu_of(
            rows, self.max_ngram_order, self.smooth_method, self.smooth_value, effective_order
        )

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        counter = _counter(self.tokenize, self.lowercase, self.max_ngram_order)
        found = counter.corpus_score([output.text], [[each] for each in references_of(sample)])
        row = [found.sys_len, found.ref_len, *found.counts, *found.totals]
        sentence = self._of(np.array([row], np.float64), effective_order=True)
        values = [float(value) for value in row]
        return {"sentence_bleu": float(sentence), **dict(zip(self.columns, values, strict=True))}


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
def _sacrebleu_chrf(
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
        return _sacrebleu_chrf(
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
