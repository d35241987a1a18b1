"""What a vector store does, whoever made its engine, and all that the adapters share.

A store is a projection of the catalogue: the catalogue (SQLite or PostgreSQL) holds documents,
chunks and vectors and is the truth; a store holds vectors and fields by chunk id for the sake of
search, and can be emptied and filled again at any time. Chunk ids are never used twice, so every
call may be repeated safely. Vectors are unit vectors; scores are cosines, up to the rounding of
float32: equal vectors may differ in the last bits of their scores.

An adapter says how its engine puts, takes, finds and lists rows. Checks, batches, filters,
retries and errors are here.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from lmstack.core import (
    AuthError,
    FormatError,
    InputError,
    LmstackError,
    NotFoundError,
    StoreError,
    shown,
)
from lmstack.rag.filters import Fields, Filter
from lmstack.rag.stores import facts
from lmstack.rag.stores.rows import (
    Ids,
    StoredRow,
    StoreHit,
    Vectors,
    batches,
    checked_ids,
    checked_query,
    checked_rows,
)

__all__ = ["VectorStore"]

_T = TypeVar("_T")
# Before each further attempt at a call.
WAITS_S = (0.1, 0.3, 0.9)
_LONGEST_WAIT_S = 5.0
_PASSING = (429, 502, 503, 504)


class VectorStore(ABC):
    """Thread-safe. What returned is durable: it survives ``kill -9`` of the caller.

    ``name``: the address, for messages. ``exact``: whether search finds the true nearest now
    (approximate stores miss some). Errors: `InputError` for what `rows.checked_rows` refuses
    (dimensions, vectors that are not of length one, fields that some engine could not keep, ids
    given twice), `AuthError`, `StoreError` when the engine fails or cannot be reached,
    `UnsupportedError` for a filter that it cannot express.

    An adapter ends its constructor with `_open`, and may raise whatever its engine raises.
    """

    exact = False
    # Rows in one write, ids in one read, results of one search.
    batch = 500
    page = 500
    most = 10_000
    # The environment variable of the key.
    key = ""
    hint = "check that it is running and can be reached"

    def __init__(self, name: str, dimensions: int) -> None:
        self.name, self.dimensions = name, dimensions
        self._closed = False

    # What an adapter says of its engine.

    @abstractmethod
    def _width(self) -> int | None:
        """The dimensions of the collection, None where there is none; `_foreign` if it is not
        lmstack's."""

    @abstractmethod
    def _create(self) -> None:
        """Make the collection; another process may have made it meanwhile."""

    @abstractmethod
    def _put(self, ids: list[int], vectors: Vectors, fields: Sequence[Fields]) -> None: ...

    @abstractmethod
    def _take(self, ids: list[int]) -> None: ...

    @abstractmethod
    def _nearest(self, vector: Vectors, n: int, where: Any) -> Iterable[facts.Candidate]:
        """The ``n`` best rows that ``where``, made by `_leaf` and `_join`, lets through."""

    @abstractmethod
    def _get(self, ids: list[int]) -> Iterable[StoredRow]:
        """Those of the rows that are there, in any order; no id is given twice."""

    @abstractmethod
    def _list(self) -> Iterable[int]: ...

    @abstractmethod
    def _count(self) -> int: ...

    @abstractmethod
    def _close(self) -> None: ...

    def _leaf(self, leaf: facts.Leaf) -> Any | None:  # noqa: ARG002
        """A test in the engine's words; None where it has none, and the row is judged here."""
        return None

    def _join(self, kind: type[facts.All] | type[facts.Any], parts: list[Any]) -> Any:
        """Tests of which all or any must hold."""
        return kind, parts

    # What they share.

    def upsert(self, ids: Ids, vectors: Vectors, fields: Sequence[Fields]) -> None:
        """Insert rows, or replace those whose ids are there. ``vectors`` is (N, D)."""
        ids, vectors, fields = checked_rows(ids, vectors, fields, self.dimensions)
        for part in batches(len(ids), self.batch):
            self._call(partial(self._put, ids[part].tolist(), vectors[part], fields[part]))

    def delete(self, ids: Ids) -> None:
        """Take rows out; ids that are not there are passed over."""
        wanted = np.unique(checked_ids(ids))
        for part in batches(len(wanted), self.batch):
            self._call(partial(self._take, wanted[part].tolist()))

    def search(self, vector: Vectors, k: int, where: Filter | None = None) -> list[StoreHit]:
        """The ``k`` nearest rows that match, best first, equal scores by ascending id; fewer
        only where fewer match (approximate stores: where fewer were found)."""
        vector = checked_query(vector, k, self.dimensions)
        tree = facts.narrow(where)
        if tree == facts.NOTHING:
            return []
        condition = None if tree is None else facts.render(tree, self._leaf, self._join)

        def ask(n: int) -> list[facts.Candidate]:
            return self._all(self._nearest, vector, n, condition)

        return facts.fill(ask, k, where, self.most, self.name)

    def fetch(self, ids: Ids) -> list[StoredRow]:
        """Rows by id, in the order asked; those not there are left out."""
        ids = checked_ids(ids)
        wanted = np.unique(ids)
        found: dict[int, StoredRow] = {}
        for part in batches(len(wanted), self.page):
            found |= {row.id: row for row in self._all(self._get, wanted[part].tolist())}
        return [found[id] for id in ids.tolist() if id in found]

    def ids(self) -> Iterator[int]:
        """All ids, in any order."""
        return iter(self._all(self._list))

    def count(self) -> int:
        return self._call(self._count)

    def clear(self) -> None:
        """Take everything out."""
        self.delete(np.fromiter(self.ids(), np.int64))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._close()

    def _open(self, create: bool) -> None:
        """Find the collection, or make it if ``create``; closed again if that fails."""
        try:
            width = self._call(self._width)
            if width is None and create:
                self._call(self._create)
                width = self._call(self._width)
            if width is None:
                raise self._absent()
            if width != self.dimensions:
                raise InputError(
                    f"{self.name} holds vectors of {width} dimensions, not {self.dimensions}",
                    hint="use the embedder it was filled with, or another store",
                    param="store",
                )
        except BaseException:
            self.close()
            raise

    def _absent(self) -> NotFoundError:
        return NotFoundError(
            f"there is no store {shown(self.name)}",
            hint="check the address, or let lmstack make it",
            param="store",
        )

    def _foreign(self) -> FormatError:
        return FormatError(
            f"the collection {shown(self.name)} was not made by lmstack",
            hint="give another name: docs/stores.md says where it stands in an address",
            param="store",
        )

    def _all(self, ask: Callable[..., Iterable[_T]], *given: Any) -> list[_T]:
        return self._call(lambda: list(ask(*given)))

    def _call(self, ask: Callable[[], _T]) -> _T:
        """What ``ask`` returns, asked again where a failure may pass; the engine's errors in
        our words."""
        for wait in (*WAITS_S, None):
            if self._closed:
                raise StoreError("the store is closed", hint="open it again")
            try:
                return ask()
            except LmstackError:
                raise
            except Exception as error:
                if wait is None or not _may_pass(error):
                    raise self._failed(error) from error
                time.sleep(max(wait, min(_asked_wait(error), _LONGEST_WAIT_S)))
        raise AssertionError("the last attempt returns or raises")

    def _failed(self, error: Exception) -> LmstackError:
        status = getattr(error, "status_code", None)
        if status in (401, 403):
            what = f"{self.name} refused the key ({status})"
            return AuthError(what, hint=f"set {self.key}", param="store")
        message = str(error).strip() or type(_cause(error)).__name__
        return StoreError(
            f"{self.name} failed: {shown(message, 200)}", hint=self.hint, param="store"
        )


def _cause(error: Exception) -> BaseException:
    """What an SDK wrapped."""
    return getattr(error, "source", None) or error.__cause__ or error


def _may_pass(error: Exception) -> bool:
    """Whether the same call may do better. One that took too long would take as long again."""
    import httpx  # late: few calls fail, and a command that has no store shall start fast

    cause = _cause(error)
    if isinstance(cause, httpx.TimeoutException):
        return False
    return (
        isinstance(cause, httpx.TransportError)
        or getattr(error, "status_code", None) in _PASSING
        or bool(getattr(error, "retry_after_s", None))
    )


def _asked_wait(error: Exception) -> float:
    try:
        return float(getattr(error, "retry_after_s", 0))
    except ValueError:
        return 0.0
