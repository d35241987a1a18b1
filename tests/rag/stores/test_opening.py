"""Addresses of stores: what cannot be read is refused, with what to do."""

from __future__ import annotations

import sys

import pytest

from lmstack.core import AuthError, ExtraMissingError, InputError, StoreError
from lmstack.rag.stores import open_store


@pytest.mark.parametrize(
    "url",
    [
        *("", "chroma", "faiss:", "faiss://x", "milvus:x", "http://host/x", "weaviate+https:///X"),
        *("faiss:x", "qdrant:x", "sqlite:x", "qdrant+http:///x", "qdrant+http://h/a b"),
        *("chroma:x#a", "chroma:x#../..", "postgresql://h/d#Robert;", "weaviate+http://h/lower"),
        *("chroma+http://h/a b", "pinecone:", "faiss:/", "memory:"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused(url, monkeypatch):
    monkeypatch.delenv("PINECONE_API_KEY", raising=False)
    with pytest.raises(InputError) as caught:
        open_store(url, 3)
    assert caught.value.hint
    assert caught.value.param == "store"


@pytest.mark.parametrize(
    "url",
    [
        *("postgresql://me:secret@h/d#t", "weaviate+https://me:secret@h/C"),
        *("pinecone://secret@h", "chroma+https://me:secret@h/name", "milvus://secret@h"),
        "qdrant+https://me:secret@h/name",
    ],
)
def test_an_address_with_a_secret_is_refused_without_showing_it(url):
    with pytest.raises(InputError) as caught:
        open_store(url, 3)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("chroma:{}/x", "chromadb", "chroma"),
        ("qdrant+http://127.0.0.1:9/x_x", "qdrant_client", "qdrant"),
        ("postgresql:///x#t", "psycopg", "postgres"),
    ],
)
def test_a_missing_package_names_its_extra(url, module, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExtraMissingError, match=rf"lmstack\[{extra}\]"):
        open_store(url.format(tmp_path), 3)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_a_store_error(monkeypatch):
    monkeypatch.setattr("lmstack.rag.stores.store.WAITS_S", (0,))
    monkeypatch.setenv("PINECONE_API_KEY", "k")
    for kind in ("chroma+http", "qdrant+http", "pinecone+http"):
        url = f"{kind}://127.0.0.1:9"
        with pytest.raises(StoreError, match="can be reached"):
            open_store(url, 3)
    with pytest.raises(StoreError, match="server runs"):
        open_store("postgresql://127.0.0.1:9/x#t", 3)


def test_pinecone_needs_a_key(monkeypatch):
    monkeypatch.delenv("PINECONE_API_KEY", raising=False)
    with pytest.raises(AuthError, match="PINECONE_API_KEY"):
        open_store("pinecone://host", 3)
