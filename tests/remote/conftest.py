"""A local server with the streaming APIs of both providers, which accepts nothing unknown."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

KEY = "sk-test-0123456789abcdefghij"

OPENAI_FIELDS = {
    "model", "messages", "stream", "stream_options", "max_completion_tokens", "max_tokens",
    "temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "seed", "stop",
    "logprobs", "top_logprobs", "n", "response_format", "tools", "tool_choice",
    "parallel_tool_calls",
}  # fmt: skip
ANTHROPIC_FIELDS = {
    "model", "messages", "stream", "max_tokens", "system", "stop_sequences", "temperature", "top_p",
    "top_k", "output_config", "tools", "tool_choice",
}  # fmt: skip


class Server:
    """Both APIs. ``reply`` makes the events or the error (``plan`` is for its use); ``bodies`` is
    what arrived; ``streaming`` counts answers that are being sent."""

    key = KEY

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.reply: Callable[[], Response | list[Any]] = list
        self.plan = ""
        self.streaming = 0
        self.closed = threading.Event()
        routes = [
            Route("/v1/chat/completions", self.openai, methods=["POST"]),
            Route("/v1/messages", self.anthropic, methods=["POST"]),
        ]
        app = Starlette(routes=routes)
        config = uvicorn.Config(app, port=0, log_level="critical", lifespan="off", ws="none")
        self.server = uvicorn.Server(config)
        config.load()
        sock = config.bind_socket()
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        self.thread = threading.Thread(target=self.server.run, args=([sock],))
        self.thread.start()

    async def openai(self, request: HttpRequest) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            said = f"Incorrect API key provided: {request.headers.get('authorization')}"
            return JSONResponse({"error": {"message": said, "code": "invalid_api_key"}}, 401)
        return await self.answer(request, OPENAI_FIELDS, self.openai_lines)

    async def anthropic(self, request: HttpRequest) -> Response:
        # Older versions of the SDK send the first header, newer ones the second.
        keys = request.headers.get("x-api-key"), request.headers.get("authorization")
        if keys not in ((KEY, None), (None, f"Bearer {KEY}")):
            error = {"type": "authentication_error", "message": "invalid x-api-key"}
            return JSONResponse({"type": "error", "error": error}, 401)
        return await self.answer(request, ANTHROPIC_FIELDS, self.anthropic_lines)

    async def answer(
        self, request: HttpRequest, fields: set[str], lines: Callable[[list[Any]], Iterator[str]]
    ) -> Response:
        body = await request.json()
        unknown = set(body) - fields
        if unknown:
            return JSONResponse({"error": {"message": f"unknown: {unknown}"}}, 400)
        self.bodies.append(body)
        reply = self.reply()
        if isinstance(reply, Response):
            return reply
        return StreamingResponse(self.send(lines(reply)), media_type="text/event-stream")

    async def send(self, lines: Iterator[str]) -> AsyncIterator[str]:
        self.streaming += 1
        try:
            for line in lines:
                if line == "break":
                    raise ConnectionResetError
                if line == "hang":
                    await asyncio.sleep(30)
                yield line
                await asyncio.sleep(0)
        finally:
            self.streaming -= 1
            self.closed.set()

    @staticmethod
    def openai_lines(events: list[Any]) -> Iterator[str]:
        for event in events:
            if isinstance(event, str):
                yield event
                continue
            base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
            yield f"data: {json.dumps(base | event)}\n\n"
        yield "data: [DONE]\n\n"

    @staticmethod
    def anthropic_lines(events: list[Any]) -> Iterator[str]:
        for event in events:
            if isinstance(event, str):
                yield event
                continue
            yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    server = Server()
    yield server
    server.server.should_exit = True
    server.thread.join()


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    running.bodies.clear()
    running.closed.clear()
    return running
