"""Runs an HTTP app: the port first, the app when it is ready, an end within five seconds.

    bind -> listen (`/healthz` says loading) -> load in a thread -> swap the app in -> serve
         -> Ctrl-C: streams are told, two seconds of grace, close -> gone

The port is taken before anything slow starts, so a used port is an error at once and whoever
waits for `/healthz` gets an answer. `lmstack.serve.run_server` is for programs that have their
app already; this one takes over before there is one, and ends even if something hangs. Does not
cover signals (`stopping`) or what the app is made of (`wiring.build`).
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from lmstack.app.server.stopping import Stopping
from lmstack.core import InputError
from lmstack.serve.http.server import Server, bind

__all__ = ["Gate", "Service", "open_port", "serve"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass
class Service:
    """What was loaded. ``stopping`` tells open streams to end (called in the event loop),
    ``close`` frees the models."""

    app: Any
    close: Callable[[], None] = lambda: None
    stopping: Callable[[], None] = lambda: None


@dataclass
class Gate:
    """The ASGI app that is run: answers for itself until ``service`` is there."""

    service: Service | None = None
    failure: BaseException | None = None

    def end_streams(self) -> None:
        if self.service is not None:
            self.service.stopping()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.service is not None:
            await self.service.app(scope, receive, send)
        elif scope["type"] == "http":
            await _say_loading(scope, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1013})


async def _say_loading(scope: Scope, send: Send) -> None:
    if scope["path"] in ("/healthz", "/health"):
        body, kind = json.dumps({"status": "loading"}), b"application/json"
    elif scope["path"] == "/":
        body, kind = "lmstack is loading its models ...\n", b"text/plain; charset=utf-8"
    else:
        error = {
            "message": "the server is loading its models",
            "type": "server_error",
            "param": None,
            "code": "loading",
            "hint": "try again in a second",
        }
        body, kind = json.dumps({"error": error}), b"application/json"
    data = body.encode()
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(data)).encode()),
        (b"retry-after", b"1"),
        (b"cache-control", b"no-store"),
        # A browser that came early looks again by itself.
        (b"refresh", b"1"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else data})


def open_port(host: str, port: int, again: Callable[[str, str], str]) -> socket.socket:
    """A listening socket. ``again(option, value)``: what was typed, with another value of an
    option, so that the hint can be typed too."""
    try:
        return bind(host, port)
    except InputError as error:
        if "in use" in error.message:
            option, value = "--port", str(_free_port(host, port))
        elif error.param == "port":
            option, value = "--port", "8000"
        else:
            option, value = "--host", "::1" if host == "127.0.0.1" else "127.0.0.1"
        raise InputError(error.message, hint=again(option, value), param=error.param) from error


def _free_port(host: str, port: int) -> int:
    """The next port that is free, or else simply the next."""
    for candidate in range(port + 1, min(port + 20, 65536)):
        try:
            bind(host, candidate).close()
        except InputError:
            continue
        return candidate
    return port + 1 if port < 65535 else 8000


def serve(
    listener: socket.socket,
    load: Callable[[], Service],
    ready: Callable[[], None],
    stop: Stopping,
) -> None:
    """Serve until a signal; raises what ``load`` raised. ``ready`` runs once it has loaded.

    Ctrl-C surfaces as KeyboardInterrupt, SIGTERM as SystemExit, after everything is closed.
    """
    gate = Gate()
    server = Server(gate, end_streams=gate.end_streams)
    loader = threading.Thread(target=_load, args=(gate, load, ready, server), daemon=True)
    # From here on a signal raises nothing: half a start or half an end would be left behind.
    stop.tell = server.handle_exit
    try:
        loader.start()
        server.run(sockets=[listener])
    finally:
        listener.close()
        if gate.service is not None:
            gate.service.close()
        # The loader, or an embedder in the middle of a document, may be in native code still.
        if stop.signal is not None:
            stop.leave_at_exit()
    if gate.failure is not None:
        raise gate.failure
    stop.raise_signal()


def _load(
    gate: Gate, load: Callable[[], Service], ready: Callable[[], None], server: Server
) -> None:
    try:
        gate.service = load()
        ready()
    except BaseException as error:
        gate.failure = error
        server.should_exit = True
