"""`PUT /api/uploads?name=...`: one file as the body of one request, checked while it comes.

What may be added is `uploads`' business. A record is in the audit log before the file is seen;
without the record there is no file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request

from lmstack.app.server.uploads import Incoming, Uploads
from lmstack.core import shown
from lmstack.serve.http.errors import ClientGoneError, HttpError
from lmstack.serve.http.state import caller_of

__all__ = ["receive"]

IDLE_S = 30.0
TOTAL_S = 1_800.0
MEDIA = "application/octet-stream"


async def receive(
    request: Request, uploads: Uploads | None, record: Callable[[Mapping[str, Any]], object]
) -> Incoming:
    """The file that ``request`` carries, in its place. ``record`` writes to the audit log."""
    if uploads is None:
        raise HttpError(
            403,
            "uploads_off",
            "this server takes no files",
            hint="whoever runs it can start it with --uploads",
        )
    _check_media(request)
    size = _declared(request)
    caller = caller_of(request)
    name = request.query_params.get("name", "")
    incoming = await asyncio.to_thread(uploads.begin, caller.client, name, size)
    try:
        await _write(request, incoming)
        await asyncio.to_thread(incoming.complete, size)
        await asyncio.to_thread(
            record,
            {
                "event": "uploaded",
                "request": caller.request_id,
                "client": caller.client,
                "path": str(incoming.path),
                "bytes": incoming.size,
                "sha256": incoming.sha256,
            },
        )
        await asyncio.to_thread(incoming.finish)
    finally:
        incoming.close()
    return incoming


def _check_media(request: Request) -> None:
    # Not a type that a form of another site could send.
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != MEDIA:
        raise HttpError(
            415,
            "unsupported_media_type",
            f"the content type is {shown(media)}",
            hint=f"send the file's bytes with Content-Type: {MEDIA}",
        )


def _declared(request: Request) -> int | None:
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isdigit() and len(declared) <= 15 else None


async def _write(request: Request, incoming: Incoming) -> None:
    """Every piece as it comes; 408 for a file that comes too slowly."""
    pieces = request.stream()
    try:
        async with asyncio.timeout(TOTAL_S):
            while True:
                async with asyncio.timeout(IDLE_S):
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                if piece:
                    await asyncio.to_thread(incoming.write, piece)
    except TimeoutError:
        raise HttpError(
            408,
            "request_timeout",
            f"nothing came for {IDLE_S:g} s, or it took longer than {TOTAL_S:g} s",
            headers={"Connection": "close"},
        ) from None
    except ClientDisconnect as error:
        raise ClientGoneError from error
