"""One streamed request: sent, read piece by piece with the time of each, and how it ended.

Times are seconds since the load began. A piece is a chunk with text; what counts as a token is
said by the server's usage where it gives one. Nothing is tried again, and nothing raises: what
went wrong is a result.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

__all__ = ["UNFINISHED", "Row", "ask", "message_of"]

UNFINISHED = "unfinished"
_MESSAGES = ("error", "message", "detail", "msg")
_TEXTS = ("content", "reasoning_content", "reasoning")


@dataclass
class Row:
    """``due``: when it should have been sent, by the arrivals of an open loop. ``pieces``: when
    each came. ``error``: None if it ended well, else a status or what happened; ``detail``: in
    the server's words."""

    index: int
    due: float
    sent: float = 0.0
    end: float = 0.0
    pieces: list[float] = field(default_factory=list)
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    error: str | None = UNFINISHED
    detail: str = ""

    @property
    def tokens(self) -> int:
        """By the server's usage, else a piece is one."""
        return len(self.pieces) if self.output_tokens is None else self.output_tokens

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class _StreamError(Exception):
    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


async def ask(
    client: httpx.AsyncClient, url: str, body: dict[str, Any], row: Row, now: Callable[[], float]
) -> None:
    """Send ``body`` and fill ``row``. Cancelled, the row stays unfinished with what had come."""
    row.sent = now()
    # Not httpx's own way, which fails on half a surrogate pair: the server shall refuse that.
    content, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    try:
        async with client.stream("POST", url, content=content, headers=headers) as response:
            if response.status_code != 200:
                text = (await response.aread()).decode("utf-8", "replace")
                raise _StreamError(str(response.status_code), message_of(text))
            async for data in _events(response):
                _take(data, row, now())
        if row.finish_reason is None:
            raise _StreamError("broken off", "the stream ended without a finish_reason or [DONE]")
        row.error = None
    except _StreamError as error:
        row.error, row.detail = error.kind, str(error)
    except httpx.TimeoutException as error:
        row.error, row.detail = "timeout", type(error).__name__
    except httpx.ConnectError as error:
        row.error, row.detail = "no connection", str(error)
    except httpx.HTTPError as error:
        row.error, row.detail = "broken off", str(error) or type(error).__name__
    except asyncio.CancelledError:
        row.error = UNFINISHED
        raise
    finally:
        row.end = now()


async def _events(response: httpx.Response) -> AsyncIterator[bytes]:
    """The data of each server-sent event. Lines end at line feeds alone: what else Python takes
    for the end of a line may stand in the text of a model."""
    rest = b""
    async for part in response.aiter_bytes():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
    if rest.startswith(b"data:"):
        yield rest[5:].strip()


def _take(data: bytes, row: Row, time: float) -> None:
    if data == b"[DONE]":
        row.finish_reason = row.finish_reason or "not said"
        return
    try:
        event = json.loads(data)
        if event.get("error"):
            raise _StreamError("error in the stream", message_of(data.decode("utf-8", "replace")))
        usage = event.get("usage") or {}
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or choice
            if any(delta.get(key) for key in _TEXTS) or choice.get("text"):
                row.pieces.append(time)
            row.finish_reason = choice.get("finish_reason") or row.finish_reason
        row.prompt_tokens = usage.get("prompt_tokens", row.prompt_tokens)
        row.output_tokens = usage.get("completion_tokens", row.output_tokens)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        shown = data[:120].decode("utf-8", "replace")
        raise _StreamError("not of the API", f"the stream holds {shown!r}") from error


def message_of(text: str) -> str:
    """What an error's body says, whatever its shape, and of which field; cut to a line."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    param = None
    while isinstance(value, dict):
        param = value.get("param") or param
        value = next((value[key] for key in _MESSAGES if value.get(key)), text)
    said = " ".join(str(value).split())[:300]
    return f"{said} ({param})" if param and str(param) not in said else said
