"""A server of a release with documents: a model takes over where it was evaluated with the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.app.server.followed import (
    Start,
    connected,
    digest_listed,
    figures,
    has_digest,
    is_behind,
    records,
    servers,
    until,
)
from tests.app.tiny_releases import TinyRelease, move_to, tiny_releases

from lmstack.app import wiring
from lmstack.evals.evaluated_index import deciding
from lmstack.rag import Index
from lmstack.rag.answer.answer import usual_answers
from lmstack.registry.aliases import Aliases
from lmstack.release import released_documents, releases

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder

Documented = Callable[[TinyRelease], TinyRelease]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[TinyRelease]:
    return tiny_releases(tmp_path_factory.mktemp("made"), "ab", {})


@pytest.fixture
def documented(home: Path, docs: Path, embedder: HashEmbedder) -> Documented:
    """A release of the model with the folder as it is now."""

    def with_documents(tiny: TinyRelease) -> TinyRelease:
        place = wiring.index_of(docs)
        with Index.open(place, embedder) as index:
            index.update([docs])
            how = deciding(index, usual_answers(releases.info_of(tiny.release)), None)
            found: Any = SimpleNamespace(content=index.content_digest(), how=how)
        release = released_documents.with_documents(tiny.release, docs, found)
        released_documents.keep(release, place)
        return replace(tiny, release=release)

    return with_documents


@pytest.fixture
def start(docs: Path, documented: Documented, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    with servers(docs, monkeypatch) as build:
        yield build


async def answer(client: httpx.AsyncClient) -> tuple[str, str]:
    """Of the documents, and the digest that it names."""
    asked = [{"role": "user", "content": "How long are letters kept?"}]
    found = await client.post("/v1/chat/completions", json={"model": "docs", "messages": asked})
    assert found.status_code == 200, found.text
    told = found.json()
    assert found.headers["x-lmstack-digest"] == told["system_fingerprint"]
    return told["choices"][0]["message"]["content"], told["system_fingerprint"]


async def test_another_model_with_the_same_documents_takes_over(
    start: Start, made: list[TinyRelease], documented: Documented, docs: Path
) -> None:
    a, b = map(documented, made)
    assert a.release.documents_digest == b.release.documents_digest
    move_to(a)
    async with connected(start()) as client:
        text, digest = await answer(client)
        assert (digest, await digest_listed(client, "docs")) == (a.digest, a.digest)
        next(docs.iterdir()).unlink()  # which what is served does not follow
        move_to(b)
        await until(lambda: has_digest(digest_listed(client), b.release.model_digest))
        assert await answer(client) == (text, b.digest)
        assert await digest_listed(client, "docs") == b.digest
        move_to(a, decision="HOLD")
        await asyncio.sleep(0.3)  # several looks at it
        told = await figures(client)
    assert (told["release_exchanges_total"], told["release_exchange_failures_total"]) == (1, 0)
    named = {each["model"]["digest"] for each in records("finished")}
    assert named == {a.digest, b.digest}


def _other_documents(b: TinyRelease, documented: Documented, docs: Path) -> str:
    (docs / "new.md").write_text("Letters are kept for nine years.\n")
    move_to(documented(b))
    return "with other documents"


def _none(b: TinyRelease, documented: Documented, docs: Path) -> str:
    move_to(b)
    return "without documents, and some are served"


def _damaged(b: TinyRelease, documented: Documented, docs: Path) -> str:
    """The copy of the index, which the server has open."""
    moved = documented(b)
    (released_documents.place_of(moved.release) / "index.sqlite").unlink()
    move_to(moved)
    return "was evaluated"


@pytest.mark.parametrize("change", [_other_documents, _none, _damaged])
async def test_a_model_never_takes_over_documents_that_it_was_not_evaluated_with(
    start: Start,
    made: list[TinyRelease],
    documented: Documented,
    docs: Path,
    change: Callable[[TinyRelease, Documented, Path], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    a = documented(made[0])
    move_to(a)
    async with connected(start()) as client:
        before = await answer(client)
        assert before[1] == a.digest
        reason = change(made[1], documented, docs)
        await until(lambda: is_behind(client, 1))
        assert await answer(client) == before
        assert await digest_listed(client) == a.release.model_digest
        if change is not _damaged:
            Aliases().roll_back("prod", a.digest)
            await until(lambda: is_behind(client, 0))
        told = await figures(client)
    assert told["release_exchanges_total"] == 0
    first = records("release_exchange_failed")[0]
    assert reason in first["reason"]
    assert sum(reason in each for each in caplog.messages) == 1
    if change is not _damaged:
        assert "start the server again" in first["reason"]


async def test_documents_that_are_not_served_keep_their_model_out(
    start: Start, made: list[TinyRelease], documented: Documented
) -> None:
    """Of a server that answers from a folder as it is now, say."""
    move_to(made[0])
    async with connected(start()) as client:
        move_to(documented(made[0]))  # and be it the same model
        await until(lambda: is_behind(client, 1))
        assert await digest_listed(client, "docs") == made[0].digest
    [record] = records("release_exchange_failed")
    assert "with documents, and without any it is not served" in record["reason"]


async def test_beside_it_the_model_of_a_release_with_documents_is_served_alone(
    start: Start, made: list[TinyRelease], documented: Documented
) -> None:
    a, b = made
    move_to(documented(a))
    move_to(a, "prod2")
    async with connected(start(also=["prod2"])) as client:
        move_to(documented(b), "prod2")
        await until(lambda: has_digest(digest_listed(client, "prod2"), b.digest))
        assert not (await figures(client))["releases_behind"]
