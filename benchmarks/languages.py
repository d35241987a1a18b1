"""What finds passages in other languages than English: embedders, their fusion, the reranker.

    python benchmarks/languages.py                          the tuning halves
    python benchmarks/languages.py --grid                   also other weights of words
    python benchmarks/languages.py --collection debian-faq-ja --embedder multilingual-e5-small
    python benchmarks/languages.py --forms                  what int8 costs, on some passages

Collections and halves are those of `answers.py`; only the questions that the documents answer are
asked, and only those of the tuning half. A passage is right if it overlaps the gold section
(`answers_judge.overlaps`). R@1 and R@5: the share of questions with a right passage among so many;
nDCG@10 counts the first right one. Beside that, how well the best cosine and the reranker's best
score tell these questions from those whose answer was taken away. Indexes and the reranker's scores
are kept in the benchmark cache. Not covered: answers (`answers.py`).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from answers_data import Collection, Item, Status
from answers_judge import Span, shows_gold
from answers_manuals import MANUALS
from answers_systems import write_documents
from machine import machine
from recording import RESULTS
from retrieval_systems import Remembered
from serving_environments import CACHE

from lmstack.app.wiring import documents, retrieval
from lmstack.core import Reranker
from lmstack.evals.metrics.calibration import auc
from lmstack.rag import Hit, Index, IndexConfig, RetrievalConfig, Retriever, SearchConfig
from lmstack.serve import LocalEmbedder

FOLDER = CACHE / "languages"
COLLECTIONS = (
    "debian-faq",
    "debian-faq-de",
    "debian-faq-fr",
    "debian-faq-ja",
    "mplayer-faq-es",
    "debian-faq-de-en",
)
EMBEDDERS = ("all-minilm-l6-v2", "multilingual-e5-small")
GRID = (0.01, 0.02, 0.03, 0.05, 0.08, 0.3)
RERANKED, FORM_PASSAGES = 10, 32
# Fusion, stages, and what reranks.
Way = tuple[SearchConfig, RetrievalConfig, Reranker | None]


def items_of(collection: Collection, status: Status) -> list[Item]:
    return [item for item in collection.items if item.tuned_on and item.status == status]


def rank_of(item: Item, hits: Sequence[Hit], texts: Mapping[str, str]) -> int | None:
    """Of the first right passage, from 1."""
    for rank, hit in enumerate(hits, 1):
        if shows_gold(item, Span(Path(hit.path).name, hit.start, hit.end), texts):
            return rank
    return None


def scored(ranks: Sequence[int | None]) -> dict[str, float]:
    num = len(ranks)
    gains = [1 / math.log2(1 + rank) for rank in ranks if rank is not None and rank <= 10]
    return {
        "questions": num,
        "r@1": sum(rank == 1 for rank in ranks) / num,
        "r@5": sum(rank is not None and rank <= 5 for rank in ranks) / num,
        "ndcg@10": sum(gains) / num,
    }


class Anyway:
    """``reranker``, as if it read every language."""

    def __init__(self, reranker: Reranker) -> None:
        self.info = replace(reranker.info, languages=())
        self.score = reranker.score


def systems(reranker: Reranker, grid: bool) -> Iterator[tuple[str, Way]]:
    plain, usual = RetrievalConfig(depth=50), SearchConfig()
    yield "words", (usual, plain.replace(mode="lexical"), None)
    yield "meaning", (usual, plain.replace(mode="dense"), None)
    yield "both", (usual, plain, None)
    reranked = plain.replace(rerank_depth=RERANKED)
    yield "both, reranked", (usual, reranked, reranker)
    yield "reranked anyway", (usual, reranked, Anyway(reranker))
    if grid:
        for weight in GRID:
            yield f"weighted {weight:g}", (SearchConfig(lexical_weight=weight), plain, None)
        yield "rrf", (SearchConfig(fusion="rrf"), plain, None)


def measure(name: str, embedder: str, grid: bool) -> dict[str, Any]:
    collection = MANUALS[name]()
    place = FOLDER / name
    write_documents(collection, place / "files")
    reranker = retrieval.answer_reranker(print)
    assert reranker is not None
    remembered = Remembered(reranker, place / "scores.json")
    made = place / embedder.replace(",", "-").replace("=", "-")
    items, found = items_of(collection, "answerable"), {}
    with documents.open_index(made, embedder, create=True) as index:
        index.update([place / "files"])
        texts = {Path(info.path).name: index.document(info.id).text for info in index.documents()}
        passages = index.status(check=False).chunks
        model = index.embedder
    for system, (search, config, second) in systems(remembered, grid):
        with Index.open(made, model, False, config=IndexConfig(search=search)) as index:
            retriever = Retriever(index, config, reranker=second)
            lists = retriever.search_many([item.question for item in items], 10)
        pairs = zip(items, lists, strict=True)
        found[system] = scored([rank_of(item, each.hits, texts) for item, each in pairs])
    with Index.open(made, model, False) as index:
        asked = (items, items_of(collection, "taken_away"))
        sure = confidence(Retriever(index, RetrievalConfig(depth=50)), remembered, *asked)
    remembered.save()
    return {
        "language": collection.language,
        "passages": passages,
        "systems": found,
        "confidence": sure,
    }


def confidence(
    retriever: Retriever, reranker: Reranker, there: Sequence[Item], gone: Sequence[Item]
) -> dict[str, Any]:
    """How well the best cosine, and the best score of the reranker, of ten passages tell questions
    that the documents answer from those whose answer was taken away."""
    found: dict[str, list[list[float]]] = {"cosine": [], "reranker": []}
    for items in (there, gone):
        lists = retriever.search_many([item.question for item in items], RERANKED)
        hits = [each.hits for each in lists]
        found["cosine"].append([max(hit.similarity or 0.0 for hit in each) for each in hits])
        scores = [
            reranker.score(item.question, [hit.text for hit in each])
            for item, each in zip(items, hits, strict=True)
        ]
        found["reranker"].append([float(each.max()) for each in scores])
    return {name: _told(*values) for name, values in found.items()}


def forms(name: str) -> dict[str, dict[str, float]]:
    """Vectors of some passages in fewer bits beside those in float32, and the time that one takes,
    by the form of the weights of the last embedder."""
    with documents.open_index(FOLDER / name / EMBEDDERS[-1], None, create=False) as index:
        texts = [passage.text for passage in index.stored_passages()[0]]
    texts = texts[:: len(texts) // FORM_PASSAGES][:FORM_PASSAGES]
    found: dict[str, dict[str, float]] = {}
    whole = None
    for form in ("float32", "int8", "q4"):
        embedder = LocalEmbedder.load(EMBEDDERS[-1], weights=form)
        started = time.process_time()
        vectors = embedder.embed(texts)
        seconds = (time.process_time() - started) / len(texts)
        whole = vectors if whole is None else whole
        cosines = (vectors * whole).sum(axis=1)
        found[form] = {
            "mean": float(cosines.mean()),
            "least": float(cosines.min()),
            "processor_s": seconds,
        }
    return found


def _told(there: Sequence[float], gone: Sequence[float]) -> dict[str, Any]:
    area = auc(there, gone)
    tenths = {
        name: [round(float(q), 4) for q in np.quantile(values, (0.1, 0.25, 0.5, 0.75, 0.9))]
        for name, values in (("answerable", there), ("taken away", gone))
    }
    return {
        **{"auc": area.value, "low": area.low, "high": area.high},
        **{"of": len(gone), "quantiles": tenths},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--collection", nargs="+", choices=list(MANUALS), default=COLLECTIONS)
    parser.add_argument("--embedder", nargs="+", default=EMBEDDERS)
    parser.add_argument("--grid", action="store_true")
    parser.add_argument("--forms", action="store_true")
    parser.add_argument("--json", type=Path, help="default: results/languages.json")
    args = parser.parse_args()
    if args.forms:
        for name in args.collection:
            print(name, json.dumps(forms(name), indent=1), flush=True)
        return
    results: dict[str, Any] = {}
    for name in args.collection:
        results[name] = {}
        for embedder in args.embedder:
            results[name][embedder] = found = measure(name, embedder, args.grid)
            print(f"{name}, {found['passages']} passages, {embedder}")
            for system, row in found["systems"].items():
                figures = "  ".join(f"{key} {row[key]:.3f}" for key in ("r@1", "r@5", "ndcg@10"))
                print(f"  {system:16} {figures}   of {row['questions']}")
            for by, row in found["confidence"].items():
                print(f"  AUC by {by}: {row['auc']:.3f} (of {row['of']})", row["quantiles"])
            print(flush=True)
    whole = tuple(args.collection) == COLLECTIONS and tuple(args.embedder) == EMBEDDERS
    path = args.json or (RESULTS / "languages.json" if whole and not args.grid else None)
    if path:
        path.write_text(json.dumps({"machine": machine(), "collections": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
