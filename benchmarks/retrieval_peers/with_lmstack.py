"""lmstack at its defaults, from files: read, cut, stored and searched with vectors given.

`prepare` embeds once with the real model and writes the passages and vectors that every side
gets; measuring looks vectors up instead, so that no side pays for the model.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from side import Job, K, disk, resident, timed

from lmstack.core import Embedder, ModelInfo
from lmstack.rag import ChunkConfig, Index, IndexConfig, UpdateProgress
from lmstack.rag.words import query_terms

# Short passages, so that the texts there are make a hundred thousand; written out, so that what
# was embedded once fits whatever the defaults are.
CONFIG = ChunkConfig(strategy="structure", target_tokens=56, context="title")

MODEL_FILES = 10


class Looked:
    """An embedder that knows its vectors; ``counter`` counts tokens."""

    def __init__(self, texts: Sequence[str], vectors: np.ndarray, counter: Embedder) -> None:
        self.info = ModelInfo("looked-up", "sha256:" + "0" * 64)
        self.dimensions = vectors.shape[1]
        self.max_tokens = counter.max_tokens
        self.rows = {text: row for row, text in enumerate(texts)}
        self.vectors = vectors
        self.count_tokens = counter.count_tokens
        self.counts_by_word = getattr(counter, "counts_by_word", False)

    def embed(self, texts: Sequence[str], kind: str = "passage") -> np.ndarray:  # noqa: ARG002
        return np.asarray(self.vectors[[self.rows[text] for text in texts]])


class Recorded:
    """The real embedder, and what it made."""

    def __init__(self, real: Embedder) -> None:
        self.info, self.dimensions, self.max_tokens = real.info, real.dimensions, real.max_tokens
        self.count_tokens = real.count_tokens
        self.counts_by_word = getattr(real, "counts_by_word", False)
        self.real, self.texts, self.parts = real, [], []

    def embed(self, texts: Sequence[str], kind: str = "passage") -> np.ndarray:
        matrix = self.real.embed(texts, kind)
        self.texts += texts
        self.parts.append(matrix)
        return matrix


class Tenths:
    """Says on stderr how far an update is, ten times in all."""

    def __init__(self) -> None:
        self._said = 0

    def __call__(self, progress: UpdateProgress) -> None:
        tenth = 10 * progress.done // max(progress.total, 1)
        if tenth > self._said:
            self._said = tenth
            print(f"  {10 * tenth} % of {progress.total} files", file=sys.stderr, flush=True)


def prepare(folder: pathlib.Path, model: str) -> None:
    """Index ``folder/files``; write passages, vectors, what was embedded, and how many passages
    there are up to each file."""
    from lmstack.serve import LocalEmbedder

    recorded = Recorded(LocalEmbedder.load(model))
    with (
        tempfile.TemporaryDirectory() as scratch,
        Index.open(scratch, recorded, config=IndexConfig(chunking=CONFIG)) as index,
    ):
        index.update([folder / "files"], Tenths())
        passages, vectors = index.stored_passages()
        counts = {pathlib.Path(info.path).name: info.chunks for info in index.documents()}
    names = [pathlib.Path(passage.path).name for passage in passages]
    order = sorted(range(len(passages)), key=lambda row: (names[row], passages[row].start))
    ends = list(itertools.accumulate(counts[name] for name in sorted(counts)))
    write(folder, "passages", [passages[row].text for row in order])
    write(folder, "places", [[names[row], passages[row].start] for row in order])
    np.save(folder / "vectors.npy", vectors[order])
    write(folder, "embedded", recorded.texts)
    np.save(folder / "embedded.npy", np.concatenate(recorded.parts).astype(np.float32))
    queries = json.loads((folder / "queries.json").read_text())
    np.save(folder / "query_vectors.npy", recorded.real.embed(queries, "query"))
    write(folder, "facts", {"ends": ends})


def write(folder: pathlib.Path, name: str, value: object) -> None:
    (folder / f"{name}.json").write_text(json.dumps(value))


def measure(folder: pathlib.Path, job: Job, model: str) -> dict[str, Any]:
    from lmstack.serve import LocalEmbedder

    ends = json.loads((folder / "facts.json").read_text())["ends"]
    files = sorted((folder / "files").iterdir())[: ends.index(job.size) + 1]
    texts = json.loads((folder / "embedded.json").read_text())
    embedder = Looked(texts, np.load(folder / "embedded.npy"), LocalEmbedder.load(model))
    embedder.count_tokens(["warm"])
    places = json.loads((folder / "places.json").read_text())
    numbers = {(name, start): row for row, (name, start) in enumerate(places)}
    source = job.work / "files"
    source.mkdir()
    for file in files:
        shutil.copy(file, source)
    before = resident()
    kinds: dict[str, Any] = {}
    with Index.open(job.work / "index", embedder, config=IndexConfig(chunking=CONFIG)) as index:
        start = time.perf_counter()
        index.update([source])
        indexing = time.perf_counter() - start

        def asked(mode: Any) -> dict[str, Any]:
            def run(number: int) -> list[int]:
                hits = index.search(job.queries[number], K, mode, vector=job.query_vectors[number])
                return [numbers[pathlib.Path(hit.path).name, hit.start] for hit in hits]

            return timed(run, len(job.queries))

        for mode in ("lexical", "dense", "hybrid"):
            kinds[mode] = asked(mode)
        memory = resident() - before
        kinds |= ranked(index, job)
    return {
        "kinds": kinds,
        "indexing": {"passages_per_s": job.size / indexing},
        "memory_mb": memory,
        "disk_mb": disk(job.work / "index"),
    }


def ranked(index: Index, job: Job) -> dict[str, Any]:
    """Numbers of passages from what the index holds in memory, before they are fetched."""
    with index._opened.database.reading() as connection:
        corpus = index._corpus(connection)
    words = corpus.words(None)

    def by_words(number: int) -> list[int]:
        # A row's place is the passage's number: both go by file and by start.
        return list(corpus.places[words.search(query_terms(job.queries[number]), K)[0]])

    def by_vectors(number: int) -> list[int]:
        return list(corpus.places[corpus.dense.search(job.query_vectors[number], K)[0]])

    count = len(job.queries)
    return {"ranked": timed(by_words, count), "vectors": timed(by_vectors, count)}


def measure_with_model(folder: pathlib.Path, work: pathlib.Path, model: str) -> dict[str, Any]:
    """The rate at which files become searchable when the model has to run."""
    from lmstack.serve import LocalEmbedder

    embedder = LocalEmbedder.load(model)
    embedder.embed(["warm"])
    source = work / "files"
    source.mkdir()
    for file in sorted((folder / "files").iterdir())[:MODEL_FILES]:
        shutil.copy(file, source)
    with Index.open(work / "index", embedder, config=IndexConfig(chunking=CONFIG)) as index:
        start = time.perf_counter()
        index.update([source])
        seconds = time.perf_counter() - start
        return {"passages_per_s": sum(info.chunks for info in index.documents()) / seconds}


def run() -> None:
    folder, size, work, model = pathlib.Path(sys.argv[1]), *sys.argv[2:]
    if size == "prepare":
        prepare(folder, model)
        return
    if size == "model":
        print("\n" + json.dumps(measure_with_model(folder, pathlib.Path(work), model)), flush=True)
        return
    job = Job(
        int(size),
        pathlib.Path(work),
        json.loads((folder / "passages.json").read_text())[: int(size)],
        np.load(folder / "vectors.npy")[: int(size)],
        json.loads((folder / "queries.json").read_text()),
        np.load(folder / "query_vectors.npy"),
    )
    print("\n" + json.dumps(measure(folder, job, model)), flush=True)


run()
