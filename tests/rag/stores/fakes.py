"""What the fakes of services share: a JSON server on a free port that refuses what it does not
know. A fake is written from the service's published description and is stricter than the
service: unknown fields, wrong types, missing headers and oversized requests are all refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["RefusedError", "Request", "serve", "shaped"]

Check = Callable[[Any], bool]


class RefusedError(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(str(body))
        self.status, self.body = status, body


class Request:
    def __init__(self, method: str, target: str, headers: Mapping[str, str], raw: bytes) -> None:
        parts = urlsplit(target)
        self.method, self.path, self.headers, self.size = method, parts.path, headers, len(raw)
        self.query = parse_qs(parts.query, keep_blank_values=True)
        self.body = json.loads(raw) if raw else None


def shaped(data: object, checks: Mapping[str, Check], required: tuple[str, ...] = ()) -> Any:
    """``data`` as an object of known fields, each of its kind."""
    if not isinstance(data, dict):
        raise RefusedError(400, {"message": f"not an object: {data!r}"[:200]})
    for name, value in data.items():
        if name not in checks:
            raise RefusedError(400, {"message": f"unknown field {name}"})
        if not checks[name](value):
            raise RefusedError(400, {"message": f"bad {name}: {value!r}"[:200]})
    for name in required:
        if name not in data:
            raise RefusedError(400, {"message": f"missing {name}"})
    return data


@contextmanager
def serve(answer: Callable[[Request], object]) -> Iterator[str]:
    """`127.0.0.1:PORT` while ``answer`` is served, one request at a time."""
    turn = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body are two writes: the second would wait 40 ms for a delayed acknowledgement.
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            try:
                with turn:
                    status, body = 200, answer(Request(self.command, self.path, self.headers, raw))
            except RefusedError as refused:
                status, body = refused.status, refused.body
            data = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
