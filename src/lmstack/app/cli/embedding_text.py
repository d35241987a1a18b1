"""What `lmstack embed` prints: vectors, similarities, groups, near-duplicates."""

from __future__ import annotations

import numpy as np

from lmstack.app.formats import columns, printable
from lmstack.app.inspect.embeddings import Looked

__all__ = ["cluster_lines", "duplicate_lines", "matrix_lines", "vector_lines"]

_LABEL, _TEXT = 28, 70
_SHOWN = 3


def vector_lines(looked: Looked) -> list[str]:
    """The beginning of each vector; all of it is in the JSON and in the .npy file."""
    found = looked.found
    rows = [
        (_cut(label, _LABEL), " ".join(f"{x:+.4f}" for x in vector[:4]) + " …")
        for label, vector in zip(found.labels, found.vectors, strict=True)
    ]
    head = f"{len(rows)} vectors of {found.vectors.shape[1]} dimensions by {found.model}"
    return [*columns(rows), "", head]


def matrix_lines(looked: Looked) -> list[str]:
    assert looked.matrix is not None
    heads = ("", "", *(str(n + 1) for n in range(len(looked.matrix))))
    rows = [
        (str(n + 1), _cut(label, _LABEL), *(f"{value:.2f}" for value in row))
        for n, (label, row) in enumerate(zip(looked.found.labels, looked.matrix, strict=True))
    ]
    return [looked.metric, *columns([heads, *rows], gap=2)]


def cluster_lines(looked: Looked) -> list[str]:
    """Each group with its words and the texts nearest to its middle."""
    clusters = looked.clusters
    assert clusters is not None
    lines = [f"{len(clusters.centres)} groups, silhouette {clusters.score:.2f}"]
    for number, words in enumerate(looked.words):
        rows = np.flatnonzero(clusters.labels == number)
        away = np.linalg.norm(looked.found.vectors[rows] - clusters.centres[number], axis=1)
        lines.append(f"{number + 1}. {', '.join(words) or '(no words)'}: {len(rows)} texts")
        nearest = rows[np.argsort(away, kind="stable")][:_SHOWN]
        lines += [f"     {_cut(looked.found.texts[row], _TEXT)}" for row in nearest]
    return lines


def duplicate_lines(looked: Looked) -> list[str]:
    assert looked.duplicates is not None
    if not looked.duplicates:
        return ["no near-duplicates"]
    lines = []
    for number, group in enumerate(looked.duplicates, 1):
        lines.append(f"near-duplicates {number}: {len(group)} texts")
        lines += [f"     {_place(looked, row)}" for row in group]
    return lines


def _place(looked: Looked, row: int) -> str:
    place, text = looked.found.places[row], _cut(looked.found.texts[row], _TEXT)
    return f"{printable(place['path'], one_line=True)}: {text}" if place else text


def _cut(text: str, length: int) -> str:
    line = printable(" ".join(text.split()), one_line=True)
    return line if len(line) <= length else line[: length - 1] + "…"
