"""Score the first candidates anew, with a model that reads query and passage more closely.

A passage is read with its headings, as it was embedded. Does not cover the models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lmstack.core import Reranker
from lmstack.rag.chunk import embedded_text
from lmstack.rag.retrieve.hybrid import Hit

__all__ = ["by_score", "rescore", "scaled"]


def rescore(
    scorer: Reranker, query: str, hits: Sequence[Hit], depth: int, weight: float
) -> list[Hit]:
    """The first ``depth`` of ``hits`` in the order of ``weight`` times the new score, and the
    rest times the old one, both scaled to [0, 1]; then the others as they were. Their scores are
    lowered below, so that scores descend. The new score as it is becomes the first ones'
    ``relevance``."""
    first, rest = list(hits[:depth]), list(hits[depth:])
    if not first:
        return []
    texts = [embedded_text(hit.prefix, hit.text) for hit in first]
    found = np.asarray(scorer.score(query, texts), np.float64)
    first = [replace(hit, relevance=float(own)) for hit, own in zip(first, found, strict=True)]
    if weight < 1:
        old = scaled([hit.score for hit in first])
        found = weight * scaled(found) + (1 - weight) * old
    ordered = by_score(first, found)
    floor = ordered[-1].score
    return ordered + [
        replace(hit, score=floor - 1 + 1 / (place + 1)) for place, hit in enumerate(rest, 1)
    ]


def by_score(hits: Sequence[Hit], scores: npt.ArrayLike) -> list[Hit]:
    """Best first; equal scores keep their order."""
    values = np.asarray(scores, np.float64)
    order = np.argsort(-values, kind="stable")
    return [replace(hits[row], score=float(values[row])) for row in order]


def scaled(scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """To [0, 1], the lowest to 0; all to 1 where they are equal."""
    values = np.asarray(scores, np.float64)
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    return (values - low) / (high - low) if high > low else np.ones_like(values)
