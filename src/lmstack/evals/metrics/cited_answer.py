r"""What an answer about documents is worth: search, citations, correctness, refusals, faithfulness.

    correct              an accepted answer is in it; where nothing answers, it refused
    answer_correct       an accepted answer is in it, of questions that have one
    right_when_answered  the same, of those that were not refused
    wrongly_refused      of questions with an answer
    wrongly_answered     of questions without one
    confidence_auc       how often a question with an answer gets more confidence than one without
    exact_match, f1      over SQuAD's normalized words, best of the accepted answers
    ndcg@k, recall@k, mrr@k   of the documents found, against those that answer
    evidence_recall@k    the share of the evidence that is in the first k passages
    answer_in_passages   whether the passages that were read hold an accepted answer: what a perfect
                         reader could reach
    citation_validity    citations whose quote is in the cited source at its offsets, in a passage
                         that was found, and whose number is in the text
    citation_precision   citations that touch the evidence or hold an accepted answer; where a
                         question has neither, that are of a source that answers
    citation_recall      the evidence that some citation touches
    faithfulness         how much likelier the cited words make the answer, in nats a token:
                         (log P(answer | cited, question) - log P(answer | question)) / tokens,
                         the pointwise mutual information of Nandwani et al., 2023 (PMI-Faith,
                         arXiv:2305.12191), by the model that answers

Shares of citations, evidence and tokens are over all of them, not means of a question's share.
Not covered: where facts come from (`lmstack.evals.system_tasks`), seconds and tokens (`usage`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from lmstack.core import InputError, allowed, shown
from lmstack.evals.metrics.calibration import auc_of
from lmstack.evals.metrics.cited_facts import CitedFacts, CitedGold, Parts
from lmstack.evals.metrics.retrieval import ndcg, recall, reciprocal_rank
from lmstack.evals.metrics.scoring import ConfiguredScorer, average, share
from lmstack.evals.metrics.text_match import normalized, word_f1
from lmstack.evals.statistics import ratio_of
from lmstack.evals.task import Metric, ModelOutput, Sample

__all__ = ["CitedAnswer", "holds", "without_marks"]

_MARK = re.compile(r"\s*\[(\d+)\]")
_COMMA = re.compile(r"(?<=\d),(?=\d)")


def without_marks(text: str) -> str:
    """An answer without the numbers of its citations."""
    return _MARK.sub("", text).strip()


def _folded(text: str) -> str:
    return " ".join(_COMMA.sub("", text).casefold().split())


def holds(text: str, answer: str) -> bool:
    """Whether ``answer`` is in ``text``, not as a part of a longer word or number; commas in
    numbers, case and white space do not count."""
    pattern = rf"(?<![\w.]){re.escape(_folded(answer))}(?!\w|\.\d)"
    return re.search(pattern, _folded(text)) is not None


@dataclass(frozen=True)
class CitedAnswer(ConfiguredScorer):
    """``k``: how many documents and passages of a search count. ``patterns``: accepted answers are
    regular expressions, case ignored, and not texts."""

    name: ClassVar[str] = "cited_answer"
    k: int = allowed(10, int, 1, 1000)
    patterns: bool = allowed(False, bool)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        ratios = (
            ("citation_validity", "valid_citations", "citations"),
            ("citation_precision", "precise_citations", "citations"),
            ("citation_recall", "evidence_cited", "evidence"),
            ("faithfulness", "nats_gained", "answer_tokens"),
        )
        return (
            share("correct"),
            share("answer_correct"),
            _ratio("right_when_answered", "answer_correct", "answered"),
            share("wrongly_refused", "lower"),
            share("wrongly_answered", "lower"),
            Metric("confidence_auc", ("confidence", "answerable"), auc_of, is_share=False),
            *(() if self.patterns else (share("exact_match"), average("f1"))),
            *(average(f"{name}@{self.k}") for name in ("ndcg", "recall", "mrr")),
            _ratio(f"evidence_recall@{self.k}", "evidence_found", "evidence"),
            share("answer_in_passages"),
            *(_ratio(*each) for each in ratios),
        )

    def metrics_for(self, samples: Sequence[Sample]) -> tuple[Metric, ...]:
        """Those that some sample can have, whatever is answered."""
        golds = [CitedGold.of(sample) for sample in samples]
        missing = set[str]()
        if not any(gold.parts for gold in golds):
            missing |= {"answer_correct", "exact_match", "f1", "answer_in_passages"}
        if all(len(gold.parts) != 1 for gold in golds):
            missing |= {"exact_match", "f1"}
        if not any(gold.sources for gold in golds):
            missing |= {f"{name}@{self.k}" for name in ("ndcg", "recall", "mrr")}
        if not any(gold.evidence for gold in golds):
            missing.add("evidence")
        if all(gold.answerable for gold in golds):
            missing |= {"wrongly_answered", "confidence"}
        if not any(gold.answerable for gold in golds):
            missing |= {"wrongly_refused", "confidence", "precise_citations"}
        return tuple(each for each in self.metrics if not missing & set(each.columns))

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        gold, facts = CitedGold.of(sample), CitedFacts.of(sample, output)
        said = without_marks(output.text)
        right = not facts.abstained and self._says(said, gold.parts)
        scored = gold.answerable and bool(gold.parts)
        correct = float(right) if scored else math.nan
        sure = float(not facts.abstained) if facts.confidence is None else facts.confidence
        read = "\n".join(each.text for each in facts.passages[: facts.read])
        return {
            "correct": correct if gold.answerable else float(facts.abstained),
            "answer_correct": correct,
            "answered": float(not facts.abstained),
            "answerable": float(gold.answerable),
            "confidence": sure,
            "wrongly_refused": float(facts.abstained) if gold.answerable else math.nan,
            "wrongly_answered": math.nan if gold.answerable else float(not facts.abstained),
            "answer_in_passages": float(self._says(read, gold.parts)) if scored else math.nan,
            **self._words(said, gold, facts.abstained),
            **self._search(gold, facts),
            **self._citations(output.text, gold, facts),
            **_faithfulness(sample, output),
        }

    def _says(self, text: str, parts: Parts) -> bool:
        return bool(parts) and all(any(self._holds(text, one) for one in part) for part in parts)

    def _holds(self, text: str, answer: str) -> bool:
        if not self.patterns:
            return holds(text, answer)
        try:
            return re.search(answer, text, re.IGNORECASE) is not None
        except re.error as error:
            raise InputError(
                f"the accepted answer {shown(answer)} is no regular expression: {error}",
                hint="leave out patterns: true, or correct it",
                param="answers",
            ) from None

    def _words(self, said: str, gold: CitedGold, abstained: bool) -> dict[str, float]:
        if self.patterns or not gold.answerable or len(gold.parts) != 1:
            return {"exact_match": math.nan, "f1": math.nan}
        if abstained:
            return {"exact_match": 0.0, "f1": 0.0}
        answers = gold.parts[0]
        ours = normalized(said)
        return {
            "exact_match": float(any(ours == normalized(answer) for answer in answers)),
            "f1": max(word_f1(said, answer)[2] for answer in answers),
        }

    def _search(self, gold: CitedGold, facts: CitedFacts) -> dict[str, float]:
        measures = {"ndcg": ndcg, "recall": recall, "mrr": reciprocal_rank}
        spans = [each.span for each in facts.passages[: self.k]]
        found = sum(any(span.touches(part) for span in spans) for part in facts.evidence)
        return {
            **{
                f"{name}@{self.k}": measure(facts.ranking, gold.sources, self.k)
                if gold.sources
                else math.nan
                for name, measure in measures.items()
            },
            "evidence": float(len(gold.evidence)) if gold.evidence else math.nan,
            "evidence_found": float(found),
        }

    def _citations(self, text: str, gold: CitedGold, facts: CitedFacts) -> dict[str, float]:
        """``citations_on_evidence``: of those that are precise, the ones that touch evidence."""
        marks = set(map(int, _MARK.findall(text)))
        passages = [each.span for each in facts.passages]
        valid = on_evidence = precise = 0
        for each in facts.citations:
            valid += each.is_true and each.id in marks and each.span.lies_in(passages)
            touches = any(each.span.touches(part) for part in facts.evidence)
            on_evidence += touches
            precise += touches or self._supports(each.quote, each.span.source, gold)
        met = [any(c.span.touches(part) for c in facts.citations) for part in facts.evidence]
        return {
            "citations": float(len(facts.citations)),
            "valid_citations": float(valid),
            "precise_citations": float(precise) if gold.answerable else math.nan,
            "citations_on_evidence": float(on_evidence),
            "evidence_cited": float(sum(met)),
        }

    def _supports(self, quote: str, source: str, gold: CitedGold) -> bool:
        """Whether words beside the evidence answer too, or some part of what was asked."""
        if gold.parts:
            return any(self._holds(quote, one) for part in gold.parts for one in part)
        return not gold.evidence and source in gold.sources


def _ratio(name: str, top: str, bottom: str) -> Metric:
    return Metric(name, (top, bottom), ratio_of, is_share=False)


def _faithfulness(sample: Sample, output: ModelOutput) -> dict[str, float]:
    """Of two likelihoods of the answer, with what it cites and without; of none, no tokens."""
    if not output.likelihoods:
        return {"nats_gained": 0.0, "answer_tokens": 0.0}
    if len(output.likelihoods) != 2:
        raise InputError(
            f"the output of sample {sample.id} has {len(output.likelihoods)} likelihoods, not two",
            hint="this scorer needs the solver index",
            param="scorer",
        )
    cited, alone = output.likelihoods
    return {
        "nats_gained": cited.logprob - alone.logprob,
        "answer_tokens": float(cited.num_tokens),
    }
