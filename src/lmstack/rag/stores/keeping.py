"""The store that an index keeps its vectors in besides its own file, if it was told to.

Its address is in the index's `meta`, so every process that opens the index finds it. A store that
cannot be reached never stops an update or a search: both go on without it, and `problem` says
why. Covers choosing, filling, moving and asking it; `index` holds the writer's lock where that
is said.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lmstack.core import InputError, IntegrityError, LmstackError
from lmstack.rag.catalogue.database import Database
from lmstack.rag.catalogue.memory import get_meta
from lmstack.rag.catalogue.rows import set_meta
from lmstack.rag.catalogue.schema import meta
from lmstack.rag.catalogue.spaces import Space
from lmstack.rag.filters import Filter
from lmstack.rag.retrieve.corpus import Corpus
from lmstack.rag.retrieve.ranking import Ranked
from lmstack.rag.stores.address import parse_address
from lmstack.rag.stores.candidates import StoreSearch
from lmstack.rag.stores.comparison import StoreReport, compare_store
from lmstack.rag.stores.syncing import Projection, Synced, documents_of, wanted_documents

__all__ = ["StoreKeeper"]

Rows = Callable[[int, int], None]


class StoreKeeper:
    """Thread-safe."""

    def __init__(self, database: Database, space: Space) -> None:
        self._database, self._space = database, space
        self._lock = threading.Lock()
        self._search: StoreSearch | None = None
        self._refused: tuple[str, ...] = ()

    @property
    def address(self) -> str | None:
        """Of the store that is kept; None for none."""
        with self._database.reading() as connection:
            return get_meta(connection).get("store")

    @property
    def problem(self) -> str | None:
        """Why the store is not used now; None if it is, or if there is none."""
        return None if self._search is None else self._search.problem

    @property
    def refused(self) -> tuple[str, ...]:
        """`Synced.refused` of the last `sync`."""
        return self._refused

    def nearest(
        self,
        connection: sa.Connection,
        corpus: Corpus,
        vector: npt.NDArray[np.float32],
        depth: int,
        *,
        where: Filter | None,
        held: frozenset[str] | None,
    ) -> Ranked | None:
        """`StoreSearch.nearest`; None also where no store is kept."""
        search = self._at(get_meta(connection).get("store"))
        if search is None:
            return None
        return search.nearest(connection, corpus, vector, depth, where=where, held=held)

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
        search = StoreSearch(Projection(self._database, url, self._space))
        search.projection.adopt()
        self._switch(url, search)

    def is_behind(self) -> bool:
        """Whether `sync` would have something to do, as far as the index knows."""
        address = self.address
        if address is None:
            return False
        with self._database.reading() as connection:
            wanted = wanted_documents(connection, self._space.id)
            return documents_of(connection, address, self._space.id) != wanted

    def sync(self, progress: Rows | None = None) -> Synced | None:
        """Bring the store in step; with the writer's lock. None where there is no store or it
        cannot be reached (`problem`)."""
        search = self._at(self.address)
        if search is None:
            return None
        try:
            done = search.projection.sync(progress)
        except LmstackError as error:
            search.fail(error.message)
            return None
        search.recovered()
        self._refused = done.refused
        return done

    def move(self, url: str | None, progress: Rows | None = None) -> StoreReport | None:
        """Fill the store at ``url``, compare it row by row, then use it instead of the one so
        far, which is emptied; None goes back to the index's own search, and the address in use
        is emptied and filled again. With the writer's lock. Stopped half way, it goes on where it
        was. `IntegrityError` if the copy is not right."""
        old = self._at(self.address)
        url = None if url is None else str(parse_address(url).absolute())
        new: StoreSearch | None = None
        if old is not None and url == old.projection.url:
            old.projection.forget(empty=True)
            new, old = old, None
        elif url is not None:
            new = StoreSearch(Projection(self._database, url, self._space))
        report = None
        if new is not None:
            try:
                new.projection.adopt()
                new.projection.sync(progress)
                report = compare_store(self._database, new.projection)
                if report.findings:
                    raise IntegrityError(
                        f"{url} does not hold what it was sent: {report.findings[0]}",
                        hint="nothing was changed; try again, or another store",
                        param="to",
                    )
            except BaseException:
                new.projection.close()
                raise
        self._switch(url, new)
        if old is not None:
            old.projection.forget(empty=True)
            old.projection.close()
        return report

    def compare(self) -> StoreReport | None:
        """Read the store and compare it with the index; None without one."""
        search = self._at(self.address)
        return None if search is None else compare_store(self._database, search.projection)

    def close(self) -> None:
        with self._lock:
            if self._search is not None:
                self._search.projection.close()
                self._search = None

    def _switch(self, url: str | None, search: StoreSearch | None) -> None:
        with self._database.writing() as connection:
            if url is None:
                connection.execute(sa.delete(meta).where(meta.c.key == "store"))
            else:
                set_meta(connection, store=url)
        with self._lock:
            self._search = search

    def _at(self, url: str | None) -> StoreSearch | None:
        """The search through the store at ``url``, kept while the address stays."""
        with self._lock:
            now = None if self._search is None else self._search.projection.url
            if now != url:
                if self._search is not None:
                    self._search.projection.close()
                self._search = (
                    StoreSearch(Projection(self._database, url, self._space)) if url else None
                )
            return self._search
