"""Errors as a client reads them: OpenAI's shape and words."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel

from lmstack.core import LmstackError
from lmstack.serve.http.body import validate
from lmstack.serve.http.errors import (
    RESTART_S,
    HttpError,
    error_body,
    error_response,
    internal_error,
    server_stopping,
)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (404, "invalid_request_error"),
        (499, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_the_type_of_an_error_is_that_of_its_status(status: int, kind: str) -> None:
    error = HttpError(status, "some_code", "words", hint="more words", param="field")
    expected = {
        "message": "words", "type": kind, "param": "field", "code": "some_code",
        "hint": "more words",
    }  # fmt: skip
    assert error_body(error).model_dump()["error"] == expected
    answer = error_response(error)
    assert answer.status_code == status
    assert json.loads(bytes(answer.body))["error"] == expected
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


def test_what_an_error_leaves_open_is_null() -> None:
    found = error_body(LmstackError("words")).error
    assert (found.param, found.hint) == (None, None)


def test_a_server_that_stops_says_when_to_come_again() -> None:
    answer = error_response(server_stopping())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, str(RESTART_S))
    assert json.loads(bytes(answer.body))["error"]["code"] == "server_stopping"


def test_a_fault_of_the_server_is_told_by_the_id_of_its_request() -> None:
    error = internal_error("req-7")
    assert (error.http_status, error.code) == (500, "internal_error")
    assert "req-7" in error.message
    assert "req-7" in (error.hint or "")


class Inner(BaseModel):
    role: str


class Outer(BaseModel):
    text: str | list[Inner] = ""
    inner: Inner | None = None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"text": [{"role": "a"}, {"role": 1}]}, "text.1.role"),
        ({"text": [{"role": "a"}, {}]}, "text.1.role"),
        ({"inner": {"role": 1}}, "inner.role"),
        ({"inner": {}}, "inner.role"),
        ({"inner": 1}, "inner"),
    ],
)
def test_a_refused_field_is_named_as_it_was_sent(body: object, param: str) -> None:
    with pytest.raises(HttpError) as caught:
        validate(body, Outer)
    assert (caught.value.param, caught.value.code) == (param, "invalid_value")
    assert caught.value.message.startswith(f"{param}: ")
