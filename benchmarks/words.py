"""Search by words beside bm25s and SQLite's FTS5: how good and how fast, in one run.

    python benchmarks/words.py                    quality on two collections, speed at three sizes
    python benchmarks/words.py --sizes            quality only; --queries 0: speed only
    python benchmarks/words.py --tune             k1 and b, on the half of the questions for it

Quality is nDCG@10 on the judged collections of `retrieval_data.py`. Speed is that of one query
after the other, from its text to the numbers and scores of the best ten; passages are pieces of
the sources of the Python that runs this, queries first lines of its docstrings. bm25s is used as
its manual shows: PyStemmer, English stop words, its default (Lucene's) method, with and without
numba. Best of three rounds for each query, because shared machines stall.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import pathlib
import platform
import random
import sqlite3
import statistics
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import bm25s
import numpy as np
import Stemmer
from machine import machine
from retrieval_data import COLLECTIONS, load
from spine import processor

from lmstack.rag.search.bm25 import Bm25, merge_postings
from lmstack.rag.search.lexical import content_words, posting_blob, query_terms, read_postings

HERE = pathlib.Path(__file__).parent
Search = Callable[[str], Sequence[int]]
CHARS = 500
QUERIES = 200
DOCUMENT = 20
# Beyond, a query of its takes a tenth of a second.
FTS5_PASSAGES = 20_000


def ours(passages: Sequence[str], **settings: float) -> Search:
    """`Bm25` over documents of twenty passages each."""
    parts = [
        read_postings(posting_blob([("", text) for text in passages[start : start + DOCUMENT]]))
        for start in range(0, len(passages), DOCUMENT)
    ]
    ranking = Bm25([merge_postings(parts)], np.arange(len(passages), dtype=np.int32), **settings)
    return lambda query: ranking.search(query_terms(query), 10)[0]


def theirs(passages: Sequence[str], backend: str) -> Search:
    stemmer = Stemmer.Stemmer("english")

    def tokens(texts: Sequence[str]) -> object:
        return bm25s.tokenize(list(texts), stopwords="en", stemmer=stemmer, show_progress=False)

    ranking = bm25s.BM25(backend=backend)
    ranking.index(tokens(passages), show_progress=False)
    k = min(10, len(passages))
    return lambda query: ranking.retrieve(tokens([query]), k=k, show_progress=False)[0][0]


def fts5(passages: Sequence[str]) -> Search:
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE VIRTUAL TABLE words "
        "USING fts5(text, tokenize='porter unicode61 remove_diacritics 2')"
    )
    connection.executemany("INSERT INTO words(rowid, text) VALUES (?, ?)", enumerate(passages))

    def search(query: str) -> list[int]:
        match = " OR ".join(f'"{word}"' for word in content_words(query))
        rows = connection.execute(
            "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT 10", (match,)
        )
        return [row[0] for row in rows]

    return search


MAKERS: dict[str, Callable[[Sequence[str]], Search]] = {
    "lmstack": ours,
    "bm25s": lambda passages: theirs(passages, "numpy"),
    "bm25s with numba": lambda passages: theirs(passages, "numba"),
    "FTS5": fts5,
}


def ndcg(found: Sequence[int], relevant: frozenset[int]) -> float:
    gain = sum(1 / math.log2(n + 2) for n, item in enumerate(found) if int(item) in relevant)
    return gain / sum(1 / math.log2(n + 2) for n in range(min(10, len(relevant))))


def quality(limit: int) -> dict[str, object]:
    rows: dict[str, object] = {}
    for name in COLLECTIONS:
        collection = load(name)
        queries = random.Random(0).sample(collection.queries, min(limit, len(collection.queries)))
        scores = {
            peer: np.array([ndcg(search(query.text), query.relevant) for query in queries])
            for peer, make in MAKERS.items()
            if peer != "bm25s with numba"
            for search in (make(collection.documents),)
        }
        held_out = np.array([not query.tuned_on for query in queries])
        rows[name] = {
            peer: {"all": mean(found), "held_out": mean(found[held_out])}
            for peer, found in scores.items()
        } | {"ahead_of_bm25s": paired(scores["lmstack"] - scores["bm25s"])}
        print(name, json.dumps(rows[name]), flush=True)
    return rows


def mean(values: np.ndarray) -> float:
    return round(float(values.mean()), 4)


def paired(differences: np.ndarray) -> list[float]:
    """The mean difference and its 95 % interval (bootstrap over queries)."""
    rng = np.random.default_rng(0)
    means = [rng.choice(differences, len(differences)).mean() for _ in range(2000)]
    return [mean(differences), *(round(float(q), 4) for q in np.quantile(means, [0.025, 0.975]))]


def tune(limit: int) -> None:
    for name in COLLECTIONS:
        collection = load(name)
        queries = [query for query in collection.queries if query.tuned_on][:limit]
        for k1 in (0.6, 0.9, 1.2, 1.5):
            row = []
            for b in (0.4, 0.5, 0.6, 0.75, 0.9):
                search = ours(collection.documents, k1=k1, b=b)
                row.append(statistics.mean(ndcg(search(q.text), q.relevant) for q in queries))
            print(name, k1, " ".join(f"{value:.4f}" for value in row), flush=True)


def sources() -> Iterator[str]:
    paths = sysconfig.get_paths()
    for folder in (paths["stdlib"], paths["purelib"]):
        for path in sorted(pathlib.Path(folder).rglob("*.py")):
            try:
                yield path.read_text("utf-8")
            except (UnicodeDecodeError, OSError):
                continue


def passages_and_queries(size: int) -> tuple[list[str], list[str]]:
    passages: list[str] = []
    asked: set[str] = set()
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for text in sources():
        if len(asked) < 1000:
            with suppress(SyntaxError):
                nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
                lines = [(ast.get_docstring(node) or "").partition("\n")[0] for node in nodes]
                asked |= {line for line in lines if 25 < len(line) < 80}
        passages += [text[n : n + CHARS] for n in range(0, len(text), CHARS)]
        if len(passages) >= size:
            break
    return passages[:size], random.Random(0).sample(sorted(asked), min(QUERIES, len(asked)))


def speed(size: int, rounds: int) -> dict[str, object]:
    passages, queries = passages_and_queries(size)
    row: dict[str, object] = {"passages": len(passages), "queries": len(queries)}
    for peer, make in MAKERS.items():
        if peer == "FTS5" and size > FTS5_PASSAGES:
            continue
        started = time.perf_counter()
        search = make(passages)
        built = time.perf_counter() - started
        started = time.perf_counter()
        for query in queries:
            search(query)
        first = (time.perf_counter() - started) / len(queries)
        best = [float("inf")] * len(queries)
        for _ in range(rounds):
            for number, query in enumerate(queries):
                started = time.perf_counter()
                search(query)
                best[number] = min(best[number], time.perf_counter() - started)
        row[peer] = {
            "build_s": round(built, 2),
            "first_round_ms": round(1e3 * first, 3),
            "mean_ms": round(1e3 * statistics.mean(best), 3),
            "p95_ms": round(1e3 * sorted(best)[round(0.95 * (len(best) - 1))], 3),
        }
        print(size, peer, json.dumps(row[peer]), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--queries", type=int, default=4000, help="for quality, a collection")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--json", type=pathlib.Path, default=HERE / "results" / "words.json")
    args = parser.parse_args()
    print(f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    if args.tune:
        return tune(args.queries)
    found = json.loads(args.json.read_text()) if args.json.exists() else {}
    found["machine"] = machine()
    if args.queries:
        found["quality"] = quality(args.queries)
    if args.sizes:
        found["speed"] = [speed(size, args.rounds) for size in args.sizes]
    args.json.parent.mkdir(exist_ok=True)
    args.json.write_text(json.dumps(found, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
