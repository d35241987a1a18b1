"""How fast passages are stored and found, beside bm25s, Chroma and FAISS, in one run.

    python benchmarks/retrieval_speed.py                 1,000, 10,000 and 100,000 passages
    python benchmarks/retrieval_speed.py --sizes 1000 10000
    python benchmarks/retrieval_speed.py --only lmstack bm25s
    python benchmarks/retrieval_speed.py --quick         some hundred passages; records nothing

Every side gets the same passages, the same vectors (all-MiniLM-L6-v2) and asks the same 200
questions one at a time, in a process of its own; each question's best of three times counts,
since shared machines stall, and the best of the rounds. "ranked" and "vectors" give the numbers
of passages from memory, as bm25s and FAISS do; a search gives the passages themselves from the
index, in one state of it and within what the caller may see, as Chroma does with texts. lmstack
starts from files: its rate of indexing includes reading, cutting with the model's tokenizer and a
durable commit; the others get passages. Memory is what the process grew by, for both kinds of
search. Recall@10 is against the exact scan. Not covered: how good the results are
(`retrieval.py`), and but for one rate the model's own time.

The first run embeds a hundred thousand passages, which takes minutes, and keeps them.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
from machine import machine
from passages import speeches
from recording import add_options, result_file
from retrieval_data import load
from serving_environments import CACHE, Peer, build, versions
from spine import HERE

SCRIPTS = HERE / "retrieval_peers"
FOLDER = CACHE / "retrieval-speed"
MODEL = "all-minilm-l6-v2"
SIZES = (1_000, 10_000, 100_000)
# Of a quick run, which has a folder of its own.
QUICK_SIZE, QUICK_FILES = 400, 10
QUERIES, K = 200, 10
FILE_CHARS = 30_000
# Small sizes are soon done, and vary most.
ROUNDS = {1_000: 3, 10_000: 2}

PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "bm25s",
            "with_bm25s.py",
            "bm25s",
            (("bm25s==0.3.16", "PyStemmer==3.1.0", "numba==0.68.1", "scipy"),),
        ),
        Peer("chroma", "with_chroma.py", "chromadb", (("chromadb==1.5.9",),)),
        Peer("faiss", "with_faiss.py", "faiss-cpu", (("faiss-cpu==1.15.1", "numpy"),)),
    )
}
BY_MEANING = ("vectors", "dense", "flat", "hnsw")


def write_files(folder: pathlib.Path, most: int | None) -> None:
    """The texts as files of one size, at most so many, and the questions."""
    boolq = load("boolq")
    chance = random.Random(0)
    texts = [
        *boolq.documents,
        *load("fitz-gov").documents,
        *(part for speech in speeches() for part in speech.split("\n\n")),
    ]
    chance.shuffle(texts)
    (folder / "files").mkdir(parents=True)
    waiting: list[str] = []
    number = size = 0
    for text in [*texts, ""]:
        waiting.append(text)
        size += len(text)
        if size >= FILE_CHARS or not text:
            name = folder / "files" / f"{number:05}.txt"
            name.write_text("\n\n".join(waiting), "utf-8")
            waiting, size, number = [], 0, number + 1
        if number == most:
            break
    asked = chance.sample([query.text for query in boolq.queries], QUERIES)
    (folder / "queries.json").write_text(json.dumps(asked))


def prepare(folder: pathlib.Path, most_files: int | None) -> list[int]:
    """Passages and vectors, made once; how many passages there are up to each file."""
    if not (folder / "facts.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        write_files(folder, most_files)
        print("embedding the passages once (minutes, unless quick) ...", flush=True)
        _run([sys.executable, str(SCRIPTS / "with_lmstack.py"), str(folder), "prepare", "", MODEL])
    ends: list[int] = json.loads((folder / "facts.json").read_text())["ends"]
    return ends


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def side(name: str, job: str, folder: pathlib.Path) -> dict[str, Any]:
    script, python = SCRIPTS / f"with_{name}.py", sys.executable
    if name != "lmstack":
        python = str(PEERS[name].python)
    with tempfile.TemporaryDirectory() as work:
        said = _run([python, str(script), str(folder), job, work, MODEL])
    found: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return found


def exact(size: int, folder: pathlib.Path) -> list[set[int]]:
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")[:size]
    asked = np.load(folder / "query_vectors.npy")
    return [set(np.argsort(-row, kind="stable")[:K].tolist()) for row in asked @ vectors.T]


def rows_of(name: str, found: dict[str, Any], truth: list[set[int]]) -> dict[str, dict[str, Any]]:
    """One row a way of searching."""
    rows = {}
    for kind, one in found["kinds"].items():
        row = {key: found[key] for key in ("indexing", "memory_mb", "disk_mb") if key in found}
        row |= one
        numbers = row.pop("found")
        if kind in BY_MEANING:
            shares = [len(t & set(n)) / K for t, n in zip(truth, numbers, strict=True)]
            row["recall_at_10"] = round(sum(shares) / len(shares), 4)
        rows[f"{name} {kind}"] = row
    return rows


def better(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """The best of two rounds, figure by figure where they come from different moments."""
    if old is None:
        return new
    best = dict(max(old, new, key=lambda one: float(one["queries_per_s"])))
    best["indexing"] = max(old["indexing"], new["indexing"], key=lambda i: i["passages_per_s"])
    best["memory_mb"] = min(old["memory_mb"], new["memory_mb"])
    return best


def measure(sides: list[str], size: int, rounds: int, folder: pathlib.Path) -> dict[str, Any]:
    truth = exact(size, folder)
    rows: dict[str, Any] = {}
    for _ in range(rounds):
        for name in sides:
            started = time.monotonic()
            for row, figures in rows_of(name, side(name, str(size), folder), truth).items():
                rows[row] = better(rows.get(row), figures)
            print(f"  {size:,} passages, {name}: {time.monotonic() - started:.0f} s", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--only", nargs="+", default=["lmstack", *PEERS])
    parser.add_argument("--rounds", type=int, help="3, 2 and 1 from small to large otherwise")
    add_options(parser, "retrieval_speed")
    args = parser.parse_args()
    folder, files = FOLDER, None
    if args.quick:
        folder, files = FOLDER.with_name(f"{FOLDER.name}-quick"), QUICK_FILES
        args.sizes, args.rounds = [QUICK_SIZE], 1
    target = result_file(args, "retrieval_speed")
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    sides = [name for name in args.only if name == "lmstack" or build(PEERS[name]) >= 0]
    ends = prepare(folder, files)
    result: dict[str, Any] = {
        "machine": machine(),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "versions": {n: versions(PEERS[n]) for n in sides if n != "lmstack"},
        "sizes": {},
    }
    for wanted in args.sizes:
        size = next((end for end in ends if end >= wanted), ends[-1])
        rows = measure(sides, size, args.rounds or ROUNDS.get(wanted, 1), folder)
        result["sizes"][str(size)] = rows
        target.write_text(json.dumps(result, indent=1) + "\n")
        show(size, rows)
    if "lmstack" in sides:
        result["with_model_passages_per_s"] = side("lmstack", "model", folder)["passages_per_s"]
        print(f"with the model: {result['with_model_passages_per_s']:,.0f} passages/s indexed")
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{result['machine']['processor']}\nwritten to {target}")


# What of lmstack gives the same as each way of searching of a peer.
ALIKE = {
    "bm25s ranked": "lmstack ranked",
    "faiss flat": "lmstack vectors",
    "faiss hnsw": "lmstack vectors",
    "chroma dense": "lmstack dense",
}


def show(size: int, rows: dict[str, Any]) -> None:
    """``ratio``: queries a second of lmstack's own over those of the peer."""
    print(f"\n{size:,} passages")
    print(
        f"{'':18}{'queries/s':>10}{'ratio':>8}{'p95 ms':>9}{'recall@10':>11}{'indexed/s':>11}"
        f"{'MB':>7}"
    )
    for name, row in sorted(rows.items(), key=lambda item: item[0].split()[-1]):
        same = rows.get(ALIKE.get(name, ""))
        ratio = f"{same['queries_per_s'] / row['queries_per_s']:.2f}" if same else ""
        recall = f"{row['recall_at_10']:.3f}" if "recall_at_10" in row else ""
        print(
            f"{name:18}{row['queries_per_s']:>10,.0f}{ratio:>8}{row['p95_ms']:>9.2f}{recall:>11}"
            f"{row['indexing']['passages_per_s']:>11,.0f}{row['memory_mb']:>7,.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
