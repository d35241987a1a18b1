"""An answer while it is made: numbers its citations and remembers what was sent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lmstack.core import Usage
from lmstack.rag.answer.answer import (
    AnswerEvent,
    AnswerSentence,
    Citation,
    CitationFound,
    Conflict,
    DroppedSentence,
    QuotesFound,
    SentenceChecked,
    TaskName,
    TextDelta,
)
from lmstack.rag.answer.quoting import Quote
from lmstack.rag.retrieve.hybrid import Hit

__all__ = ["Composer"]

_NUMBER = re.compile(r"\[(\s*\d+\s*)\]")
_BEGUN = re.compile(r"\[\s*\d*\s*$")


@dataclass
class Composer:
    """One answer. ``quotes`` stood there before it. ``cut`` is set when the model ran into its
    limit of tokens, ``abstained`` when it said that there is no answer; ``dropped`` are sentences
    that it wrote and that are not shown; ``writing_s``: from its first token to its last. Of a
    ``task`` that is more than an answer, ``hits`` are the passages that were to be read, and
    ``unread`` counts those that were left out. ``digest``: of the weights that write, where the
    model says so."""

    citations: list[Citation] = field(default_factory=list)
    sentences: list[AnswerSentence] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    cut: bool = False
    abstained: bool = False
    conflicts: list[Conflict] = field(default_factory=list)
    dropped: list[DroppedSentence] = field(default_factory=list)
    quotes: tuple[Citation, ...] = ()
    task: TaskName = "answer"
    hits: tuple[Hit, ...] = ()
    unread: int = 0
    writing_s: float = 0.0
    digest: str | None = None
    _parts: list[str] = field(default_factory=list)
    _held: str = ""

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def say(self, text: str) -> TextDelta:
        """Text of the answer. A number in brackets in it is none of our citations, whoever
        reads the text for them later, so it is put in parentheses: "see [9]" becomes "see (9)".
        What may be the beginning of one waits for the next call."""
        text = self._held + text
        cut = _BEGUN.search(text)
        text, self._held = (text, "") if cut is None else (text[: cut.start()], text[cut.start() :])
        return self._add(_NUMBER.sub(r"(\1)", text))

    def _add(self, text: str) -> TextDelta:
        self._parts.append(text)
        return TextDelta(text, self.digest)

    def begin_sentence(self, apart: str = " ") -> Iterator[AnswerEvent]:
        """``apart``: what stands between it and the one before."""
        if self._parts:
            yield self.say(apart)

    def end_sentence(
        self,
        text: str,
        quotes: Sequence[Quote],
        *,
        support: float,
        supported: bool,
    ) -> Iterator[AnswerEvent]:
        """Number the quotes (the same span keeps its number) and close the sentence."""
        ids: list[int] = []
        for quote in quotes:
            citation = self._known(quote)
            if citation is None:
                citation = _citation(len(self.citations) + 1, quote)
                self.citations.append(citation)
                yield CitationFound(citation)
            ids.append(citation.id)
        numbers = list(dict.fromkeys(ids))
        if self._held:
            held, self._held = self._held, ""
            yield self._add(held)
        if numbers:
            # A number on the line that closes a fence would keep it open.
            apart = "\n" if text.endswith("```") else " "
            yield self._add(apart + " ".join(f"[{number}]" for number in numbers))
        sentence = AnswerSentence(text, tuple(numbers), support, supported)
        self.sentences.append(sentence)
        yield SentenceChecked(len(self.sentences) - 1, sentence)

    def show(self, quotes: Sequence[Quote]) -> QuotesFound:
        """What the documents say, before the model writes."""
        self.quotes = tuple(_citation(n, quote) for n, quote in enumerate(quotes, 1))
        return QuotesFound(self.quotes)

    def number_of(self, quote: Quote) -> int | None:
        """Of the first citation of the passage that ``quote`` is of."""
        same = (c.id for c in self.citations if c.chunk_id == quote.hit.chunk_id)
        return next(same, None)

    def drop(self, text: str, support: float, reason: str) -> None:
        self.dropped.append(DroppedSentence(text, support, reason))

    def spend(self, usage: Usage) -> None:
        """Add what a request to the model took."""
        had = self.usage
        self.usage = Usage(
            had.prompt_tokens + usage.prompt_tokens,
            had.completion_tokens + usage.completion_tokens,
            had.cached_tokens + usage.cached_tokens,
        )

    def _known(self, quote: Quote) -> Citation | None:
        place = (quote.hit.document_id, quote.start, quote.end)
        for citation in self.citations:
            if (citation.document_id, citation.start, citation.end) == place:
                return citation
        return None


def _citation(number: int, quote: Quote) -> Citation:
    return Citation(
        number,
        quote.hit.path,
        quote.start,
        quote.end,
        quote.quote,
        quote.focus,
        quote.hit.section,
        quote.hit.rank,
        quote.hit.chunk_id,
        quote.hit.document_id,
        quote.page,
    )
