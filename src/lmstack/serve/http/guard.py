"""What every request passes, in order: frame, origin, key.

`Frame` gives the request an id, measures it, adds security headers, lets no traceback out and
answers for requests that the server's end cuts short;
`OriginGuard` refuses DNS rebinding and requests sent by other sites' pages; `KeyGuard` wants an
API key. Plain ASGI, because wrapping the response would hide the client's departure from
streams. Does not cover rate limits and checks of text (safety).
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
import traceback
import uuid
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmstack.core import AuthError, LmstackError, shown
from lmstack.serve.http.errors import (
    MESSAGES,
    HttpError,
    asking,
    error_response,
    internal_error,
)
from lmstack.serve.http.metrics import Metrics
from lmstack.serve.http.streams import StopSignal

__all__ = [
    "API_CSP",
    "LOCAL_HOSTS",
    "PAGE_CSP",
    "Frame",
    "KeyGuard",
    "OriginGuard",
    "client_of_digest",
    "client_of_key",
    "key_digest",
    "security_headers",
    "unexpected",
]

log = logging.getLogger("lmstack.serve")

CLIENT_GONE = 499
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
API_CSP = "default-src 'none'; frame-ancestors 'none'"
PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def security_headers(csp: str = API_CSP) -> dict[str, str]:
    """``csp``: `API_CSP` loads nothing; `PAGE_CSP` loads scripts and styles of this host only."""
    return {
        "Content-Security-Policy": csp,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }


def unexpected(error: Exception, scope: Scope) -> HttpError:
    """Log a bug by its type and places, never its message: that may quote a prompt."""
    request_id = scope["state"]["request_id"]
    places = " < ".join(
        f"{frame.filename.rpartition('lmstack/')[2]}:{frame.lineno} {frame.name}"
        for frame in reversed(traceback.extract_tb(error.__traceback__)[-8:])
    )
    log.error("%s: %s in %s", request_id, type(error).__name__, places)
    return internal_error(request_id)


class Frame:
    """Outermost. Sets ``request.state.request_id``, ``.client`` (the peer's address) and
    ``.at_end``: what is called when the request has been answered."""

    def __init__(self, app: ASGIApp, metrics: Metrics, stopping: StopSignal) -> None:
        self._app = app
        self._metrics = metrics
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            with asking(scope):
                await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = uuid.uuid4().hex
        peer = scope.get("client")
        scope["state"] = {
            **scope.get("state", {}),
            "request_id": request_id,
            "client": f"ip:{peer[0]}" if peer else "ip:unknown",
            "at_end": [],
        }
        status = 0

        async def framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if scope["path"].startswith(MESSAGES):
                    headers["Request-ID"] = request_id  # where Anthropic's clients look for it
                for name, value in security_headers().items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        start = time.perf_counter()
        self._metrics.in_flight.inc()
        try:
            with self._stopping.answering():
                await self._app(scope, receive, framed)
        except LmstackError as error:
            if not status:
                await error_response(error, scope)(scope, receive, framed)
        except Exception as error:
            failure = unexpected(error, scope)
            if not status:
                await error_response(failure, scope)(scope, receive, framed)
        finally:
            for release in scope["state"]["at_end"]:
                release()
            self._metrics.in_flight.dec()
            self._count(scope, status or CLIENT_GONE, time.perf_counter() - start)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route(scope)
        state = scope["state"]
        if state.get("gone"):
            status = CLIENT_GONE
            self._metrics.disconnects.inc()
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.duration.labels(route).observe(seconds)
        log.info(
            "%s %s %s %d %.0f ms %s",
            state["request_id"],
            scope["method"],
            route,
            status,
            seconds * 1000,
            state["client"],
        )


def _route(scope: Scope) -> str:
    """The path of the route that answered, as it was declared: the request's own path may hold
    anything."""
    found = scope.get("route")
    if found is None and "endpoint" in scope:  # a plain Starlette route names its endpoint only
        endpoint = scope["endpoint"]
        routes = scope["app"].routes
        found = next((r for r in routes if getattr(r, "endpoint", None) == endpoint), None)
    return str(getattr(found, "path", "other"))


class OriginGuard:
    """``hosts``: names that this server answers to, ``*`` for any. ``origins``: other origins
    whose pages may send requests."""

    def __init__(self, app: ASGIApp, hosts: Collection[str], origins: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._check(scope, Headers(scope=scope))
        await self._app(scope, receive, send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if "*" not in self._hosts and _hostname(host) not in self._hosts:
            raise HttpError(
                403,
                "host_not_allowed",
                f"the Host header is {shown(host)}",
                hint=f"this server answers to {', '.join(sorted(self._hosts))}",
            )
        origin = headers.get("origin")
        if scope["method"] in SAFE_METHODS or origin in self._origins:
            return
        # What the browser itself says, if it does: it knows the scheme that a proxy may hide here.
        site = headers.get("sec-fetch-site")
        # Browsers always send Origin with a cross-site POST; other programs send none.
        own = origin is None or _is_own(origin, host, _scheme(scope, headers))
        if site in ("cross-site", "same-site") or not (own or site == "same-origin"):
            raise HttpError(
                403,
                "origin_not_allowed",
                f"a page of {shown(origin or 'another site')} sent this request",
                hint="send it from a page of this server, or from a program; a proxy that ends TLS"
                " passes Host on and sets X-Forwarded-Proto",
            )


def _scheme(scope: Scope, headers: Headers) -> str | None:
    """The scheme that the browser uses; None where a proxy may have ended TLS without saying so.
    The header is believed here because no page of another site can set it: a browser would ask
    this server first. Programs, which can, may leave out Origin as well."""
    forwarded = headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return forwarded or ("https" if scope.get("scheme") == "https" else None)


def _is_own(origin: str, host: str, scheme: str | None) -> bool:
    """Whether a page of ``origin`` is this server's. Where the ``scheme`` is not known, a page of
    https is taken for one behind a proxy, but not on this machine's own names: there another
    program may serve it, while elsewhere browsers let no such page call plain HTTP."""
    try:
        found = urlsplit(origin)
    except ValueError:
        return False
    if found.netloc.lower() != host.lower():
        return False
    if scheme is None and found.scheme == "https":
        return _hostname(host) not in LOCAL_HOSTS
    return found.scheme == (scheme or "http")


def _hostname(host: str) -> str:
    """``[::1]:8000`` to ``[::1]``, ``Localhost:80`` to ``localhost``."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


class KeyGuard:
    """API keys, of which only digests (`key_digest`) are kept. Without any everyone enters. A key
    comes as Bearer, or in x-api-key as Anthropic's clients send it.

    ``public``: paths that need no key; ``/static/*`` stands for all below. ``operators``: digests
    of the keys of whoever runs the server; a key that is the only one is among them. Sets
    ``request.state.is_operator``.
    """

    def __init__(
        self,
        app: ASGIApp,
        digests: Collection[bytes],
        public: Collection[str],
        operators: Collection[bytes] = (),
    ) -> None:
        self._app = app
        self._digests = tuple(digests)
        own = set(operators) if len(self._digests) > 1 else set(self._digests)
        self._operators = frozenset(client_of_digest(digest) for digest in own)
        self._public = frozenset(public)
        self._prefixes = tuple(path[:-1] for path in public if path.endswith("*"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = self._client(Headers(scope=scope))
        scope["state"]["is_operator"] = not self._digests or client in self._operators
        path = scope["path"]
        if client is not None:
            scope["state"]["client"] = client
            place = scope["state"].get("place")
            if place is not None:  # a `connections.Place`, where a server of ours runs the app
                place.know(client)
        elif self._digests and path not in self._public and not path.startswith(self._prefixes):
            error = AuthError(
                "the API key is missing or wrong",
                hint="send Authorization: Bearer YOUR-KEY, or x-api-key: YOUR-KEY",
            )
            # Sent, not raised, so that an allowed page can read it through CORS.
            await error_response(error, scope)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _client(self, headers: Headers) -> str | None:
        """Who sends a right key. Where there are both headers, Authorization is the one."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if "authorization" not in headers:
            scheme, key = "bearer", headers.get("x-api-key", "")
        given = key_digest(key.strip())
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            return None
        return client_of_digest(given)


def client_of_key(key: str) -> str:
    """Under which name limits, audit and engine know who sends ``key``: it does not tell the
    key."""
    return client_of_digest(key_digest(key))


def client_of_digest(digest: bytes) -> str:
    """The same, by the SHA-256 of the key."""
    return f"key:{digest.hex()[:12]}"


def key_digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
