"""Embeddings of OpenAI, or of any server with its API, through its SDK (extra ``remote``).

Never a default: texts leave this machine only for whoever names such a model. The key comes from
the environment alone and is never shown. The SDK retries what can be retried (connection, 408,
409, 429, 5xx) with a growing wait, or the one that ``Retry-After`` asks for. Pair it with
`CachedEmbedder`, so that no text is paid for twice.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lmstack.core import (
    AuthError,
    InputError,
    LmstackError,
    ModelInfo,
    NotFoundError,
    OverloadedError,
    RemoteError,
    TextKind,
    check_range,
    check_whole,
    require,
    shown,
)

__all__ = ["RemoteEmbedder"]

KEY = "OPENAI_API_KEY"
URL = "https://api.openai.com/v1"
# What the API's documentation says of its models; others are asked once.
_DIMENSIONS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}
_MAX_TOKENS = 8191
# Of a request: the API's limits are 2,048 texts and 300,000 tokens.
_BATCH_TEXTS, _BATCH_BYTES = 512, 250_000
# A token of these vocabularies is at least one byte and seldom less than three.
_BYTES_PER_TOKEN = 3


class RemoteEmbedder:
    """`Embedder` for the model ``name``. Thread-safe. Vectors have length 1.

    ``dimensions``: shorten the vectors, where the model can. ``count``: counts tokens; without
    it a token is taken for three bytes, and texts are kept so short that not even one byte a
    token would exceed the model's ``max_tokens``. ``prefixes``: what goes before queries and
    passages, for models that want it. ``num_requests`` counts requests that were answered.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        dimensions: int | None = None,
        max_tokens: int = _MAX_TOKENS,
        count: Callable[[Sequence[str]], list[int]] | None = None,
        prefixes: tuple[str, str] = ("", ""),
        timeout_s: float = 60.0,
        max_retries: int = 5,
    ) -> None:
        check_whole("max_tokens", max_tokens, 3, 10**7)
        check_range("timeout_s", timeout_s, 0, 24 * 3600, low_open=True)
        check_whole("max_retries", max_retries, 0, 100)
        if dimensions is not None:
            check_whole("dimensions", dimensions, 1, _DIMENSIONS.get(name, 100_000))
        make = require("openai", "remote").OpenAI
        self._secret = os.environ.get(KEY, "")
        if not self._secret:
            raise AuthError(
                f"{KEY} is not set",
                hint=f"export {KEY}=... before the start"
                + (" (any text, if the server takes no key)" if base_url else ""),
            )
        self.base_url = base_url or URL
        self.info = ModelInfo(name, None, max_tokens)
        self.max_tokens = max_tokens if count else max_tokens // _BYTES_PER_TOKEN
        self.num_requests = 0
        self._asked, self._known = dimensions, dimensions or _DIMENSIONS.get(name)
        self._count = count or _by_bytes
        self._prefixes = dict(zip(("query", "passage"), prefixes, strict=True))
        self._lock = threading.Lock()
        self._client = make(
            api_key=self._secret,
            base_url=self.base_url,
            timeout=timeout_s,
            max_retries=max_retries,
        )

    def __repr__(self) -> str:
        return f"RemoteEmbedder({self.info.name!r}, base_url={self.base_url!r})"

    def __getstate__(self) -> Any:
        raise InputError(f"{self!r} cannot be pickled or copied: it holds a key")

    @property
    def dimensions(self) -> int:
        """Asked of the server, once, for a model that is not known here."""
        with self._lock:
            if self._known is None:
                self._known = len(self._request(["size"])[0])
            return self._known

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        prefix = self._prefixes["passage"]
        return self._count([prefix + text for text in texts])

    def embed(self, texts: Sequence[str], kind: TextKind = "passage") -> npt.NDArray[np.float32]:
        if isinstance(texts, str):
            raise InputError("texts is one str", hint="pass a list: embed([text])", param="texts")
        if kind not in self._prefixes:
            raise InputError(f"kind is {shown(kind)}", hint="query or passage", param="kind")
        whole = [self._prefixes[kind] + text for text in texts]
        for number, text in enumerate(whole):
            if not text.strip():
                raise InputError(
                    f"texts[{number}] is empty, which {self.info.name} refuses", param="texts"
                )
        rows = [row for batch in _batches(whole) for row in self._request(batch)]
        matrix = np.array(rows, np.float32).reshape(len(whole), self.dimensions)
        lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
        if not np.isfinite(matrix).all() or not (lengths > 0).all():
            raise RemoteError(
                f"{self.info.name} sent a vector without a direction",
                hint="check that base_url is a server with this API",
            )
        vectors: npt.NDArray[np.float32] = matrix / lengths
        return vectors

    def _request(self, texts: Sequence[str]) -> list[list[float]]:
        options: dict[str, Any] = {} if self._asked is None else {"dimensions": self._asked}
        try:
            answer = self._client.embeddings.create(
                model=self.info.name, input=list(texts), **options
            )
        except Exception as error:
            mapped = self._mapped(error)
        else:
            self.num_requests += 1
            return self._checked(answer, len(texts))
        # Not chained: the SDK's error holds the request, and with it the key.
        raise mapped

    def _checked(self, answer: Any, count: int) -> list[list[float]]:
        """The vectors in the order of the texts; servers may send them in another."""
        try:
            rows = {int(item.index): list(item.embedding) for item in answer.data}
            sizes = {len(row) for row in rows.values()}
        except (AttributeError, TypeError, ValueError):
            rows, sizes = {}, set()
        expected = self._known or self._asked
        if sorted(rows) != list(range(count)) or len(sizes) != 1:
            wrong = f"{len(rows)} vectors for {count} texts"
        elif expected is not None and sizes != {expected}:
            wrong = f"vectors of {sizes.pop()} dimensions, not {expected}"
        else:
            return [rows[number] for number in range(count)]
        raise RemoteError(
            f"{self.info.name} sent {wrong}",
            hint="check that base_url is a server with this API",
        )

    def _mapped(self, error: Exception) -> LmstackError:
        """The SDK's error as one of ours, without the key even if the server quoted it."""
        status = getattr(error, "status_code", None)
        said = shown(str(error).replace(self._secret, "***"), 200)
        name = self.info.name
        if status in (401, 403):
            return AuthError(
                f"{self.base_url} refused the key in {KEY}",
                hint="check that it is right and may use this model",
            )
        if status == 429:
            return OverloadedError(
                f"{name} is over a limit: {said}", hint="try again later", retry_after_s=60
            )
        if status == 404:
            return NotFoundError(
                f"{self.base_url} has no model {name!r}", hint="check the name, and base_url"
            )
        if status in (400, 413, 422):
            return InputError(f"{name} refused the request: {said}", param="texts")
        what = f"status {status}" if status else type(error).__name__
        return RemoteError(
            f"{self.base_url} failed ({what}): {said}",
            hint="check the connection and the provider's status, then try again",
        )


def _by_bytes(texts: Sequence[str]) -> list[int]:
    return [-(-len(t.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN) for t in texts]


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        length = len(text.encode("utf-8", "surrogatepass"))
        if batch and (len(batch) == _BATCH_TEXTS or size + length > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        yield batch
