"""How fast passages are stored and found, beside bm25s, Chroma and FAISS, in one run.

    python benchmarks/retrieval_speed.py                 1,000, 10,000 and 100,000 passages
    python benchmarks/retrieval_speed.py --sizes 1000 10000
    python benchmarks/retrieval_speed.py --only lmstack bm25s

Every side gets the same passages, the same vectors (all-MiniLM-L6-v2) and asks the same 200
questions one at a time, in a process of its own; the best of the rounds counts, since shared
machines stall. lmstack starts from files: its rate of indexing includes reading, cutting with
the model's tokenizer and a durable commit; the others get passages. Memory is what the process
grew by. Recall@10 is against the exact scan. Not covered: how good the results are
(`retrieval.py`), the model's own time.
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
from typing import Any

import numpy as np
from passages import speeches
from retrieval_data import load
from serving_environments import CACHE, Peer, build, versions
from spine import HERE, processor

SCRIPTS = HERE / "retrieval_peers"
FOLDER = CACHE / "retrieval-speed"
MODEL = "all-minilm-l6-v2"
SIZES = (1_000, 10_000, 100_000)
QUERIES, ROUNDS, K = 200, 2, 10
FILE_CHARS = 30_000

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


def write_files(folder: pathlib.Path) -> None:
    """The texts as files of one size, and the questions."""
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
    asked = chance.sample([query.text for query in boolq.queries], QUERIES)
    (folder / "queries.json").write_text(json.dumps(asked))


def prepare() -> dict[str, Any]:
    """Passages and vectors, made once; what is known of them."""
    if not (FOLDER / "facts.json").is_file():
        shutil.rmtree(FOLDER, ignore_errors=True)
        write_files(FOLDER)
        print("embedding the passages once ...", flush=True)
        _run([sys.executable, str(SCRIPTS / "with_lmstack.py"), str(FOLDER), "prepare", "", MODEL])
    facts: dict[str, Any] = json.loads((FOLDER / "facts.json").read_text())
    return facts


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(name: str, size: int) -> dict[str, Any]:
    script, python = SCRIPTS / f"with_{name}.py", sys.executable
    if name != "lmstack":
        python = str(PEERS[name].python)
    with tempfile.TemporaryDirectory() as work:
        said = _run([python, str(script), str(FOLDER), str(size), work, MODEL])
    found: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return found


def exact(size: int) -> list[set[int]]:
    vectors = np.load(FOLDER / "vectors.npy", mmap_mode="r")[:size]
    asked = np.load(FOLDER / "query_vectors.npy")
    return [set(np.argsort(-row, kind="stable")[:K].tolist()) for row in asked @ vectors.T]


def flat(name: str, found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """One row a way of searching."""
    if name == "faiss":
        return {f"faiss {kind}": one | one.pop("dense") for kind, one in found.items()}
    shared = {key: found[key] for key in ("indexing", "memory_mb", "disk_mb")}
    kinds = [kind for kind in ("lexical", "dense", "hybrid") if kind in found]
    return {f"{name} {kind}": shared | found[kind] for kind in kinds}


def better(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """The best of two rounds, figure by figure where they come from different moments."""
    if old is None:
        return new
    best = dict(max(old, new, key=lambda one: float(one["queries_per_s"])))
    best["indexing"] = max(old["indexing"], new["indexing"], key=lambda i: i["passages_per_s"])
    best["memory_mb"] = min(old["memory_mb"], new["memory_mb"])
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--only", nargs="+", default=["lmstack", *PEERS])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=pathlib.Path, default=HERE / "results/retrieval_speed.json")
    parser.add_argument("--picture", type=pathlib.Path)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    sides = [name for name in args.only if name == "lmstack" or build(PEERS[name]) >= 0]
    facts = prepare()
    table: dict[str, dict[str, Any]] = {}
    for wanted in args.sizes:
        size = next((end for end in facts["ends"] if end >= wanted), facts["ends"][-1])
        truth = exact(size)
        rows: dict[str, Any] = {}
        for _ in range(args.rounds):
            for name in sides:
                for row, figures in flat(name, measure(name, size)).items():
                    found = figures.pop("found")
                    if row.endswith(("dense", "flat", "hnsw")):
                        shares = [len(t & set(f)) / K for t, f in zip(truth, found, strict=True)]
                        figures["recall_at_10"] = sum(shares) / len(shares)
                    rows[row] = better(rows.get(row), figures)
        table[str(size)] = rows
        show(size, rows)
    result = {
        "processor": processor(),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "with_model_passages_per_s": facts["with_model_passages_per_s"],
        "versions": {n: versions(PEERS[n]) for n in sides if n != "lmstack"},
        "sizes": table,
    }
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.picture is not None:
        draw(result, args.picture)
    print(f"\n{processor()}\nwritten to {args.json}")


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Queries a second against passages, words and vectors apart."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    sizes = [int(size) for size in result["sizes"]]
    names = {name: None for rows in result["sizes"].values() for name in rows}
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for name in names:
        panel = axes[0] if name.endswith("lexical") or "bm25s" in name else axes[1]
        rates = [rows.get(name, {}).get("queries_per_s") for rows in result["sizes"].values()]
        panel.plot(sizes, rates, marker="o", label=name, lw=2 if "lmstack" in name else 1)
    for panel, title in zip(axes, ("by words", "by meaning, and both"), strict=True):
        panel.set(title=title, xscale="log", yscale="log", xlabel="passages")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    axes[0].set_ylabel("queries a second")
    figure.tight_layout()
    figure.savefig(path)


def show(size: int, rows: dict[str, Any]) -> None:
    print(f"\n{size:,} passages")
    print(f"{'':18}{'queries/s':>10}{'p95 ms':>9}{'recall@10':>11}{'indexed/s':>11}{'MB':>7}")
    for name, row in sorted(rows.items(), key=lambda item: item[0].split()[-1]):
        recall = f"{row['recall_at_10']:.3f}" if "recall_at_10" in row else ""
        print(
            f"{name:18}{row['queries_per_s']:>10,.0f}{row['p95_ms']:>9.2f}{recall:>11}"
            f"{row['indexing']['passages_per_s']:>11,.0f}{row['memory_mb']:>7,.0f}"
        )


if __name__ == "__main__":
    main()
