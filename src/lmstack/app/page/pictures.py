"""Pages of PDF files as pictures, and where a quote stands on them, for the page's panel.

The files are hostile until proven otherwise: they are drawn in the worker processes that parse
them, within their limits. Only a file that is still byte for byte what was indexed is drawn, so
that a box is never put on another text. A few pictures are kept, since people turn pages.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Any

from lmstack.core import InputError, NotFoundError, shown
from lmstack.rag import IndexView, WorkerConfig, Workers
from lmstack.rag.documents import Document, Page, ProblemError

__all__ = ["PagePictures"]

MAX_KEPT_BYTES = 64_000_000
MAX_SPAN = 100_000
MIN_WIDTH, MAX_WIDTH = 100, 3_000
# Someone is waiting for the picture.
LIMITS = WorkerConfig(count=1, max_parse_s=20, max_wait_s=60)


class PagePictures:
    """Thread-safe. `close` ends the worker."""

    def __init__(self) -> None:
        self._workers = Workers(LIMITS)
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()

    def close(self) -> None:
        self._workers.close()

    def boxes(self, view: IndexView, identity: int, start: int, end: int) -> dict[str, Any]:
        """The pages that ``start``..``end`` touches, each with the boxes of its characters."""
        if not 0 <= start < end or end - start > MAX_SPAN:
            raise InputError(f"{start}..{end} is no passage", param="start")
        document, data = view.original(identity)
        _check_pages(document)
        try:
            found = self._workers.page_boxes(data, start, min(end, len(document.text)), document)
        except ProblemError as error:
            raise _not_drawn(document.path, error) from None
        return {
            "pages": [
                {
                    "number": page.number,
                    "width": page.width,
                    "height": page.height,
                    "boxes": [list(box) for box in page.boxes],
                }
                for page in found
            ]
        }

    def picture(self, view: IndexView, identity: int, number: int, width: int) -> tuple[bytes, str]:
        """A page as a PNG, and its ETag."""
        document, data = view.original(identity)
        page = _page(document, number)
        width = max(MIN_WIDTH, min(width, MAX_WIDTH))
        key = (hashlib.sha256(data).hexdigest(), page.number, width)
        etag = f'"{key[0][:24]}-{page.number}-{width}"'
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept, etag
        try:
            drawn = self._workers.page_picture(data, page.number, width)
        except ProblemError as error:
            raise _not_drawn(document.path, error) from None
        with self._lock:
            self._kept[key] = drawn
            while sum(map(len, self._kept.values())) > MAX_KEPT_BYTES:
                self._kept.popitem(last=False)
        return drawn, etag


def _check_pages(document: Document) -> None:
    if not document.pages or document.format != "pdf":
        raise NotFoundError(
            f"{shown(document.path)} has no pages to show", hint="open its text", param="id"
        )


def _page(document: Document, number: int) -> Page:
    _check_pages(document)
    for page in document.pages:
        if page.number == number:
            return page
    raise NotFoundError(
        f"there is no page {number}", hint=f"it has {len(document.pages)} pages", param="page"
    )


def _not_drawn(path: str, error: ProblemError) -> NotFoundError:
    return NotFoundError(
        f"{shown(path)} cannot be drawn: it {error.message}", hint="open its text", param="id"
    )
