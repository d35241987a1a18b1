"""Chroma, in this process over a folder or as a server.

Each row keeps its fields as one JSON text beside the facts and measures by which Chroma narrows
a search (`facts`). Chroma embeds nothing here, and its telemetry is off. A server is spoken to
over its HTTP API of version 2, without Chroma's package: that one sets no time limits and leaves
connections open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from lmstack.core import StoreError, require
from lmstack.rag.catalogue.database import LOCK_NAME, writer_lock
from lmstack.rag.filters import Fields
from lmstack.rag.stores import facts
from lmstack.rag.stores.http import HttpApi, key_for
from lmstack.rag.stores.rows import StoredRow, Vectors, load
from lmstack.rag.stores.store import VectorStore

__all__ = ["ChromaStore"]

_MARK = "lmstack_dimensions"
_HNSW = {"space": "cosine", "ef_construction": 128, "max_neighbors": 32, "ef_search": 256}
_COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"


class ChromaStore(VectorStore):
    """Approximate: a search may miss rows while other threads write, and finds them afterwards.
    ``place``: a folder, which is open in one process at a time, or the address of a server, which
    takes any number."""

    batch, page, most = 1000, 1000, 10_000
    key = "LMSTACK_CHROMA_KEY"

    def __init__(
        self, place: Path | str, collection: str, dimensions: int, *, create: bool = True
    ) -> None:
        address = f"chroma:{place}#" if isinstance(place, Path) else f"chroma+{place}/"
        super().__init__(address + collection, dimensions)
        self._collection = collection
        self._rows: Any = None
        if isinstance(place, Path):
            self.hint = "check the folder and the space on its disk"
            chromadb = require("chromadb", "chroma")
            if not create and not (place / "chroma.sqlite3").exists():
                raise self._absent()
            self._client: Any = self._call(lambda: _Folder(chromadb, place, self.name))
        else:
            self._client = _Server(place, key_for(place, self.key))
        self._open(create)

    def _width(self) -> int | None:
        self._rows = self._client.find(self._collection)
        if self._rows is None:
            return None
        width: int | None = (self._rows.metadata or {}).get(_MARK)
        if width is None:
            raise self._foreign()
        return width

    def _create(self) -> None:
        about = {"metadata": {_MARK: self.dimensions}, "configuration": {"hnsw": _HNSW}}
        self._client.make(self._collection, about)

    def _put(self, ids: list[int], vectors: Vectors, fields: Sequence[Fields]) -> None:
        # Chroma adds to the metadata of a row that is there. What stays of the old are
        # measures, and none is asked for without the fact that belongs to it.
        metadatas = list(map(facts.metadata_of, fields))
        self._rows.upsert(ids=list(map(str, ids)), embeddings=vectors, metadatas=metadatas)

    def _take(self, ids: list[int]) -> None:
        self._rows.delete(ids=list(map(str, ids)))

    def _nearest(self, vector: Vectors, n: int, where: Any) -> Iterator[facts.Candidate]:
        rows = self._rows.query(
            query_embeddings=vector[None],
            n_results=n,
            where=where,
            include=["distances", "metadatas"],
        )
        for id, distance, metadata in zip(
            rows["ids"][0], rows["distances"][0], rows["metadatas"][0], strict=True
        ):
            # A row that another thread deletes meanwhile is found with nothing in it.
            yield int(id), 1.0 - distance, metadata and load(metadata["fields"])

    def _leaf(self, leaf: facts.Leaf) -> dict[str, Any]:
        match leaf:
            case facts.Has(fact):
                return {"facts": {"$contains": fact}}
            case facts.Lacks(fact):
                return {"facts": {"$not_contains": fact}}
            case facts.Order(measure, op, value):
                return {measure: {f"${facts.SIGNS[op]}": value}}

    def _join(self, kind: type, parts: list[Any]) -> dict[str, Any]:
        return {"$and" if kind is facts.All else "$or": parts}

    def _get(self, ids: list[int]) -> Iterator[StoredRow]:
        rows = self._rows.get(ids=list(map(str, ids)), include=["embeddings", "metadatas"])
        for id, vector, metadata in zip(
            rows["ids"], rows["embeddings"], rows["metadatas"], strict=True
        ):
            if metadata is not None:
                yield StoredRow(int(id), np.asarray(vector, np.float32), load(metadata["fields"]))

    def _list(self) -> Iterator[int]:
        return map(int, self._rows.get(include=[])["ids"])

    def _count(self) -> int:
        return int(self._rows.count())

    def _close(self) -> None:
        self._client.close()


class _Folder:
    """Chroma's own client, in one process at a time."""

    def __init__(self, chromadb: Any, folder: Path, name: str) -> None:
        self._absent: type[Exception] = chromadb.errors.NotFoundError
        with ExitStack() as stack:
            stack.enter_context(_one_process(folder, name))
            # Nothing from a file ``.env`` in the current folder, and nothing sent anywhere.
            settings = chromadb.Settings(
                _env_file=None, anonymized_telemetry=False, is_persistent=True
            )
            self._client = chromadb.PersistentClient(str(folder.absolute()), settings=settings)
            stack.callback(self._client.close)
            self.close = stack.pop_all().close

    def find(self, name: str) -> Any:
        try:
            return self._client.get_collection(name, embedding_function=None)
        except self._absent:
            return None

    def make(self, name: str, about: dict[str, Any]) -> None:
        self._client.get_or_create_collection(name, embedding_function=None, **about)


class _Server:
    """A key is sent as a bearer token, for a proxy that asks for it."""

    def __init__(self, base: str, key: str | None) -> None:
        self._api = HttpApi(base, {"Authorization": f"Bearer {key}"} if key else {})
        self.close = self._api.close

    def find(self, name: str) -> _ServerRows | None:
        about = self._api.call("GET", f"{_COLLECTIONS}/{quote(name)}", absent=(404,))
        return None if about is None else _ServerRows(self._api, about)

    def make(self, name: str, about: dict[str, Any]) -> None:
        self._api.call("POST", _COLLECTIONS, {"name": name, "get_or_create": True, **about})


class _ServerRows:
    """What Chroma's package calls a collection, as far as it is used here."""

    def __init__(self, api: HttpApi, about: dict[str, Any]) -> None:
        self._api, self._path = api, f"{_COLLECTIONS}/{about['id']}"
        self.metadata = about.get("metadata")

    def __getattr__(self, name: str) -> Any:
        return lambda **body: self._api.call("POST", f"{self._path}/{name}", _plain(body))

    def count(self) -> int:
        return int(self._api.call("GET", f"{self._path}/count"))


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in body.items()}


@contextmanager
def _one_process(folder: Path, name: str) -> Iterator[None]:
    """Hold ``folder``, making it if need be; `StoreError` if another process does."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = writer_lock(folder, 0)
    try:
        lock.__enter__()
    except StoreError as error:
        who = (folder / LOCK_NAME).read_text("ascii", "replace").strip() or "another process"
        raise StoreError(
            f"{name} is open in process {who}",
            hint="one process at a time can use it; end that one, or use a server",
            param="store",
        ) from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)
