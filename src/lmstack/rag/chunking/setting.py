"""One document about to be cut: its measure, and what the prefix of each section leaves of the
limit. Does not cut.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from lmstack.core import InputError
from lmstack.rag.chunk import ChunkConfig
from lmstack.rag.chunking.bounds import Span
from lmstack.rag.chunking.measure import MAX_CHARS_PER_TOKEN, Ints, Measure, TokenMeter
from lmstack.rag.documents import Document, Section

__all__ = ["Setting"]


class Setting:
    """``limit``: tokens of one chunk, all included; ``reserved`` of them are kept for a line of
    context that is written later."""

    def __init__(
        self,
        document: Document,
        meter: TokenMeter,
        limit: int,
        config: ChunkConfig,
        reserved: int = 0,
    ) -> None:
        self.document = document
        self.text = document.text
        self.config = config
        self.limit = limit - reserved
        self.meter = meter
        if self.limit <= meter.overhead:
            raise InputError(
                f"a chunk of {self.limit} tokens is all special tokens ({meter.overhead})",
                hint="raise target_tokens",
                param="target_tokens",
            )
        self.measure = Measure(document.text, meter)
        self._headers: dict[Span, tuple[str, int]] = {}
        self._starts = [section.start for section in document.sections]
        names = [
            (_prefix(document, section, True, config), _prefix(document, section, False, config))
            for section in document.sections
        ]
        known = sorted({name for pair in names for name in pair})
        self._tokens = dict(zip(known, meter.texts([f"{n}\n" for n in known]), strict=True))
        self._names = [(self._usable(first), self._usable(later)) for first, later in names]
        taken = [max(self._taken(name) for name in pair) for pair in self._names]
        self._budgets = np.maximum(self.limit - np.array(taken, np.int64), 1)

    def section_at(self, offset: int) -> Section:
        return self.document.sections[bisect_right(self._starts, offset) - 1]

    def budget(self, offset: int) -> int:
        """Tokens left to the text of a chunk that begins at ``offset``."""
        return int(self._budgets[bisect_right(self._starts, offset) - 1])

    def budgets(self, offsets: Ints) -> Ints:
        found: Ints = self._budgets[np.searchsorted(self._starts, offsets, "right") - 1]
        return found

    def header(self, offset: int, header: Span) -> tuple[str, int]:
        """The header of a table on one line, and what is left beside it of `budget`; nothing of
        it where that would be less than half of the limit."""
        if header not in self._headers:
            text, tokens = "", 0
            if header[1] - header[0] <= self.limit * MAX_CHARS_PER_TOKEN:
                text = " ".join(self.text[slice(*header)].split())
                tokens = self.meter.texts([f"{text}\n"])[0] - self.meter.overhead
            self._headers[header] = text, tokens
        text, tokens = self._headers[header]
        left = self.budget(offset) - tokens
        return (text, left) if 2 * left >= self.limit else ("", self.budget(offset))

    def prefix(self, start: int, header: str) -> str:
        """What goes before a chunk. The one that holds a heading does not repeat it."""
        number = bisect_right(self._starts, start) - 1
        begin = self._starts[number]
        first = start - begin < 1000 and not self.text[begin:start].strip().strip("\ufeff")
        name = self._names[number][not first]
        return "\n".join(filter(None, (name, header)))

    def _usable(self, name: str) -> str:
        """No prefix where it would leave less than half of the limit to the text."""
        return name if 2 * self._tokens[name] <= self.limit else ""

    def _taken(self, name: str) -> int:
        return self._tokens[name] if name else self.meter.overhead


def _prefix(document: Document, section: Section, first: bool, config: ChunkConfig) -> str:
    """Title and headings; the chunk that holds a heading does not repeat it."""
    if config.context == "none":
        return ""
    above = list(section.path[:-1] if first else section.path)
    titled = above[:1] == [document.title] or (first and section.path == (document.title,))
    if not titled:
        above.insert(0, document.title)
    while above and len(" > ".join(above)) > config.max_prefix_chars:
        above.pop(0)
    return " ".join(" > ".join(above).split())
