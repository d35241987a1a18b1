"""Recall is the share that is found, with an interval, whatever finds it."""

from __future__ import annotations

import numpy as np
import pytest

from lmstack.rag import Index
from lmstack.rag.catalogue.verify import measure_recall

IDS = np.arange(100, 400)
VECTORS = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


def exact(vector: np.ndarray, k: int) -> list[int]:
    return IDS[np.argsort(-(VECTORS @ vector), kind="stable")[:k]].tolist()


def test_exact_search_has_recall_one():
    found = measure_recall(exact, IDS, VECTORS)
    assert (found.k, found.queries, found.mean, found.low, found.high) == (10, 200, 1, 1, 1)


def test_search_that_misses_every_second_has_recall_one_half():
    found = measure_recall(lambda v, k: exact(v, 2 * k)[::2][:k], IDS, VECTORS)
    assert found.mean == pytest.approx(0.5)


def test_interval_holds_the_mean_and_is_narrower_than_all():
    dice = np.random.default_rng(1)
    found = measure_recall(
        lambda v, k: [i for i in exact(v, k) if dice.random() < 0.8], IDS, VECTORS
    )
    assert 0.7 < found.low < found.mean < found.high < 0.9


def test_copies_of_the_last_are_as_good_as_the_last():
    copies = np.repeat(VECTORS[:3], 100, axis=0)
    found = measure_recall(
        lambda v, k: IDS[np.flatnonzero(copies @ v > 0.999)[-k:]].tolist(), IDS, copies
    )
    assert found.mean == 1


def test_too_few_to_ask_for_have_no_recall():
    assert measure_recall(exact, IDS[:10], VECTORS[:10]) is None


def test_verify_reports_the_recall_of_signs(tmp_path, embedder):
    for number in range(30):
        (tmp_path / f"{number}.txt").write_text(f"passage number {number} about {number % 7}")
    with Index.open(tmp_path / "index", embedder) as index:
        index.update([tmp_path])
        report = index.verify()
        assert report.ok
        assert report.recall is not None
        assert (report.recall.queries, report.recall.mean) == (30, 1.0)
