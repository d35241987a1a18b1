"""Where chunks begin: at sections and blocks (structure), or where the subject changes (semantic).

Semantic chunking embeds neighbouring windows of sentences; the places where they are least alike
are breaks (as Kamradt does). What is longer than the budget is packed by sentences; what is very
short joins what follows.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt

from lmstack.rag.chunking.measure import Span, line_bounds, sentence_bounds, strip
from lmstack.rag.chunking.packing import Setting, fitting_pieces, pack, pack_levels
from lmstack.rag.documents import Block, BlockKind, Section

__all__ = ["Embed", "cut_semantic", "cut_structure"]

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
