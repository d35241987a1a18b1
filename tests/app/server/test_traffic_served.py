"""Two versions behind one server, over real sockets with the official client and on the page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
from tests.app.services import local_service
from tests.scripted_versions import BreakingModel, digest_of, version
from tests.serve.conftest import running

from lmstack.app import wiring
from lmstack.app.server.serve import Service
from lmstack.core import ChatModel, InputError
from lmstack.release import live_store as live
from lmstack.release.traffic import TrafficCandidate, beside
from lmstack.safety import verify

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder

ALWAYS = 1 - 1e-12
Served = Callable[..., Service]


@pytest.fixture
def stable() -> ChatModel:
    return version("stable", ["[1] Letters are kept for ten years."])


@pytest.fixture
def serve_with(home: Path, docs: Path, stable: ChatModel, embedder: HashEmbedder) -> Served:
    def build(candidate: ChatModel, mode: Any = "canary", **options: Any) -> Service:
        notes = options.pop("note", lambda _: None)
        wanted = TrafficCandidate(mode, "candidate", **{"share": ALWAYS, **options})
        places = wiring.home(), wiring.index_of(docs)
        traffic = beside(wanted, candidate, stable.info, *places, notes)
        return local_service(docs, stable, embedder, traffic=traffic)

    return build


@contextlib.asynccontextmanager
async def connected(service: Service) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        running(service.app) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client
    service.close()


async def ask(client: openai.AsyncOpenAI, text: str = "hello", model: str = "stable") -> Any:
    return await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}]
    )


def address(client: openai.AsyncOpenAI, path: str) -> str:
    """The address of ``path`` on the same server, not below /v1."""
    return str(client.base_url).removesuffix("v1/") + path


def records() -> list[dict[str, Any]]:
    lines = wiring.audit_path().read_bytes().splitlines()
    return [json.loads(line) for line in lines][1:]


async def test_a_share_goes_to_the_canary_and_each_answer_says_so(serve_with: Served) -> None:
    candidate = version("candidate", ["from candidate"])
    async with connected(serve_with(candidate, share=0.5)) as client:
        answers = [await ask(client, str(number)) for number in range(14)]
        text = (await client._client.get(address(client, "metrics"))).text
    by_digest = {answer.system_fingerprint for answer in answers}
    assert by_digest == {digest_of("stable"), digest_of("candidate")}
    for answer in answers:
        is_candidate = answer.choices[0].message.content == "from candidate"
        assert answer.system_fingerprint == digest_of("candidate" if is_candidate else "stable")
    assert f"lmstack_canary_requests_total {len(candidate.requests)}.0" in text
    report = live.report(live.comparison(None))
    assert report.arms["candidate"].requests == len(candidate.requests)
    assert report.arms["stable"].requests == 14 - len(candidate.requests)
    assert verify(wiring.audit_path()).ok
    ended = [r for r in records() if r["event"] == "finished"]
    assert {(r["arm"], r["model"]["name"]) for r in ended} == {
        ("stable", "stable"),
        ("canary", "candidate"),
    }


async def test_a_conversation_stays_with_the_version_that_it_began_with(serve_with: Served) -> None:
    async with connected(serve_with(version("candidate", ["yes"]), share=0.5)) as client:
        for number in range(4):
            said: list[Any] = [{"role": "user", "content": f"question {number}"}]
            first = await client.chat.completions.create(model="stable", messages=said)
            said += [
                {"role": "assistant", "content": first.choices[0].message.content},
                {"role": "user", "content": "and then?"},
            ]
            second = await client.chat.completions.create(model="stable", messages=said)
            assert first.system_fingerprint == second.system_fingerprint


async def test_a_client_that_leaves_ends_the_canary_that_answers(serve_with: Served) -> None:
    candidate = version("candidate", ["word " * 500], delay_s=0.02)
    async with connected(serve_with(candidate)) as client:
        stream = await client.chat.completions.create(
            model="stable", messages=[{"role": "user", "content": "hello"}], stream=True
        )
        async for chunk in stream:
            assert chunk.system_fingerprint == digest_of("candidate")
            break
        await stream.close()
        async with asyncio.timeout(20):
            while candidate.open_streams:
                await asyncio.sleep(0.01)


async def test_a_canary_that_fails_is_stopped_for_good_and_nobody_notices(
    serve_with: Served,
) -> None:
    notes: list[str] = []
    broken = BreakingModel()
    async with connected(serve_with(broken, share=0.3, note=notes.append)) as client:
        for number in range(60):
            answer = await ask(client, str(number))
            assert answer.system_fingerprint == digest_of("stable")
            if notes:
                break
        asked_so_far = broken.num_asked
        for number in range(60, 65):
            await ask(client, str(number))
        assert broken.num_asked == asked_so_far
    assert "stopped" in notes[0]
    found = live.comparison(None)
    assert found.stopped is not None
    assert found.counts["fell back: EngineError"] == asked_so_far
    assert any(record["event"] == "canary_stopped" for record in records())
    notes.clear()
    async with connected(serve_with(broken, share=0.3, note=notes.append)) as client:
        for number in range(5):
            await ask(client, f"again {number}")
    assert broken.num_asked == asked_so_far
    assert "lmstack release traffic --clear" in notes[0]


async def test_a_shadow_is_compared_and_never_shown(serve_with: Served) -> None:
    candidate = version("candidate", ["from candidate"])
    service = serve_with(candidate, "shadow", keeps_texts=True)
    async with connected(service) as client:
        answer = await ask(client)
        assert answer.system_fingerprint == digest_of("stable")
        async with asyncio.timeout(20):
            while (
                "shadow_answers_total 1.0"
                not in (await client._client.get(address(client, "metrics"))).text
            ):
                await asyncio.sleep(0.02)
    report = live.report(live.comparison(None))
    assert [arm.requests for arm in report.arms.values()] == [1, 1]
    assert report.same is not None
    assert report.similar is not None
    [shadowed] = [record for record in records() if record["event"] == "shadowed"]
    assert shadowed["model"] == {"name": "candidate", "digest": digest_of("candidate")}
    assert shadowed["request"] == records()[0]["request"]


async def test_a_slow_shadow_delays_nobody_not_even_the_end(serve_with: Served) -> None:
    candidate = version("candidate", ["late"], delay_s=60)
    start = time.monotonic()
    async with connected(serve_with(candidate, "shadow")) as client:
        for number in range(5):
            await ask(client, str(number))
    assert time.monotonic() - start < 20
    async with asyncio.timeout(20):
        while candidate.open_streams:
            await asyncio.sleep(0.001)


async def page(service: Service, question: str) -> dict[str, Any]:
    transport = httpx.ASGITransport(service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        async with asyncio.timeout(60):
            while (await client.get("/api/status")).json()["state"] != "ready":
                await asyncio.sleep(0.02)
        body = {"question": question, "answers": "write"}
        text = (await client.post("/api/ask", json=body)).text
        [done] = [part for part in text.split("\n\n") if part.startswith("event: done")]
        data: dict[str, Any] = json.loads(done.partition("data: ")[2])
        judged = {"request_id": data["request_id"], "verdict": "not_helpful"}
        assert (await client.post("/api/feedback", json=judged)).status_code == 200
    return data


async def test_an_answer_on_the_page_names_its_version_and_takes_thumbs(
    serve_with: Served,
) -> None:
    candidate = version("candidate", ["[1] Letters are kept for ten years."])
    service = serve_with(candidate)
    data = await page(service, "How long are letters kept?")
    service.close()
    assert candidate.requests
    assert data["model"]["digest"] == digest_of("candidate")
    assert live.report(live.comparison(None)).arms["candidate"].thumbs == (0, 1)


async def test_an_answer_from_documents_over_the_api_names_its_version(serve_with: Served) -> None:
    service = serve_with(version("candidate", ["[1] Letters are kept for ten years."]))
    async with connected(service) as client:
        async with asyncio.timeout(60):
            while (await client._client.get(address(client, "api/status"))).json()[
                "state"
            ] != "ready":
                await asyncio.sleep(0.02)
        for streamed in (False, True):
            raw = await client.chat.completions.with_raw_response.create(
                model="docs",
                messages=[{"role": "user", "content": "How long are letters kept?"}],
                extra_body={"answers": "write"},
                stream=streamed,
            )
            assert raw.headers["x-lmstack-digest"] == digest_of("candidate")
            if not streamed:
                assert raw.parse().system_fingerprint == digest_of("candidate")


@pytest.mark.parametrize(("mode", "share"), [("canary", 0), ("canary", 1), ("shadow", 1.5)])
def test_a_share_that_cannot_be_is_refused(mode: Any, share: float) -> None:
    with pytest.raises(InputError, match="--share"):
        TrafficCandidate(mode, "m", share=share)
