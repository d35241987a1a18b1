"""An answer as plain data: what `lmstack ask` prints, whether this process found it or a server.

Places are worked out where the documents are; paths are shown from the folder of whoever asked.
Does not cover printing (`cli.printed_answer`).
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from lmstack.app.formats import printable
from lmstack.rag import (
    Answer,
    AnswerDone,
    AnswerEvent,
    Citation,
    Conflict,
    IndexView,
    OutcomeKnown,
    QuotesFound,
    ReadingProgress,
    TextDelta,
)

__all__ = ["line_numbers", "place_text", "shown_from", "told"]

_WITH_LINES = ("text", "markdown", "csv", "jsonl", "code")
Told = Mapping[str, Any]


async def told(
    events: AsyncGenerator[AnswerEvent, None], view: IndexView, shown: Callable[[str], str]
) -> AsyncGenerator[Told, None]:
    """How far the ``reading`` of many passages is, ``quotes`` that stand there before a model
    writes, the ``outcome``, ``text`` as it comes, and at last ``done`` with what there is to
    print. ``view``: what is answered from; ``shown``: a path of it as it is printed."""
    reason = ""
    async with aclosing(events):
        async for event in events:
            match event:
                case TextDelta(text=text):
                    yield {"event": "text", "text": text}
                case ReadingProgress(done=done, total=total):
                    yield {"event": "reading", "done": done, "total": total}
                case QuotesFound(quotes=quotes):
                    places = [[_place(view, quote, shown), quote.point] for quote in quotes]
                    yield {"event": "quotes", "quotes": places}
                case OutcomeKnown(outcome=outcome, reason=why):
                    reason = why
                    yield {"event": "outcome", "outcome": outcome}
                case AnswerDone(answer=answer):
                    yield {"event": "done", **_done(answer, reason, view, shown)}
                case _:
                    pass  # `done` says it all


def shown_from(folder: str) -> Callable[[str], str]:
    """Paths that open from the current folder as they open from ``folder``."""
    from lmstack.rag.catalogue.snapshot import display_path

    return lambda path: display_path(os.path.abspath(path), folder)


def _done(
    answer: Answer, reason: str, view: IndexView, shown: Callable[[str], str]
) -> dict[str, Any]:
    value = answer.to_json()
    for part in (*value["citations"], *value["conflicts"], *value["quotes"]):
        part["path"] = shown(part["path"])
    return {
        "answer": value,
        "reason": reason,
        "sources": [[c.id, _place(view, c, shown), c.point] for c in answer.citations],
        "conflicts": [
            [c.relation, c.citation, c.date, _place(view, c, shown), c.quote]
            for c in answer.conflicts
        ],
        "cited": len({citation.passage for citation in answer.citations}),
        "passages": len(answer.hits),
    }


def _place(view: IndexView, row: Citation | Conflict, shown: Callable[[str], str]) -> str:
    """With line numbers, where the document's text is the file's."""
    document = view.document(row.path)
    lines = None
    if document.format in _WITH_LINES:
        lines = line_numbers(document.text, row.start, row.end)
    return place_text(shown(row.path), lines, row.page)


def line_numbers(text: str, start: int, end: int) -> tuple[int, int]:
    """The lines, counted from 1, of ``text[start:end]``."""
    first = text.count("\n", 0, start) + 1
    return first, first + text.count("\n", start, max(start, end - 1))


def place_text(path: str, lines: tuple[int, int] | None, page: int | None) -> str:
    """``docs/a.md:12-14``, or ``docs/a.pdf page 3`` where text has no lines of its own."""
    place = printable(path, one_line=True)
    if page is not None:
        return f"{place} page {page}"
    if lines is None:
        return place
    first, last = lines
    return f"{place}:{first}" if first == last else f"{place}:{first}-{last}"
