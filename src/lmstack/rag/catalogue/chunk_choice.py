"""How the documents of an index are cut, as its catalogue keeps it. Callers own the transaction."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import sqlalchemy as sa

from lmstack.core import IntegrityError, LmstackError
from lmstack.rag.catalogue.memory import get_meta
from lmstack.rag.catalogue.rows import set_meta
from lmstack.rag.chunk import ChunkConfig

__all__ = ["ChunkChoice", "keep_choice", "read_choice"]

_KEY = "chunking"


@dataclass(frozen=True, slots=True)
class ChunkChoice:
    """``writer`` names the model that writes lines of context (`ContextWriter.identity`)."""

    chunking: ChunkConfig
    writer: str = ""


def read_choice(connection: sa.Connection) -> ChunkChoice:
    """What was kept; the defaults where nothing was."""
    kept = get_meta(connection).get(_KEY)
    if kept is None:
        return ChunkChoice(ChunkConfig())
    try:
        values = json.loads(kept)
        return ChunkChoice(ChunkConfig.from_mapping(values["chunking"]), str(values["writer"]))
    except (ValueError, KeyError, TypeError, LmstackError) as error:
        raise IntegrityError(
            f"the index says how it is cut in a form that cannot be read: {error}",
            hint="index again with --rebuild",
            param="index",
        ) from None


def keep_choice(connection: sa.Connection, choice: ChunkChoice) -> bool:
    """Write down a choice; whether it is another one than before."""
    if read_choice(connection) == choice:
        return False
    values = {"chunking": dataclasses.asdict(choice.chunking), "writer": choice.writer}
    set_meta(connection, **{_KEY: json.dumps(values)})
    return True
