"""Search by words beside bm25s and SQLite's FTS5: how good and how fast, in one run.

    python benchmarks/words.py                    quality on two collections, speed at three sizes
    python benchmarks/words.py --sizes            quality only; --queries 0: speed only
    python benchmarks/words.py --tune             k1 and b, on the half of the questions for it
    python benchmarks/words.py --quick            a thousand passages, 50 questions; records nothing

Quality is nDCG@10 on the judged collections of `retrieval_data.py`. Speed is that of one query
after the other, from its text to the numbers and scores of the best ten; passages are pieces of
the sources of the Python that runs this, queries first lines of its docstrings. bm25s is used as
its manual shows (`word_peers/with_bm25s.py`), with and without numba, in an environment of its own
that is built at the first run. Best of three rounds for each query, because shared machines stall.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import pathlib
import platform
import random
import sqlite3
import statistics
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from machine import machine
from recording import add_options, result_file
from retrieval_data import COLLECTIONS, load
from retrieval_speed import PEERS
from serving_environments import build
from spine import HERE, processor
from word_peers.asking import Search, asked

from lmstack.evals.metrics.retrieval import ndcg
from lmstack.rag.retrieve.bm25 import Bm25, merge_postings
from lmstack.rag.words import content_words, posting_blob, query_terms, read_postings

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


MAKERS: dict[str, Callable[[Sequence[str]], Search]] = {"lmstack": ours, "FTS5": fts5}
# The sides that run in the environment of bm25s, with the backend of each.
BACKENDS = {"bm25s": "numpy", "bm25s with numba": "numba"}
NAMES = ("lmstack", *BACKENDS, "FTS5")


def side(name: str, passages: Sequence[str], queries: Sequence[str], rounds: int) -> dict[str, Any]:
    """What `asked` gives for one side."""
    if name in MAKERS:
        return asked(MAKERS[name], passages, queries, rounds)
    peer = PEERS["bm25s"]
    with tempfile.TemporaryDirectory() as scratch:
        job = pathlib.Path(scratch) / "job.json"
        job.write_text(json.dumps({"passages": passages, "queries": queries, "rounds": rounds}))
        script = str(HERE / "word_peers" / "with_bm25s.py")
        command = [str(peer.python), script, str(job), BACKENDS[name]]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return found


def quality(limit: int, names: Sequence[str]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name in names:
        collection = load(name)
        queries = random.Random(0).sample(collection.queries, min(limit, len(collection.queries)))
        texts = [query.text for query in queries]
        scores = {
            peer: np.array(
                [
                    ndcg(found, query.relevant)
                    for found, query in zip(
                        side(peer, collection.documents, texts, 0)["found"], queries, strict=True
                    )
                ]
            )
            for peer in NAMES
            if peer != "bm25s with numba"
        }
        held_out = np.array([not query.tuned_on for query in queries])
        rows[name] = {
            peer: {"all": mean(found), "held_out": mean(found[held_out])}
            for peer, found in scores.items()
        } | {"ahead_of_bm25s": paired(scores["lmstack"] - scores["bm25s"])}
        show_quality(name, len(queries), rows[name])
    return rows


def show_quality(name: str, queries: int, row: dict[str, Any]) -> None:
    print(f"\n{name}, {queries} questions")
    print(f"{'':20}{'nDCG@10':>10}{'held out':>10}")
    for peer, found in row.items():
        if peer in NAMES:
            print(f"{peer:20}{found['all']:>10.4f}{found['held_out']:>10.4f}")
    ahead, low, high = row["ahead_of_bm25s"]
    print(f"lmstack ahead of bm25s by {ahead:+.4f} ({low:+.4f} to {high:+.4f})", flush=True)


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


def speed(size: int, rounds: int) -> dict[str, Any]:
    passages, queries = passages_and_queries(size)
    row: dict[str, Any] = {"passages": len(passages), "queries": len(queries)}
    for peer in NAMES:
        if peer != "FTS5" or size <= FTS5_PASSAGES:
            row[peer] = side(peer, passages, queries, rounds)
            del row[peer]["found"]
    show_speed(row)
    return row


def show_speed(row: dict[str, Any]) -> None:
    """``ratio``: how many times as long as lmstack a query takes."""
    print(f"\n{row['passages']:,} passages, {row['queries']} queries one after the other")
    print(f"{'':20}{'built in s':>11}{'mean ms':>10}{'p95 ms':>10}{'ratio':>8}")
    for peer in (name for name in NAMES if name in row):
        one, ratio = row[peer], row[peer]["mean_ms"] / row["lmstack"]["mean_ms"]
        print(
            f"{peer:20}{one['build_s']:>11.2f}{one['mean_ms']:>10.3f}{one['p95_ms']:>10.3f}"
            f"{ratio:>8.1f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--queries", type=int, default=4000, help="for quality, a collection")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tune", action="store_true")
    add_options(parser, "words")
    args = parser.parse_args()
    print(f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    if args.tune:
        tune(args.queries)
        return
    collections = COLLECTIONS
    if args.quick:
        args.sizes, args.queries, args.rounds = [1000], min(args.queries, 50), 1
        collections = COLLECTIONS[:1]
    build(PEERS["bm25s"])
    file = result_file(args, "words")
    found = json.loads(file.read_text()) if file.exists() else {}
    found["machine"] = machine()
    if args.queries:
        found["quality"] = quality(args.queries, collections)
    if args.sizes:
        found["speed"] = [speed(size, args.rounds) for size in args.sizes]
    file.write_text(json.dumps(found, indent=1) + "\n")
    print(f"\nwritten to {file}")


if __name__ == "__main__":
    main()
