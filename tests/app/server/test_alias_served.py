"""A model that is served under an alias: listed, asked and recorded with what it stands for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from lmstack.app import wiring
from lmstack.app.wiring.build import build_service, served_name
from lmstack.core import ScriptedModel
from lmstack.serve.http.app import LOCAL_HOSTS

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
async def client(home: Path, docs: Path, embedder: HashEmbedder) -> Any:
    service = build_service(
        folder=docs,
        index_dir=wiring.index_of(docs),
        audit_path=wiring.audit_path(),
        model=ScriptedModel(["fine"], name="tiny"),
        alias="prod",
        embedder=embedder,
        api_keys=(),
        allowed_hosts=LOCAL_HOSTS,
        close_model=lambda: None,
    )
    transport = httpx.ASGITransport(service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as found:
        yield found
    service.close()


async def test_the_alias_is_listed_with_its_digest_and_the_model_that_it_stands_for(
    client: httpx.AsyncClient,
) -> None:
    listed = {each["id"]: each for each in (await client.get("/v1/models")).json()["data"]}
    assert {"prod", "tiny", "docs"} <= listed.keys()
    assert (listed["prod"]["digest"], listed["prod"]["root"]) == (DIGEST, "tiny")
    assert "root" not in listed["tiny"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_under_the_alias_names_the_digest_and_so_does_the_record(
    client: httpx.AsyncClient, stream: bool
) -> None:
    asked = {"model": "prod", "messages": [{"role": "user", "content": "hello"}], "stream": stream}
    answer = await client.post("/v1/chat/completions", json=asked)
    assert answer.status_code == 200
    assert f'"system_fingerprint":"{DIGEST}"' in answer.text
    assert '"model":"prod"' in answer.text
    records = [json.loads(line) for line in wiring.audit_path().read_text().splitlines()]
    told = [each["model"] for each in records if each["event"] in ("accepted", "finished")]
    assert told == [{"name": "tiny", "digest": DIGEST}] * 2


def test_a_folder_with_the_name_of_the_alias_is_told_apart() -> None:
    assert served_name(Path("/somewhere/prod"), "tiny", "prod") == "prod-documents"
