"""Bytes from the network to a checked request body: size, time, encoding, number, depth, fields.

The limits hold while reading, so an over-long body is never kept. Names and values are counted
before anything is made of them: each costs a hundred bytes and more once it is parsed. Parsing
megabytes holds up everybody else's threads, and requests that wait for a model keep what was
parsed, so both are shared out by client (`BodyBudget`). Covers JSON bodies only.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import pydantic_core
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from lmstack.core import OverloadedError, shown
from lmstack.serve.http.errors import ClientGoneError, HttpError, asked, from_validation
from lmstack.serve.http.fields import Body

__all__ = [
    "MAX_BODY_BYTES",
    "BodyBudget",
    "HeldBody",
    "count_json",
    "parse_json",
    "read_body",
    "read_json",
    "validate",
]

MAX_BODY_BYTES = 8 * 2**20
MAX_DEPTH = 64
# A chat of 1,024 messages, each in several parts, has some 20,000 names.
MAX_NAMES = 50_000
# /detokenize takes 2^20 token ids.
MAX_VALUES = 2**20 + 2**16
READ_TIMEOUT_S = 30.0
# Parsed in less than a millisecond or two, where the request came in.
SMALL_BYTES = 64 * 1024
MOST_BYTES = 256 * 2**20
MOST_BYTES_OF_ONE = 64 * 2**20
THREADS = 2
# After a body a client waits this many times as long as parsing it took, so that whoever sends one
# after the other takes a fifth of one core at most: threads share the interpreter's lock.
PAUSE = 4.0
_STEP = 64 * 1024
CLOSE = {"Connection": "close"}

B = TypeVar("B", bound=Body)
T = TypeVar("T")


async def read_body(
    request: Request,
    limit: int = MAX_BODY_BYTES,
    timeout_s: float = READ_TIMEOUT_S,
    grown: Callable[[int], None] = lambda _: None,
) -> bytes:
    """The whole body, or 413 past ``limit`` bytes, or 408 when it takes too long to come.
    ``grown`` is told the size so far, and may refuse it."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and (len(declared) > 15 or int(declared) > limit):
        raise _too_large(f"is longer than {limit} bytes", CLOSE)
    data = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    raise _too_large(f"is longer than {limit} bytes", CLOSE)
                grown(len(data))
    except TimeoutError:
        message = f"the body did not arrive within {timeout_s:g} s"
        raise HttpError(408, "request_timeout", message, hint="send it faster") from None
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
    client: str = request.state.client
    budget: BodyBudget = request.app.state.shared.bodies
    held = HeldBody(budget, client)
    request.state.at_end.append(held.release)
    data = await read_body(
        request, limit, READ_TIMEOUT_S, lambda n: held.grow(n) if n > SMALL_BYTES else None
    )
    asked(data)
    return await budget.parsed(client, partial(_validated, kind=kind), data)


def parse_json(data: bytes) -> Any:
    """Strict JSON: UTF-8, no NaN or infinity, no lone surrogates, no name twice in an object,
    bounded number and depth."""
    counts = count_json(data)
    try:
        value = pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise _not_json(f"is not JSON: {error}") from None
    if _check_tree(value) != counts.names:
        _refuse_double(data)
    return value


def _refuse_double(data: bytes) -> None:
    """Of a name given twice one value would be dropped in silence."""
    try:
        json.loads(data, object_pairs_hook=_without_doubles)
    except ValueError as error:
        raise _not_json(f"is not JSON: {error}") from None


def _not_json(problem: str, hint: str = "send UTF-8 JSON") -> HttpError:
    return HttpError(400, "invalid_json", f"the body {problem}", hint=hint)


def _without_doubles(pairs: list[tuple[str, Any]]) -> None:
    names = set()
    for name, _ in pairs:
        if name in names:
            raise _not_json(f"holds the name {shown(name)} twice", "send each name once")
        names.add(name)


def validate(value: Any, kind: type[B]) -> B:
    """Parsed JSON as ``kind``."""
    if not isinstance(value, dict):
        raise _not_json(f"is {shown(value)}, not a JSON object", "send a JSON object")
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
            raise _not_json(f"nests deeper than {MAX_DEPTH} levels", "send flatter JSON")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                names += len(item)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, float) and not math.isfinite(item):
                raise _not_json("holds a number too large for JSON", "send it as text")
        level, depth = below, depth + 1
    return names


def _too_large(what: str, headers: Mapping[str, str] | None = None) -> HttpError:
    hint = "send less in one request"
    return HttpError(413, "body_too_large", f"the body {what}", hint=hint, headers=headers)


class Counts(NamedTuple):
    """``names``: of objects' members, one that is given twice counts twice. ``values``: at least
    as many as there are."""

    names: int = 0
    values: int = 1


def count_json(data: bytes) -> Counts:
    """The counts of all ``data``, exact for JSON, or status 413 as soon as there are too many. In
    steps of less than a millisecond, between which other threads run: parsing holds the
    interpreter's lock all the while."""
    counts, position, in_string = Counts(), 0, False
    while position < len(data):
        end = _end_of_step(data, position)
        # Without escapes every quotation mark begins or ends a string.
        plain = data[position:end].replace(rb"\\", b"").replace(rb"\"", b"")
        parts = plain.split(b'"')
        outside = b"".join(parts[in_string::2])
        in_string ^= len(parts) % 2 == 0
        counts = Counts(
            counts.names + outside.count(b":"),
            counts.values + sum(outside.count(mark) for mark in (b",", b"[", b"{")),
        )
        if counts.names > MAX_NAMES or counts.values > MAX_VALUES:
            names = counts.names > MAX_NAMES
            most = f"{MAX_NAMES} names" if names else f"{MAX_VALUES} values"
            raise _too_large(f"holds more than {most}")
        position = end
    return counts


def _end_of_step(data: bytes, start: int) -> int:
    """Never between a backslash and what it escapes."""
    step = data[start : start + _STEP]
    backslashes = len(step) - len(step.rstrip(b"\\"))
    return start + len(step) + backslashes % 2


class HeldBody:
    """The bytes of one body, counted to the client that sends it."""

    def __init__(self, budget: BodyBudget, client: str) -> None:
        self._budget, self._client = budget, client
        self.size = 0

    def grow(self, size: int) -> None:
        """The body has ``size`` bytes by now, or `OverloadedError`."""
        self._budget.count(self._client, size - self.size)
        self.size = size

    def release(self) -> None:
        """The request has been answered."""
        self._budget.count(self._client, -self.size)
        self.size = 0


class BodyBudget:
    """The large bodies of one server; of its event loop only."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._turns: dict[str, _Turn] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="lmstack-body")

    def count(self, client: str, size: int) -> None:
        """Add ``size`` bytes to those of ``client``."""
        total = self._held.total() + size
        if size > 0 and (total > MOST_BYTES or self._held[client] + size > MOST_BYTES_OF_ONE):
            raise OverloadedError(
                f"{self._held[client]} bytes of this client's large requests are not answered yet",
                hint="send fewer large requests at once",
                retry_after_s=1,
            )
        self._held[client] += size
        if not self._held[client]:
            del self._held[client]

    async def parsed(self, client: str, parse: Callable[[bytes], T], data: bytes) -> T:
        """What ``parse`` makes of ``data``; one that is large waits for the client's turn."""
        if len(data) <= SMALL_BYTES:
            return parse(data)
        turn = self._turns.setdefault(client, _Turn())
        turn.waiting += 1
        loop = asyncio.get_running_loop()
        try:
            async with turn.lock:
                await asyncio.sleep(turn.free_at - loop.time())
                spent: list[float] = []
                try:
                    timed = partial(_timed, parse, data, spent)
                    return await loop.run_in_executor(self._threads, timed)
                finally:
                    turn.free_at = loop.time() + PAUSE * sum(spent)
        finally:
            turn.waiting -= 1
            loop.call_at(turn.free_at, self._forget, client)

    def _forget(self, client: str) -> None:
        turn = self._turns.get(client)
        if turn is not None and not turn.waiting:
            del self._turns[client]


@dataclass
class _Turn:
    """``free_at``: when the client's next body may be parsed, by the loop's clock."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    free_at: float = 0.0


def _timed(parse: Callable[[bytes], T], data: bytes, spent: list[float]) -> T:
    """Adds the processor time to ``spent``."""
    start = time.thread_time()
    try:
        return parse(data)
    finally:
        spent.append(time.thread_time() - start)
