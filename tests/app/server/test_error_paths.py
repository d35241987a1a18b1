"""Whatever breaks on the server, no answer of any route says where its files are."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
from starlette.testclient import TestClient
from tests.app.services import local_service

from lmstack.app import wiring
from lmstack.app.server.access import KeyEntry
from lmstack.core import FormatError, Request, ScriptedModel, StoreError

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder

ASKED = {"messages": [{"role": "user", "content": "How long are letters kept?"}]}
ADDED = {"content-type": "application/octet-stream"}


def _break_model(request: Request) -> str:
    folder = wiring.index_of(Path("docs")).parent
    raise FormatError(f"the model of {folder} has changed", hint=f"lmstack pull --from={folder}")


@pytest.fixture
def client(home: Path, docs: Path, embedder: HashEmbedder) -> Iterator[TestClient]:
    model = ScriptedModel([_break_model] * 99, name="tiny")
    keys = ("boss", "guest")
    owner = KeyEntry(hashlib.sha256(b"boss").digest(), None)
    service = local_service(docs, model, embedder, keys, entries=(owner,), uploads=True)
    with TestClient(
        service.app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False
    ) as found:
        found.headers["Authorization"] = "Bearer boss"
        deadline = time.monotonic() + 60
        while found.get("/api/status").json()["files"]["indexed"] < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield found
    service.close()


def _replace(folder: Path) -> None:
    """A file in the place of a folder: everything below it fails, also for root."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_bytes(b"not a folder")


def _spoil(folder: Path) -> None:
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        file.write_bytes(b"spoilt" * 2000)


def _answers(client: TestClient) -> Iterator[tuple[str, httpx.Response]]:
    """Of every route that reads or writes something."""
    documents = "/api/documents"
    where = quote(json.dumps({"field": "path", "op": "under", "value": "x"}))
    for path in (
        *("/api/status", documents, f"{documents}/1", f"{documents}/1/text", "/api/facets"),
        *(f"{documents}/1/boxes?start=0&end=9", f"{documents}/1/pages/1", "/api/suggestions"),
        *(f"{documents}?where={where}", "/v1/models", "/metrics", "/nothing"),
    ):
        yield path, client.get(path)
    for path, body in _posts():
        yield path, client.post(path, json=body)
    for name in ("a.md", "letters.md", "../b.md", "/etc/c.md", "d.exe"):
        put = client.put(f"/api/uploads?name={quote(name)}", content=b"# A\n", headers=ADDED)
        yield f"/api/uploads {name}", put


def _posts() -> Iterator[tuple[str, Any]]:
    for model in ("docs", "tiny", "other"):
        for stream in (False, True):
            yield "/v1/chat/completions", {"model": model, "stream": stream, **ASKED}
            yield "/v1/completions", {"model": model, "stream": stream, "prompt": "x"}
    yield "/api/index", {}
    yield "/api/ask", {"question": "How long are letters kept?"}
    yield "/api/feedback", {"request_id": "x" * 32, "verdict": "good"}
    yield "/v1/embeddings", {"model": "hash", "input": "x"}


BREAKS: dict[str, Callable[[Path, Path], None]] = {
    "nothing": lambda home, docs: None,
    "audit log": lambda home, docs: _replace(wiring.audit_path().parent),
    "index gone": lambda home, docs: _replace(wiring.index_of(docs)),
    "index spoilt": lambda home, docs: _spoil(wiring.index_of(docs)),
    "uploads": lambda home, docs: _replace(docs / "uploads"),
    "documents": lambda home, docs: _replace(docs),
    "home": lambda home, docs: _replace(home),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_no_answer_says_where_the_files_of_the_server_are(
    client: TestClient, home: Path, docs: Path, broken: str
) -> None:
    BREAKS[broken](home, docs)
    failed = 0
    for key in ("guest", "boss"):
        client.headers["Authorization"] = f"Bearer {key}"
        for route, answer in _answers(client):
            # The owner may know which folder is served.
            text = answer.text.replace(f'"root": "{docs}"', "") if key == "boss" else answer.text
            failed += answer.status_code >= 400 or '"error"' in text
            assert str(home.parent) not in text, (route, text)
            assert not answer.status_code >= 400 or answer.json()["error"]["message"]
    assert failed > 10


def test_a_full_disk_names_the_file_and_not_its_place(
    client: TestClient, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = wiring.audit_path()

    def append(*_: Any, **options: Any) -> None:
        raise StoreError(f"{log} cannot be written: no space left on device")

    monkeypatch.setattr("lmstack.safety.audit.AuditLog.append", append)
    answer = client.post("/v1/chat/completions", json={"model": "tiny", **ASKED})
    assert answer.json()["error"]["message"].startswith("audit.jsonl cannot be written")
