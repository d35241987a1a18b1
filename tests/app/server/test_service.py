"""What `lmstack up` serves, in this process: guards, audit, names, keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.app.services import local_service

from lmstack.app import wiring
from lmstack.app.server.serve import Service
from lmstack.app.wiring.build import served_name
from lmstack.core import ScriptedModel
from lmstack.safety import verify

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder

QUESTION = "How long are letters kept?"


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel(["[1] Letters are kept for ten years."], name="tiny")


@pytest.fixture
def service(home: Path, docs: Path, model: ScriptedModel, embedder: HashEmbedder) -> Service:
    return local_service(docs, model, embedder)


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as found:
        yield found
    service.close()


async def chat(client: httpx.AsyncClient, model: str, text: str) -> httpx.Response:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
    return await client.post("/v1/chat/completions", json=body)


async def test_the_folder_and_the_model_are_both_listed(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/models")).json()["data"]
    assert {"docs", "tiny", "hash"} == {entry["id"] for entry in listed}


async def test_every_answer_leaves_records_that_verify(
    client: httpx.AsyncClient, model: ScriptedModel
) -> None:
    assert (await chat(client, "tiny", "hello")).status_code == 200
    before = verify(wiring.audit_path()).records
    assert (await chat(client, "docs", QUESTION)).status_code == 200
    report = verify(wiring.audit_path())
    assert report.ok
    assert report.records >= before + 2
    assert model.info.digest is not None
    assert model.info.digest in wiring.audit_path().read_text()


async def test_a_question_is_guarded_before_the_documents_are_searched(
    client: httpx.AsyncClient, model: ScriptedModel
) -> None:
    answer = await chat(client, "docs", "hello \x1b[2J")
    assert answer.status_code == 403
    assert model.requests == []


async def test_a_log_that_cannot_be_written_refuses_both_models(
    client: httpx.AsyncClient, model: ScriptedModel
) -> None:
    wiring.audit_path().parent.mkdir(parents=True, exist_ok=True)
    wiring.audit_path().mkdir()
    for name in ("tiny", "docs"):
        assert (await chat(client, name, QUESTION)).status_code == 507, name
    assert model.requests == []


async def test_the_page_is_served_and_other_host_names_are_refused(
    client: httpx.AsyncClient,
) -> None:
    assert "text/html" in (await client.get("/")).headers["content-type"]
    refused = await client.get("/api/status", headers={"Host": "evil.example"})
    assert refused.status_code == 403


async def test_with_keys_the_page_loads_and_its_data_needs_one(
    home: Path, docs: Path, model: ScriptedModel, embedder: HashEmbedder
) -> None:
    service = local_service(docs, model, embedder, keys=("secret",))
    transport = httpx.ASGITransport(service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/api/status")).status_code == 401
        assert (await client.get("/v1/models")).status_code == 401
        bearer = {"Authorization": "Bearer secret"}
        assert (await client.get("/api/status", headers=bearer)).status_code == 200
    service.close()


@pytest.mark.parametrize(
    ("folder", "expected"),
    [("/home/me/docs", "docs"), ("/", "documents"), ("/x/tiny", "tiny-documents")],
)
def test_the_folder_names_its_model(folder: str, expected: str) -> None:
    assert served_name(Path(folder), "tiny") == expected


def test_a_hostile_folder_name_becomes_a_plain_model_name() -> None:
    assert served_name(Path("/x/a\n\x1bb"), "tiny") == "a\\n\\x1bb"


async def ask_page(client: httpx.AsyncClient, question: str) -> str:
    answer = await client.post("/api/ask", json={"question": question})
    assert answer.status_code == 200
    return answer.text


async def test_a_question_of_the_page_is_recorded_even_if_no_model_is_asked(
    client: httpx.AsyncClient, model: ScriptedModel
) -> None:
    told = await ask_page(client, "Zebras?")
    assert "event: done" in told
    assert model.requests == []
    assert verify(wiring.audit_path()).ok
    log = wiring.audit_path().read_text()
    assert (log.count('"accepted"'), log.count('"finished"')) == (1, 1)


async def test_a_log_that_cannot_be_written_refuses_the_page_too(
    client: httpx.AsyncClient,
) -> None:
    wiring.audit_path().parent.mkdir(parents=True, exist_ok=True)
    wiring.audit_path().mkdir()
    told = await ask_page(client, QUESTION)
    assert "event: error" in told
    assert '"status": 507' in told
    assert "years" not in told


async def test_a_question_of_the_page_is_guarded(client: httpx.AsyncClient) -> None:
    told = await ask_page(client, "letters \x1b[2J")
    assert '"status": 403' in told
    assert "event: hits" not in told


async def test_a_past_answer_that_quotes_a_hostile_document_does_not_end_the_conversation(
    client: httpx.AsyncClient,
) -> None:
    past = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a \x1b[2J [1]"}]
    answer = await client.post("/api/ask", json={"question": QUESTION, "history": past})
    assert "event: done" in answer.text
