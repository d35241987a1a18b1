"""How good a ranking is: nDCG, recall, precision, reciprocal rank and average precision.

As trec_eval computes them, binary or graded: the gain of a document is its grade, the discount
1 / log2(rank + 1) (Järvelin and Kekäläinen, 2002). A grade of 0 or less is not relevant. Not
covered: where rankings come from, and intervals (`statistics`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lmstack.core import InputError, shown
from lmstack.evals.metrics.scoring import ConfiguredScorer, average, places
from lmstack.evals.task import Metric, ModelOutput, Sample

__all__ = [
    "RANKING_MEASURES",
    "Relevant",
    "Retrieval",
    "average_precision",
    "ndcg",
    "precision",
    "recall",
    "reciprocal_rank",
]

Relevant = Collection[Hashable] | Mapping[Any, float]


def _grades(relevant: Relevant) -> Mapping[Any, float]:
    if isinstance(relevant, Mapping):
        return {each: grade for each, grade in relevant.items() if grade > 0}
    return dict.fromkeys(relevant, 1.0)


def _hits(ranking: Sequence[Hashable], relevant: Relevant, k: int | None) -> list[bool]:
    grades = _grades(relevant)
    return [each in grades for each in ranking[:k]]


def ndcg(ranking: Sequence[Hashable], relevant: Relevant, k: int | None = 10) -> float:
    """``relevant``: a document's grade, or the relevant ones, not empty. ``ranking``: best first,
    nothing twice; ``k`` of them count, None: all."""
    grades = _grades(relevant)
    best = sorted(grades.values(), reverse=True)[:k]
    return _gain([grades.get(each, 0.0) for each in ranking[:k]]) / _gain(best)


def _gain(grades: Sequence[float]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))


def recall(ranking: Sequence[Hashable], relevant: Relevant, k: int | None = 10) -> float:
    """The share of ``relevant`` among the first ``k``."""
    return sum(_hits(ranking, relevant, k)) / len(_grades(relevant))


def precision(ranking: Sequence[Hashable], relevant: Relevant, k: int | None = 10) -> float:
    """The relevant share of the first ``k``; places that stayed empty count as misses."""
    places = len(ranking) if k is None else k
    return sum(_hits(ranking, relevant, k)) / places if places else 0.0


def reciprocal_rank(ranking: Sequence[Hashable], relevant: Relevant, k: int | None = 10) -> float:
    """Of the first relevant one, 0 if it is not among the first ``k``."""
    return next((1 / n for n, hit in enumerate(_hits(ranking, relevant, k), 1) if hit), 0.0)


def average_precision(
    ranking: Sequence[Hashable], relevant: Relevant, k: int | None = None
) -> float:
    """The precision at each relevant one of the first ``k``, summed, over how many are relevant at
    all (MAP is its mean)."""
    found, total = 0, 0.0
    for rank, hit in enumerate(_hits(ranking, relevant, k), 1):
        if hit:
            found += 1
            total += found / rank
    return total / len(_grades(relevant))


RANKING_MEASURES: Mapping[str, Callable[[Sequence[Hashable], Relevant, int | None], float]] = {
    "ndcg": ndcg,
    "recall": recall,
    "precision": precision,
    "mrr": reciprocal_rank,
    "map": average_precision,
}


@dataclass(frozen=True)
class Retrieval(ConfiguredScorer):
    """Reads ``facts["ranking"]`` of an output: document ids, best first. Relevant are the targets
    of the sample, or by grade ``metadata["relevance"]``, a number for each id."""

    name: ClassVar[str] = "retrieval"
    k: tuple[int, ...] = (10,)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "k", places("k", self.k))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(average(f"{name}@{k}") for k in self.k for name in RANKING_MEASURES)

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        relevant = _relevant_of(sample)
        ranking = _ranking_of(sample, output)
        return {
            f"{name}@{k}": measure(ranking, relevant, k)
            for k in self.k
            for name, measure in RANKING_MEASURES.items()
        }


def _relevant_of(sample: Sample) -> Relevant:
    relevance = sample.metadata.get("relevance")
    relevant: Relevant = sample.targets if relevance is None else relevance
    if not _grades(relevant):
        raise InputError(
            f"sample {sample.id} has no relevant document",
            hint="leave it out, or name the relevant documents as its targets",
            param="targets",
        )
    return relevant


def _ranking_of(sample: Sample, output: ModelOutput) -> Sequence[str]:
    ranking = output.facts.get("ranking")
    if not isinstance(ranking, list | tuple):
        raise InputError(
            f"the output of sample {sample.id} has {shown(ranking)} for a ranking",
            hint="this scorer needs a solver that searches",
            param="ranking",
        )
    if len(set(ranking)) < len(ranking):
        raise InputError(
            f"the ranking of sample {sample.id} holds a document twice",
            hint="keep the first place of each document",
            param="ranking",
        )
    return ranking
