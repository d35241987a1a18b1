"""What the chunks of an index look like: sizes, and those that search will not find well.

Reads one snapshot. Sizes are what the catalogue holds; with an embedder every chunk is counted
again, so that "none is cut by the embedder" is a finding and not a belief.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from lmstack.core import Embedder
from lmstack.rag.catalogue.schema import ACTIVE, chunks, documents
from lmstack.rag.chunk import embedded_text

__all__ = ["ChunkReport", "Spread", "report_chunks"]

# Fewer tokens than this, prefix left out, seldom say anything.
TINY_TOKENS = 10
_BATCH = 1024


@dataclass(frozen=True, slots=True)
class Spread:
    """Of sizes: the extremes, the mean and three quantiles."""

    least: int
    tenth: int
    median: int
    ninetieth: int
    most: int
    mean: float

    @classmethod
    def of(cls, sizes: Sequence[int]) -> Spread:
        if not sizes:
            return cls(0, 0, 0, 0, 0, 0.0)
        values = np.array(sizes)
        low, middle, high = np.percentile(values, (10, 50, 90), method="nearest").tolist()
        return cls(int(values.min()), low, middle, high, int(values.max()), float(values.mean()))


@dataclass(frozen=True, slots=True)
class FormatChunks:
    """The chunks of the documents of one format. ``tiny``: of fewer than `TINY_TOKENS` tokens;
    ``orphans``: under no heading."""

    format: str
    documents: int
    chunks: int
    tiny: int
    orphans: int
    tokens: Spread


@dataclass(frozen=True, slots=True)
class ChunkReport:
    """``tokens`` as the embedder sees a chunk, prefix included; ``characters`` of its text.
    ``limit``: tokens that the embedder sees of one text. ``truncated``: chunks with more.
    ``recounted``: whether sizes were counted again. ``duplicates``: chunks whose text stands
    in an earlier one. ``sizes``: (tokens, characters) of each chunk, for a picture."""

    documents: int
    chunks: int
    limit: int
    tokens: Spread
    characters: Spread
    prefix_share: float
    tiny: int
    orphans: int
    truncated: int
    wrong_counts: int
    recounted: bool
    duplicates: int
    formats: tuple[FormatChunks, ...]
    sizes: tuple[tuple[int, int], ...]


def report_chunks(connection: sa.Connection, limit: int, embedder: Embedder | None) -> ChunkReport:
    """The report on the active space of the index."""
    query = (
        sa.select(
            chunks.c.tokens, chunks.c.prefix, chunks.c.section, chunks.c.text, documents.c.format
        )
        .join_from(chunks, documents, chunks.c.document_id == documents.c.id)
        .where(chunks.c.space_id == ACTIVE)
        .order_by(chunks.c.id)
    )
    counted = connection.execute(
        sa.select(documents.c.format, sa.func.count()).group_by(documents.c.format)
    )
    files = {row[0]: int(row[1]) for row in counted}
    seen: list[_Seen] = []
    for rows in connection.execute(query).partitions(_BATCH):
        seen += _seen(rows, embedder)
    lengths = sum(s.characters for s in seen)
    shown = lengths + sum(s.prefix for s in seen)
    return ChunkReport(
        documents=sum(files.values()),
        chunks=len(seen),
        limit=limit,
        tokens=Spread.of([s.tokens for s in seen]),
        characters=Spread.of([s.characters for s in seen]),
        prefix_share=1 - lengths / shown if shown else 0.0,
        tiny=sum(s.tiny for s in seen),
        orphans=sum(s.orphan for s in seen),
        truncated=sum(s.tokens > limit for s in seen),
        wrong_counts=sum(s.tokens != s.stored for s in seen),
        recounted=embedder is not None,
        duplicates=sum(count - 1 for count in Counter(s.digest for s in seen).values()),
        formats=tuple(_format(name, number, seen) for name, number in sorted(files.items())),
        sizes=tuple((s.tokens, s.characters) for s in seen),
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    format: str
    tokens: int
    stored: int
    characters: int
    prefix: int
    tiny: bool
    orphan: bool
    digest: int


def _seen(rows: Sequence[Any], embedder: Embedder | None) -> list[_Seen]:
    tokens = [row.tokens for row in rows]
    own = [len(row.text.split()) for row in rows]
    if embedder is not None:
        overhead = embedder.count_tokens([""])[0]
        tokens = embedder.count_tokens([embedded_text(row.prefix, row.text) for row in rows])
        own = [count - overhead for count in embedder.count_tokens([row.text for row in rows])]
    return [
        _Seen(
            row.format,
            count,
            row.tokens,
            len(row.text),
            len(row.prefix),
            alone < TINY_TOKENS,
            not json.loads(row.section),
            hash(row.text),
        )
        for row, count, alone in zip(rows, tokens, own, strict=True)
    ]


def _format(name: str, number: int, seen: Sequence[_Seen]) -> FormatChunks:
    mine = [s for s in seen if s.format == name]
    return FormatChunks(
        name,
        number,
        len(mine),
        sum(s.tiny for s in mine),
        sum(s.orphan for s in mine),
        Spread.of([s.tokens for s in mine]),
    )
