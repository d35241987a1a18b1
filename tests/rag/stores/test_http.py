"""What stores share towards their servers: retries, refusals, and keys that stay where they
belong."""

from __future__ import annotations

import httpx
import pytest
from tests.rag.stores.fakes import RefusedError, serve

from lmstack.core import AuthError, InputError, StoreError
from lmstack.rag.stores import VectorStore, open_store
from lmstack.rag.stores.http import is_local, key_for

# One call of each engine's that is answered by a number.
COUNTED = {
    "pinecone+http": {"dimension": 3, "namespaces": {"": {"vectorCount": 7}}},
    "qdrant+http": {"result": {"count": 7}, "status": "ok", "time": 0.0},
    "weaviate+http": {"data": {"Aggregate": {"Lmstack": [{"meta": {"count": 7}}]}}},
}
KEYS = ("PINECONE_API_KEY", "QDRANT_API_KEY", "WEAVIATE_API_KEY")


@pytest.fixture(params=COUNTED)
def service(request, monkeypatch):
    """A store, and the next answers of its server: statuses and bodies. The last is how a count
    goes well."""
    monkeypatch.setattr("lmstack.rag.stores.store.WAITS_S", (0, 0, 0))
    monkeypatch.setattr(VectorStore, "_open", lambda store, create: None)
    for name in KEYS:
        monkeypatch.setenv(name, "s3cret")
    answers: list[tuple[int, object]] = []

    def answer(_):
        status, body = answers.pop(0)
        if status == 200:
            return body
        raise RefusedError(status, body)

    with serve(answer) as host:
        store = open_store(f"{request.param}://{host}", 3)
        yield store, answers, (200, COUNTED[request.param])
        store.close()


def test_a_passing_failure_is_tried_again(service):
    store, answers, well = service
    answers += [(503, None), (429, None), well]
    assert store.count() == 7


def test_a_server_that_takes_too_long_is_not_asked_again(service, monkeypatch):
    store, _, _ = service
    asked = []

    def ask():
        asked.append(1)
        raise httpx.ReadTimeout("too long")

    monkeypatch.setattr(store, "_count", ask)
    with pytest.raises(StoreError, match="too long"):
        store.count()
    assert len(asked) == 1


def test_a_lasting_failure_is_an_error_without_the_key(service):
    store, answers, _ = service
    answers += [(503, "down")] * 4
    with pytest.raises(StoreError, match=r"failed: .*503") as caught:
        store.count()
    assert answers == []
    assert "s3cret" not in str(caught.value)


def test_a_refusal_is_not_tried_again(service):
    store, answers, well = service
    answers += [(400, {"message": "unknown field"}), well]
    with pytest.raises(StoreError, match="unknown field"):
        store.count()
    assert len(answers) == 1


def test_a_refused_key_names_its_variable(service):
    store, answers, _ = service
    answers.append((401, None))
    with pytest.raises(AuthError, match=store.key):
        store.count()


def test_what_is_no_json_is_an_error_of_the_store(service):
    store, answers, _ = service
    answers.append((200, "a page"))
    with pytest.raises(StoreError):
        store.count()


@pytest.mark.parametrize("url", ["qdrant+http://h", "weaviate+http://h", "chroma+http://h"])
def test_a_key_is_not_sent_unencrypted_to_another_machine(url, monkeypatch):
    for name in (*KEYS, "LMSTACK_CHROMA_KEY"):
        monkeypatch.setenv(name, "s3cret")
    with pytest.raises(InputError, match="unencrypted"):
        open_store(url, 3)
    monkeypatch.delenv("QDRANT_API_KEY")
    assert key_for("http://h", "QDRANT_API_KEY") is None
    assert key_for("https://h", "WEAVIATE_API_KEY") == "s3cret"


def test_only_this_machine_is_local():
    local = ("http://127.0.0.1:1", "http://localhost", "http://[::1]/x", "http://127.8.0.1")
    assert all(map(is_local, local))
    assert not any(map(is_local, ("http://127.0.0.1.example.com", "http://10.0.0.1", "http://h")))
