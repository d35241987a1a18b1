"""The systems that `retrieval.py` ranks documents with: ours, stage by stage, and the peers.

Every system ranks whole documents: the best passage of a document counts. Ours reads files and cuts
them itself; the peers get the documents as they are, as their tutorials show.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from retrieval_data import Collection, Query
from serving_environments import CACHE, Peer, build
from spine import HERE

from lmstack.core import Reranker, TextKind
from lmstack.rag import (
    Index,
    IndexConfig,
    LateInteractionReranker,
    RetrievalConfig,
    Retriever,
    SearchConfig,
)
from lmstack.registry import Store
from lmstack.serve import LocalEmbedder
from lmstack.serve.tasks import LocalReranker, LocalTokenEmbedder

__all__ = [
    "BGE",
    "EMBEDDERS",
    "MINILM",
    "PEERS",
    "Ranked",
    "System",
    "our_rankings",
    "peer_rankings",
]

SCRIPTS = HERE / "ranking_peers"
FOLDER = CACHE / "retrieval"
MINILM = "all-minilm-l6-v2"
BGE = "bge-small-en-v1.5"
# As the command line indexes with them: MiniLM in the form that `embedding_forms.py` measured;
# bge-small ships in int8, and is held so.
EMBEDDERS: Mapping[str, str] = {MINILM: "int8", BGE: "int8"}
RERANKER, LATE = "ms-marco-minilm-l12", "colbert-small"
# Passages asked for, so that ten documents are left when each counts once.
PASSAGES, DOCUMENTS = 30, 10
TIMED = 20
# Room for the token vectors of all passages, so that each is encoded once.
ENCODED_BYTES = 2_000_000_000

# The environments that the benchmark of speed builds, too.
PEERS = {
    "bm25s": Peer(
        "bm25s",
        "with_bm25s.py",
        "bm25s",
        (("bm25s==0.3.16", "PyStemmer==3.1.0", "numba==0.68.1", "scipy"),),
    ),
    "Chroma": Peer("chroma", "with_chroma.py", "chromadb", (("chromadb==1.5.9",),)),
}


@dataclass(frozen=True)
class System:
    """One of ours. ``embedder``: None for one that needs none."""

    name: str
    embedder: str | None
    config: RetrievalConfig


@dataclass(frozen=True)
class Ranked:
    """Documents for each query. ``ms``: of each search that was timed, its query's embedding
    included and nothing remembered; none for a peer."""

    rankings: list[list[int]]
    ms: list[float]


def files_of(collection: Collection) -> pathlib.Path:
    """The documents as files named by their numbers."""
    folder = FOLDER / collection.name / "files"
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(collection.documents):
        path = folder / f"{number}.txt"
        if not path.exists():
            path.write_text(text, "utf-8")
    return folder


def our_rankings(
    collection: Collection,
    queries: Sequence[Query],
    systems: Sequence[System],
    store: Store,
    search: SearchConfig,
) -> dict[str, Ranked]:
    """Indexes are kept between runs, and so is what a model said of a passage."""
    folder = files_of(collection)
    parts: dict[str, Any] = {}
    config = IndexConfig(search=search)
    found: dict[str, Ranked] = {}
    for name, form in EMBEDDERS.items():
        mine = [system for system in systems if (system.embedder or MINILM) == name]
        if not mine:
            continue
        embedder = Prepared(LocalEmbedder.load(name, store, weights=form))
        with Index.open(
            FOLDER / collection.name / f"{name}-{form}.idx", embedder, config=config
        ) as index:
            index.update([folder])
            for system in mine:
                models = _models(system, parts, store)
                kept = {
                    part: Remembered(model, FOLDER / collection.name / f"{part}.json")
                    for part, model in models.items()
                }
                embedder.prepare([query.text for query in queries])
                rankings = _rank(Retriever(index, system.config, **kept), queries)
                for each in kept.values():
                    each.save()
                embedder.forget()
                ms = _times(Retriever(index, system.config, **models), queries[:TIMED])
                found[system.name] = Ranked(rankings, ms)
                print(f"    {system.name}", flush=True)
    return found


def _models(system: System, parts: dict[str, Any], store: Store) -> dict[str, Reranker]:
    wanted: dict[str, Reranker] = {}
    if system.config.rerank_depth:
        if "reranker" not in parts:
            parts["reranker"] = LocalReranker.load(RERANKER, store, weights="int8", cut=True)
        wanted["reranker"] = parts["reranker"]
    if system.config.late_depth:
        if "late" not in parts:
            tokens = LocalTokenEmbedder.load(LATE, store, weights="int8")
            parts["late"] = LateInteractionReranker(tokens, ENCODED_BYTES)
        wanted["late"] = parts["late"]
    return wanted


class Prepared:
    """An embedder that embeds queries ahead, all at once; searches that are timed come after
    `forget`."""

    def __init__(self, real: LocalEmbedder) -> None:
        self.info, self.dimensions, self.max_tokens = real.info, real.dimensions, real.max_tokens
        self.count_tokens = real.count_tokens
        self._real, self._made = real, dict[str, np.ndarray]()
        self._known = self._made

    def prepare(self, queries: Sequence[str]) -> None:
        missing = [query for query in queries if query not in self._made]
        if missing:
            self._made |= dict(zip(missing, self._real.embed(missing, "query"), strict=True))
        self._known = self._made

    def forget(self) -> None:
        self._known = {}

    def embed(self, texts: Sequence[str], kind: TextKind = "passage") -> np.ndarray:
        if kind == "query" and all(text in self._known for text in texts):
            return np.stack([self._known[text] for text in texts])
        return self._real.embed(texts, kind)


class Remembered:
    """A reranker that scores a pair once, whichever systems ask, also in later runs."""

    def __init__(self, reranker: Reranker, path: pathlib.Path) -> None:
        self._reranker, self._path = reranker, path
        self._scores: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
        self.info = reranker.info

    def score(self, query: str, passages: Sequence[str]) -> np.ndarray:
        keys = [hashlib.sha256(f"{query}\0{each}".encode()).hexdigest()[:24] for each in passages]
        missing = {k: p for k, p in zip(keys, passages, strict=True) if k not in self._scores}
        if missing:
            found = self._reranker.score(query, list(missing.values()))
            self._scores |= dict(zip(missing, map(float, found), strict=True))
        return np.array([self._scores[key] for key in keys], np.float32)

    def save(self) -> None:
        self._path.write_text(json.dumps(self._scores))


def _rank(retriever: Retriever, queries: Sequence[Query]) -> list[list[int]]:
    rankings = []
    for query in queries:
        hits = retriever.search(query.text, PASSAGES).hits
        numbers = dict.fromkeys(int(pathlib.Path(hit.path).stem) for hit in hits)
        rankings.append(list(numbers)[:DOCUMENTS])
    return rankings


def _times(retriever: Retriever, queries: Sequence[Query]) -> list[float]:
    """Milliseconds of the ten best passages for each query."""
    retriever.search(queries[0].text, DOCUMENTS)
    ms = []
    for query in queries:
        started = time.perf_counter()
        retriever.search(query.text, DOCUMENTS)
        ms.append(1e3 * (time.perf_counter() - started))
    return ms


def peer_rankings(
    collection: Collection, queries: Sequence[Query], store: Store
) -> dict[str, Ranked]:
    """Chroma's vectors are those of sentence-transformers, for the same weights."""
    folder = FOLDER / collection.name
    source = folder / f"texts-{len(queries)}.json"
    target = folder / f"vectors-{len(queries)}"
    target.mkdir(parents=True, exist_ok=True)
    texts = {"documents": collection.documents, "queries": [query.text for query in queries]}
    source.write_text(json.dumps(texts), "utf-8")
    shared = folder / "documents.npy"
    if not (target / "documents.npy").exists() and shared.exists():
        (target / "documents.npy").hardlink_to(shared)
    script = SCRIPTS / "with_sentence_transformers.py"
    _run([sys.executable, script, store.resolve(MINILM).path, source, target])
    if not shared.exists():
        shared.hardlink_to(target / "documents.npy")
    found = {}
    for name, peer in PEERS.items():
        build(peer)
        said = _run([peer.python, SCRIPTS / peer.script, source, target, str(DOCUMENTS)])
        found[name] = Ranked(json.loads(said), [])
        print(f"    {name}", flush=True)
    return found


def _run(command: Sequence[str | pathlib.Path]) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "ANONYMIZED_TELEMETRY": "False"},
    )
    if done.returncode:
        raise SystemExit(f"{command[1]} failed:\n{done.stderr[-3000:]}")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
