"""`lmstack embed`: texts to vectors, and what the vectors say of one another."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lmstack.app import wiring
from lmstack.app.cli import indexing
from lmstack.app.cli.command import command
from lmstack.app.cli.commands._options import Docs, EmbedderName, IndexFolder
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable
from lmstack.app.inspect.embeddings import METHODS, Embedded, EmbeddingViews, draw_map, draw_matrix
from lmstack.app.report.drawing import check_picture
from lmstack.core import FormatError, NotFoundError, StoreError, shown

__all__ = ["embed"]


_MOST_CELLS = 200


class TextSide(StrEnum):
    """As core's `TextKind`."""

    query = "query"
    passage = "passage"


class Metric(StrEnum):
    """As `similarity.Metric`."""

    cosine = "cosine"
    dot = "dot"
    euclidean = "euclidean"


@command(
    "embed",
    """
    TEXT:
    -f, --file FILE: One text a line.
    --kind: Some models embed questions otherwise than passages.
    --npy FILE: Write the vectors as a NumPy array.
    --matrix: How alike each text is to each other.
    --heat-map FILE: Draw that: FILE.png or FILE.svg.
    --metric: What is compared; euclidean is minus the distance.
    --cluster K|auto: Group the texts, and name each group's words.
    --duplicates X -1..1: Texts whose cosine similarity is X or more, for instance 0.95.
    --map FILE: Draw the texts on a plane: .png or .svg.

    lmstack embed "a cat" "a kitten" "a train" --matrix
    lmstack embed --index notes.idx --cluster auto --map notes.png
    """,
)
def embed(
    out: Output,
    texts: list[str] | None = None,
    file: Path | None = None,
    docs: Docs = None,
    index: IndexFolder = None,
    embedder: EmbedderName = None,
    kind: TextSide = TextSide.passage,
    npy: Path | None = None,
    matrix: bool = False,
    heat_map: Path | None = None,
    metric: Metric = Metric.cosine,
    clusters: str | None = None,
    duplicates: float | None = None,
    map_: Path | None = None,
) -> None:
    """Turn texts into vectors, and look at them.

    Texts come from the command line, a file, a folder of documents or an index, whose passages
    keep the vectors they have. Without an option for looking, the vectors are the result.
    """
    count = _count(clusters)
    for name, path in (("heat-map", heat_map), ("map", map_)):
        if path is not None:
            check_picture(path, name)
    given = [bool(texts), file is not None, docs is not None, index is not None]
    if sum(given) != 1:
        raise CommandLineError(
            "lmstack embed needs texts, or one of -f, --docs and --index",
            hint='lmstack embed "a text"',
            param="texts",
        )
    found = embedded(out, texts, file, docs, index, embedder, kind.value)
    looked = EmbeddingViews(found)
    if npy is not None:
        save(npy, found.vectors)
    if matrix or heat_map is not None:
        _check_cells(len(found.labels))
        looked.compare(metric.value)
    if clusters is not None:
        looked.group(count)
    if duplicates is not None:
        looked.match(duplicates)
    if map_ is not None:
        looked.place()
    if heat_map is not None:
        draw_matrix(heat_map, looked)
    if map_ is not None:
        draw_map(map_, looked)
    _print(out, looked, quiet=npy is not None or heat_map is not None)


def _print(out: Output, looked: Any, *, quiet: bool) -> None:
    if out.as_json:
        out.result(looked.to_json(with_vectors=not (looked.looked or quiet)))
        return
    lines: list[str] = []
    for part in (
        matrix_lines(looked) if looked.matrix is not None else [],
        cluster_lines(looked) if looked.clusters is not None else [],
        duplicate_lines(looked) if looked.duplicates is not None else [],
        [f"the map is by {METHODS[looked.method]}"] if looked.method else [],
    ):
        lines += [*([""] if lines and part else []), *part]
    if looked.method == "pca" and len(looked.found.labels) >= 10:
        out.note("for a better map by t-SNE: pip install 'lmstack[maps]'")
    out.lines(lines or vector_lines(looked))


def _count(clusters: str | None) -> int | None:
    if clusters in (None, "auto"):
        return None
    if not clusters.isascii() or not clusters.isdigit() or not 0 < int(clusters[:9]) < 10**6:
        raise CommandLineError(
            f"--cluster is {clusters!r}", hint="a number of groups, or auto", param="cluster"
        )
    return int(clusters)


def _check_cells(count: int) -> None:
    if count > _MOST_CELLS:
        raise CommandLineError(
            f"a matrix of {count} texts cannot be read ({_MOST_CELLS} at most)",
            hint="--map and --cluster show many at once",
            param="matrix",
        )


_LABEL, _TEXT = 28, 70
_SHOWN = 3


def vector_lines(looked: EmbeddingViews) -> list[str]:
    """The beginning of each vector; all of it is in the JSON and in the .npy file."""
    found = looked.found
    rows = [
        (_cut(label, _LABEL), " ".join(f"{x:+.4f}" for x in vector[:4]) + " …")
        for label, vector in zip(found.labels, found.vectors, strict=True)
    ]
    head = f"{len(rows)} vectors of {found.vectors.shape[1]} dimensions by {found.model}"
    return [*columns(rows), "", head]


def matrix_lines(looked: EmbeddingViews) -> list[str]:
    assert looked.matrix is not None
    heads = ("", "", *(str(n + 1) for n in range(len(looked.matrix))))
    rows = [
        (str(n + 1), _cut(label, _LABEL), *(f"{value:.2f}" for value in row))
        for n, (label, row) in enumerate(zip(looked.found.labels, looked.matrix, strict=True))
    ]
    return [looked.metric, *columns([heads, *rows], gap=2)]


def cluster_lines(looked: EmbeddingViews) -> list[str]:
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


def duplicate_lines(looked: EmbeddingViews) -> list[str]:
    assert looked.duplicates is not None
    if not looked.duplicates:
        return ["no near-duplicates"]
    lines = []
    for number, group in enumerate(looked.duplicates, 1):
        lines.append(f"near-duplicates {number}: {len(group)} texts")
        lines += [f"     {_place(looked, row)}" for row in group]
    return lines


def _place(looked: EmbeddingViews, row: int) -> str:
    place, text = looked.found.places[row], _cut(looked.found.texts[row], _TEXT)
    return f"{printable(place['path'], one_line=True)}: {text}" if place else text


def _cut(text: str, length: int) -> str:
    line = printable(" ".join(text.split()), one_line=True)
    return line if len(line) <= length else line[: length - 1] + "…"


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
        with indexing.open_source(out, docs, index, embedder, embeds=docs is not None) as opened:
            passages, vectors = opened.stored_passages()
            facts = opened.status(check=False)
        places = [{"path": p.path, "start": p.start, "end": p.end} for p in passages]
        labels = [Path(p.path).name for p in passages]
        body = [p.text for p in passages]
        return Embedded(facts.embedder, facts.embedder_digest, labels, body, places, vectors)
    given = texts if texts is not None and file is None else lines_of(file)
    model = wiring.embedder(embedder)
    indexing.say_where_texts_go(out, embedder)
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
