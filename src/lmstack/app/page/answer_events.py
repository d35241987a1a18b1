"""The events of `lmstack.rag`'s answers as the page's: named, JSON-like, with places to open.

A citation carries the document's id and how its passage was found; a sentence carries where in
the answer's text it stands, so that the page can mark it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lmstack.rag import (
    Answer,
    AnswerDone,
    AnswerEvent,
    Citation,
    CitationFound,
    Conflict,
    ConflictFound,
    Hit,
    OutcomeKnown,
    PassagesFound,
    QuotesFound,
    ReadingProgress,
    SentenceChecked,
    TextDelta,
)

__all__ = ["AnswerEvents"]

Named = tuple[str, Mapping[str, Any]]


class AnswerEvents:
    """Translates the events of one answer, in their order. ``files``: how many are indexed;
    ``place``: a path as the page names it."""

    def __init__(self, files: Mapping[str, int], place: Callable[[str], str]) -> None:
        self._files = files
        self._named = place
        self._hits: tuple[Hit, ...] = ()
        self._sentence_start = 0
        self._text = ""
        self._sentences: list[dict[str, Any]] = []

    def __call__(self, event: AnswerEvent) -> Iterator[Named]:
        match event:
            case PassagesFound(hits=hits):
                self._hits = hits
                yield "hits", {"hits": [self._passage(hit) for hit in hits]}
            case QuotesFound(quotes=quotes):
                yield "quotes", {"quotes": [self._citation(quote) for quote in quotes]}
            case TextDelta(text=text):
                self._text += text
                yield "delta", {"text": text}
            case CitationFound(citation=citation):
                yield "citation", self._citation(citation)
            case SentenceChecked(sentence=sentence):
                checked = self._checked(sentence.supported)
                self._sentences.append(checked)
                yield "sentence", checked
            case ConflictFound(conflict=conflict):
                yield "conflict", self._conflict(conflict)
            case ReadingProgress(done=done, total=total, unread=unread):
                yield "reading", {"done": done, "total": total, "unread": unread}
            case OutcomeKnown(outcome=outcome):
                yield "outcome", {"outcome": outcome}
            case AnswerDone(answer=answer):
                yield "done", self._done(answer)

    def _checked(self, supported: bool) -> dict[str, Any]:
        """What was written since the last sentence, without the space around it."""
        written = self._text[self._sentence_start :]
        start = self._sentence_start + len(written) - len(written.lstrip())
        end = self._sentence_start + len(written.rstrip())
        self._sentence_start = len(self._text)
        return {"start": start, "end": end, "supported": supported}

    def _citation(self, citation: Citation) -> dict[str, Any]:
        passages = [hit for hit in self._hits if hit.rank == citation.passage]
        return {
            **citation.to_json(),
            "path": self._named(citation.path),
            "document_id": citation.document_id,
            "ranks": dict(passages[0].ranks) if passages else None,
        }

    def _conflict(self, conflict: Conflict) -> dict[str, Any]:
        return {
            **conflict.to_json(),
            "path": self._named(conflict.path),
            "document_id": conflict.document_id,
        }

    def _done(self, answer: Answer) -> dict[str, Any]:
        return {
            **answer.to_json(),
            "query": answer.query,
            "citations": [self._citation(citation) for citation in answer.citations],
            "conflicts": [self._conflict(conflict) for conflict in answer.conflicts],
            "quotes": [self._citation(quote) for quote in answer.quotes],
            # Places hold only in the text that they were counted in.
            "sentences": self._sentences if self._text == answer.answer else [],
            "searched": {
                "files": self._files["indexed"],
                "waiting": self._files["total"] - self._files["indexed"] - self._files["problems"],
                "passages": len(answer.hits),
                "cited": len({citation.passage for citation in answer.citations}),
            },
        }

    def _passage(self, hit: Hit) -> dict[str, Any]:
        return {
            "id": None,
            "path": self._named(hit.path),
            "document_id": hit.document_id,
            "start": hit.start,
            "end": hit.end,
            "quote": hit.text,
            "ranks": dict(hit.ranks),
        }
