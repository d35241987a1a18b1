"""Options that say how documents are cut into passages, and how their vectors are kept."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

__all__ = [
    "ChunkOverlap",
    "ChunkTokens",
    "ChunkerName",
    "Form",
    "Strategy",
    "VectorsForm",
    "chunking_of",
]


class Strategy(StrEnum):
    """As `ChunkConfig.strategy`."""

    structure = "structure"
    fixed = "fixed"
    sentence = "sentence"
    recursive = "recursive"
    semantic = "semantic"


class Form(StrEnum):
    """As `vector_blob.VectorForm`."""

    float32 = "float32"
    int8 = "int8"
    binary = "binary"


VectorsForm = Annotated[
    Form | None,
    typer.Option(
        "--vectors",
        help="How a new index keeps its vectors: in full, in a quarter of the space, or, with"
        " worse ranking, in a thirty-second. [default: float32]",
    ),
]
ChunkerName = Annotated[
    Strategy | None,
    typer.Option(
        "--chunker",
        help="How documents are cut: at headings and blocks, into windows of words, by sentences,"
        " at separators, or where the meaning changes. Kept in the index. [default: as kept, else"
        " structure]",
    ),
]
ChunkTokens = Annotated[
    int | None,
    typer.Option(
        "--chunk-tokens",
        metavar="N",
        help="Tokens of a passage at most, of the embedding model. [default: as kept, else 160]",
    ),
]
ChunkOverlap = Annotated[
    int | None,
    typer.Option(
        "--chunk-overlap",
        metavar="N",
        help="What a passage repeats of the one before: tokens with fixed and recursive,"
        " sentences with sentence.",
    ),
]


def chunking_of(
    chunker: Strategy | None, tokens: int | None, overlap: int | None
) -> dict[str, object]:
    """The changes to `ChunkConfig` that the options make."""
    given = {
        "strategy": chunker and chunker.value,
        "target_tokens": tokens,
        "overlap": 0 if chunker and overlap is None else overlap,
    }
    return {name: value for name, value in given.items() if value is not None}
