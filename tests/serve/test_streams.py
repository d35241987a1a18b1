"""Closing, in the orders that a server can meet them."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from lmstack.core import Delta, EngineError, ScriptedModel, Timings, Usage
from lmstack.serve import create_app
from lmstack.serve.http.errors import ClientGoneError
from lmstack.serve.http.streams import (
    EventStream,
    Primed,
    StopSignal,
    merged,
    prime,
    until_gone,
)
from lmstack.serve.threads import all_of


class Source:
    """A stream that knows whether it was closed."""

    def __init__(
        self, texts, fail: Exception | None = None, timings: Timings | None = None
    ) -> None:
        self.closed = False
        self._texts = texts
        self._fail = fail
        self._timings = timings

    async def stream(self):
        try:
            for text in self._texts:
                yield Delta(text)
                await asyncio.sleep(0)
            if self._fail:
                raise self._fail
            yield Delta(finish_reason="stop")
            yield Delta(usage=Usage(1, len(self._texts)), timings=self._timings)
        finally:
            self.closed = True


async def never() -> dict:
    await asyncio.Event().wait()
    raise AssertionError


async def at_once() -> dict:
    return {"type": "http.disconnect"}


async def test_work_that_outlives_its_client_is_cancelled_and_has_ended():
    ended = False

    async def work() -> None:
        nonlocal ended
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ended = True

    with pytest.raises(ClientGoneError):
        await until_gone(at_once, work())
    assert ended


async def test_one_failing_part_cancels_the_others():
    cancelled = False

    async def slow() -> None:
        nonlocal cancelled
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled = True
            raise

    async def failing() -> None:
        await asyncio.sleep(0)
        raise EngineError("stopped")

    with pytest.raises(EngineError):
        await all_of([slow(), failing()])
    assert cancelled


async def test_a_failing_first_delta_closes_every_stream():
    sources = [Source(["a"]), Source([], EngineError("stopped"))]
    with pytest.raises(EngineError):
        await prime(never, [source.stream() for source in sources])
    assert [source.closed for source in sources] == [True, True]


async def primed(*sources: Source) -> list[Primed]:
    return await prime(never, [source.stream() for source in sources])


async def test_merging_keeps_each_choice_in_order_and_adds_usage():
    streams = await primed(Source(["a", "b"]), Source(["c", "d", "e"]))
    deltas = [delta async for delta in merged(streams, 2)]
    texts = {0: "", 2: ""}
    for delta in deltas[:-1]:
        texts[delta.index] += delta.text
    assert texts == {0: "ab", 2: "cde"}
    assert deltas[-1].usage == Usage(2, 5)
    assert all(delta.usage is None for delta in deltas[:-1])


@pytest.mark.parametrize("more", [0, 5], ids=["ends_last", "ends_first"])
async def test_merging_keeps_the_timings_that_one_of_them_has(more):
    timings = Timings(0.5, 2.0)
    streams = await primed(Source(["a", "b"], timings=timings), Source(["c"] * (1 + more)))
    deltas = [delta async for delta in merged(streams, 1)]
    assert [delta.timings for delta in deltas] == [None] * (len(deltas) - 1) + [timings]


async def test_leaving_a_merged_stream_early_leaves_no_task():
    streams = await primed(Source(["a"] * 100), Source(["b"] * 100))
    before = asyncio.all_tasks()
    both = merged(streams, 1)
    await anext(both)
    await both.aclose()
    assert asyncio.all_tasks() == before


async def run(response: EventStream, receive, send) -> None:
    await response({"type": "http"}, receive, send)


def response_of(sources, *, gone=lambda: None) -> EventStream:
    async def chunks():
        async for delta in merged(sources, 1):
            yield delta.text

    return EventStream(
        sources,
        chunks(),
        stopping=StopSignal(),
        failed=lambda error: EngineError("bug"),
        left=gone,
    )


async def test_a_client_gone_before_the_first_chunk_still_closes_the_model():
    source = Source(["a"] * 10)
    gone: list[int] = []

    async def stuck(message) -> None:
        await asyncio.sleep(60)

    response = response_of(await primed(source), gone=lambda: gone.append(1))
    await run(response, at_once, stuck)
    assert source.closed
    assert gone == [1]


async def test_cancelling_the_response_closes_the_model():
    source = Source(["a"] * 10)

    async def stuck(message) -> None:
        await asyncio.sleep(60)

    task = asyncio.create_task(run(response_of(await primed(source)), never, stuck))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed


async def test_a_failed_stream_ends_with_an_error_and_without_done():
    sent: list[bytes] = []

    async def send(message) -> None:
        sent.append(message.get("body", b""))

    await run(response_of(await primed(Source(["a"], EngineError("stopped")))), never, send)
    text = b"".join(sent).decode()
    assert text.startswith("data: a\n\n")
    assert '"message":"stopped"' in text
    assert "[DONE]" not in text


def test_an_app_can_be_run_by_one_event_loop_after_another():
    app = create_app(models={"m": ScriptedModel(["hi"])})
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}

    async def ask() -> str:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return (await client.post("/v1/chat/completions", json=body)).text

    for _ in range(2):
        assert asyncio.run(ask()).endswith("data: [DONE]\n\n")
