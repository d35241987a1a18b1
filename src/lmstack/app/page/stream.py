"""An answer as named server-sent events: `EventStream`, with a heartbeat."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from lmstack.core import LmstackError
from lmstack.serve.http.errors import error_body
from lmstack.serve.http.streams import EventStream

__all__ = ["AnswerStream", "Event"]

Event = tuple[str, Mapping[str, Any]]
HEARTBEAT_S = 10.0


class AnswerStream(EventStream):
    """``how``: what `EventStream` takes beside."""

    end = b""

    def __init__(
        self, source: AsyncIterator[Event], *, heartbeat_s: float = HEARTBEAT_S, **how: Any
    ) -> None:
        super().__init__((), source, heartbeat_s=heartbeat_s, cache="no-store", **how)

    def event(self, item: Event) -> bytes:
        name, data = item
        # ASCII JSON: a lone surrogate in a document must not break the stream.
        return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode("ascii")

    def error_event(self, error: LmstackError) -> bytes:
        detail = error_body(error).error
        told = {"message": detail.message, "hint": detail.hint or "", "status": error.http_status}
        return self.event(("error", told))
