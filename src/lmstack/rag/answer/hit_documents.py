"""The documents that hits were found in, as an answer needs them."""

from __future__ import annotations

from lmstack.core import NotFoundError
from lmstack.rag.documents import Document
from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.view import IndexView

__all__ = ["HitDocuments"]

MAX_ABOVE = 20_000


class HitDocuments:
    """The documents of hits, each read once. One that has changed or gone since it was found is
    none."""

    def __init__(self, index: IndexView) -> None:
        self._index = index
        self._documents: dict[int, Document | None] = {}

    def of(self, hit: Hit) -> Document | None:
        if hit.document_id not in self._documents:
            try:
                self._documents[hit.document_id] = self._index.document(hit.document_id)
            except NotFoundError:
                self._documents[hit.document_id] = None
        document = self._documents[hit.document_id]
        return document if document and document.text[hit.start : hit.end] == hit.text else None

    def above(self, hit: Hit) -> str:
        """The text of a hit's section before it, where its table's header may stand."""
        document = self.of(hit)
        if document is None:
            return ""
        starts = (s.start for s in document.sections if s.start <= hit.start)
        start = max(max(starts, default=0), hit.start - MAX_ABOVE)
        return document.text[start : hit.start]
