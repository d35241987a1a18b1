"""An answer from documents that is on its way when the model is exchanged, with scripted models."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.scripted_versions import digest_of, version
from tests.serve.conftest import running

from lmstack.app import wiring
from lmstack.app.server import following
from lmstack.app.server.following import Followed, Follower
from lmstack.app.server.serve import Service
from lmstack.app.wiring.build import build_service
from lmstack.core import Delta, Request, ScriptedModel
from lmstack.registry.aliases import Aliases
from lmstack.safety import AuditLog
from lmstack.serve.http.app import LOCAL_HOSTS

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder

QUESTION = "How long are letters kept?"
SAID = "[1] Letters are kept for ten years."


class Gated(ScriptedModel):
    """Says nothing more than its first word before ``goes_on``."""

    def __init__(self, name: str) -> None:
        super().__init__([SAID], name=name)
        self.info = version(name).info
        self.goes_on = asyncio.Event()

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        async for delta in super().stream(request):
            yield delta
            await self.goes_on.wait()


class Alias:
    """What is served, without files."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.digest = digest_of("a")
        patch.setattr(following, "_verified", lambda _: self._release())
        patch.setattr(Aliases, "files_of", lambda *_: (self.digest,))
        patch.setattr(following, "LOOK_EVERY_S", 0.01)

    def _release(self) -> Any:
        return SimpleNamespace(model_digest=self.digest, title="b", short=self.digest[:19])


@pytest.fixture
def alias(monkeypatch: pytest.MonkeyPatch) -> Alias:
    return Alias(monkeypatch)


@pytest.fixture
async def models() -> dict[str, Gated]:
    return {name: Gated(name) for name in "ab"}


@pytest.fixture
def service(
    alias: Alias, models: dict[str, Gated], home: Path, docs: Path, embedder: HashEmbedder
) -> Iterator[Service]:
    follower = Follower(Followed("prod", models["a"], lambda _: models["b"]))
    models["b"].goes_on.set()
    built = build_service(
        folder=docs,
        index_dir=wiring.index_of(docs),
        audit_path=wiring.audit_path(),
        model=models["a"],
        alias="prod",
        embedder=embedder,
        api_keys=(),
        allowed_hosts=LOCAL_HOSTS,
        close_model=lambda: None,
        follower=follower,
    )
    yield built
    built.close()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with running(service.app) as url, httpx.AsyncClient(base_url=url, timeout=60) as found:
        while (await found.get("/api/status")).json()["state"] != "ready":
            await asyncio.sleep(0.02)
        yield found


async def over_the_api(client: httpx.AsyncClient) -> set[str]:
    """The digests that its chunks name."""
    asked = [{"role": "user", "content": QUESTION}]
    body = {"model": "docs", "messages": asked, "answers": "write", "stream": True}
    answer = await client.post("/v1/chat/completions", json=body)
    chunks = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert chunks.pop() == "[DONE]"
    assert "ten years" in answer.text
    named = {json.loads(chunk)["system_fingerprint"] for chunk in chunks}
    return {*named, answer.headers["x-lmstack-digest"]}


async def on_the_page(client: httpx.AsyncClient) -> set[str]:
    answer = await client.post("/api/ask", json={"question": QUESTION, "answers": "write"})
    [done] = [part for part in answer.text.split("\n\n") if part.startswith("event: done")]
    return {json.loads(done.partition("data: ")[2])["model"]["digest"]}


async def test_an_answer_ends_by_the_model_that_it_began_with(
    client: httpx.AsyncClient, alias: Alias, models: dict[str, Gated]
) -> None:
    on_their_way = [asyncio.create_task(each(client)) for each in (over_the_api, on_the_page)]
    async with asyncio.timeout(30):
        while len(models["a"].requests) < 2:
            await asyncio.sleep(0.01)
        alias.digest = digest_of("b")
        while (await client.get("/api/status")).json()["model"]["digest"] != alias.digest:
            await asyncio.sleep(0.01)
    models["a"].goes_on.set()
    assert await asyncio.gather(*on_their_way) == [{digest_of("a")}] * 2
    assert [await each(client) for each in (over_the_api, on_the_page)] == [{digest_of("b")}] * 2
    lines = wiring.audit_path().read_bytes().splitlines()
    by_request: dict[str, set[str]] = {}
    for record in map(json.loads, lines):
        if "request" in record:
            by_request.setdefault(record["request"], set()).add(record["model"]["digest"])
    assert sorted(map(len, by_request.values())) == [1] * 4


@pytest.mark.parametrize("how", [over_the_api, on_the_page])
async def test_a_question_that_waits_to_be_recorded_is_answered_by_what_the_record_names(
    client: httpx.AsyncClient,
    alias: Alias,
    models: dict[str, Gated],
    how: Callable[[httpx.AsyncClient], Coroutine[Any, Any, set[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append, is_waiting, goes_on = AuditLog.append, threading.Event(), threading.Event()

    def slow(self: AuditLog, record: Mapping[str, Any], **more: Any) -> str:
        if record["event"] == "accepted" and not is_waiting.is_set():
            is_waiting.set()
            goes_on.wait(30)
        return append(self, record, **more)

    monkeypatch.setattr(AuditLog, "append", slow)
    models["a"].goes_on.set()
    asked = asyncio.create_task(how(client))
    await asyncio.to_thread(is_waiting.wait, 30)
    alias.digest = digest_of("b")
    async with asyncio.timeout(30):
        while (await client.get("/api/status")).json()["model"]["digest"] != alias.digest:
            await asyncio.sleep(0.01)
    goes_on.set()
    assert await asked == {digest_of("a")}
    assert not models["b"].requests[1:]  # the first warmed it up
