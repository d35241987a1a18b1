"""Documents to chunks that fit the embedder, cut where a reader would cut.

Covers: sections are never mixed; within one, blocks (paragraphs, lists, fences, tables) are
packed whole; a block that is too long is cut into lines or sentences, then words, then
characters. For every chunk ``document.text[start:end] == text``; chunks ascend, do not overlap,
and leave out nothing but white space (a byte-order mark counts as such). Sizes are tokens of
the embedder, prefix and special tokens included.

The prefix (title and headings above) is embedded and indexed with the chunk, so that "it must
be enabled first" is found under its heading; it is never part of the text and never cited.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lmstack.core import Config, InputError, check_range
from lmstack.rag.documents import Block, Document, Section
from lmstack.rag.sentences import sentence_spans

__all__ = ["CHUNKER_VERSION", "Chunk", "ChunkConfig", "chunk_document", "embedded_text"]

# Part of what an indexed document was made with: raise it when the same text cuts differently.
CHUNKER_VERSION = 2
Span = tuple[int, int]
CountTokens = Callable[[Sequence[str]], list[int]]
Cutter = Callable[[str, Span], list[Span]]
_LINE = re.compile(r"[^\n]*\n|[^\n]+$")
_WORD = re.compile(r"\S+")
# Punkt needs time quadratic in the length of a run such as "!?!?!?".
_RUN = re.compile(r"\S{400,}")
# A token is counted as at least this many characters' worth: WordPiece makes one unknown token
# of a base64 line and none of a run of spaces, and chunks must stay readable all the same.
MAX_CHARS_PER_TOKEN = 16
# Neighbouring pieces are counted and packed as one up to this length: a megabyte of one-letter
# lines is 30,000 pieces then, not half a million.
_SMALL = 32


@dataclass(frozen=True)
class ChunkConfig(Config):
    """``target_tokens``: chunks are packed up to this, prefix included (the embedder's own limit
    holds besides). ``max_prefix_chars``: longer section paths lose their outermost part."""

    target_tokens: int = 160
    max_prefix_chars: int = 160

    def __post_init__(self) -> None:
        check_range("target_tokens", self.target_tokens, 16, 100_000)
        check_range("max_prefix_chars", self.max_prefix_chars, 0, 10_000)


@dataclass(frozen=True, slots=True)
class Chunk:
    """``section`` holds the headings it stands under, outermost first; ``tokens`` is the size
    of `embedded_text` for the embedder."""

    start: int
    end: int
    text: str
    prefix: str
    section: tuple[str, ...]
    tokens: int


def embedded_text(prefix: str, text: str) -> str:
    """What the embedder sees of a chunk."""
    return f"{prefix}\n{text}" if prefix else text


def chunk_document(
    document: Document,
    count_tokens: CountTokens,
    max_tokens: int,
    config: ChunkConfig | None = None,
) -> list[Chunk]:
    """Cut ``document``; no chunk has more than ``max_tokens`` tokens."""
    config = config or ChunkConfig()
    sizes = _Sizes(document, count_tokens, min(max_tokens, config.target_tokens), config)
    atoms = _atoms(document, sizes)
    chunks = [chunk for section, spans in atoms for chunk in _pack(document, section, spans, sizes)]
    return _fit(document, chunks, sizes)


class _Sizes:
    """Token counts for one document, with the budget that a section's prefix leaves."""

    def __init__(
        self, document: Document, count: CountTokens, limit: int, config: ChunkConfig
    ) -> None:
        self._count = count
        self.limit = limit
        self._prefixes = {
            (section.start, first): _prefix(document, section, first, config)
            for section in document.sections
            for first in (True, False)
        }
        names = sorted(set(self._prefixes.values()))
        tokens = dict(zip(names, count([f"{name}\n" for name in names]), strict=True))
        self._overhead = count([""])[0]
        self._prefix_tokens = tokens
        if limit <= self._overhead:
            raise InputError(
                f"a chunk of {limit} tokens is all special tokens ({self._overhead})",
                hint="raise target_tokens",
                param="target_tokens",
            )

    def prefix(self, section: Section, *, first: bool) -> str:
        """The prefix, or none where it would leave less than half of the budget to the text."""
        name = self._prefixes[section.start, first]
        return name if 2 * self._prefix_tokens[name] <= self.limit else ""

    def budget(self, section: Section) -> int:
        """Tokens left to the text of a chunk of ``section``."""
        taken = [
            self._prefix_tokens[name] if name else self._overhead
            for name in (self.prefix(section, first=True), self.prefix(section, first=False))
        ]
        return max(self.limit - max(taken), 1)

    def of(self, texts: Sequence[str]) -> list[int]:
        """Tokens without the special ones (at least one in 16 characters)."""
        sizes = [len(text) // MAX_CHARS_PER_TOKEN for text in texts]
        # What is too long by its characters alone is not worth counting.
        open_ = [number for number, size in enumerate(sizes) if size <= self.limit]
        counts = self._count([texts[number] for number in open_]) if open_ else []
        for number, count in zip(open_, counts, strict=True):
            sizes[number] = max(count - self._overhead, sizes[number])
        return sizes

    def embedded(self, chunks: Sequence[Chunk]) -> list[int]:
        return self._count([embedded_text(c.prefix, c.text) for c in chunks]) if chunks else []

    def fits(self, chunk: Chunk, tokens: int) -> bool:
        readable = len(chunk.text) <= self.limit * MAX_CHARS_PER_TOKEN
        return (tokens <= self.limit and readable) or chunk.end - chunk.start == 1


def _prefix(document: Document, section: Section, first: bool, config: ChunkConfig) -> str:
    """Title and headings; the chunk that holds a heading does not repeat it."""
    above = list(section.path[:-1] if first else section.path)
    titled = above[:1] == [document.title] or (first and section.path == (document.title,))
    if not titled:
        above.insert(0, document.title)
    while above and len(" > ".join(above)) > config.max_prefix_chars:
        above.pop(0)
    return " ".join(" > ".join(above).split())


@dataclass(frozen=True, slots=True)
class _Atom:
    """A span that is packed whole, with its tokens."""

    start: int
    end: int
    tokens: int
    heading: bool


def _atoms(document: Document, sizes: _Sizes) -> list[tuple[Section, list[_Atom]]]:
    """Per section, spans that each fit its budget: blocks where they fit, else finer pieces."""
    spans = _blocks(document)
    tokens = sizes.of([document.text[a:b] for _, (a, b), _ in spans])
    result: dict[int, tuple[Section, list[_Atom]]] = {}
    for (section, (start, end), block), size in zip(spans, tokens, strict=True):
        _, atoms = result.setdefault(section.start, (section, []))
        if size <= sizes.budget(section):
            atoms.append(_Atom(start, end, size, block.kind == "heading"))
        else:
            pieces = _split(document.text, (start, end), block, sizes, section)
            atoms.extend(_Atom(*piece, False) for piece in pieces)
    return list(result.values())


def _blocks(document: Document) -> list[tuple[Section, Span, Block]]:
    """All text outside white space as (section, span, block): the blocks, and what lies
    between them (link definitions, stray lines) as paragraphs."""
    cuts: list[tuple[int, int, Block]] = []
    position = 0
    for block in document.blocks:
        if block.start > position:
            cuts.append((position, block.start, Block("paragraph", position, block.start)))
        if block.end > position:
            cuts.append((max(block.start, position), block.end, block))
        position = max(position, block.end)
    if position < len(document.text):
        cuts.append((position, len(document.text), Block("paragraph", position, 0)))
    starts = [section.start for section in document.sections]
    result: list[tuple[Section, Span, Block]] = []
    for start, end, block in cuts:
        while start < end:
            section = document.sections[bisect_right(starts, start) - 1]
            stop = min(end, section.end)
            span = _strip(document.text, start, stop)
            if span:
                _append(result, section, span, block)
            start = stop
    return result


def _append(
    result: list[tuple[Section, Span, Block]], section: Section, span: Span, block: Block
) -> None:
    """Add a block, or let it continue a paragraph if both are small."""
    if result and block.kind == "paragraph":
        last, (start, _), before = result[-1]
        if last is section and before.kind == "paragraph" and span[1] - start <= _SMALL:
            result[-1] = (section, (start, span[1]), before)
            return
    result.append((section, span, block))


def _strip(text: str, start: int, end: int) -> Span | None:
    piece = text[start:end]
    if start == 0 and piece.startswith("\ufeff"):
        start, piece = 1, piece[1:]
    left = len(piece) - len(piece.lstrip())
    right = len(piece.rstrip())
    return (start + left, start + right) if left < right else None


def _split(
    text: str, span: Span, block: Block, sizes: _Sizes, section: Section
) -> list[tuple[int, int, int]]:
    """Cut a block that does not fit: by lines or sentences, then words, then characters."""
    budget = sizes.budget(section)
    by_line = block.kind in ("list", "code", "table", "matter")
    coarse = (_lines, _sentences) if by_line else (_sentences, _lines)
    # Words that did not fit together are tried alone before any is cut.
    cutters = (*map(_joining, coarse), _joining(_words), _words)
    done: list[tuple[int, int, int]] = []
    waiting = [(span, 0)]
    while waiting:
        level = waiting[0][1]
        if level == len(cutters):
            done.extend(_characters(text, [s for s, _ in waiting], sizes, budget))
            break
        pieces = [p for whole, _ in waiting for p in cutters[level](text, whole)]
        tokens = sizes.of([text[a:b] for a, b in pieces])
        waiting = []
        for piece, size in zip(pieces, tokens, strict=True):
            if size <= budget:
                done.append((*piece, size))
            else:
                waiting.append((piece, level + 1))
    return sorted(done)


def _joining(cutter: Cutter) -> Cutter:
    """``cutter``, but neighbours stay one up to a length that is not worth cutting."""

    def cut(text: str, span: Span) -> list[Span]:
        result: list[Span] = []
        for start, end in cutter(text, span):
            if result and end - result[-1][0] <= _SMALL:
                result[-1] = (result[-1][0], end)
            else:
                result.append((start, end))
        return result

    return cut


def _lines(text: str, span: Span) -> list[Span]:
    found = (_strip(text, m.start(), m.end()) for m in _LINE.finditer(text, *span))
    return [line for line in found if line]


def _sentences(text: str, span: Span) -> list[Span]:
    """Sentences that leave no gap: each takes the markers before it along. Long runs without
    white space stay as they are."""
    found: list[Span] = []
    position = span[0]
    for run in _RUN.finditer(text, *span):
        found += _prose(text, position, run.start())
        found.append(run.span())
        position = run.end()
    return found + _prose(text, position, span[1])


def _prose(text: str, start: int, end: int) -> list[Span]:
    cuts = [start + b for _, b in sentence_spans(text[start:end])]
    bounds = [start, *cuts[:-1], end] if cuts else [start, end]
    found = (_strip(text, a, b) for a, b in pairwise(bounds))
    return [sentence for sentence in found if sentence]


def _words(text: str, span: Span) -> list[Span]:
    return [match.span() for match in _WORD.finditer(text, *span)]


def _characters(
    text: str, spans: Sequence[Span], sizes: _Sizes, budget: int
) -> list[tuple[int, int, int]]:
    """Cut into equal parts until they fit; a single character is kept whatever it counts."""
    done: list[tuple[int, int, int]] = []
    step = budget * MAX_CHARS_PER_TOKEN
    waiting = [(c, min(c + step, b)) for a, b in spans for c in range(a, b, step)]
    while waiting:
        tokens = sizes.of([text[a:b] for a, b in waiting])
        parts: list[Span] = []
        for (a, b), size in zip(waiting, tokens, strict=True):
            if size <= budget or b - a == 1:
                done.append((a, b, size))
            else:
                length = max((b - a) // -(-size // budget), 1)
                parts += [(c, min(c + length, b)) for c in range(a, b, length)]
        waiting = parts
    return done


def _pack(
    document: Document, section: Section, atoms: Sequence[_Atom], sizes: _Sizes
) -> list[Chunk]:
    """Join neighbours up to the budget."""
    budget = sizes.budget(section)
    groups: list[list[_Atom]] = []
    room = 0
    for atom in atoms:
        if not groups or atom.tokens > room:
            groups.append([])
            room = budget
        groups[-1].append(atom)
        room -= atom.tokens
    if len(groups) > 1 and len(groups[0]) == 1 and groups[0][0].heading:
        # A heading alone says nothing; it goes with what it heads if both fit in the limit.
        groups[1] = groups[0] + groups[1]
        groups.pop(0)
    return [
        _chunk(document, section, g[0].start, g[-1].end, sizes, first=number == 0)
        for number, g in enumerate(groups)
    ]


def _chunk(
    document: Document, section: Section, start: int, end: int, sizes: _Sizes, *, first: bool
) -> Chunk:
    prefix = sizes.prefix(section, first=first)
    return Chunk(start, end, document.text[start:end], prefix, section.path, 0)


def _fit(document: Document, chunks: Sequence[Chunk], sizes: _Sizes) -> list[Chunk]:
    """Measure what will be embedded and halve, at white space, what is over the limit after all
    (tokens of a whole can be more than those of its parts)."""
    done: list[Chunk] = []
    waiting = list(chunks)
    while waiting:
        over: list[Chunk] = []
        for chunk, tokens in zip(waiting, sizes.embedded(waiting), strict=True):
            if sizes.fits(chunk, tokens):
                done.append(
                    Chunk(chunk.start, chunk.end, chunk.text, chunk.prefix, chunk.section, tokens)
                )
            else:
                over.extend(_halves(document.text, chunk))
        waiting = over
    return sorted(done, key=lambda chunk: chunk.start)


def _halves(text: str, chunk: Chunk) -> list[Chunk]:
    middle = (chunk.start + chunk.end) // 2
    cut = max(text.rfind(" ", chunk.start, middle), text.rfind("\n", chunk.start, middle))
    cut = cut if cut > chunk.start else middle
    spans = (_strip(text, chunk.start, cut), _strip(text, cut, chunk.end))
    return [Chunk(a, b, text[a:b], chunk.prefix, chunk.section, 0) for a, b in filter(None, spans)]
