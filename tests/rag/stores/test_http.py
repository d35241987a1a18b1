"""What stores over HTTP share: retries, refusals, and keys that stay where they belong."""

from __future__ import annotations

import pytest
from tests.rag.stores.fakes import RefusedError, serve

from lmstack.core import AuthError, InputError, StoreError
from lmstack.rag.stores.http import HttpApi, is_local

KEY = {"Api-Key": "s3cret"}


@pytest.fixture
def service(monkeypatch):
    """An API whose next answers are in ``answers``: statuses and bodies."""
    monkeypatch.setattr("lmstack.rag.stores.http._FIRST_WAIT_S", 0)
    answers: list[tuple[int, object]] = []

    def answer(_):
        status, body = answers.pop(0)
        if status == 200:
            return body
        raise RefusedError(status, body)

    with serve(answer) as host:
        api = HttpApi(f"http://{host}", "the store", KEY, "SOME_KEY")
        yield api, answers
        api.close()


def test_a_passing_failure_is_tried_again(service):
    api, answers = service
    answers += [(503, None), (429, None), (200, {"a": 1})]
    assert api.call("POST", "/x", {}) == {"a": 1}


def test_a_lasting_failure_is_an_error_without_the_key(service):
    api, answers = service
    answers += [(503, "down")] * 4
    with pytest.raises(StoreError, match="the store failed: answered 503") as caught:
        api.call("POST", "/x", {})
    assert answers == []
    assert "s3cret" not in str(caught.value)


def test_a_refusal_is_not_tried_again(service):
    api, answers = service
    answers += [(400, {"message": "unknown field"}), (200, {})]
    with pytest.raises(StoreError, match="unknown field"):
        api.call("POST", "/x", {})
    assert len(answers) == 1


def test_a_refused_key_names_its_variable(service):
    api, answers = service
    answers.append((401, None))
    with pytest.raises(AuthError, match="SOME_KEY"):
        api.call("GET", "/x")


def test_what_is_absent_is_none(service):
    api, answers = service
    answers.append((404, None))
    assert api.call("GET", "/x", absent=(404,)) is None


def test_a_key_is_not_sent_unencrypted_to_another_machine():
    with pytest.raises(InputError, match="unencrypted"):
        HttpApi("http://example.com", "the store", KEY, "SOME_KEY")
    HttpApi("http://example.com", "the store", {}, "SOME_KEY").close()


def test_only_this_machine_is_local():
    local = ("http://127.0.0.1:1", "http://localhost", "http://[::1]/x", "http://127.8.0.1")
    assert all(map(is_local, local))
    assert not any(map(is_local, ("http://127.0.0.1.example.com", "http://10.0.0.1", "http://h")))
