"""Cut a stretch at the coarsest level that gives pieces that fit, and pack neighbours again.

What LangChain's recursive splitter does, on offsets: pieces that fit are joined up to the budget;
one that does not is cut by the next level on its own; words come last. What is still too large
then (a word beyond the budget) is left to the caller.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from lmstack.core import InputError
from lmstack.rag.chunk import ChunkConfig
from lmstack.rag.chunking.measure import (
    MAX_CHARS_PER_TOKEN,
    Cutter,
    Ints,
    Span,
    TextMeasure,
    TokenMeter,
)
from lmstack.rag.documents import Document, Section

__all__ = [
    "Setting",
    "Step",
    "fitting_pieces",
    "pack",
    "pack_levels",
    "repeat_pieces",
    "repeat_tokens",
]


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
        self.measure = TextMeasure(document.text, meter)
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


# From the pieces first to last (exclusive) of a chunk: the first piece of the next.
Step = Callable[[int, int, Ints, Ints], int]


def repeat_tokens(overlap: int) -> Step:
    """The next chunk repeats pieces of at most ``overlap`` tokens."""

    def step(first: int, last: int, low: Ints, high: Ints) -> int:
        if not overlap:
            return last
        begin = int(np.searchsorted(low[:last], high[last - 1] - overlap, "left"))
        return max(begin, first + 1)

    return step


def repeat_pieces(overlap: int) -> Step:
    """The next chunk repeats the last ``overlap`` pieces."""
    return lambda first, last, _low, _high: max(last - overlap, first + 1)


def pack(low: Ints, high: Ints, budgets: Ints, step: Step | None = None) -> Iterator[Span]:
    """Groups [first, last) of pieces up to the budget of their first one. Piece ``i`` weighs
    ``high[i] - low[i]``; a piece that is over the budget makes a group alone."""
    count, first, before = len(low), 0, 0
    while first < count:
        # With a repeat, the group must reach beyond the one before.
        while first < before and high[before] - low[first] > budgets[first]:
            first += 1
        last = int(np.searchsorted(high, low[first] + budgets[first], "right"))
        last = min(max(last, first + 1), count)
        yield first, last
        if last == count:
            return
        before, first = last, step(first, last, low, high) if step else last


def pack_levels(
    setting: Setting, span: Span, levels: Sequence[Cutter], step: Step | None = None
) -> Iterator[Span]:
    """Chunks of ``span``, in order."""
    if setting.measure.weight(*span) <= setting.budget(span[0]):
        yield span
        return
    starts, ends, fits, low, high = _pieces(setting, span, levels)
    budgets = setting.budgets(starts)
    if not levels:
        fits[:] = True  # nothing finer than a word
    position = 0
    while position < len(starts):
        if not fits[position]:
            piece = (int(starts[position]), int(ends[position]))
            yield from pack_levels(setting, piece, levels[1:], step)
            position += 1
            continue
        stop = position + int(np.argmin(np.append(fits[position:], False)))
        part = slice(position, stop)
        for first, last in pack(low[part], high[part], budgets[part], step):
            yield int(starts[position + first]), int(ends[position + last - 1])
        position = stop


def fitting_pieces(
    setting: Setting, span: Span, levels: Sequence[Cutter], budget: int
) -> Iterator[Span]:
    """The coarsest pieces of ``span`` that fit ``budget``, not packed."""
    starts, ends, _, low, high = _pieces(setting, span, levels)
    for start, end, weight in zip(starts.tolist(), ends.tolist(), high - low, strict=True):
        if weight <= budget or not levels:
            yield start, end
        else:
            yield from fitting_pieces(setting, (start, end), levels[1:], budget)


def _pieces(
    setting: Setting, span: Span, levels: Sequence[Cutter]
) -> tuple[Ints, Ints, np.ndarray, Ints, Ints]:
    """Starts and ends of the pieces of ``span`` at the first level, whether each fits, and the
    running weights before and up to them."""
    measure = setting.measure
    inside = levels[0](setting.text, *span) if levels else measure.inside(*span)
    bounds = np.concatenate(([span[0]], inside, [span[1]])).astype(np.int64)
    starts, ends = bounds[:-1], bounds[1:]
    low, high = measure.before(starts), measure.upto(ends)
    return starts, ends, high - low <= setting.budgets(starts), low, high
