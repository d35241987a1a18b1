"""FAISS, in memory: the exact flat index and HNSW (M=32, efSearch=64), inner product."""

from __future__ import annotations

import time
from typing import Any

import faiss
import numpy as np
from side import Job, K, disk, main, resident, timed


def measure(job: Job) -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    before = resident()
    for name in ("flat", "hnsw"):
        size = job.vectors.shape[1]
        if name == "flat":
            index = faiss.IndexFlatIP(size)
        else:
            index = faiss.IndexHNSWFlat(size, 32, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efSearch = 64
        start = time.perf_counter()
        index.add(np.ascontiguousarray(job.vectors))
        faiss.write_index(index, str(job.work / name))
        indexing = time.perf_counter() - start

        def run(number: int, index: Any = index) -> list[int]:
            _, ids = index.search(job.query_vectors[number : number + 1], K)
            return list(ids[0])

        kinds[name] = timed(run, len(job.queries)) | {
            "indexing": {"passages_per_s": job.size / indexing},
            "memory_mb": resident() - before,
            "disk_mb": disk(job.work),
        }
        (job.work / name).unlink()
        # The first one must be gone before the memory of the second is read.
        del index, run
    return {"kinds": kinds}


main(measure)
