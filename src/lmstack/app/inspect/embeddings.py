"""What `lmstack embed` works on: texts with their vectors, and what was made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from lmstack.app.report.drawing import GRID, INK, QUIET, SHADES, Sheet, drawing_part

if TYPE_CHECKING:
    from lmstack.rag.embedding_map import Clusters

__all__ = ["METHODS", "Embedded", "EmbeddingViews", "draw_map", "draw_matrix"]


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
class EmbeddingViews:
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
        from lmstack.rag.embedding_map import similarities

        self.metric = metric
        self.matrix = similarities(self.found.vectors, self.found.vectors, metric)

    def group(self, count: int | None) -> None:
        from lmstack.rag.embedding_map import cluster, distinctive_words

        self.clusters = cluster(self.found.vectors, count)
        self.words = distinctive_words(self.found.texts, self.clusters.labels)

    def match(self, threshold: float) -> None:
        from lmstack.rag.embedding_map import duplicate_groups

        self.duplicates = duplicate_groups(self.found.vectors, threshold)

    def place(self) -> None:
        from lmstack.rag.embedding_map import project

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


METHODS = {"tsne": "t-SNE", "pca": "the two principal axes"}
MARGIN, TOP, LABELS = 0.4, 0.9, 2.4  # inches
NAME = 34
# Okabe and Ito's colours, which every kind of colour vision tells apart, and two greys.
COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442"),
    *("#1a1a1a", "#8c8c8c"),
)
_NUMBERS, _NAMED = 14, 40


def draw_matrix(path: Path, looked: EmbeddingViews) -> None:
    """How alike each text is to each other; numbers in the cells where there is room."""
    assert looked.matrix is not None
    count = len(looked.matrix)
    side = max(3.0, min(0.42 * count, 9.0))
    sheet = Sheet(2 * MARGIN + LABELS + side, TOP + side + MARGIN + 0.3)
    sheet.text(MARGIN, 0.2, f"Similarity ({looked.metric})", fontsize=13, fontweight="bold")
    sheet.text(MARGIN, 0.5, f"{count} texts by {looked.found.model}", fontsize=9, color=QUIET)
    axes = sheet.axes(MARGIN + LABELS, TOP, side, side)
    axes.imshow(looked.matrix, cmap=SHADES, aspect="equal")
    style = {"fontsize": 8 if count <= _NAMED else 5, **sheet.font}
    names = [sheet.drawable(" ".join(label.split()), NAME) for label in looked.found.labels]
    axes.set_yticks(range(count), [f"{n}  {i + 1}" for i, n in enumerate(names)], **style)
    axes.set_xticks(range(count), [str(i + 1) for i in range(count)], **style)
    _plain(axes)
    if count <= _NUMBERS:
        _write_cells(axes, looked.matrix, style)
    sheet.write(path)


def _write_cells(axes: Any, matrix: np.ndarray, style: dict[str, Any]) -> None:
    low, high = float(matrix.min()), float(matrix.max())
    for (row, column), value in np.ndenumerate(matrix):
        dark = value > low + 0.6 * (high - low)
        colour = "white" if dark else INK
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, **style)


def draw_map(path: Path, looked: EmbeddingViews) -> None:
    """Each text a point; groups in colours, named by their words."""
    assert looked.points is not None
    width, height = 8.0, 6.0
    sheet = Sheet(width + 2 * MARGIN, height + TOP + MARGIN)
    sheet.text(
        MARGIN, 0.2, f"{len(looked.points)} texts by meaning", fontsize=13, fontweight="bold"
    )
    method = METHODS[looked.method]
    note = f"Vectors of {looked.found.model}, on a plane by {method}. Near is alike."
    sheet.text(MARGIN, 0.5, note, fontsize=9, color=QUIET)
    axes = sheet.axes(MARGIN, TOP, width, height)
    _plain(axes)
    axes.set_xticks([])
    axes.set_yticks([])
    groups = looked.clusters.labels if looked.clusters else np.zeros(len(looked.points), int)
    style = {"fontsize": 8, **sheet.font}
    for number in np.unique(groups).tolist():
        points = looked.points[groups == number]
        colour = COLOURS[number % len(COLOURS)]
        words = ", ".join(looked.words[number]) if looked.words else ""
        marker = "os^D"[number // len(COLOURS) % 4]
        axes.scatter(*points.T, s=16, color=colour, marker=marker, label=sheet.drawable(words))
    if len(looked.points) <= _NAMED:
        for label, (x, y) in zip(looked.found.labels, looked.points, strict=True):
            name = sheet.drawable(" ".join(label.split()), NAME)
            axes.annotate(name, (x, y), (4, 3), textcoords="offset points", color=INK, **style)
        axes.margins(0.15)
    if looked.words:
        font = drawing_part("font_manager").FontProperties(family=sheet.font["family"], size=8)
        axes.legend(loc="best", frameon=False, prop=font)
    sheet.write(path)


def _plain(axes: Any) -> None:
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_color(GRID)
