"""Options of `lmstack index`: which files are read, where and for how long, how documents are cut
into passages, and how their vectors are kept."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lmstack.app import wiring
from lmstack.app.cli.command import option
from lmstack.app.cli.commands._options import Place, one_source
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.formats import printable
from lmstack.core import NotFoundError, shown

if TYPE_CHECKING:
    from lmstack.rag import SourceRules

__all__ = [
    "ChosenIndex",
    "ChunkOverlap",
    "ChunkTokens",
    "ChunkerName",
    "Exclude",
    "GitIgnore",
    "Include",
    "RayAddress",
    "RayCopies",
    "Strategy",
    "VectorFormOption",
    "VectorsForm",
    "Watch",
    "chosen_index",
    "chunking_of",
    "rules_of",
]


@dataclass(frozen=True)
class ChosenIndex:
    """``place``: the folder or the database that holds it. ``option``: what names it on a command
    line, quoted for a shell. ``docs``: the folder that it is kept for, absolute; None for an index
    of one's own."""

    place: Place
    option: str
    docs: Path | None = None

    @property
    def name(self) -> str:
        """What people call it: a folder's name, or a whole address."""
        named = self.docs or self.place
        return printable(named.name if isinstance(named, Path) else named, one_line=True)

    def paths(self, given: list[Path] | None, command: str) -> list[Path]:
        """The paths to work on: those ``given``, or the folder of ``--docs``."""
        if not given and self.docs is None:
            raise CommandLineError(
                f"{command} needs PATH, or the folder in --docs",
                hint=f"{command} --docs DIR",
                param="paths",
            )
        for path in given or ():
            if self.docs is not None and not _is_in(path, self.docs):
                raise CommandLineError(
                    f"{shown(str(path))} is not in the folder of --docs",
                    hint=f"{command} --docs DIR DIR/FILE",
                    param="paths",
                )
        return given or [self.docs] if self.docs is not None else list(given or ())


def chosen_index(
    docs: Path | None, index: Place | None, command: str, *, create: bool = False
) -> ChosenIndex:
    """The index that exactly one of ``--docs`` and ``--index`` names. Without ``create`` that of a
    folder must have been made."""
    one_source(docs, index, command)
    if docs is None:
        return ChosenIndex(index, f"--index {shlex.quote(str(index))}")
    folder = wiring.existing_folder(docs)
    place, option = wiring.index_of(folder), f"--docs {shlex.quote(str(docs))}"
    if not create and not place.exists():
        raise NotFoundError(
            f"{shown(str(docs))} has no index yet", hint=f"lmstack index add {option}", param="docs"
        )
    return ChosenIndex(place, option, folder)


def _is_in(path: Path, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(folder)


class Strategy(StrEnum):
    """As `ChunkConfig.strategy`."""

    structure = "structure"
    fixed = "fixed"
    sentence = "sentence"
    recursive = "recursive"
    semantic = "semantic"


class VectorFormOption(StrEnum):
    """As `vector_blob.VectorForm`."""

    float32 = "float32"
    int8 = "int8"
    binary = "binary"


VectorsForm = Annotated[
    VectorFormOption | None,
    option(
        "--vectors: How a new index keeps its vectors: in full, in a quarter of the space, or, "
        "with worse ranking, in a thirty-second. [default: float32]"
    ),
]
ChunkerName = Annotated[
    Strategy | None,
    option(
        "--chunker: How documents are cut: at headings and blocks, into windows of words, by "
        "sentences, at separators, or where the meaning changes. Kept in the index. [default: "
        "as kept, else structure]"
    ),
]
ChunkTokens = Annotated[
    int | None,
    option(
        "--chunk-tokens N: Tokens of a passage at most, of the embedding model. [default: as "
        "kept, else 160]"
    ),
]
ChunkOverlap = Annotated[
    int | None,
    option(
        "--chunk-overlap N: What a passage repeats of the one before: tokens with fixed and "
        "recursive, sentences with sentence."
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
    option(
        "--include PATTERN: Read only files that match, as in .gitignore; may be repeated. Kept"
        " with PATH."
    ),
]
Exclude = Annotated[
    list[str] | None,
    option("--exclude PATTERN: Leave out files that match; kept with PATH."),
]
GitIgnore = Annotated[
    bool | None,
    option("--gitignore/--no-gitignore: Leave out what PATH's .gitignore files name."),
]
Watch = Annotated[
    bool,
    option("--watch: Then go on, and update whenever a file changes, until Ctrl-C."),
]
RayAddress = Annotated[
    str | None,
    option(
        "--ray ADDRESS: Read and embed on a Ray cluster, `local` for one of this machine. All "
        "its machines must have the files under the same path, and the model."
    ),
]
RayCopies = Annotated[
    int,
    option("--ray-copies N 1..: How many processes embed on the cluster."),
]


def rules_of(
    include: list[str] | None, exclude: list[str] | None, gitignore: bool | None
) -> SourceRules | None:
    """None where no option says anything: those of before stay."""
    if include is None and exclude is None and gitignore is None:
        return None
    from lmstack.rag import SourceRules

    return SourceRules(tuple(include or ()), tuple(exclude or ()), bool(gitignore))
