"""Errors as clients expect them: the body, its status, and pydantic's findings as one.

Bodies have OpenAI's shape, those of the routes below `MESSAGES` that of Anthropic's API.

Errors are made in every layer and are also for the command line, where a full path is what helps.
No answer says where things are on the server, so absolute paths become their last names where
errors become bodies. A path that the request itself holds is left as it is: it tells its sender
nothing, and errors quote what was sent. Does not cover which route raises what, nor logging, nor
answers that are no errors.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from lmstack.core import (
    ContextLengthError,
    LmstackError,
    OverloadedError,
    UnsupportedError,
    shown,
)

__all__ = [
    "MESSAGES",
    "AnthropicErrorBody",
    "ClientGoneError",
    "ErrorBody",
    "ErrorDetail",
    "HttpError",
    "anthropic_error",
    "asked",
    "asking",
    "error_body",
    "error_response",
    "from_validation",
    "in_words_of",
    "internal_error",
    "operator_only",
    "server_stopping",
    "without_paths",
]

_ASKED: ContextVar[list[bytes] | None] = ContextVar("_ASKED", default=None)


class ErrorDetail(BaseModel):
    """``hint`` is an addition to OpenAI's shape: what to do about the error."""

    message: str = Field(description="What was wrong, with the value seen.")
    type: str = Field(description="The family of errors.")
    param: str | None = Field(description="The field at fault.")
    code: str | None = Field(description="A stable name for programs.")
    hint: str | None = Field(description="What to do.")


class ErrorBody(BaseModel):
    error: ErrorDetail


class AnthropicDetails(BaseModel):
    """``param`` and ``hint`` are additions to Anthropic's shape."""

    error_code: str | None = Field(description="A stable name for programs.")
    param: str | None = Field(description="The field at fault.")
    hint: str | None = Field(description="What to do.")


class AnthropicErrorDetail(BaseModel):
    type: str = Field(description="The family of errors.")
    message: str = Field(description="What was wrong, with the value seen.")
    details: AnthropicDetails


class AnthropicErrorBody(BaseModel):
    type: Literal["error"]
    error: AnthropicErrorDetail
    request_id: str | None


class HttpError(LmstackError):
    """An error of the HTTP layer itself (405, 413, 415...), with its status and headers."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, hint=hint, param=param)
        self.http_status = status
        self.code = code
        self.headers = dict(headers or {})


class ClientGoneError(Exception):
    """The client closed the connection; nobody is left to answer."""


_SIZES = frozenset({"too_long", "too_short", "string_too_long", "text_too_long"})
_CODES = {
    "unsupported": UnsupportedError.code,
    "unknown_field": UnsupportedError.code,
    "text_too_long": ContextLengthError.code,
    # By which Anthropic's clients know to send the whole conversation.
    "thread_unsupported_request": "thread_unsupported_request",
}
_BOUNDS = frozenset(
    {
        *("greater_than", "greater_than_equal", "less_than", "less_than_equal", "literal_error"),
        *("string_pattern_mismatch", "string_too_short"),
    }
)
RESTART_S = 5
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
ANTHROPIC_TYPES = {
    **TYPES,
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    503: "overloaded_error",
}
# Routes of Anthropic's API: this one and those below it.
MESSAGES = "/v1/messages"


def error_body(error: LmstackError) -> ErrorBody:
    status = error.http_status
    fallback = "server_error" if status >= 500 else "invalid_request_error"
    return ErrorBody(
        error=ErrorDetail(
            message=_shareable(error.message),
            type=TYPES.get(status, fallback),
            param=None if error.param is None else _shareable(error.param),
            code=error.code,
            hint=None if error.hint is None else _shareable(error.hint),
        )
    )


def anthropic_error(error: LmstackError, request_id: str | None) -> AnthropicErrorBody:
    told, status = error_body(error).error, error.http_status
    fallback = "api_error" if status >= 500 else "invalid_request_error"
    details = AnthropicDetails(error_code=told.code, param=told.param, hint=told.hint)
    return AnthropicErrorBody(
        type="error",
        error=AnthropicErrorDetail(
            type=ANTHROPIC_TYPES.get(status, fallback), message=told.message, details=details
        ),
        request_id=request_id,
    )


def error_response(error: LmstackError, scope: Scope | None = None) -> Response:
    """``scope``: of the request, whose route says which shape is expected."""
    headers = dict(error.headers) if isinstance(error, HttpError) else {}
    if isinstance(error, OverloadedError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body: BaseModel = error_body(error)
    if scope is not None and f"{scope['path']}/".startswith(f"{MESSAGES}/"):
        body = anthropic_error(error, scope.get("state", {}).get("request_id"))
    return Response(body.model_dump_json(), error.http_status, headers, "application/json")


@contextlib.contextmanager
def in_words_of(names: Mapping[str, str]) -> Iterator[None]:
    """Errors about fields of a `core.Request` name those of the API that it came by."""
    try:
        yield
    except LmstackError as error:
        error.param = names.get(error.param or "", error.param)
        raise


def internal_error(request_id: str) -> HttpError:
    """What the client learns of a bug: the id under which the log has the rest."""
    return HttpError(
        500,
        "internal_error",
        f"the server failed on this request ({request_id})",
        hint=f"report it with the lines of the server's log that hold {request_id}",
    )


def operator_only(request: Request, reason: str) -> None:
    """Refuse a request that is not the operator's; ``reason``: why only that one may send it."""
    if not request.state.is_operator:
        raise HttpError(
            403,
            "operator_only",
            f"{reason}, and this key is not the operator's",
            hint='give the operator\'s key "owner": true in the file of --keys',
        )


def server_stopping() -> HttpError:
    """For a request that was not answered before the server's end. Whoever runs the server
    usually starts it again, which takes some seconds."""
    return HttpError(
        503,
        "server_stopping",
        "the server is stopping",
        hint="send the request again when the server runs",
        headers={"Retry-After": str(RESTART_S)},
    )


def from_validation(error: ValidationError, body: Any) -> HttpError:
    """The most specific finding of pydantic as one error that names the field as sent."""
    findings = error.errors(include_url=False)
    # What is known and not supported explains the rest: a call of a tool has no content either.
    # A union reports a finding for every member: one that only has the wrong size is the member
    # that was meant.
    found = max(
        findings,
        key=lambda f: (
            f["type"] == "unsupported",
            f["type"] in _SIZES,
            len(_path(f["loc"], body, f["type"])),
        ),
    )
    path = _path(found["loc"], body, found["type"])
    context = found.get("ctx", {})
    name = ".".join(str(part) for part in [*path, *context.get("fields", ())])
    return HttpError(
        400,
        _CODES.get(found["type"], "invalid_value"),
        f"{name or 'the body'}: {found['msg'][:1].lower()}{found['msg'][1:]}{_seen(found)}",
        hint=context.get("hint"),
        param=name or None,
    )


def _path(loc: Sequence[int | str], body: Any, kind: str) -> list[int | str]:
    """``loc`` without the names that pydantic adds for members of unions."""
    path: list[int | str] = []
    here = body
    for part in loc:
        in_object = isinstance(here, dict) and part in here
        in_list = isinstance(here, list) and isinstance(part, int) and part < len(here)
        if in_object or in_list:
            here = here[part]
        elif not (kind == "missing" and part == loc[-1]):
            continue
        path.append(part)
    return path


def _seen(finding: Mapping[str, Any]) -> str:
    """The value at fault, where pydantic's message leaves it out."""
    kind, value = finding["type"], finding["input"]
    if kind == "string_too_long":
        return f", not {len(value)}"
    return f", not {shown(value)}" if kind in _BOUNDS or kind.endswith("_type") else ""


def _shareable(text: str) -> str:
    return without_paths(text).encode("utf-8", "replace").decode()


@contextlib.contextmanager
def asking(scope: Scope) -> Iterator[None]:
    """Put around the answer to a request: its path and query are the sender's own words."""
    query = unquote_to_bytes(scope.get("query_string", b"").replace(b"+", b" "))
    token = _ASKED.set([scope["path"].encode("utf-8", "surrogatepass"), query])
    try:
        yield
    finally:
        _ASKED.reset(token)


def asked(body: bytes) -> None:
    """So is its ``body``."""
    request = _ASKED.get()
    if request is not None:
        request.append(body)


def without_paths(text: str) -> str:
    """``text`` with the last name of each absolute path alone, unless the request holds it."""
    return _absolute().sub(_name, text)


def _name(found: re.Match[str]) -> str:
    path = found[0]
    sent = path.encode("utf-8", "surrogatepass")
    if any(sent in part for part in _ASKED.get() or ()):
        return path
    return PurePosixPath(path).name


@functools.cache
def _absolute() -> re.Pattern[str]:
    """Matches paths below the top folders of this machine. Other words that begin with a slash,
    as routes do, are none."""
    tops = "|".join(re.escape(name) for name in sorted(os.listdir("/"), reverse=True))
    end = r"\s'\"`<>|()\[\]{},;*?…"
    scheme = r"(?<![\w.~/-])(?!https?:)(?:\w+:/*)?"
    return re.compile(rf"{scheme}/(?:{tops})(?:/[^{end}]*|(?=[{end}.:]|$))")
