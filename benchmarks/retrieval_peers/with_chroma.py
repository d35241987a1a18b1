"""Chroma embedded, with vectors given: a persistent collection at its defaults, cosine."""

from __future__ import annotations

import time
from typing import Any

import chromadb
from side import Job, K, disk, main, resident, timed

BATCH = 2000


def measure(job: Job) -> dict[str, Any]:
    before = resident()
    client = chromadb.PersistentClient(
        str(job.work), settings=chromadb.Settings(anonymized_telemetry=False)
    )
    collection = client.create_collection(
        "passages", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
    )
    start = time.perf_counter()
    for first in range(0, job.size, BATCH):
        rows = range(first, min(first + BATCH, job.size))
        collection.add(
            ids=[str(row) for row in rows],
            embeddings=job.vectors[rows.start : rows.stop],
            documents=job.passages[rows.start : rows.stop],
        )
    indexing = time.perf_counter() - start

    def run(number: int) -> list[int]:
        found = collection.query(
            query_embeddings=[job.query_vectors[number]], n_results=K, include=["documents"]
        )
        return [int(one) for one in found["ids"][0]]

    return {
        "kinds": {"dense": timed(run, len(job.queries))},
        "indexing": {"passages_per_s": job.size / indexing},
        "memory_mb": resident() - before,
        "disk_mb": disk(job.work),
    }


main(measure)
