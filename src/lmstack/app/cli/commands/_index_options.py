"""Options of `lmstack index`: which files are read, where and for how long, how documents are cut
into passages, and how their vectors are kept."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lmstack.rag import Rules

__all__ = [
    "ChunkOverlap",
    "ChunkTokens",
    "ChunkerName",
    "Exclude",
    "Form",
    "GitIgnore",
    "Include",
    "RayAddress",
    "RayCopies",
    "Strategy",
    "VectorsForm",
    "Watch",
    "chunking_of",
    "rules_of",
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


Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Read only files that match, as in .gitignore; may be repeated. Kept with PATH.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Leave out files that match; kept with PATH."),
]
GitIgnore = Annotated[
    bool | None,
    typer.Option("--gitignore/--no-gitignore", help="Leave out what PATH's .gitignore files name."),
]
Watch = Annotated[
    bool,
    typer.Option("--watch", help="Then go on, and update whenever a file changes, until Ctrl-C."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Read and embed on a Ray cluster, `local` for one of this machine. All its machines"
        " must have the files under the same path, and the model.",
    ),
]
RayCopies = Annotated[
    int,
    typer.Option(
        "--ray-copies", metavar="N", min=1, help="How many processes embed on the cluster."
    ),
]


def rules_of(
    include: list[str] | None, exclude: list[str] | None, gitignore: bool | None
) -> Rules | None:
    """None where no option says anything: those of before stay."""
    if include is None and exclude is None and gitignore is None:
        return None
    from lmstack.rag import Rules

    return Rules(tuple(include or ()), tuple(exclude or ()), bool(gitignore))
