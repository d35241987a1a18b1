"""Stores that are reached over HTTP: one client with retries, and errors in our words.

Keys go into headers, taken from the environment; no message and no address holds one.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from lmstack.core import AuthError, InputError, StoreError, shown

__all__ = ["HttpApi", "is_local"]

_ATTEMPTS = 4
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0
_TIMEOUT_S = 60.0
_CONNECT_S = 5.0
_PASSING = {429, 502, 503, 504}


class HttpApi:
    """Thread-safe. Every request may be repeated, as all calls of a store may. ``key_name``: the
    environment variable that the key came from."""

    def __init__(self, base: str, name: str, headers: Mapping[str, str], key_name: str) -> None:
        if headers and base.startswith("http:") and not is_local(base):
            raise InputError(
                f"{name} would send the key of ${key_name} unencrypted",
                hint="use https",
                param="store",
            )
        self._name, self._key_name = name, key_name
        self._client = httpx.Client(
            base_url=base,
            headers=dict(headers),
            timeout=httpx.Timeout(_TIMEOUT_S, connect=_CONNECT_S),
            trust_env=not is_local(base),
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
        response = self._send(method, path, body, params)
        status = response.status_code
        if status in absent:
            return None
        if status in (401, 403):
            raise AuthError(
                f"{self._name} refused the key ({status})",
                hint=f"set {self._key_name}",
                param="store",
            )
        if not response.is_success:
            raise self._failed(f"answered {status}: {shown(response.text, 200)}")
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise self._failed(f"sent no JSON: {shown(response.text)}") from None

    def _send(
        self, method: str, path: str, body: object, params: httpx.QueryParams | None
    ) -> httpx.Response:
        wait = _FIRST_WAIT_S
        for attempt in range(_ATTEMPTS):
            last = attempt == _ATTEMPTS - 1
            try:
                response = self._client.request(method, path, json=body, params=params)
                if response.status_code not in _PASSING or last:
                    return response
                wait = max(wait, _asked_wait(response))
            except httpx.TransportError as error:
                if last:
                    raise self._failed(str(error) or type(error).__name__) from error
            except RuntimeError:  # httpx's word for a client that was closed
                raise StoreError("the store is closed", hint="open it again") from None
            time.sleep(min(wait, _LONGEST_WAIT_S))
            wait *= 3
        raise AssertionError("the last attempt returns or raises")

    def _failed(self, what: str) -> StoreError:
        return StoreError(
            f"{self._name} failed: {what}",
            hint="check that it is running and can be reached",
            param="store",
        )

    def close(self) -> None:
        self._client.close()


def _asked_wait(response: httpx.Response) -> float:
    try:
        return float(response.headers.get("Retry-After", "0"))
    except ValueError:
        return 0.0


def is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
