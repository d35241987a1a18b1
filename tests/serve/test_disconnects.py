"""Clients that go away, over real sockets: whatever they were doing, the stream is closed."""

from __future__ import annotations

import asyncio
import json
import random

import httpx
import pytest

from lmstack.core import Delta, ModelInfo, ScriptedModel
from lmstack.serve import create_app

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
LONG = " ".join(["word"] * 5000)
ASKS = {
    "/v1/chat/completions": {"messages": BODY["messages"]},
    "/v1/completions": {"prompt": ["a", "b"]},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": BODY["messages"], "max_tokens": 9999},
}


async def settled(model, count: int = 0, within_s: float = 3.0) -> int:
    """``open_streams`` once it has come to ``count``, or after ``within_s``."""
    end = asyncio.get_running_loop().time() + within_s
    while model.open_streams != count and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.005)
    return model.open_streams


class SlowModel:
    """Sends nothing for long: a request that waits in a queue."""

    def __init__(self) -> None:
        self.info = ModelInfo("slow")
        self.open_streams = 0

    async def stream(self, request):
        self.open_streams += 1
        try:
            await asyncio.sleep(60)
            yield Delta("late")
        finally:
            self.open_streams -= 1


async def raw(url: str, body: dict, path: str = "/v1/chat/completions"):
    """A connection that has sent its request."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    writer.write(head.encode() + data)
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ASKS)
async def test_leaving_while_queued_closes_the_stream(serve, stream, path):
    model = SlowModel()
    async with serve(create_app(models={"m": model})) as url:
        _, writer = await raw(url, {"model": "m", "stream": stream, **ASKS[path]}, path)
        assert await settled(model, len(ASKS[path].get("prompt", "1"))) > 0
        writer.close()
        assert await settled(model) == 0


@pytest.mark.parametrize("path", sorted(set(ASKS) - {"/v1/completions"}))
async def test_leaving_while_a_whole_answer_is_generated_closes_the_stream(serve, path):
    model = ScriptedModel([LONG], delay_s=0.001)
    async with serve(create_app(models={"m": model})) as url:
        _, writer = await raw(url, {"model": "m", **ASKS[path]}, path)
        assert await settled(model, 1) == 1
        writer.close()
        assert await settled(model) == 0


@pytest.mark.parametrize("path", sorted(set(ASKS) - {"/v1/completions"}))
async def test_leaving_in_mid_stream_closes_the_stream(serve, path):
    model = ScriptedModel([LONG], delay_s=0.001)
    async with serve(create_app(models={"m": model})) as url:
        reader, writer = await raw(url, {"model": "m", "stream": True, **ASKS[path]}, path)
        await reader.readuntil(b"word")
        assert model.open_streams == 1
        writer.close()
        assert await settled(model) == 0


async def test_a_client_that_stops_reading_and_then_leaves_closes_the_stream(serve):
    model = ScriptedModel([" ".join(["word" * 50] * 20000)])
    async with serve(create_app(models={"m": model})) as url:
        _, writer = await raw(url, BODY | {"stream": True})
        assert await settled(model, 1) == 1
        await asyncio.sleep(0.2)  # the socket's buffers fill and the server's send waits
        assert model.open_streams == 1
        writer.transport.abort()
        assert await settled(model) == 0


async def test_200_clients_that_leave_at_random_leave_no_stream_open(serve):
    model = ScriptedModel([LONG], delay_s=0.002)
    rng = random.Random(0)

    async def visit(url: str) -> None:
        body = rng.choice(
            [BODY, BODY | {"stream": True}, {"model": "m", "prompt": ["a", "b"], "stream": True}]
        )
        path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
        _, writer = await raw(url, body, path)
        await asyncio.sleep(rng.random() * 0.3)
        if rng.random() < 0.5:
            writer.transport.abort()
        else:
            writer.close()

    app = create_app(models={"m": model})
    async with serve(app) as url:
        await asyncio.gather(*(visit(url) for _ in range(200)))
        assert await settled(model) == 0
        async with httpx.AsyncClient(base_url=url) as client:
            figures = (await client.get("/metrics")).text
    assert len(model.requests) > 100
    assert "lmstack_requests_in_flight 1.0" in figures  # this very request
    left = float(figures.split("\nlmstack_client_disconnects_total ")[1].split()[0])
    assert left > 80


async def test_32_concurrent_streams_all_come_whole(connect):
    model = ScriptedModel([" ".join(f"w{i}" for i in range(50))], delay_s=0.001)

    async with connect(create_app(models={"m": model})) as client:

        async def one() -> str:
            stream = await client.chat.completions.create(**BODY, stream=True)
            return "".join([c.choices[0].delta.content or "" async for c in stream])

        texts = await asyncio.gather(*(one() for _ in range(32)))
    assert set(texts) == {" ".join(f"w{i}" for i in range(50))}


async def test_tokens_are_sent_as_they_come(connect):
    class Stepwise:
        info = ModelInfo("step")

        def __init__(self) -> None:
            self.go = asyncio.Event()

        async def stream(self, request):
            yield Delta("first")
            await self.go.wait()
            yield Delta("second")
            yield Delta(finish_reason="stop")

    model = Stepwise()
    async with connect(create_app(models={"m": model})) as client:
        stream = await client.chat.completions.create(**BODY, stream=True)
        seen = ""
        async for chunk in stream:
            seen += chunk.choices[0].delta.content or ""
            if seen == "first":
                model.go.set()
    assert seen == "firstsecond"
