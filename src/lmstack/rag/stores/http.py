"""JSON over HTTP, for engines whose own package is not used (docs/decisions.md says why).

Keys go into headers, taken from the environment; no message and no address holds one. Covers one
request; `VectorStore` repeats it and words its errors.
"""

from __future__ import annotations

import ipaddress
import os
from typing import Any
from urllib.parse import urlsplit

import httpx

from lmstack.core import InputError

__all__ = ["HttpApi", "RefusedError", "is_local", "key_for"]

_TIMEOUT = httpx.Timeout(60.0, connect=5.0)


class RefusedError(Exception):
    """An answer that is neither a success nor expected."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"answered {response.status_code}: {response.text}")
        self.status_code = response.status_code
        self.retry_after_s = response.headers.get("Retry-After", 0)


class HttpApi:
    """Thread-safe."""

    def __init__(self, base: str, headers: dict[str, str]) -> None:
        self._client = httpx.Client(
            base_url=base, headers=headers, timeout=_TIMEOUT, trust_env=not is_local(base)
        )

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: httpx.QueryParams | None = None,
        absent: tuple[int, ...] = (),
    ) -> Any:
        """The answer's JSON, None where it is empty or its status is one of ``absent``."""
        response = self._client.request(method, path, json=body, params=params)
        if response.status_code in absent:
            return None
        if not response.is_success:
            raise RefusedError(response)
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise ValueError(f"sent no JSON: {response.text}") from None

    def close(self) -> None:
        self._client.close()


def key_for(base: str, variable: str) -> str | None:
    """The key in the environment. `InputError` if it would be sent unencrypted."""
    key = os.environ.get(variable)
    if key and base.startswith("http:") and not is_local(base):
        raise InputError(
            f"{base} would be sent the key of ${variable} unencrypted",
            hint="use https",
            param="store",
        )
    return key or None


def is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
