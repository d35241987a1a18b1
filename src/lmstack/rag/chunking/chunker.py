"""Documents to chunks, by the strategy of a `ChunkConfig`.

Chooses the strategy, gives each stretch its prefix and section, and sees to it that what will be
embedded is within the limit by the tokenizer's own count. One `Chunker` serves many documents and
remembers how many tokens their words have.

A `ContextWriter` asks a language model for a line that says where in its document a chunk stands
(Anthropic's contextual retrieval, 2024); it is embedded and searched with the chunk, never cited.
Decoding is greedy, so equal documents give equal lines; they are kept by document, chunk and
model, so that indexing again asks for none twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lmstack.core import (
    ChatModel,
    Embedder,
    InputError,
    Message,
    Request,
    SamplingParams,
    complete_sync,
)
from lmstack.rag.chunk import Chunk, ChunkConfig, embedded_text
from lmstack.rag.chunking.measure import (
    MAX_CHARS_PER_TOKEN,
    CountTokens,
    Cutter,
    Span,
    TokenMeter,
    line_bounds,
    sentence_bounds,
    separator_cutter,
    strip,
)
from lmstack.rag.chunking.strategies import (
    Embed,
    Setting,
    cut_semantic,
    cut_structure,
    pack_levels,
    repeat_pieces,
    repeat_tokens,
)
from lmstack.rag.documents import Document

__all__ = ["Chunker", "ContextWriter", "chunk_document"]

PROMPT_VERSION = 1
_PROMPT = (
    "Title: {title}\nSection: {section}\nDocument begins: {head}\n\nPassage:\n{passage}\n\n"
    "In one short sentence, say what this passage is about and where in the document it stands."
    " Write only that sentence."
)
_HEAD, _PASSAGE, _LINE = 600, 2000, 200


class ContextWriter:
    """``lines``: kept lines, by key; a dictionary, or a store that outlives the process.
    ``tokens``: room that is left for a line in each chunk."""

    tokens = 48

    def __init__(self, model: ChatModel, lines: MutableMapping[str, str] | None = None) -> None:
        self._model = model
        self._lines: MutableMapping[str, str] = {} if lines is None else lines

    @property
    def identity(self) -> str:
        """Names what writes: part of what an indexed document was made with."""
        return f"{PROMPT_VERSION}:{self._model.info.digest or self._model.info.name}"

    def line(self, document: Document, chunk: Chunk) -> str:
        """One line without line ends, at most 200 characters."""
        facts = (self.identity, document.title, document.text, chunk.prefix, chunk.text)
        hasher = hashlib.sha256()
        for fact in facts:
            data = fact.encode("utf-8", "surrogatepass")
            hasher.update(len(data).to_bytes(8) + data)
        key = hasher.hexdigest()
        if key not in self._lines:
            self._lines[key] = self._write(document, chunk)
        return self._lines[key]

    def _write(self, document: Document, chunk: Chunk) -> str:
        prompt = _PROMPT.format(
            title=document.title,
            section=" > ".join(chunk.section),
            head=" ".join(document.text[:_HEAD].split()),
            passage=chunk.text[:_PASSAGE],
        )
        request = Request(
            messages=(Message("user", prompt),),
            sampling=SamplingParams(temperature=0, max_tokens=self.tokens),
        )
        return " ".join(complete_sync(self._model, request).text.split())[:_LINE]


@dataclass(frozen=True, slots=True)
class _Draft:
    start: int
    end: int
    prefix: str


class Chunker:
    """Cuts documents for ``embedder``. ``writer`` writes the lines of ``context="model"``.

    An embedder whose counts of the words of a text add up to that of the text says so with an
    attribute ``counts_by_word``; cutting is several times as fast then.
    """

    def __init__(
        self,
        embedder: Embedder,
        config: ChunkConfig | None = None,
        *,
        writer: ContextWriter | None = None,
    ) -> None:
        by_word = bool(getattr(embedder, "counts_by_word", False))
        self.config = config or ChunkConfig()
        if self.config.context == "model" and writer is None:
            raise InputError(
                "context is 'model', and there is no model to write it",
                hint="pass writer=ContextWriter(model), or choose context='title'",
                param="context",
            )
        self._writer = writer if self.config.context == "model" else None
        self._meter = TokenMeter(embedder.count_tokens, by_word=by_word)
        self._limit = min(embedder.max_tokens, self.config.target_tokens)
        self._embed: Embed | None = embedder.embed

    def cut(self, document: Document) -> list[Chunk]:
        """The chunks of ``document``, in order; none of more tokens than the limit, but for a
        single character that has more."""
        return _cut(document, self._meter, self._limit, self.config, self._embed, self._writer)


def chunk_document(
    document: Document,
    count_tokens: CountTokens,
    max_tokens: int,
    config: ChunkConfig | None = None,
) -> list[Chunk]:
    """Cut one document without an embedder at hand; no chunk has more than ``max_tokens``."""
    config = config or ChunkConfig()
    meter = TokenMeter(count_tokens)
    return _cut(document, meter, min(max_tokens, config.target_tokens), config, None, None)


def _cut(
    document: Document,
    meter: TokenMeter,
    limit: int,
    config: ChunkConfig,
    embed: Embed | None,
    writer: ContextWriter | None,
) -> list[Chunk]:
    reserved = min(writer.tokens, limit // 4) if writer else 0
    setting = Setting(document, meter, limit, config, reserved)
    drafts = []
    for (start, end), header in _stretches(setting, embed):
        span = strip(document.text, start, end)
        if span:
            drafts.append(_Draft(*span, setting.prefix(span[0], header)))
    chunks = _fit(setting, drafts)
    return _with_context(document, chunks, writer, meter, limit) if writer else chunks


def _stretches(setting: Setting, embed: Embed | None) -> Iterator[tuple[Span, str]]:
    config, whole = setting.config, (0, len(setting.text))
    if config.strategy == "structure":
        yield from cut_structure(setting)
        return
    levels: tuple[Cutter, ...] = ()
    step = repeat_tokens(config.overlap)
    if config.strategy == "sentence":
        levels, step = (sentence_bounds, line_bounds), repeat_pieces(config.overlap)
    elif config.strategy == "recursive":
        levels = tuple(map(separator_cutter, config.separators))
    if config.strategy != "semantic":
        spans = pack_levels(setting, whole, levels, step)
    elif embed is None:
        raise InputError(
            "strategy 'semantic' needs an embedder",
            hint="use Chunker(embedder, config)",
            param="strategy",
        )
    else:
        spans = cut_semantic(setting, embed)
    for span in spans:
        yield span, ""


def _fit(setting: Setting, drafts: Sequence[_Draft]) -> list[Chunk]:
    """Count what will be embedded and halve, at white space, what is over the limit after all
    (tokens of a whole can be more than those of its parts)."""
    done: list[Chunk] = []
    waiting = list(drafts)
    while waiting:
        over: list[_Draft] = []
        for draft, tokens in zip(waiting, _count(setting, waiting), strict=True):
            length = draft.end - draft.start
            readable = length <= setting.limit * MAX_CHARS_PER_TOKEN
            if (tokens <= setting.limit and readable) or length == 1:
                done.append(_chunk(setting, draft, tokens))
            else:
                over.extend(_halves(setting.text, draft))
        waiting = over
    done.sort(key=lambda chunk: (chunk.start, -chunk.end))
    kept: list[Chunk] = []
    for chunk in done:
        # With an overlap, what was halved may lie within its neighbour.
        if not kept or chunk.end > kept[-1].end:
            kept.append(chunk)
    return kept


def _count(setting: Setting, drafts: Sequence[_Draft]) -> list[int]:
    """Tokens of what will be embedded, by the tokenizer where words do not tell."""
    starts = np.array([d.start for d in drafts], np.int64)
    ends = np.array([d.end for d in drafts], np.int64)
    counts, sure = setting.measure.exact(starts, ends)
    names = list(dict.fromkeys(d.prefix for d in drafts))
    heads = dict(
        zip(names, setting.meter.texts([f"{n}\n" if n else "" for n in names]), strict=True)
    )
    tokens = [heads[d.prefix] + n for d, n in zip(drafts, counts.tolist(), strict=True)]
    unsure = np.flatnonzero(~sure).tolist()
    texts = [_embedded(setting.text, drafts[number]) for number in unsure]
    for number, count in zip(unsure, setting.meter.counted(texts), strict=True):
        tokens[number] = count
    return tokens


def _embedded(text: str, draft: _Draft) -> str:
    return embedded_text(draft.prefix, text[draft.start : draft.end])


def _chunk(setting: Setting, draft: _Draft, tokens: int) -> Chunk:
    section = setting.section_at(draft.start).path
    text = setting.text[draft.start : draft.end]
    return Chunk(draft.start, draft.end, text, draft.prefix, section, tokens)


def _halves(text: str, draft: _Draft) -> list[_Draft]:
    middle = (draft.start + draft.end) // 2
    cut = max(text.rfind(" ", draft.start, middle), text.rfind("\n", draft.start, middle))
    cut = cut if cut > draft.start else middle
    spans = (strip(text, draft.start, cut), strip(text, cut, draft.end))
    return [replace(draft, start=a, end=b) for a, b in filter(None, spans)]


def _with_context(
    document: Document,
    chunks: Sequence[Chunk],
    writer: ContextWriter,
    meter: TokenMeter,
    limit: int,
) -> list[Chunk]:
    """Chunks with the model's line at the end of their prefix, where it fits the limit."""
    lines = [writer.line(document, chunk) for chunk in chunks]
    prefixes = ["\n".join(filter(None, (c.prefix, n))) for c, n in zip(chunks, lines, strict=True)]
    texts = [embedded_text(p, c.text) for p, c in zip(prefixes, chunks, strict=True)]
    return [
        replace(chunk, prefix=prefix, tokens=tokens) if tokens <= limit else chunk
        for chunk, prefix, tokens in zip(chunks, prefixes, meter.counted(texts), strict=True)
    ]
