"""A text is embedded once per model and kind, and a damaged cache gives no wrong vector."""

from __future__ import annotations

import sqlite3
import threading

import numpy as np
import pytest

from lmstack.core import InputError, ModelInfo, StoreError
from lmstack.rag import BlobCache, CachedEmbedder, KeptLines


@pytest.fixture
def cache(tmp_path):
    with BlobCache(tmp_path / "c" / "kept.sqlite") as opened:
        yield opened


def test_vectors_are_those_of_the_embedder_and_made_once(cache, make_embedder):
    texts = ["one text", "another", "one text", ""]
    plain, inner = make_embedder(), make_embedder()
    cached = CachedEmbedder(inner, cache)
    for _ in range(2):
        np.testing.assert_array_equal(cached.embed(texts), plain.embed(texts))
    assert inner.embedded == ["one text", "another", ""]
    assert cached.num_embedded == 3


def test_cache_outlives_the_process(tmp_path, make_embedder):
    path = tmp_path / "kept.sqlite"
    with BlobCache(path) as cache:
        first = CachedEmbedder(make_embedder(), cache).embed(["a text"])
    with BlobCache(path) as cache:
        again = CachedEmbedder(make_embedder(), cache)
        np.testing.assert_array_equal(again.embed(["a text"]), first)
        assert again.num_embedded == 0


@pytest.mark.parametrize("other", ["kind", "digest", "dimensions"])
def test_another_kind_or_model_shares_nothing(cache, make_embedder, other):
    CachedEmbedder(make_embedder(), cache).embed(["a text"])
    inner = make_embedder(
        seed="b" if other == "digest" else "a", dimensions=32 if other == "dimensions" else 64
    )
    if other == "dimensions":
        inner.info = ModelInfo("remote", None)
    cached = CachedEmbedder(inner, cache)
    cached.embed(["a text"], "query" if other == "kind" else "passage")
    assert cached.num_embedded == 1


def test_damaged_vector_is_made_again(tmp_path, make_embedder):
    path = tmp_path / "kept.sqlite"
    with BlobCache(path) as cache:
        CachedEmbedder(make_embedder(), cache).embed(["a", "b"])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE kept SET value = x'00' WHERE rowid = 1")
        connection.execute("UPDATE kept SET value = ? WHERE rowid = 2", (b"\x7f" * 256,))
    connection.close()
    with BlobCache(path) as cache:
        np.testing.assert_array_equal(
            CachedEmbedder(make_embedder(), cache).embed(["a", "b"]),
            make_embedder().embed(["a", "b"]),
        )


def test_file_that_is_no_cache_says_so(tmp_path):
    (tmp_path / "kept.sqlite").write_text("not a database, for sure" * 100)
    with pytest.raises(StoreError, match="cannot be used"):
        BlobCache(tmp_path / "kept.sqlite")


def test_oldest_entries_go(tmp_path):
    with BlobCache(tmp_path / "kept.sqlite", max_entries=3) as cache:
        for n in range(5):
            cache.put({bytes([n]): b"v"})
        assert sorted(cache.get([bytes([n]) for n in range(5)])) == [b"\x02", b"\x03", b"\x04"]


def test_threads_share_a_cache(cache, make_embedder):
    texts = [f"text {n}" for n in range(40)]
    expected = make_embedder().embed(texts)
    wrong: list[int] = []

    def work(seed):
        cached = CachedEmbedder(make_embedder(), cache)
        order = np.random.default_rng(seed).permutation(40)
        found = cached.embed([texts[n] for n in order])
        wrong.extend(np.flatnonzero((found != expected[order]).any(axis=1)))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_one_str_is_refused_as_the_embedder_does(cache, monkeypatch, make_embedder):
    def refuse(texts, kind="passage"):
        raise InputError("one str")

    inner = make_embedder()
    monkeypatch.setattr(inner, "embed", refuse)
    with pytest.raises(InputError, match="one str"):
        CachedEmbedder(inner, cache).embed("abc")


def test_lines_are_kept(tmp_path):
    with BlobCache(tmp_path / "kept.sqlite") as cache:
        KeptLines(cache)["k"] = "a line"
    with BlobCache(tmp_path / "kept.sqlite") as cache:
        lines = KeptLines(cache)
        assert lines["k"] == "a line"
        assert "other" not in lines
