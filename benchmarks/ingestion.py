"""How fast documents come in: a worker's start and memory, and parsing here and in workers.

    python benchmarks/ingestion.py /usr/share/doc/python3/html

Prints JSON. MB/s are of source bytes; times are of the whole pass, best of three.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from lmstack.rag.catalogue.duplicates import (
    group_similar,
    jaccard,
    load_sketch,
    shingles_of,
    sketch_of,
)
from lmstack.rag.documents import ProblemError
from lmstack.rag.formats.load import FORMATS, parse_document
from lmstack.rag.ingest.workers import WorkerConfig, Workers, close_spares

Files = list[tuple[str, bytes]]


def files_of(folder: Path, suffix: str, most: int) -> Files:
    found: Files = []
    for path in sorted(folder.rglob(f"*{suffix}")):
        if path.is_file() and not path.is_symlink() and path.suffix in FORMATS:
            found.append((str(path), path.read_bytes()))
            most -= len(found[-1][1])
        if most <= 0:
            break
    return found


def best(work: Callable[[], None], times: int = 3) -> float:
    found = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def quietly(parse: Callable[[str, bytes], object], path: str, data: bytes) -> None:
    with suppress(ProblemError):
        parse(path, data)


def rates(files: Files) -> dict[str, object]:
    size = sum(len(data) for _, data in files) / 1e6
    here = best(lambda: [quietly(parse_document, *file) for file in files] and None)
    row: dict[str, object] = {
        "files": len(files),
        "MB": round(size, 1),
        "in this process, MB/s": round(size / here, 2),
        "in this process, files/s": round(len(files) / here),
    }
    for count in (1, 2):
        with Workers(WorkerConfig(count=count)) as workers, ThreadPoolExecutor(count) as threads:
            workers.parse("a.txt", b"warm")

            def work() -> None:
                list(threads.map(lambda file: quietly(workers.parse, *file), files))

            took = best(work)
        row[f"{count} workers, MB/s"] = round(size / took, 2)
        row[f"{count} workers, files/s"] = round(len(files) / took)
    return row


def start_of_a_worker() -> float:
    close_spares()
    started = time.perf_counter()
    with Workers(WorkerConfig(count=1)) as workers:
        workers.parse("a.txt", b"words")
        took = time.perf_counter() - started
    close_spares()
    return took


def duplicates(count: int) -> dict[str, object]:
    """Near duplicates among documents of 500 words, of which a tenth are edited copies."""
    dice = random.Random(1)
    words = [f"word{n}" for n in range(5000)]
    texts = [" ".join(dice.choices(words, k=500)) for _ in range(count * 9 // 10)]
    planted = []
    for number in range(count - len(texts)):
        edited = texts[number].split()
        for _ in range(dice.randint(0, 14)):
            edited[dice.randrange(500)] = dice.choice(words)
        planted.append((number, len(texts)))
        texts.append(" ".join(edited))
    started = time.perf_counter()
    sketches = [load_sketch(sketch_of(text)) for text in texts]
    sketched = time.perf_counter() - started
    started = time.perf_counter()
    groups = group_similar(sketches, lambda number: shingles_of(texts[number]), 0.8)
    grouped = time.perf_counter() - started
    alike = [jaccard(shingles_of(texts[a]), shingles_of(texts[b])) >= 0.8 for a, b in planted]
    hit = [groups[a] == groups[b] for a, b in planted]
    found = len(texts) - len(set(groups))
    return {
        "documents": len(texts),
        "pairs at 0.8 and more": sum(alike),
        "recall": sum(h for h, a in zip(hit, alike, strict=True) if a) / sum(alike),
        "precision": sum(h for h, a in zip(hit, alike, strict=True) if a) / found,
        "sketches, s": round(sketched, 2),
        "groups, s": round(grouped, 2),
    }


def main() -> None:
    folder = Path(sys.argv[1])
    report: dict[str, object] = {
        "worker, s from nothing to its first answer": round(
            min(start_of_a_worker() for _ in range(5)), 3
        ),
        "largest worker, MB": round(
            resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1
        ),
        "html": rates(files_of(folder, ".html", 20_000_000)),
        "text": rates(files_of(folder, ".txt", 20_000_000)),
        "duplicates": duplicates(5000),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
