"""A process that writes rows until it has written enough or is killed; prints what was kept."""

from __future__ import annotations

import sys

import numpy as np
from tests.rag.stores.model import DIMENSIONS, unit

from lmstack.rag.stores import open_store


def rows_of(batch: int, first: int) -> tuple[np.ndarray, np.ndarray, list[dict[str, int]]]:
    ids = np.arange(first + 5 * batch, first + 5 * batch + 5)
    return ids, unit(np.random.default_rng(batch), 5), [{"batch": batch}] * 5


def main(url: str, first: str, batches: str) -> None:
    store = open_store(url, DIMENSIONS)
    for batch in range(int(batches)):
        store.upsert(*rows_of(batch, int(first)))
        if batch % 4 == 3:
            store.delete(rows_of(batch - 1, int(first))[0])
        print(batch, flush=True)
    store.close()
    print("end", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
