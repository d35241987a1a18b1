"""How fast documents are cut, beside Chonkie and LangChain, with the same tokenizer.

    python benchmarks/chunking.py             about five minutes; the first time also an install
    python benchmarks/chunking.py --quick     one round

The texts are the manual, docstrings and sources of the Python that runs this, so that nothing is
downloaded but the peers, into an environment of their own. Sizes are 160 tokens of MiniLM's
tokenizer, or 700 characters where a side counts those. Each side is a process of its own; sides
take turns in rounds, and the best round counts, because shared machines stall. MB are of UTF-8.

"first" is a new chunker's first pass over all texts, "again" its second. Time of the processor
stands beside that of the wall, which other work on the machine delays. lmstack's time holds
finding paragraphs and counting what will be embedded, not telling the language, which no other
side does. Semantic sides get one embedding function, of hashed words, since models would hide
what cutting takes.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import pathlib
import platform
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator

from machine import machine
from recording import add_options, result_file
from serving_environments import Peer, build
from spine import HERE, processor

PEERS = Peer(
    "chunkers",
    "chunking_sides.py",
    "chonkie",
    (("chonkie==1.7.0", "langchain-text-splitters==1.1.3", "tokenizers==0.23.3"),),
)
LMSTACK = ("structure", "fixed", "sentence", "recursive", "semantic")
SIDES = (
    *(f"lmstack {name}" for name in LMSTACK),
    *(f"chonkie tokens-{name}" for name in ("token", "sentence", "recursive", "semantic")),
    "chonkie characters-recursive",
    "langchain tokens-recursive",
    "langchain characters-recursive",
)
MEGABYTES = 3.0


def library() -> Iterator[tuple[str, list[str]]]:
    """(source, docstrings) of each module of Python's library."""
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
        yield source, [text for text in found if text]


def texts(megabytes: float = MEGABYTES) -> list[str]:
    """About so much text: prose of the manual, docstrings, then sources."""
    from pydoc_data.topics import topics

    modules = list(library())
    pieces = [*topics.values(), *("\n\n".join(found) for _, found in modules if found)]
    pieces += [source for source, _ in modules]
    kept: list[str] = []
    size = 0
    for piece in pieces:
        if size >= megabytes * 1e6:
            break
        if piece.strip():
            kept.append(piece)
            size += len(piece.encode())
    return kept


def run(side: str, python: str, files: tuple[str, str]) -> dict[str, object]:
    done = subprocess.run(
        [python, str(HERE / "chunking_sides.py"), side, *files],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    if done.returncode:
        raise RuntimeError(f"{side}: {done.stderr[-2000:]}")
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def best(rounds: list[dict[str, object]], megabytes: float) -> dict[str, object]:
    row: dict[str, object] = {
        key: rounds[0][key] for key in ("chunks", "exact_offsets", "over_160_tokens")
    }
    for number, name in enumerate(("first", "again")):
        for clock, unit in enumerate(("mb_per_s", "mb_per_cpu_s")):
            seconds = min(r["passes"][number][clock] for r in rounds)  # type: ignore[index]
            row[f"{name}_{unit}"] = round(megabytes / seconds, 2)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    add_options(parser, "chunking")
    args = parser.parse_args()
    from lmstack.registry import Store

    tokenizer = Store().resolve("all-minilm-l6-v2").path / "tokenizer.json"
    build(PEERS)
    corpus = texts(0.1 if args.quick else MEGABYTES)
    megabytes = sum(len(text.encode()) for text in corpus) / 1e6
    around = machine()
    print(f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{len(corpus)} texts, {megabytes:.2f} MB", flush=True)
    found: dict[str, list[dict[str, object]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as scratch:
        file = pathlib.Path(scratch) / "texts.json"
        file.write_text(json.dumps(corpus))
        rounds = 1 if args.quick else args.rounds
        for number in range(rounds):
            print(f"  round {number + 1} of {rounds}", flush=True)
            for side in SIDES:
                python = sys.executable if side.startswith("lmstack") else str(PEERS.python)
                found[side].append(run(side, python, (str(file), str(tokenizer))))
    rows = {side: best(rounds, megabytes) for side, rounds in found.items()}
    heads = ("first MB/s", "again MB/s", "first cpu", "again cpu", "chunks", "exact", "over")
    print(f"{'':32}" + "".join(f"{head:>12}" for head in heads))
    for side, row in rows.items():
        names = ("first_mb_per_s", "again_mb_per_s", "first_mb_per_cpu_s", "again_mb_per_cpu_s")
        cells = [row[n] for n in (*names, "chunks", "exact_offsets", "over_160_tokens")]
        print(f"{side:32}" + "".join(f"{cell:>12}" for cell in cells))
    result = {
        "machine": around,
        "peers": dict(pair.split("==") for pair in PEERS.installs[0]),
        "megabytes": round(megabytes, 3),
        "rounds": rounds,
        "rows": rows,
    }
    result_file(args, "chunking").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
