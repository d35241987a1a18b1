"""What `lmstack embed` works on: texts with their vectors, and what was made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from lmstack.app import wiring
from lmstack.app.cli.output import Output
from lmstack.app.wiring import documents
from lmstack.app.wiring.embedders import say_where_texts_go
from lmstack.core import FormatError, NotFoundError, StoreError, shown

if TYPE_CHECKING:
    from lmstack.rag.clusters import Clusters

__all__ = ["Embedded", "Looked", "embedded", "save"]


@dataclass(frozen=True)
class Embedded:
    """``labels`` name the texts for people; ``vectors``: (N, D), of length 1."""

    model: str
    digest: str | None
    labels: list[str]
    texts: list[str]
    places: list[dict[str, Any]]
    vectors: npt.NDArray[np.float32]


def embedded(
    out: Output,
    texts: list[str] | None,
    file: Path | None,
    docs: Path | None,
    index: Path | None,
    embedder: str | None,
    kind: Literal["query", "passage"],
) -> Embedded:
    """The texts of whichever is given, embedded; those of an index keep their vectors."""
    if docs is not None or index is not None:
        with documents.open_source(out, docs, index, embedder, embeds=docs is not None) as opened:
            passages, vectors = opened.stored_passages()
            facts = opened.status(check=False)
        places = [{"path": p.path, "start": p.start, "end": p.end} for p in passages]
        labels = [Path(p.path).name for p in passages]
        body = [p.text for p in passages]
        return Embedded(facts.embedder, facts.embedder_digest, labels, body, places, vectors)
    given = texts if texts is not None and file is None else lines_of(file)
    model = wiring.embedder(embedder)
    say_where_texts_go(out, embedder)
    with out.progress("Embedding", "texts") as bar:
        parts = []
        for start in range(0, len(given), 256):
            parts.append(model.embed(given[start : start + 256], kind))
            bar.update(min(start + 256, len(given)), len(given))
    vectors = np.concatenate(parts) if parts else np.zeros((0, model.dimensions), np.float32)
    places = [{} for _ in given]
    return Embedded(model.info.name, model.info.digest, list(given), list(given), places, vectors)


def lines_of(file: Path | None) -> list[str]:
    """The lines of a file that hold something."""
    assert file is not None
    try:
        lines = file.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(f"{shown(str(file))} is not UTF-8: {error}", param="file") from None
    except OSError as error:
        raise NotFoundError(
            f"cannot read {shown(str(file))}: {error.strerror}", hint="check the path", param="file"
        ) from None
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise FormatError(f"{shown(str(file))} holds no text", hint="one text a line", param="file")
    return found


def save(path: Path, vectors: npt.NDArray[np.float32]) -> None:
    """Write a .npy file under exactly this name."""
    try:
        with open(path, "wb") as file:
            np.save(file, vectors, allow_pickle=False)
    except OSError as error:
        raise StoreError(
            f"cannot write {shown(str(path))}: {error.strerror}", hint="check the folder"
        ) from None


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
