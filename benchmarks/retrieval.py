"""How fast documents are indexed and searched, at 1,000 and 10,000 passages.

    python benchmarks/retrieval.py                     about three minutes
    python benchmarks/retrieval.py --sizes 1000        the small collection only
    python benchmarks/retrieval.py --embedder hash     without weights: all that is not the model

The documents are the manual and the docstrings of the Python that runs this, then the sources
of its library, so that nothing is downloaded; the queries are first lines of its docstrings.
``hash`` is a bag of hashed words, which costs next to nothing: its figures are those of
reading, cutting and storing. Each search is a whole `Index.search`, the query's vector included.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import pathlib
import platform
import random
import re
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from pydoc_data.topics import topics

import numpy as np
from spine import processor

from lmstack.core import Embedder, ModelInfo
from lmstack.rag import Index

HERE = pathlib.Path(__file__).parent
MODEL = "all-minilm-l6-v2"
MODES = ("hybrid", "dense", "lexical")
QUERIES = 100
# Enough of the library for 10,000 passages.
CHARS_PER_PASSAGE = 560
_WORD = re.compile(r"\w+|[^\w\s]")


class HashEmbedder:
    """Counts hashed words: deterministic, and fast enough not to matter."""

    info = ModelInfo("hash", "sha256:" + "0" * 64)
    dimensions = 384
    max_tokens = 256

    def embed(self, texts: Sequence[str], kind: str = "passage") -> np.ndarray:  # noqa: ARG002
        matrix = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            for word in set(_WORD.findall(text.lower())):
                digest = hashlib.blake2b(word.encode(), digest_size=4).digest()
                matrix[row, int.from_bytes(digest) % self.dimensions] += 1
        return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(_WORD.findall(text)) + 2 for text in texts]


def library() -> Iterator[tuple[str, str, list[str]]]:
    """(name, source, docstrings) of each module of Python's library."""
    root = pathlib.Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name.startswith(("test/", "site-packages/", "dist-packages/")) or "/test" in name:
            continue
        try:
            source = path.read_text("utf-8")
            tree = ast.parse(source)
        except (UnicodeDecodeError, SyntaxError):
            continue
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
        yield name.replace("/", "."), source, [text for text in found if text]


def write_documents(folder: pathlib.Path, passages: int) -> list[str]:
    """Fill ``folder`` with about ``passages`` passages; queries for it."""
    modules = list(library())
    documents = {f"topic-{name}.txt": text for name, text in topics.items()}
    documents |= {f"doc-{name}.txt": "\n\n".join(found) for name, _, found in modules if found}
    written = 0
    for name, text in [*documents.items(), *((f"{name}.txt", text) for name, text, _ in modules)]:
        if written >= passages * CHARS_PER_PASSAGE:
            break
        (folder / name).write_text(text, "utf-8")
        written += len(text)
    lines = (text.partition("\n")[0] for _, _, found in modules for text in found)
    asked = sorted({line for line in lines if 25 < len(line) < 80})
    return random.Random(0).sample(asked, QUERIES)


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[round(share * (len(values) - 1))]


def measure(embedder: Embedder, passages: int, rounds: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "documents"
        folder.mkdir()
        queries = write_documents(folder, passages)
        with Index.open(pathlib.Path(scratch) / "index", embedder) as index:
            result = index.update([folder])
            row: dict[str, object] = {
                "passages": result.chunks,
                "indexed_per_s": round(result.chunks / result.seconds, 1),
                "index_mb": round(index.status(check=False).bytes / 1e6, 1),
            }
            started = time.perf_counter()
            index.update()
            row["update_without_changes_ms"] = round(1e3 * (time.perf_counter() - started), 1)
            for mode in MODES:
                row[mode] = search_times(index, queries, mode, rounds)
    return row


def search_times(index: Index, queries: Sequence[str], mode: str, rounds: int) -> dict[str, float]:
    """The best of ``rounds`` for each query, because shared machines stall."""
    index.search(queries[0], 10, mode)  # type: ignore[arg-type]
    best = [float("inf")] * len(queries)
    for _ in range(rounds):
        for number, query in enumerate(queries):
            started = time.perf_counter()
            index.search(query, 10, mode)  # type: ignore[arg-type]
            best[number] = min(best[number], 1e3 * (time.perf_counter() - started))
    return {"mean_ms": round(statistics.mean(best), 2), "p95_ms": round(percentile(best, 0.95), 2)}


def make_embedder(name: str) -> Embedder:
    if name == "hash":
        return HashEmbedder()
    from lmstack.serve import LocalEmbedder

    return LocalEmbedder.load(MODEL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--embedder", choices=["hash", "model"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path, default=HERE / "results" / "retrieval.json")
    args = parser.parse_args()
    print(f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    rows = {}
    for name in [args.embedder] if args.embedder else ["hash", "model"]:
        embedder = make_embedder(name)
        for size in args.sizes:
            row = rows[f"{name}-{size}"] = measure(embedder, size, args.rounds)
            print(f"\n{embedder.info.name}: {row['passages']} passages", flush=True)
            print(f"  indexed            {row['indexed_per_s']:>9} passages/s")
            print(f"  on disk            {row['index_mb']:>9} MB")
            print(f"  update, no change  {row['update_without_changes_ms']:>9} ms")
            for mode in MODES:
                times = row[mode]
                print(f"  search {mode:11} {times['mean_ms']:>9} ms mean, {times['p95_ms']} p95")  # type: ignore[index]
    result = {
        "machine": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "rows": rows,
    }
    if not args.embedder:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
