"""Addresses of stores: what cannot be read is refused, with what to do."""

from __future__ import annotations

import sqlite3
import sys

import pytest

from lmstack.core import AuthError, ExtraMissingError, FormatError, InputError, StoreError
from lmstack.rag.stores import open_store


@pytest.mark.parametrize(
    "url",
    [
        *("", "chroma", "faiss:", "faiss://x", "milvus:x", "http://host/x", "weaviate+https:///X"),
        *("chroma:x#a", "chroma:x#../..", "postgresql://h/d#Robert;", "weaviate+http://h/lower"),
        *("chroma+http://h/a b", "pinecone:", "sqlite:", "sqlite:/", "faiss:/", "memory:x"),
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
    ],
)
def test_an_address_with_a_secret_is_refused_without_showing_it(url):
    with pytest.raises(InputError) as caught:
        open_store(url, 3)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("faiss:{}/x", "faiss", "faiss"),
        ("chroma:{}/x", "chromadb", "chroma"),
        ("qdrant:{}/x", "qdrant_client", "qdrant"),
        ("postgresql:///x#t", "psycopg", "postgres"),
    ],
)
def test_a_missing_package_names_its_extra(url, module, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExtraMissingError, match=rf"lmstack\[{extra}\]"):
        open_store(url.format(tmp_path), 3)
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    with pytest.raises(FormatError, match="not a store of lmstack"):
        open_store(f"sqlite:{path}", 3)


def test_a_folder_that_others_may_write_to_is_not_opened_by_qdrant(tmp_path):
    folder = tmp_path / "store"
    open_store(f"qdrant:{folder}", 3).close()
    open_store(f"qdrant:{folder}", 3).close()
    (folder / "meta.json").chmod(0o666)
    with pytest.raises(StoreError, match="others may write"):
        open_store(f"qdrant:{folder}", 3)


def test_a_server_that_is_not_there_is_a_store_error(monkeypatch):
    monkeypatch.setattr("lmstack.rag.stores.http._FIRST_WAIT_S", 0)
    monkeypatch.setenv("PINECONE_API_KEY", "k")
    for url in ("chroma+http://127.0.0.1:9/name", "pinecone+http://127.0.0.1:9"):
        with pytest.raises(StoreError, match="can be reached"):
            open_store(url, 3)
    with pytest.raises(StoreError, match="server runs"):
        open_store("postgresql://127.0.0.1:9/x#t", 3)


def test_pinecone_needs_a_key(monkeypatch):
    monkeypatch.delenv("PINECONE_API_KEY", raising=False)
    with pytest.raises(AuthError, match="PINECONE_API_KEY"):
        open_store("pinecone://host", 3)
