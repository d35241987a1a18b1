"""bm25s as its README has it: English stop words, a Snowball stemmer, the numba backend."""

from __future__ import annotations

import time
from typing import Any

import bm25s
import Stemmer
from side import Job, K, disk, main, resident, timed


def measure(job: Job) -> dict[str, Any]:
    before = resident()
    stemmer = Stemmer.Stemmer("english")
    start = time.perf_counter()
    tokens = bm25s.tokenize(job.passages, stopwords="en", stemmer=stemmer, show_progress=False)
    retriever = bm25s.BM25(backend="numba")
    retriever.index(tokens, show_progress=False)
    retriever.save(str(job.work))
    indexing = time.perf_counter() - start

    def run(number: int) -> list[int]:
        asked = bm25s.tokenize(
            [job.queries[number]], stopwords="en", stemmer=stemmer, show_progress=False
        )
        found, _ = retriever.retrieve(asked, k=K, show_progress=False, n_threads=1)
        return list(found[0])

    return {
        "kinds": {"ranked": timed(run, len(job.queries))},
        "indexing": {"passages_per_s": job.size / indexing},
        "memory_mb": resident() - before,
        "disk_mb": disk(job.work),
    }


main(measure)
