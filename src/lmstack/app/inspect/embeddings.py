"""What `lmstack embed` works on: texts with their vectors, and what was made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from lmstack.rag.clusters import Clusters

__all__ = ["Embedded", "Looked"]


@dataclass(frozen=True)
class Embedded:
    """``labels`` name the texts for people; ``vectors``: (N, D), of length 1."""

    model: str
    digest: str | None
    labels: list[str]
    texts: list[str]
    places: list[dict[str, Any]]
    vectors: npt.NDArray[np.float32]


@dataclass
class Looked:
    """Texts, and each view of them that was asked for (None otherwise)."""

    found: Embedded
    metric: str = "cosine"
    matrix: npt.NDArray[np.floating] | None = None
    clusters: Clusters | None = None
    words: list[tuple[str, ...]] = field(default_factory=list)
    duplicates: list[list[int]] | None = None
    points: npt.NDArray[np.floating] | None = None
    method: str = ""

    @property
    def looked(self) -> bool:
        return bool(
            self.method or any(v is not None for v in (self.matrix, self.clusters, self.duplicates))
        )

    def compare(self, metric: Literal["cosine", "dot", "euclidean"]) -> None:
        from lmstack.rag.similarity import similarities

        self.metric = metric
        self.matrix = similarities(self.found.vectors, self.found.vectors, metric)

    def group(self, count: int | None) -> None:
        from lmstack.rag.clusters import cluster, telling_words

        self.clusters = cluster(self.found.vectors, count)
        self.words = telling_words(self.found.texts, self.clusters.labels)

    def match(self, threshold: float) -> None:
        from lmstack.rag.similarity import duplicate_groups

        self.duplicates = duplicate_groups(self.found.vectors, threshold)

    def place(self) -> None:
        from lmstack.rag.projection import project

        self.points, self.method = project(self.found.vectors)

    def to_json(self, *, with_vectors: bool) -> dict[str, Any]:
        found = self.found
        items = [{"text": t, **p} for t, p in zip(found.texts, found.places, strict=True)]
        if with_vectors:
            for item, vector in zip(items, found.vectors, strict=True):
                item["embedding"] = vector.tolist()
        result: dict[str, Any] = {
            "model": found.model,
            "digest": found.digest,
            "dimensions": found.vectors.shape[1],
            "items": items,
        }
        if self.matrix is not None:
            result |= {"metric": self.metric, "matrix": self.matrix.tolist()}
        if self.clusters is not None:
            result["clusters"] = {
                "count": len(self.clusters.centres),
                "silhouette": self.clusters.score,
                "labels": self.clusters.labels.tolist(),
                "words": [list(words) for words in self.words],
            }
        if self.duplicates is not None:
            result["duplicates"] = self.duplicates
        if self.points is not None:
            result["map"] = {"method": self.method, "points": self.points.tolist()}
        return result
