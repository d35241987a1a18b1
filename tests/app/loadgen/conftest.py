"""Scripted, strict servers for the load generator, and a way to run any app in a thread."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest
import uvicorn

Events = Sequence[Any]
Serving = Callable[[Any], AbstractContextManager[str]]


class QuietServer(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The address of ``app``, served by a thread of its own until the block ends."""
    server = QuietServer(
        uvicorn.Config(app, port=0, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.002)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def serve() -> Serving:
    return serving


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


class Fake:
    """A server of /v1 that knows few fields and refuses all others, as strict ones do.

    ``words`` of output a request, ``delay_s`` before each; ``lanes``: requests that are worked
    on at once. A word of a prompt is ``tokens_a_word`` tokens, and ``overhead`` come on top.
    ``status(n)``: with what request n is answered instead, None for well.
    """

    def __init__(
        self,
        *,
        words: int = 3,
        delay_s: float = 0.0,
        lanes: int = 1000,
        refuses: Sequence[str] = (),
        tokens_a_word: float | None = 1.0,
        overhead: int = 0,
        key: str | None = None,
        status: Callable[[int], int | None] = lambda number: None,
        models: Sequence[str] = ("fake",),
    ) -> None:
        self.words, self.delay_s, self.refuses = words, delay_s, tuple(refuses)
        self.tokens_a_word, self.overhead, self.key = tokens_a_word, overhead, key
        self.status, self.models = status, models
        self.bodies: list[dict[str, Any]] = []
        self.running = self.most_running = 0
        self._lanes = asyncio.Semaphore(lanes)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            await self._send(send, 401, {"error": {"message": "who are you?"}})
        elif scope["path"] == "/v1/models":
            await self._send(send, 200, {"data": [{"id": name} for name in self.models]})
        elif scope["path"] in ("/v1/chat/completions", "/v1/completions"):
            await self._complete(send, json.loads(body))
        else:
            await self._send(send, 404, {"detail": "no such route"})

    async def _complete(self, send: Any, body: dict[str, Any]) -> None:
        self.bodies.append(body)
        for name in self.refuses:
            if name in body:
                error = {"message": "this field is not known here", "param": name}
                await self._send(send, 400, {"error": error})
                return
        status = self.status(len(self.bodies) - 1)
        if status is not None:
            await self._send(send, status, {"error": {"message": f"it is {status}"}})
            return
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            async with self._lanes:
                await self._stream(send, body)
        finally:
            self.running -= 1

    async def _stream(self, send: Any, body: dict[str, Any]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        limit = body.get("max_tokens") or body["max_completion_tokens"]
        count = min(self.words, limit)
        for _ in range(count):
            await asyncio.sleep(self.delay_s)
            await self._event(send, chunk("word "))
        await self._event(send, chunk(finish="length"))
        text = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        if self.tokens_a_word is not None and body.get("stream_options"):
            tokens = round(self.overhead + self.tokens_a_word * len(text.split()))
            usage = {"prompt_tokens": tokens, "completion_tokens": count}
            await self._event(send, {"choices": [], "usage": usage})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    @staticmethod
    async def _event(send: Any, event: Mapping[str, Any]) -> None:
        data = b"data: " + json.dumps(event).encode() + b"\n\n"
        await send({"type": "http.response.body", "body": data, "more_body": True})

    @staticmethod
    async def _send(send: Any, status: int, value: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(value).encode()})


@pytest.fixture
def fake() -> type[Fake]:
    return Fake


@pytest.fixture
def client() -> Callable[[Any], httpx.AsyncClient]:
    """A client of an app, without a socket: answers arrive whole."""

    def made(app: Any, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), **options)

    return made


@pytest.fixture
def scripted() -> Callable[[Events], httpx.AsyncClient]:
    """A client whose one answer is ``parts``: bytes as they arrive, exceptions, pauses."""

    def made(parts: Events, status: int = 200) -> httpx.AsyncClient:
        async def content() -> AsyncIterator[bytes]:
            for part in parts:
                if isinstance(part, float):
                    await asyncio.sleep(part)
                elif isinstance(part, Exception):
                    raise part
                else:
                    yield part

        def answer(request: httpx.Request) -> httpx.Response:
            if parts and isinstance(parts[0], httpx.ConnectError):
                raise parts[0]
            return httpx.Response(status, content=content())

        return httpx.AsyncClient(transport=httpx.MockTransport(answer))

    return made


@pytest.fixture
def event() -> Callable[..., bytes]:
    """A chunk of a chat as it stands in a stream."""

    def made(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
        value = json.dumps(chunk(text, finish, **more), ensure_ascii=False)
        return b"data: " + value.encode() + b"\n\n"

    return made
