"""A new embedder beside the old one: its space is filled while the old one is searched.

Documents are cut again from their stored text; no file is read. What is written stays after
`kill -9`, and the next run goes on from there. Documents that change meanwhile lose what the new
space held of them and are done again. At the end one transaction makes the new space the active
one and drops the old. Whoever has the index open then is told to open it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from lmstack.core import Embedder, StoreError, shown
from lmstack.rag.catalogue.database import Database
from lmstack.rag.catalogue.rows import Vectors, embed_key, next_revision, put_passages
from lmstack.rag.catalogue.schema import documents, get_meta, spaces, vectors
from lmstack.rag.catalogue.snapshot import display_path, read_document
from lmstack.rag.catalogue.spaces import Space, active_space, drop_space, identity_of, make_space
from lmstack.rag.chunk import Chunk, embedded_text
from lmstack.rag.chunking import Chunker
from lmstack.rag.ingest.update import UpdateProgress

__all__ = ["Reembedder"]

_BATCH_CHUNKS = 512


@dataclass
class Reembedder:
    """One run. ``recipe_now`` names how documents of a space with so many tokens are cut, as of
    a snapshot."""

    database: Database
    embedder: Embedder
    chunker: Chunker
    recipe_now: Callable[[sa.Connection, int], str]
    lock_timeout_s: float
    progress: Callable[[UpdateProgress], None] | None = None
    _chunks: int = 0
    _started: float = 0.0

    def run(self) -> int:
        """Fill the new space and make it the active one; the number of documents done in this
        run. `StoreError` if another process is at the same."""
        self._started = time.monotonic()
        with self.database.locked("builder", self.lock_timeout_s):
            space_id = self._begin()
            if space_id is None:
                return 0
            done = self._fill(space_id)
            with self.database.locked("writer", self.lock_timeout_s):
                done += self._fill(space_id)  # what changed meanwhile; nothing changes now
                self._switch(space_id)
        return done

    def _begin(self) -> int | None:
        """The space to fill: one that an earlier run began, if it was for the same embedder and
        the same way of cutting. None if the active one is it already."""
        with self.database.writing() as connection:
            active = active_space(connection)
            if active is not None and active.embedder_digest == identity_of(self.embedder):
                return None
            recipe = self.recipe_now(connection, self.embedder.max_tokens)
            found: int | None = None
            for row in connection.execute(sa.select(spaces).where(spaces.c.state == "building")):
                space = Space(*row)
                wanted = (identity_of(self.embedder), recipe)
                if found is None and (space.embedder_digest, space.recipe) == wanted:
                    found = space.id
                else:
                    drop_space(connection, space.id)
            if found is not None:
                return found
            generation = int(get_meta(connection)["generation"])
            return make_space(connection, self.embedder, recipe, "building", generation)

    def _fill(self, space_id: int) -> int:
        done = 0
        while missing := self._missing(space_id):
            for batch in self._batches(missing):
                self._write(space_id, batch)
                done += len(batch)
                self._tell(done, len(missing), batch[-1][1])
        return done

    def _missing(self, space_id: int) -> list[int]:
        """Documents that the space does not hold yet."""
        there = sa.select(vectors.c.document_id).where(vectors.c.space_id == space_id)
        query = sa.select(documents.c.id).where(documents.c.id.not_in(there))
        with self.database.reading() as connection:
            return list(connection.execute(query.order_by(documents.c.id)).scalars())

    def _batches(self, missing: Sequence[int]) -> Iterator[list[tuple[int, str, list[Chunk]]]]:
        """Documents as id, path and chunks, enough at once to keep the embedder busy."""
        batch: list[tuple[int, str, list[Chunk]]] = []
        for number in missing:
            with self.database.reading() as connection:
                document = read_document(connection, number)
            if document is None:  # removed meanwhile
                continue
            batch.append((number, document.path, self.chunker.cut(document)))
            if sum(len(cut) for _, _, cut in batch) >= _BATCH_CHUNKS:
                yield batch
                batch = []
        if batch:
            yield batch

    def _write(self, space_id: int, batch: Sequence[tuple[int, str, list[Chunk]]]) -> None:
        """Embed a batch, and write each document that is still there in its own transaction."""
        table = self._embed([chunk for _, _, cut in batch for chunk in cut])
        for number, _, cut in batch:
            matrix = np.stack([table[embed_key(chunk)] for chunk in cut])
            with self.database.writing() as connection:
                if connection.execute(
                    sa.select(documents.c.id).where(documents.c.id == number)
                ).scalar():
                    put_passages(connection, space_id, number, cut, matrix)
            self._chunks += len(cut)

    def _embed(self, cut: Sequence[Chunk]) -> dict[bytes, Vectors]:
        wanted = {embed_key(chunk): embedded_text(chunk.prefix, chunk.text) for chunk in cut}
        matrix = self.embedder.embed(list(wanted.values()), "passage")
        return dict(zip(wanted, np.asarray(matrix, np.float32), strict=True))

    def _switch(self, space_id: int) -> None:
        with self.database.writing() as connection:
            old = active_space(connection)
            assert old is not None
            recipe = self.recipe_now(connection, self.embedder.max_tokens)
            new = Space(*connection.execute(sa.select(spaces).where(spaces.c.id == space_id)).one())
            if new.recipe != recipe:
                raise StoreError(
                    f"the way of cutting documents was changed meanwhile in "
                    f"{shown(self.database.place)}",
                    hint="run it again",
                )
            revision = next_revision(connection)
            stale = self.recipe_now(connection, old.max_tokens)
            # A document that was to be read again still is.
            current = sa.case((documents.c.recipe == stale, recipe), else_=documents.c.recipe)
            count = (
                sa.select(vectors.c.rows)
                .where((vectors.c.space_id == space_id) & (vectors.c.document_id == documents.c.id))
                .scalar_subquery()
            )
            connection.execute(
                sa.update(documents).values(revision=revision, recipe=current, chunk_count=count)
            )
            drop_space(connection, old.id)
            connection.execute(
                sa.update(spaces)
                .where(spaces.c.id == space_id)
                .values(state="active", generation=revision)
            )

    def _tell(self, done: int, total: int, path: str) -> None:
        if self.progress is not None:
            elapsed = time.monotonic() - self._started
            shown_path = display_path(path)
            self.progress(
                UpdateProgress(done, max(total, done), self._chunks, 0, shown_path, elapsed)
            )
