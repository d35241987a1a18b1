"""Writers that are killed, and several at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.rag.stores.model import DIMENSIONS, Model, assert_same_rows, unit
from tests.rag.stores.writer import rows_of

import lmstack
from lmstack.core import StoreError
from lmstack.rag.stores import open_store

BATCHES = 8


@contextmanager
def writer(url: str, first: int, batches: int) -> Iterator[subprocess.Popen[str]]:
    paths = (str(Path(__file__).parents[3]), str(Path(lmstack.__file__).parents[1]))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.rag.stores.writer", url, str(first), str(batches)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], line: str) -> int:
    """The number of the last batch that was acknowledged."""
    assert process.stdout is not None
    batch = -1
    for text in process.stdout:
        if text.strip() == line:
            return int(line) if line != "end" else batch
        batch = int(text)
    return batch


def expected(first: int, batches: int) -> Model:
    model = Model()
    for batch in range(batches):
        ids, vectors, fields = rows_of(batch, first)
        model.upsert(ids.tolist(), vectors, fields)
        if batch % 4 == 3:
            model.delete(rows_of(batch - 1, first)[0].tolist())
    return model


def test_what_was_acknowledged_survives_kill_9(place):
    if place.fake:
        pytest.skip("what it holds is in this process")
    with writer(place.url, 0, 10_000) as process:
        assert read_until(process, str(BATCHES - 1)) == BATCHES - 1
        if not place.shared:
            with pytest.raises(StoreError, match=f"open in process {process.pid}"):
                open_store(place.url, DIMENSIONS)
        process.kill()
        last = max(BATCHES - 1, read_until(process, "end"))
    store = open_store(place.url, DIMENSIONS, create=False)
    try:
        kept = expected(0, last + 1)
        begun = {*range(5 * last, 5 * last + 15)}  # the batch that nobody was told of, too
        assert set(kept.rows) - begun <= set(store.ids()) <= set(kept.rows) | begun
        for row in store.fetch(np.array(sorted(set(kept.rows) - begun))):
            np.testing.assert_allclose(row.vector, kept.rows[row.id][0], atol=1e-6)
        vector = unit(np.random.default_rng(5), 1)[0]
        assert len(store.search(vector, 1000)) == store.count()
        store.clear()
        assert store.count() == 0
    finally:
        store.close()


def test_two_processes_lose_nothing(place):
    if not place.shared or place.fake:
        pytest.skip("one process at a time, or a fake")
    store = open_store(place.url, DIMENSIONS)
    try:
        with writer(place.url, 0, 10) as one, writer(place.url, 1000, 10) as other:
            assert read_until(one, "end") == read_until(other, "end") == 9
        model = expected(0, 10)
        model.rows.update(expected(1000, 10).rows)
        assert_same_rows(store, model)
        vector = unit(np.random.default_rng(5), 1)[0]
        assert model.recall(store.search(vector, 10), vector, 10) == 1
    finally:
        store.close()
