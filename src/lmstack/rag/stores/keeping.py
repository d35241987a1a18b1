"""The store that an index keeps its vectors in besides its own file, if it was told to.

Its address is in the index's `meta`, so every process that opens the index finds it. A store that
cannot be reached never stops an update or a search: both go on without it, and `problem` says
why. Covers choosing, filling, moving and asking it; `index` holds the writer's lock where that
is said.
"""

from __future__ import annotations

import shlex
import threading
import time

import sqlalchemy as sa

from lmstack.core import InputError, IntegrityError, LmstackError, UnsupportedError
from lmstack.rag.catalogue.database import Database
from lmstack.rag.catalogue.schema import get_meta, meta, set_meta
from lmstack.rag.catalogue.spaces import Space
from lmstack.rag.filters import Filter
from lmstack.rag.retrieve.corpus import Corpus, CorpusCache
from lmstack.rag.retrieve.dense import Ranked
from lmstack.rag.stores.address import parse_address
from lmstack.rag.stores.graph import Graph
from lmstack.rag.stores.ledger import StoreReport
from lmstack.rag.stores.projection import Progress, Projection, Synced
from lmstack.rag.stores.rows import Vectors

__all__ = ["StoreKeeper"]

# A store that failed is left alone for so long.
_PAUSE_S = 30.0


class StoreKeeper:
    """Thread-safe. ``problem``: why the store is not used now; None if it is, or if there is
    none. ``refused``: `Synced.refused` of the last `sync`."""

    def __init__(self, database: Database, space: Space, corpora: CorpusCache) -> None:
        self._database, self._space, self._corpora = database, space, corpora
        self._lock = threading.Lock()
        self._kept: Projection | Graph | None = None
        self.refused: tuple[str, ...] = ()
        self.problem: str | None = None
        self._again_at = 0.0

    @property
    def address(self) -> str | None:
        """Of the store that is kept; None for none."""
        with self._database.reading() as connection:
            return get_meta(connection).get("store")

    def nearest(
        self,
        connection: sa.Connection,
        corpus: Corpus,
        vector: Vectors,
        depth: int,
        *,
        where: Filter | None,
        held: frozenset[str] | None,
    ) -> Ranked | None:
        """The ``depth`` best rows by way of the store; None where there is none, or where it is
        of no help and the caller has to scan."""
        kept = self._at(get_meta(connection).get("store"))
        if kept is None or time.monotonic() < self._again_at:
            return None
        try:
            found = kept.nearest(connection, corpus, vector, depth, where=where, held=held)
        except UnsupportedError:  # a filter that the engine cannot take
            return None
        except LmstackError as error:
            self._fail(error)
            return None
        if found is not None:
            self.problem = None
        return found

    def attach(self, url: str) -> None:
        """Keep the store at ``url`` from now on; with the writer's lock. Fill it with `sync`."""
        url, now = str(parse_address(url).absolute()), self.address
        if now == url:
            return
        if now is not None:
            raise InputError(
                f"the index keeps its vectors in {now}",
                hint=f"lmstack index move --to {shlex.quote(url)} --index DIR",
                param="store",
            )
        kept = self._make(url)
        kept.adopt()
        self._switch(url, kept)

    def is_behind(self) -> bool:
        """Whether `sync` would have something to do, as far as the index knows."""
        kept = self._at(self.address)
        return kept is not None and kept.is_behind()

    def sync(self, progress: Progress | None = None) -> Synced | None:
        """Bring the store in step; with the writer's lock. None where there is no store or it
        cannot be reached (`problem`)."""
        kept = self._at(self.address)
        if kept is None:
            return None
        try:
            done = kept.sync(progress)
        except LmstackError as error:
            self._fail(error)
            return None
        self.recovered()
        self.refused = done.refused
        return done

    def move(self, url: str | None, progress: Progress | None = None) -> StoreReport | None:
        """Fill the store at ``url``, compare it row by row, then use it instead of the one so
        far, which is emptied; None goes back to the index's own search, and the address in use
        is emptied and filled again. With the writer's lock. Stopped half way, it goes on where it
        was. `IntegrityError` if the copy is not right."""
        old = self._at(self.address)
        url = None if url is None else str(parse_address(url).absolute())
        new: Projection | Graph | None = None
        if old is not None and url == old.url:
            old.forget(empty=True)
            new, old = old, None
        elif url is not None:
            new = self._make(url)
        report = None
        if new is not None:
            try:
                new.adopt()
                new.sync(progress)
                report = new.compare()
                if report.findings:
                    raise IntegrityError(
                        f"{url} does not hold what it was sent: {report.findings[0]}",
                        hint="nothing was changed; try again, or another store",
                        param="to",
                    )
            except BaseException:
                new.close()
                raise
        self._switch(url, new)
        if old is not None:
            old.forget(empty=True)
            old.close()
        return report

    def compare(self) -> StoreReport | None:
        """Read the store and compare it with the index; None without one."""
        kept = self._at(self.address)
        return None if kept is None else kept.compare()

    def recovered(self) -> None:
        """Ask the store again, whatever it did before."""
        self.problem, self._again_at = None, 0.0

    def close(self) -> None:
        with self._lock:
            if self._kept is not None:
                self._kept.close()
                self._kept = None

    def _fail(self, error: LmstackError) -> None:
        """Leave the store alone for a while; searches scan."""
        self.problem = error.message
        self._again_at = time.monotonic() + _PAUSE_S

    def _switch(self, url: str | None, kept: Projection | Graph | None) -> None:
        with self._database.writing() as connection:
            if url is None:
                connection.execute(sa.delete(meta).where(meta.c.key == "store"))
            else:
                set_meta(connection, store=url)
        with self._lock:
            self._kept = kept
        self.recovered()

    def _make(self, url: str) -> Projection | Graph:
        if url.startswith("faiss:"):
            return Graph(self._database, url, self._space, self._corpora)
        return Projection(self._database, url, self._space)

    def _at(self, url: str | None) -> Projection | Graph | None:
        """What is kept at ``url``, the same while the address stays."""
        with self._lock:
            now = None if self._kept is None else self._kept.url
            if now != url:
                if self._kept is not None:
                    self._kept.close()
                self._kept = self._make(url) if url else None
                self.recovered()
            return self._kept
