"""Bytes from the network to a checked request body: size, time, encoding, number, depth, fields.

Covers JSON bodies only. The limits hold while reading, so an over-long body is never kept.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pydantic_core
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from lmstack.core import shown
from lmstack.serve.http.bodies import SMALL_BYTES, Held
from lmstack.serve.http.counting import count_json
from lmstack.serve.http.errors import ClientGoneError, HttpError, from_validation
from lmstack.serve.http.fields import Body
from lmstack.serve.http.paths import asked
from lmstack.serve.http.serving import serving_of

__all__ = ["MAX_BODY_BYTES", "parse_json", "read_body", "read_json", "validate"]

MAX_BODY_BYTES = 8 * 2**20
MAX_DEPTH = 64
READ_TIMEOUT_S = 30.0

B = TypeVar("B", bound=Body)


async def read_body(
    request: Request, limit: int = MAX_BODY_BYTES, timeout_s: float = READ_TIMEOUT_S
) -> bytes:
    """The whole body, or 413 past ``limit`` bytes, or 408 when it takes too long to come."""
    return await _read(request, limit, timeout_s, lambda _: None)


async def _read(
    request: Request, limit: int, timeout_s: float, grown: Callable[[int], None]
) -> bytes:
    """``grown`` is told the size so far, and may refuse it."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and (len(declared) > 15 or int(declared) > limit):
        raise _too_large(limit)
    data = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    raise _too_large(limit)
                grown(len(data))
    except TimeoutError:
        raise HttpError(
            408, "request_timeout", f"the body did not arrive within {timeout_s:g} s"
        ) from None
    except ClientDisconnect as error:
        raise ClientGoneError from error
    return bytes(data)


async def read_json(request: Request, kind: type[B], limit: int = MAX_BODY_BYTES) -> B:
    """The body as ``kind``; anything wrong with it is a 4xx that says what and where."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise HttpError(
            415,
            "unsupported_media_type",
            f"the content type is {shown(media)}",
            hint="send JSON with Content-Type: application/json",
        )
    client, bodies = request.state.client, serving_of(request).bodies
    held = Held(bodies, client)
    request.state.at_end.append(held.release)
    data = await _read(
        request, limit, READ_TIMEOUT_S, lambda n: held.grow(n) if n > SMALL_BYTES else None
    )
    asked(data)
    return await bodies.parsed(client, partial(_validated, kind=kind), data)


def parse_json(data: bytes) -> Any:
    """Strict JSON: UTF-8, no NaN or infinity, no lone surrogates, no name twice in an object,
    bounded number and depth."""
    counts = count_json(data)
    try:
        value = pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise _not_json(error) from None
    if _check_tree(value) != counts.names:
        _refuse_double(data)
    return value


def _refuse_double(data: bytes) -> None:
    """Of a name given twice one value would be dropped in silence."""
    try:
        json.loads(data, object_pairs_hook=_without_doubles)
    except ValueError as error:
        raise _not_json(error) from None


def _not_json(error: ValueError) -> HttpError:
    return HttpError(400, "invalid_json", f"the body is not JSON: {error}", hint="send UTF-8 JSON")


def _without_doubles(pairs: list[tuple[str, Any]]) -> None:
    names = set()
    for name, _ in pairs:
        if name in names:
            raise HttpError(400, "invalid_json", f"the body holds the name {shown(name)} twice")
        names.add(name)


def validate(value: Any, kind: type[B]) -> B:
    """Parsed JSON as ``kind``."""
    if not isinstance(value, dict):
        raise HttpError(400, "invalid_json", f"the body is {shown(value)}, not a JSON object")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise from_validation(error, value) from None


def _validated(data: bytes, kind: type[B]) -> B:
    return validate(parse_json(data), kind)


def _check_tree(value: Any) -> int:
    """The number of names. Level by level, so that depth is counted without recursion."""
    level, depth, names = [value], 0, 0
    while level:
        if depth > MAX_DEPTH:
            raise HttpError(400, "invalid_json", f"the body nests deeper than {MAX_DEPTH} levels")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                names += len(item)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, float) and not math.isfinite(item):
                raise HttpError(400, "invalid_json", "the body holds a number too large for JSON")
        level, depth = below, depth + 1
    return names


def _too_large(limit: int) -> HttpError:
    return HttpError(
        413,
        "body_too_large",
        f"the body is longer than {limit} bytes",
        hint="send less in one request",
        headers={"Connection": "close"},
    )
