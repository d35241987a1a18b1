"""One embedder's view of all documents: its chunks, vectors and postings.

Exactly one space is active: it is searched and kept up to date. Callers own the transaction.

Also how documents are cut, which the catalogue keeps too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import astuple, dataclass

import sqlalchemy as sa

from lmstack.core import Embedder, IntegrityError, LmstackError
from lmstack.rag.catalogue.schema import chunks, get_meta, meta, postings, set_meta, spaces, vectors
from lmstack.rag.chunk import CHUNKER_VERSION, ChunkConfig
from lmstack.rag.formats.load import PARSER_VERSION
from lmstack.rag.words import POSTINGS_VERSION

__all__ = [
    "FILE_WEIGHTS",
    "ChunkingChoice",
    "Space",
    "active_space",
    "current_state",
    "drop_space",
    "identity_of",
    "keep_choice",
    "make_space",
    "read_choice",
    "recipe_of",
    "remove_all_spaces",
    "weights_of",
]

_KEY = "chunking"


@dataclass(frozen=True, slots=True)
class ChunkingChoice:
    """``writer`` names the model that writes lines of context (`ContextWriter.identity`)."""

    chunking: ChunkConfig
    writer: str = ""


def read_choice(connection: sa.Connection) -> ChunkingChoice:
    """What was kept; the defaults where nothing was."""
    kept = get_meta(connection).get(_KEY)
    if kept is None:
        return ChunkingChoice(ChunkConfig())
    try:
        values = json.loads(kept)
        return ChunkingChoice(ChunkConfig.from_mapping(values["chunking"]), str(values["writer"]))
    except (ValueError, KeyError, TypeError, LmstackError) as error:
        raise IntegrityError(
            f"the index says how it is cut in a form that cannot be read: {error}",
            hint="index again with --rebuild",
            param="index",
        ) from None


def keep_choice(connection: sa.Connection, choice: ChunkingChoice) -> bool:
    """Write down a choice; whether it is another one than before."""
    if read_choice(connection) == choice:
        return False
    values = {"chunking": dataclasses.asdict(choice.chunking), "writer": choice.writer}
    set_meta(connection, **{_KEY: json.dumps(values)})
    return True


# What a digest that names no form stands for.
FILE_WEIGHTS = "as in the model's files (float32 unless quantized)"


@dataclass(frozen=True, slots=True)
class Space:
    """``embedder_digest`` names the weights; ``recipe`` how documents were cut when the space
    was begun; ``state`` is ``active`` or ``building``."""

    id: int
    embedder: str
    embedder_digest: str
    dimensions: int
    max_tokens: int
    recipe: str
    state: str
    generation: int


# Made once: every search asks it.
_STATE = sa.select(
    spaces.c.id, sa.select(meta.c.value).where(meta.c.key == "generation").scalar_subquery()
).where(spaces.c.state == "active")


def active_space(connection: sa.Connection) -> Space | None:
    """The space that is searched; None in an index that was never filled."""
    row = connection.execute(sa.select(spaces).where(spaces.c.state == "active")).one_or_none()
    return Space(*row) if row else None


def current_state(connection: sa.Connection) -> tuple[int, int] | None:
    """The id of the space that is searched and the index's generation."""
    row = connection.execute(_STATE).one_or_none()
    return (row[0], int(row[1])) if row else None


def make_space(
    connection: sa.Connection, embedder: Embedder, recipe: str, state: str, generation: int
) -> int:
    """A new, empty space for ``embedder``; its id."""
    result = connection.execute(
        sa.insert(spaces)
        .values(
            embedder=embedder.info.name,
            embedder_digest=identity_of(embedder),
            dimensions=embedder.dimensions,
            max_tokens=embedder.max_tokens,
            recipe=recipe,
            state=state,
            generation=generation,
        )
        .returning(spaces.c.id)
    )
    return int(result.scalar_one())


def drop_space(connection: sa.Connection, space_id: int) -> None:
    """Take a space out with all that is in it."""
    for table in (postings, vectors, chunks):
        connection.execute(sa.delete(table).where(table.c.space_id == space_id))
    connection.execute(sa.delete(spaces).where(spaces.c.id == space_id))


def remove_all_spaces(connection: sa.Connection) -> None:
    """For an index that holds no documents."""
    connection.execute(sa.delete(spaces))


def identity_of(embedder: Embedder) -> str:
    """The content digest; a remote model has only its name and size to be known by."""
    return embedder.info.digest or f"name:{embedder.info.name}:{embedder.dimensions}"


def weights_of(identity: str) -> str | None:
    """The form of the weights that made the vectors of ``identity``; None for a remote model."""
    if identity.startswith("name:"):
        return None
    parts = (part for part in identity.split("+")[1:] if not part[:1].isdigit())
    return next(parts, FILE_WEIGHTS)


def recipe_of(chunking: ChunkConfig, max_tokens: int, writer: str = "") -> str:
    """Names how a document becomes chunks; another recipe makes every document a changed one.
    ``writer``: of lines of context."""
    facts = [PARSER_VERSION, CHUNKER_VERSION, POSTINGS_VERSION]
    facts += [max_tokens, astuple(chunking), writer]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
