"""An index is opened: found or made, of this format, and made with the embedder at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from lmstack.core import (
    Config,
    Embedder,
    InputError,
    IntegrityError,
    NotFoundError,
    check_range,
    shown,
)
from lmstack.rag.catalogue.database import Database, index_option, writer_lock
from lmstack.rag.catalogue.postgres import PostgresDatabase
from lmstack.rag.catalogue.rows import next_revision, remove_all_documents
from lmstack.rag.catalogue.schema import (
    FORM_KEY,
    VectorForm,
    check_form,
    check_kept_form,
    read_form,
    set_meta,
    vectors,
)
from lmstack.rag.catalogue.spaces import (
    FILE_WEIGHTS,
    Space,
    active_space,
    identity_of,
    make_space,
    read_choice,
    recipe_of,
    remove_all_spaces,
    weights_of,
)
from lmstack.rag.catalogue.sqlite import SqliteDatabase, move_aside
from lmstack.rag.chunk import ChunkConfig
from lmstack.rag.formats.load import LoadConfig
from lmstack.rag.ingest.workers import WorkerConfig
from lmstack.rag.retrieve.corpus import CorpusCache
from lmstack.rag.retrieve.hybrid import SearchConfig
from lmstack.rag.stores.address import index_place
from lmstack.rag.stores.keeping import StoreKeeper
from lmstack.rag.view import Opened

__all__ = ["EmbedderChoice", "IndexConfig", "open_catalogue"]


@dataclass(frozen=True)
class EmbedderChoice:
    """Chooses once the index is open: ``choose`` is given the name and the digest of the embedder
    that it was made with, None where it is new or is made anew."""

    choose: Callable[[tuple[str, str] | None], Embedder]


@dataclass(frozen=True)
class IndexConfig(Config):
    """``chunking``: how documents are cut; None means as the index keeps it, which is what the
    last `add` or `update` with a choice of its own chose. Another choice cuts all documents
    anew. ``vectors``: how a new index keeps them (`schema`); None means in full, or as the
    index does. ``lock_timeout_s``: how long a writer waits for another one."""

    load: LoadConfig = field(default_factory=LoadConfig)
    chunking: ChunkConfig | None = None
    vectors: VectorForm | None = None
    search: SearchConfig = field(default_factory=SearchConfig)
    workers: WorkerConfig = field(default_factory=WorkerConfig)
    lock_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        check_range("lock_timeout_s", self.lock_timeout_s, 0, 3600)
        if self.vectors is not None:
            check_form(self.vectors)


def open_catalogue(
    place: str | Path,
    embedder: Embedder | EmbedderChoice | None,
    config: IndexConfig,
    *,
    create: bool,
    rebuild: bool,
) -> Opened:
    """What `Index.open` says of its arguments holds for these."""
    try:
        return _open(place, embedder, config, create=create, rebuild=rebuild)
    except IntegrityError:
        folder = index_place(place)
        if embedder is None or not rebuild or isinstance(folder, str):
            raise
        with writer_lock(folder, config.lock_timeout_s):
            move_aside(folder)
        return _open(place, embedder, config, create=True, rebuild=rebuild)


def _open(
    place: str | Path,
    embedder: Embedder | EmbedderChoice | None,
    config: IndexConfig,
    *,
    create: bool,
    rebuild: bool,
) -> Opened:
    create = create and embedder is not None
    database = _database(place, create=create, timeout_s=config.lock_timeout_s)
    try:
        space = _active(database)
        if isinstance(embedder, EmbedderChoice):
            kept = None if rebuild or space is None else (space.embedder, space.embedder_digest)
            embedder = embedder.choose(kept)
        unsettled = rebuild or space is None or _wants_other_form(database, config)
        if embedder is not None and unsettled:
            with database.locked("writer", config.lock_timeout_s):
                _adopt(database, embedder, config, empty=rebuild)
            space = _active(database)
        if space is None:
            raise NotFoundError(
                f"the index in {shown(database.place)} was never filled",
                hint=f"fill it: lmstack index add {index_option(database.place)} PATH",
                param="index",
            )
        if embedder is not None:
            _check_embedder(space, embedder, database.place)
        with database.reading() as connection:
            check_kept_form(connection, config.vectors, database.place)
        corpora = CorpusCache(space.dimensions)
        keeper = StoreKeeper(database, space, corpora)
        search = config.search if embedder is None else config.search.for_embedder(embedder.info)
        return Opened(database, space, embedder, search, corpora, keeper)
    except BaseException:
        database.close()
        raise


def _database(place: str | Path, *, create: bool, timeout_s: float) -> Database:
    found = index_place(place)
    if isinstance(found, str):
        return PostgresDatabase(found, create=create, timeout_s=timeout_s)
    return SqliteDatabase(found, create=create, timeout_s=timeout_s)


def _wants_other_form(database: Database, config: IndexConfig) -> bool:
    with database.reading() as connection:
        return config.vectors not in (None, read_form(connection))


def _active(database: Database) -> Space | None:
    with database.reading() as connection:
        return active_space(connection)


def _adopt(database: Database, embedder: Embedder, config: IndexConfig, *, empty: bool) -> None:
    """Make the index that of ``embedder``, emptied first if so asked."""
    with database.writing() as connection:
        space = active_space(connection)
        if space is not None and not empty:
            # A form is settled by the first vectors, not by an `add` that failed before them.
            if config.vectors is not None and not connection.scalar(sa.select(vectors.c.rows)):
                set_meta(connection, **{FORM_KEY: config.vectors})
            return
        if empty:
            remove_all_documents(connection)
        if config.vectors is not None:
            set_meta(connection, **{FORM_KEY: config.vectors})
        generation = next_revision(connection)
        if space is not None and space.embedder_digest == identity_of(embedder):
            return
        remove_all_spaces(connection)
        chunking = config.chunking or read_choice(connection).chunking
        recipe = recipe_of(chunking, embedder.max_tokens)
        make_space(connection, embedder, recipe, "active", generation)


def _short(identity: str) -> str:
    """The start of a digest, and the form of the weights, which may be all that differs."""
    start, plus, form = identity.partition("+")
    return start[:19] + plus + form


def _weights(identity: str) -> str:
    """The form that an embedder's options call the weights of ``identity``."""
    found = weights_of(identity)
    return "float32" if found in (None, FILE_WEIGHTS) else str(found)


def _check_embedder(space: Space, embedder: Embedder, place: str) -> None:
    made, given = space.embedder_digest, identity_of(embedder)
    if made == given:
        return
    name, use = embedder.info.name, "that model"
    if made.partition("+")[0] == given.partition("+")[0]:
        name, use = f"{name},weights={_weights(given)}", f"its {_weights(made)} weights"
    raise InputError(
        f"the index {shown(place)} was made with {space.embedder} "
        f"({_short(made)}), not {embedder.info.name} ({_short(given)})",
        hint=f"use {use}, or change to this one: lmstack index update --embedder "
        f"{name} {index_option(place)} (with --rebuild: make the index anew)",
        param="embedder",
    )
