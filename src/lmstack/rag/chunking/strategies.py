"""Where chunks begin: at sections and blocks (structure), or where the subject changes (semantic).

Semantic chunking embeds neighbouring windows of sentences; the places where they are least alike
are breaks (as Kamradt does). What is longer than the budget is packed by sentences; what is very
short joins what follows.

Packing cuts a stretch at the coarsest level that gives pieces that fit, as LangChain's recursive
splitter does, on offsets: pieces that fit are joined up to the budget; one that does not is cut by
the next level on its own; words come last. What is still too large then (a word beyond the budget)
is left to the caller.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError
from lmstack.rag.chunk import ChunkConfig
from lmstack.rag.chunking.measure import (
    MAX_CHARS_PER_TOKEN,
    Cutter,
    Ints,
    Span,
    TextMeasure,
    TokenMeter,
    line_bounds,
    sentence_bounds,
    strip,
)
from lmstack.rag.documents import Block, BlockKind, Document, Section

__all__ = [
    "Embed",
    "Setting",
    "Step",
    "cut_semantic",
    "cut_structure",
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


Embed = Callable[[Sequence[str]], npt.NDArray[np.float32]]
# A segment of less than this share of the budget is not worth a chunk.
_LEAST = 8


def cut_semantic(setting: Setting, embed: Embed) -> Iterator[Span]:
    """Chunks in order; ``embed`` gives unit vectors of texts."""
    bounds = [0, *sentence_bounds(setting.text, 0, len(setting.text)).tolist(), len(setting.text)]
    bounds = _with_text(setting, bounds)
    levels = (sentence_bounds, line_bounds)
    for start, end in _joined(setting, _segments(setting, bounds, embed)):
        yield from pack_levels(setting, (start, end), levels)


def _with_text(setting: Setting, bounds: list[int]) -> list[int]:
    """Bounds between which there is something to embed."""
    kept = [bounds[0]]
    for bound in bounds[1:]:
        if setting.text[kept[-1] : bound].strip():
            kept.append(bound)
    kept[-1] = bounds[-1] if len(kept) > 1 else kept[-1]
    return kept if len(kept) > 1 else [0, bounds[-1]]


def _segments(setting: Setting, bounds: list[int], embed: Embed) -> list[Span]:
    config, places = setting.config, range(1, len(bounds) - 1)
    if not places:
        return [(bounds[0], bounds[-1])]
    width = config.window
    windows = {(max(place - width, 0), place): 0 for place in places} | {
        (place, min(place + width, len(bounds) - 1)): 0 for place in places
    }
    texts = [setting.text[bounds[a] : bounds[b]].strip() for a, b in windows]
    vectors = embed(texts)
    row = {window: number for number, window in enumerate(windows)}
    left = vectors[[row[max(p - width, 0), p] for p in places]]
    right = vectors[[row[p, min(p + width, len(bounds) - 1)] for p in places]]
    alike = np.einsum("nd,nd->n", left, right)
    threshold = np.percentile(alike, config.break_percentile)
    breaks = [bounds[p] for p, value in zip(places, alike, strict=True) if value < threshold]
    edges = [bounds[0], *breaks, bounds[-1]]
    return list(pairwise(edges))


def _joined(setting: Setting, segments: Sequence[Span]) -> Iterator[Span]:
    """A segment that is too short joins the next one, the last the one before."""
    waiting: list[Span] = []
    for start, end in segments:
        least = setting.budget(start) // _LEAST
        if waiting and setting.measure.weight(*waiting[-1]) < least:
            waiting[-1] = (waiting[-1][0], end)
        else:
            waiting.append((start, end))
    yield from waiting


# Neighbouring paragraphs are packed as one up to this length: a megabyte of one-letter lines is
# 30,000 pieces then, not half a million.
_SMALL = 32
_LINES = (line_bounds, sentence_bounds)
_PROSE = (sentence_bounds, line_bounds)
_BY_LINE: frozenset[BlockKind] = frozenset(("list", "code", "table", "matter"))
_FIRST_LINE = re.compile(r"\s*([^\n]*\S)[ \t\r]*\n\s*\S")


@dataclass(frozen=True, slots=True)
class _Atom:
    """A span that is packed whole. ``header``: where the names of its columns stand."""

    start: int
    end: int
    kind: BlockKind
    header: Span | None = None


def cut_structure(setting: Setting) -> Iterator[tuple[Span, str]]:
    """Chunks in order, each with the header of a table for its prefix, or ``""``. A section of
    headings alone says nothing: it goes with what follows it, or at the end with what is before."""
    blocks = _blocks(setting)
    starts = np.array([a.start for _, a in blocks], np.int64)
    ends = np.array([a.end for _, a in blocks], np.int64)
    weights = setting.measure.upto(ends) - setting.measure.before(starts)
    fits = dict(zip(starts.tolist(), weights <= setting.budgets(starts), strict=True))
    stretches: list[list[_Atom]] = []
    for _, group in groupby(blocks, key=lambda item: item[0].start):
        atoms: list[_Atom] = []
        for _, atom in group:
            atoms += [atom] if fits[atom.start] else _finer(setting, atom)
        if stretches and _num_headings(stretches[-1]) == len(stretches[-1]):
            stretches[-1] += atoms
        else:
            stretches.append(atoms)
    if len(stretches) > 1 and _num_headings(stretches[-1]) == len(stretches[-1]):
        last = stretches.pop()
        stretches[-1] += last
    for atoms in stretches:
        yield from _packed(setting, atoms)


def _num_headings(atoms: Sequence[_Atom]) -> int:
    """How many headings come before anything else."""
    return next((n for n, atom in enumerate(atoms) if atom.kind != "heading"), len(atoms))


def _blocks(setting: Setting) -> list[tuple[Section, _Atom]]:
    """All text outside white space: the blocks, and what lies between them (link definitions,
    stray lines) as paragraphs."""
    document = setting.document
    cuts: list[Block] = []
    position = 0
    for block in document.blocks:
        if block.start > position:
            cuts.append(Block("paragraph", position, block.start))
        if block.end > position:
            header = block.header or _first_line(document.text, block)
            cuts.append(Block(block.kind, max(block.start, position), block.end, header))
        position = max(position, block.end)
    if position < len(document.text):
        cuts.append(Block("paragraph", position, len(document.text)))
    starts = [section.start for section in document.sections]
    result: list[tuple[Section, _Atom]] = []
    for block in cuts:
        start = block.start
        while start < block.end:
            section = document.sections[bisect_right(starts, start) - 1]
            stop = min(block.end, section.end)
            span = strip(document.text, start, stop)
            if span:
                _append(result, section, _Atom(*span, block.kind, block.header))
            start = stop
    return result


def _append(result: list[tuple[Section, _Atom]], section: Section, atom: _Atom) -> None:
    """Add a block, or let it continue a paragraph if both are small."""
    if result and atom.kind == "paragraph":
        last, before = result[-1]
        small = atom.end - before.start <= _SMALL
        if last is section and before.kind == "paragraph" and small:
            result[-1] = (section, _Atom(before.start, atom.end, "paragraph"))
            return
    result.append((section, atom))


def _finer(setting: Setting, atom: _Atom) -> Iterator[_Atom]:
    """The parts of a block that does not fit."""
    levels = _LINES if atom.kind in _BY_LINE else _PROSE
    budget = setting.budget(atom.start)
    if atom.header:
        _, budget = setting.header(atom.start, atom.header)
    for piece in fitting_pieces(setting, (atom.start, atom.end), levels, budget):
        span = strip(setting.text, *piece)
        if span:
            yield _Atom(*span, atom.kind, atom.header)


def _first_line(text: str, block: Block) -> Span | None:
    """Where a table names its columns, unless its reader said so: in its first line."""
    found = _FIRST_LINE.match(text, block.start, block.end) if block.kind == "table" else None
    return found.span(1) if found else None


def _absent(atom: _Atom) -> Span | None:
    """The header that a chunk which begins with ``atom`` does not hold."""
    return atom.header if atom.header and atom.header[1] <= atom.start else None


def _packed(setting: Setting, atoms: Sequence[_Atom]) -> Iterator[tuple[Span, str]]:
    groups, headings = _groups(setting, atoms), _num_headings(atoms)
    if headings < len(atoms) and any(last == headings for _, last in groups):
        # A heading alone says nothing; it goes with the beginning of what it heads.
        atoms = [*atoms[:headings], *_finer(setting, atoms[headings]), *atoms[headings + 1 :]]
        groups = _groups(setting, atoms)
    for first, last in groups:
        header = _absent(atoms[first])
        shown = setting.header(atoms[first].start, header)[0] if header else ""
        yield (atoms[first].start, atoms[last - 1].end), shown


def _groups(setting: Setting, atoms: Sequence[_Atom]) -> list[Span]:
    starts = np.array([a.start for a in atoms], np.int64)
    low = setting.measure.before(starts)
    high = setting.measure.upto(np.array([a.end for a in atoms], np.int64))
    budgets = setting.budgets(starts)
    for number, atom in enumerate(atoms):
        if header := _absent(atom):
            budgets[number] = setting.header(atom.start, header)[1]
    return list(pack(low, high, budgets))
