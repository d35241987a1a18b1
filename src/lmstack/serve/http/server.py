"""The one way to run an app on a socket, until it is told to stop.

    bind        a listening socket; a port in use is an error that names the next one
    Server      answers requests on it; a shutdown ends open streams with an error event in seconds
    run_server  both, with signals, for a program that has its app

TLS is left to a proxy in front. Loading an app while its port is taken already is `lmstack up`'s.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI

from lmstack.core import InputError, shown
from lmstack.serve.http.connections import (
    MOST_CONNECTIONS,
    Connections,
    OneLength,
    descriptor_limit,
    protocol_for,
)

__all__ = ["Server", "bind", "run_server", "server_config"]

# For requests to end by themselves when the server stops.
GRACE_S = 2
# Longer than clients and proxies keep a connection for their next request (60 seconds is usual),
# so that it is they who close it: a request that crosses a server's closing fails. nginx's, too.
KEEP_ALIVE_S = 75
BACKLOG = 512
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_server(
    app: FastAPI,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    on_ready: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Serve until SIGINT, SIGTERM or ``stop``; returns when every stream has ended.

    ``port`` 0 takes a free one. ``on_ready`` gets the URL once requests are answered.
    Anyone can reach a host that is not this machine's own, so such a host needs API keys.
    """
    if not app.state.has_keys and not _is_loopback(host):
        raise InputError(
            f"host {shown(host)} is open to other machines and the app has no API keys",
            hint="set an API key, or listen on 127.0.0.1",
            param="host",
        )
    listener = bind(host, port)

    def ready() -> None:
        if on_ready is not None:
            on_ready(_url(host, listener))

    server = Server(app, end_streams=app.state.shared.stopping.set, ready=ready, stop=stop)
    with contextlib.closing(listener), _signals(server):
        server.run(sockets=[listener])


def server_config(app: Any) -> uvicorn.Config:
    """How every server of ours runs an ASGI app. Raises this process's soft limit of descriptors;
    a quarter is left to files and to what was accepted and not yet looked at."""
    descriptors = descriptor_limit()
    places = Connections(min(MOST_CONNECTIONS, descriptors * 3 // 4))
    return uvicorn.Config(
        # Not the app itself: uvicorn would call it without arguments to see if it is a factory.
        partial(OneLength, app),
        factory=True,
        # Not uvloop where some other package brought it: one loop everywhere.
        loop="asyncio",
        http=protocol_for(places),
        backlog=min(BACKLOG, descriptors // 8),
        log_config=None,
        access_log=False,
        server_header=False,
        # uvicorn would believe X-Forwarded-For from any program on this machine, and limits go
        # by the address.
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        h11_max_incomplete_event_size=64 * 1024,
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, or an error that says what to do. A name with several addresses, as
    ``localhost`` has, listens on the first that this machine has."""
    if not 0 <= port <= 65535:
        raise InputError(f"port {port} is outside 0 to 65535", hint="--port 8000", param="port")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        message = f"host {shown(host)} is unknown: {error}"
        raise InputError(message, hint="--host 127.0.0.1", param="host") from None
    for family, _, _, _, address in found:
        try:
            return _listener(family, address)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL or address == found[-1][4]:
                raise _bind_error(error, host, port) from None
    raise InputError(f"host {shown(host)} has no address", param="host")


def _listener(family: socket.AddressFamily, address: Any) -> socket.socket:
    # asyncio sends without delay (Nagle's) only where the socket says that it is TCP; with it
    # the first token on a connection that is used again waits 40 ms for an acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _bind_error(error: OSError, host: str, port: int) -> InputError:
    other = port + 1 if port < 65535 else port - 1
    if error.errno == errno.EADDRINUSE:
        return InputError(
            f"port {port} is in use by another program", hint=f"--port {other}", param="port"
        )
    if error.errno == errno.EACCES:
        return InputError(
            f"port {port} is reserved for the administrator", hint="--port 8000", param="port"
        )
    return InputError(f"cannot listen on {host}:{port}: {error.strerror}", param="host")


class Server(uvicorn.Server):
    """uvicorn, which leaves signals to its caller, so that models and files can be closed after
    one (`handle_exit` takes them), and which ends open streams before it waits for requests.

    ``end_streams`` and ``ready`` are called in the event loop, the second once requests are
    answered. ``stop``: ends the server when it is set, from any thread.
    """

    def __init__(
        self,
        app: Any,
        *,
        end_streams: Callable[[], None],
        ready: Callable[[], None] = lambda: None,
        stop: threading.Event | None = None,
    ) -> None:
        super().__init__(server_config(app))
        self._end_streams, self._ready, self._stop = end_streams, ready, stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def on_tick(self, counter: int) -> bool:
        if self._stop is not None and self._stop.is_set():
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._end_streams()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def _signals(server: Server) -> Iterator[None]:
    """`SIGNALS` stop ``server``, where this is the thread that gets them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, server.handle_exit) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _url(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"
