"""BLEU of a corpus and of sentences (Papineni et al., 2002), as sacrebleu computes it.

sacrebleu tokenizes and counts (Post, 2018; the extra ``evals``). The counts of each sample are kept
as its scores, so that the figure of any resample is the BLEU of that corpus, not a mean of
sentences. The figure comes with sacrebleu's own signature.

Legend: n the highest order; a row is [length, reference length, n matches, n totals].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, ClassVar, Literal

import numpy as np

from lmstack.core import ExtraMissingError, InputError, allowed, require
from lmstack.evals.dataset import Sample
from lmstack.evals.metrics.scoring import ConfiguredScorer, average, needed_targets
from lmstack.evals.statistics import Floats
from lmstack.evals.task import Metric, ModelOutput

__all__ = ["Bleu", "bleu_of", "references_of", "sacrebleu_signature"]

Smoothing = Literal["exp", "floor", "add-k", "none"]
_SMOOTHING_VALUES = {"floor": 0.1, "add-k": 1.0}  # sacrebleu's defaults
_TOKENIZERS = ("13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "none")


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
