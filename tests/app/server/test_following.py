"""A server that runs takes what its alias is moved to, drops nothing, and never serves what was not
verified: with tiny models, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.app.server.followed import (
    LONG,
    PROMPTS,
    body,
    connected,
    digest_listed,
    digest_now,
    figures,
    has_digest,
    is_behind,
    records,
    servers,
    until,
)
from tests.app.tiny_releases import TinyRelease, move_to, tiny_releases

from lmstack.app import wiring
from lmstack.app.server import following
from lmstack.app.server.command_socket import find_server
from lmstack.app.server.serve import Service
from lmstack.core.files import write_atomic
from lmstack.engine import memory
from lmstack.registry.aliases import Aliases
from lmstack.release import releases
from lmstack.release.traffic import TrafficCandidate
from lmstack.safety import verify
from lmstack.serve import LocalModel

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder

KEYS = ("one", "two", "three", "four")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[TinyRelease]:
    return tiny_releases(tmp_path_factory.mktemp("made"), "abc", PROMPTS)


@pytest.fixture
def tiny(made: list[TinyRelease], home: Path) -> list[TinyRelease]:
    """The first is what prod stands for."""
    move_to(made[0])
    return made


@pytest.fixture
def start(
    tiny: list[TinyRelease], docs: Path, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Service]]:
    with servers(docs, monkeypatch) as build:
        yield build


def model_of(service: Service) -> weakref.ref[LocalModel]:
    """The one that serves now."""
    assert isinstance(service.close, partial)
    [found] = [each for each in service.close.args if isinstance(each, following.Follower)]
    assert found.main is not None
    return weakref.ref(found.main.model)  # type: ignore[arg-type]


def engines() -> int:
    return sum(thread.name == "lmstack-engine" for thread in threading.enumerate())


async def test_requests_across_exchanges_are_each_answered_by_one_release(
    start: Callable[..., Service], tiny: list[TinyRelease]
) -> None:
    a, b, c = tiny
    by_digest = {each.digest: each for each in tiny}
    seen: Counter[str] = Counter()
    answered: dict[str, str] = {}
    ended = asyncio.Event()

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        prompts = list(PROMPTS)[:3]
        headers = {"Authorization": f"Bearer {KEYS[number % len(KEYS)]}"}
        while not ended.is_set():
            prompt = prompts[len(answered) % 3]
            answer = await client.post("/v1/completions", json=body(prompt), headers=headers)
            assert answer.status_code == 200, answer.text
            told = answer.json()
            digest = told["system_fingerprint"]
            assert answer.headers["x-lmstack-digest"] == digest
            assert told["choices"][0]["text"] == by_digest[digest].texts[prompt]
            answered[answer.headers["x-request-id"]] = digest
            seen[digest] += 1

    async def exchange() -> None:
        aliases = Aliases()
        for move in (
            lambda: move_to(b),
            lambda: move_to(c),
            lambda: aliases.roll_back("prod"),
            lambda: aliases.roll_back("prod", a.digest),
        ):
            await asyncio.to_thread(move)
            now, so_far = aliases.read("prod").release, Counter(seen)
            assert now is not None
            await until(lambda now=now, so_far=so_far: seen[now.digest] >= so_far[now.digest] + 4)
        ended.set()

    async with connected(start(api_keys=KEYS)) as client:
        await asyncio.gather(exchange(), *(ask(client, number) for number in range(4)))
        client.headers["Authorization"] = f"Bearer {KEYS[0]}"
    assert set(seen) == set(by_digest)
    for event in ("accepted", "finished"):
        told = {each["request"]: each["model"]["digest"] for each in records(event)}
        assert told == answered
    moved = [each["model"]["digest"] for each in records("release_exchanged")]
    assert moved == [b.digest, c.digest, b.digest, a.digest]
    assert verify(wiring.audit_path()).ok


@contextlib.contextmanager
def paused_after(model: LocalModel, steps: int) -> Iterator[threading.Semaphore]:
    """Lets the engine take so many steps, and as many more as are released."""
    step, left = model._engine.step, threading.Semaphore(steps)

    def taken() -> bool:
        left.acquire()
        return step()

    model._engine.step = taken  # type: ignore[method-assign]
    del model
    try:
        yield left
    finally:
        left.release(1_000_000)


async def test_a_stream_ends_by_the_release_that_it_began_with_which_is_then_freed(
    start: Callable[..., Service], tiny: list[TinyRelease]
) -> None:
    a, b, _ = tiny
    before = engines()
    service = start()
    former = model_of(service)
    async with connected(service) as client:
        with paused_after(held(former), 5) as steps:
            answer = await client.send(
                client.build_request("POST", "/v1/completions", json=body("number", stream=True)),
                stream=True,
            )
            assert answer.headers["x-lmstack-digest"] == a.digest
            lines = answer.aiter_lines()
            chunks = [await anext(lines)]
            await asyncio.to_thread(move_to, b)
            await until(lambda: has_digest(digest_listed(client), b.digest))
            assert await digest_now(client) == b.digest
            assert held(former).stats().num_running == 1
            assert (await figures(client))["releases_retiring"] == 1
            assert engines() == before + 2
            steps.release(1000)
            chunks += [line async for line in lines]
        told = [line.removeprefix("data: ") for line in chunks if line]
        assert told.pop() == "[DONE]"
        found = [json.loads(each) for each in told]
        assert {each["system_fingerprint"] for each in found} == {a.digest}
        assert "".join(each["choices"][0]["text"] for each in found) == a.texts["number"]
        await until(lambda: former() is None)
        await until(lambda: _retiring(client, 0))
        assert engines() == before + 1
    [ended] = [each for each in records("finished") if each["usage"]["completion_tokens"] == LONG]
    assert ended["model"]["digest"] == a.digest


def held(model: weakref.ref[LocalModel]) -> LocalModel:
    found = model()
    assert found is not None
    return found


async def _retiring(client: httpx.AsyncClient, number: int) -> bool:
    return (await figures(client))["releases_retiring"] == number


async def test_nothing_of_the_former_release_is_found_in_a_cache(
    start: Callable[..., Service], tiny: list[TinyRelease]
) -> None:
    long = {"model": "prod", "prompt": "the cat sat " * 20, "max_tokens": 1}
    async with connected(start()) as client:
        for expected in (False, True):
            usage = (await client.post("/v1/completions", json=long)).json()["usage"]
            assert bool(usage["prompt_tokens_details"]["cached_tokens"]) is expected
        move_to(tiny[1])
        await until(lambda: has_digest(digest_listed(client), tiny[1].digest))
        usage = (await client.post("/v1/completions", json=long)).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0


async def test_the_own_name_of_a_model_is_served_as_long_as_it_answers(
    start: Callable[..., Service], tiny: list[TinyRelease]
) -> None:
    async def listed() -> dict[str, Any]:
        items = (await client.get("/v1/models")).json()["data"]
        return {each["id"]: each for each in items if each["id"] not in ("docs", "hash")}

    async with connected(start()) as client:
        assert listed_roots(await listed()) == {"prod": "tiny-a", "tiny-a": None}
        move_to(tiny[1])
        await until(lambda: has_digest(digest_listed(client), tiny[1].digest))
        found = await listed()
        assert listed_roots(found) == {"prod": "tiny-b", "tiny-b": None}
        assert {each["digest"] for each in found.values()} == {tiny[1].digest}
        ids = await client.post("/tokenize", json={"model": "tiny-b", "prompt": "cat"})
        assert ids.headers["x-lmstack-digest"] == tiny[1].digest
        gone = await client.post("/tokenize", json={"model": "tiny-a", "prompt": "cat"})
        assert gone.status_code == 404


def listed_roots(found: dict[str, Any]) -> dict[str, str | None]:
    return {name: each.get("root") for name, each in found.items()}


async def test_an_alias_that_is_served_beside_is_followed_too(
    start: Callable[..., Service], tiny: list[TinyRelease]
) -> None:
    a, b, c = tiny
    move_to(b, "prod2")
    async with connected(start(also=["prod2"])) as client:
        assert await digest_now(client, "prod2") == b.digest
        move_to(c, "prod2")
        await until(lambda: has_digest(digest_listed(client, "prod2"), c.digest))
        assert await digest_now(client) == a.digest


def _gone(tiny: TinyRelease, patch: pytest.MonkeyPatch) -> str:
    shutil.move(tiny.folder, tiny.folder.with_name("away"))
    move_to(tiny)
    return "does not exist"


def _changed(tiny: TinyRelease, patch: pytest.MonkeyPatch) -> str:
    weights = tiny.folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    move_to(tiny)
    return "was evaluated"


def _unsigned(tiny: TinyRelease, patch: pytest.MonkeyPatch) -> str:
    """A line that somebody wrote who has no key."""
    move_to(tiny, decision="REJECT")
    path = Aliases().folder / "prod.json"
    changed = path.read_text().replace("REJECT", "PROMOTE").replace("rejected", "promoted")
    write_atomic(path, changed.encode())
    return "changed after it was signed"


def _untrusted(tiny: TinyRelease, patch: pytest.MonkeyPatch) -> str:
    [key] = Aliases().keys.trusted.iterdir()
    key.unlink()
    return "no key is trusted"


def _cut_off(tiny: TinyRelease, patch: pytest.MonkeyPatch) -> str:
    path = Aliases().folder / "prod.json"
    before = path.read_bytes()
    move_to(tiny, decision="HOLD")
    time.sleep(0.5)  # which is read
    write_atomic(path, before)
    return "does not hold what this server read"


def _computes_otherwise(tiny: TinyRelease, patch: pytest.MonkeyPatch) -> str:
    move_to(tiny, digest=f"{tiny.digest}+kv-other")
    return "computes as"


def _too_little_memory(tiny: TinyRelease, patch: pytest.MonkeyPatch) -> str:
    patch.setattr(memory, "free_memory", lambda: (10_000, 1 << 30))
    move_to(tiny)
    return "of memory beside what serves"


def _does_not_write(tiny: TinyRelease, patch: pytest.MonkeyPatch) -> str:
    def broken(*_: Any) -> None:
        raise RuntimeError("no kernel for it")

    patch.setattr(following, "complete_sync", broken)
    move_to(tiny)
    return "no kernel for it"


@pytest.fixture
def copy(made: list[TinyRelease], tmp_path: Path) -> TinyRelease:
    """One whose files may be damaged."""
    folder = tmp_path / "copies" / made[1].folder.name
    shutil.copytree(made[1].folder, folder)
    return replace(made[1], release=replace(made[1].release, model=str(folder)))


@pytest.mark.parametrize(
    "damage",
    [
        *(_gone, _changed, _unsigned, _untrusted, _cut_off, _computes_otherwise),
        *(_too_little_memory, _does_not_write),
    ],
)
async def test_what_cannot_be_verified_or_loaded_changes_nothing_and_is_said_once(
    start: Callable[..., Service],
    tiny: list[TinyRelease],
    copy: TinyRelease,
    damage: Callable[[TinyRelease, pytest.MonkeyPatch], str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(following, "FIRST_WAIT_S", 0.05)
    before = engines()
    async with connected(start()) as client:
        await until(lambda: has_digest(digest_listed(client), tiny[0].digest))
        await asyncio.sleep(0.06)  # it has looked
        reason = damage(copy, monkeypatch)
        await until(lambda: is_behind(client, 1))
        await asyncio.sleep(0.3)  # several more looks, and tries
        assert await digest_now(client) == tiny[0].digest
        found = await figures(client)
        # While it tries again there is a second one.
        await until(lambda: engines() == before + 1)
    assert found["release_exchange_failures_total"] == 1
    assert found["release_exchanges_total"] == 0
    [record] = records("release_exchange_failed")
    assert reason in record["reason"]
    assert record["model"]["digest"] == tiny[0].digest
    [said] = [each for each in caplog.messages if "goes on answering" in each]
    assert reason in said


async def test_what_the_audit_log_cannot_hold_is_not_exchanged(
    start: Callable[..., Service], tiny: list[TinyRelease], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmstack.core import StoreError
    from lmstack.safety import AuditLog

    append = AuditLog.append

    def broken(self: AuditLog, record: Any, **how: Any) -> str:
        if record["event"] == "release_exchanged":
            raise StoreError("the disk is full")
        return append(self, record, **how)

    monkeypatch.setattr(AuditLog, "append", broken)
    async with connected(start()) as client:
        move_to(tiny[1])
        await until(lambda: is_behind(client, 1))
        assert await digest_now(client) == tiny[0].digest
    assert "the disk is full" in records("release_exchange_failed")[0]["reason"]


async def test_what_was_missing_is_taken_when_it_is_there(
    start: Callable[..., Service],
    tiny: list[TinyRelease],
    copy: TinyRelease,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "FIRST_WAIT_S", 0.05)
    async with connected(start()) as client:
        _gone(copy, monkeypatch)
        await until(lambda: is_behind(client, 1))
        shutil.move(copy.folder.with_name("away"), copy.folder)
        await until(lambda: has_digest(digest_listed(client), copy.digest))
        assert (await figures(client))["releases_behind"] == 0


async def test_a_rollback_ends_the_alarm(
    start: Callable[..., Service], tiny: list[TinyRelease]
) -> None:
    async with connected(start()) as client:
        _computes_otherwise(tiny[1], pytest.MonkeyPatch())
        await until(lambda: is_behind(client, 1))
        Aliases().roll_back("prod")
        await until(lambda: is_behind(client, 0))
        assert (await figures(client))["release_exchanges_total"] == 0


async def test_what_did_not_pass_the_gate_is_no_event(
    start: Callable[..., Service], tiny: list[TinyRelease]
) -> None:
    async with connected(start()) as client:
        for decision in ("HOLD", "REJECT"):
            move_to(tiny[1], decision=decision)
        await asyncio.sleep(0.2)
        assert await digest_now(client) == tiny[0].digest
        assert not any((await figures(client)).values())


async def test_a_release_that_was_rolled_back_while_it_loaded_serves_nobody(
    start: Callable[..., Service], tiny: list[TinyRelease], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, loaded = releases.opened, list[weakref.ref[LocalModel]]()

    def slow(release: Any, **how: Any) -> LocalModel:
        model = opened(release, **how)
        loaded.append(weakref.ref(model))
        Aliases().roll_back("prod")
        return model

    before = engines()
    async with connected(start()) as client:
        await asyncio.sleep(0.06)
        monkeypatch.setattr(releases, "opened", slow)
        move_to(tiny[1])
        await until(lambda: loaded and engines() == before + 1)
        assert await digest_now(client) == tiny[0].digest
        assert not any((await figures(client)).values())
    assert not records("release_exchanged")


@pytest.mark.parametrize("how", ["pinned", "named with a digest"])
async def test_a_server_that_is_pinned_follows_nothing(
    start: Callable[..., Service], tiny: list[TinyRelease], how: str
) -> None:
    given = {"pinned": True} if how == "pinned" else {"model": f"prod@{tiny[0].digest}"}
    async with connected(start(**given)) as client:
        move_to(tiny[1])
        await asyncio.sleep(0.3)
        model = given.get("model", "prod")
        assert await digest_now(client, str(model)) == tiny[0].digest
        assert not await figures(client)


@pytest.mark.parametrize("mode", ["canary", "shadow"])
async def test_beside_another_version_a_restart_is_asked_for(
    start: Callable[..., Service], tiny: list[TinyRelease], mode: Any
) -> None:
    notes: list[str] = []
    candidate = TrafficCandidate(mode, str(tiny[2].folder), "float32", share=1e-9)
    async with connected(start(candidate=candidate, note=notes.append)) as client:
        assert "start the server again" in notes[0]
        move_to(tiny[1])
        await until(lambda: is_behind(client, 1))
        assert await digest_now(client) == tiny[0].digest
    [record] = records("release_exchange_failed")
    assert f"while a {mode} is compared" in record["reason"]
    assert "start the server again" in record["reason"]


async def test_a_command_is_told_what_is_served(
    start: Callable[..., Service], tiny: list[TinyRelease], docs: Path
) -> None:
    def found() -> bool:
        wanted = wiring.command_identity(docs, "prod", None, None)
        assert wanted is not None
        server = find_server(wiring.command_socket(docs), wanted)
        if server is not None:
            server.close()
        return server is not None

    async with connected(start()) as client:
        assert await asyncio.to_thread(found)
        move_to(tiny[1])
        await until(lambda: has_digest(digest_listed(client), tiny[1].digest))
        assert await asyncio.to_thread(found)


async def test_a_server_ends_while_a_release_is_loading(
    start: Callable[..., Service], tiny: list[TinyRelease], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, is_loading, goes_on = releases.opened, threading.Event(), threading.Event()

    def slow(release: Any, **how: Any) -> LocalModel:
        is_loading.set()
        goes_on.wait(30)
        return opened(release, **how)

    before = engines()
    service = start()
    monkeypatch.setattr(releases, "opened", slow)
    async with connected(service):
        move_to(tiny[1])
        await asyncio.to_thread(is_loading.wait, 30)
    begun = time.monotonic()
    service.close()
    assert time.monotonic() - begun < 5
    goes_on.set()
    await until(lambda: engines() == before)
    assert not records("release_exchanged")
