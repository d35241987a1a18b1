"""Which passages a text over whole documents is written from.

All passages of the documents that are meant: those that the view is narrowed to, those that the
model chose, those whose file is named in the question, or, for a summary, the one with the best
passage. Where none of that says anything, the passages found by a wide search. Blocks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from lmstack.rag.answer.answer import TaskName
from lmstack.rag.answer.quoting import Passage, read_passage
from lmstack.rag.catalogue.listing import DocumentInfo
from lmstack.rag.filters import Condition
from lmstack.rag.retrieve.hybrid import MAX_HITS, Hit
from lmstack.rag.retrieve.retrieval import HitDocuments
from lmstack.rag.view import IndexView

__all__ = ["Candidates", "candidates", "hits_of", "read_all"]

# Documents that the model chooses from, and as many as a filter may leave to be read whole.
MAX_DOCUMENTS = 20
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Candidates:
    """``documents`` that may be meant. ``certain``: as many of the first are meant in any case,
    because the view is narrowed to them or the question names their files."""

    documents: tuple[DocumentInfo, ...]
    certain: int = 0

    def chosen(self, numbers: Sequence[int], task: TaskName) -> tuple[DocumentInfo, ...]:
        """Those that are certain, those at ``numbers``, or what else there is to go by; none for
        a wide search."""
        if self.certain or not numbers:
            return self.documents[: self.certain or int(task == "summarize")]
        return tuple(self.documents[n] for n in numbers)


def candidates(index: IndexView, question: str, hits: Sequence[Hit]) -> Candidates:
    known = index.documents()
    if index.where is not None and len(known) <= MAX_DOCUMENTS:
        return Candidates(tuple(known), len(known))
    asked = f" {_words(question)} "
    named = [info for info in known if _is_named(info, asked)][:MAX_DOCUMENTS]
    ids = {info.id: info for info in known}
    found = [ids[hit.document_id] for hit in hits if hit.document_id in ids]
    both = {info.id: info for info in (*named, *found)}
    return Candidates(tuple(both.values())[:MAX_DOCUMENTS], len(named))


def _is_named(info: DocumentInfo, asked: str) -> bool:
    """Whether the words of its file's name follow one another in ``asked``, with the ending."""
    return f" {_words(PurePath(info.path).name)} " in asked


def _words(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))


def hits_of(
    index: IndexView, question: str, chosen: Sequence[DocumentInfo]
) -> tuple[list[Hit], int]:
    """The passages of these documents in their order, and how many there are besides."""
    where = Condition("path", "in", tuple(info.path for info in chosen))
    hits = index.search(question, MAX_HITS, where=where)
    order = {info.id: n for n, info in enumerate(chosen)}
    hits.sort(key=lambda hit: (order.get(hit.document_id, len(order)), hit.start))
    return hits, max(0, sum(info.chunks for info in chosen) - len(hits))


def read_all(index: IndexView, hits: Sequence[Hit]) -> list[Passage]:
    """Those that say something."""
    documents = HitDocuments(index)
    read = (read_passage(hit, documents) for hit in hits)
    return [passage for passage in read if passage.readable]
