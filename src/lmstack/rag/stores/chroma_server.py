"""A collection on a Chroma server, over its HTTP API of version 2, with the methods of its own
client's collections that `chroma` calls. It needs no package of Chroma's."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

from lmstack.core import NotFoundError
from lmstack.rag.stores.http import HttpApi
from lmstack.rag.stores.protocol import Vectors

__all__ = ["ServerClient", "ServerCollection"]

_KEY = "LMSTACK_CHROMA_KEY"
_COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"


class ServerClient:
    """A key in ``$LMSTACK_CHROMA_KEY`` is sent as a bearer token, for a proxy that asks for it."""

    def __init__(self, base: str, name: str) -> None:
        key = os.environ.get(_KEY)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._api = HttpApi(base, name, headers, _KEY)

    def get_or_create_collection(self, name: str, **about: Any) -> ServerCollection:
        body = {"name": name, "get_or_create": True, **about}
        return ServerCollection(self._api, self._api.call("POST", _COLLECTIONS, body))

    def get_collection(self, name: str) -> ServerCollection:
        found = self._api.call("GET", f"{_COLLECTIONS}/{quote(name)}", absent=(404,))
        if found is None:
            raise NotFoundError(f"no collection {name!r}")
        return ServerCollection(self._api, found)

    def close(self) -> None:
        self._api.close()


class ServerCollection:
    def __init__(self, api: HttpApi, about: dict[str, Any]) -> None:
        self._api, self._path = api, f"{_COLLECTIONS}/{about['id']}"
        self.metadata = about.get("metadata")

    def upsert(self, ids: list[str], embeddings: Vectors, metadatas: list[dict[str, Any]]) -> None:
        body = {"ids": ids, "embeddings": embeddings.tolist(), "metadatas": metadatas}
        self._api.call("POST", f"{self._path}/upsert", body)

    def delete(self, ids: list[str]) -> None:
        self._api.call("POST", f"{self._path}/delete", {"ids": ids})

    def query(self, query_embeddings: Vectors, **how: Any) -> dict[str, Any]:
        body = {"query_embeddings": query_embeddings.tolist(), **how}
        return self._api.call("POST", f"{self._path}/query", body)  # type: ignore[no-any-return]

    def get(self, **which: Any) -> dict[str, Any]:
        return self._api.call("POST", f"{self._path}/get", which)  # type: ignore[no-any-return]

    def count(self) -> int:
        return int(self._api.call("GET", f"{self._path}/count"))
