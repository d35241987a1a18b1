"""Files made to harm, added by people over HTTP: each is refused or reported, the rest is found."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.app.conftest import HashEmbedder
from tests.app.hostile_folder import EXPECTED, GOOD, SECRET, make_folder
from tests.app.services import local_service

from lmstack.app import wiring
from lmstack.core import ScriptedModel
from lmstack.rag import Index

BYTES = {"Content-Type": "application/octet-stream"}
BAD = [
    name
    for name, kind in EXPECTED.items()
    if kind not in ("special", "symlink", "name", "unreadable") and name != "sparse.txt"
]
ESCAPES = [
    "../escaped.md",
    "../../escaped.md",
    "/tmp/escaped.md",
    "sub/escaped.md",
    "..\\escaped.md",
    "%2e%2e%2fescaped.md",
    "escaped.md\x00.pdf",
    "..",
    ".lmstackignore",
    "bill\u202etxt.md",
    "a\nb.md",
    "x" * 5_000 + ".md",
    "escaped.exe",
    "",
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def client(base: Path) -> Iterator[TestClient]:
    docs = base / "docs"
    docs.mkdir()
    (docs / "first.md").write_text("# First\n\nThe first page.\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMSTACK_HOME", str(base / "home"))
        service = local_service(docs, ScriptedModel(), HashEmbedder(), uploads=True)
        with TestClient(service.app, base_url="http://127.0.0.1:8000") as opened:
            _until_ready(opened, 1)
            yield opened
        service.close()


def _until_ready(client: TestClient, total: int) -> None:
    deadline = time.monotonic() + 200
    while True:
        status = client.get("/api/status").json()
        if status["state"] == "ready" and status["files"]["total"] >= total:
            return
        assert time.monotonic() < deadline, status
        time.sleep(0.05)


@pytest.mark.parametrize("name", ESCAPES)
def test_name_that_leads_elsewhere_is_refused_and_nothing_is_written(
    client: TestClient, base: Path, name: str
) -> None:
    reply = client.put("/api/uploads", params={"name": name}, content=b"x", headers=BYTES)
    if reply.status_code == 201:  # what looks like a path but is one name
        assert (base / "docs" / "uploads" / name).is_file()
        (base / "docs" / "uploads" / name).unlink()
    else:
        assert reply.status_code == 400
        assert reply.json()["error"]["hint"]
    assert not [*base.rglob("*escaped*")]
    assert not [*base.rglob(".lmstackignore")]
    assert not Path("/tmp/escaped.md").exists()


def test_file_over_the_limit_is_refused_and_leaves_nothing(client: TestClient, base: Path) -> None:
    big = bytes(25_000_000)
    uploads = base / "docs" / "uploads"
    before = {*uploads.iterdir()} if uploads.exists() else set()
    for content in (big, iter([big])):
        reply = client.put(
            "/api/uploads", params={"name": "big.txt"}, content=content, headers=BYTES
        )
        assert reply.status_code == 413
    assert {*uploads.iterdir()} == before


def test_bad_files_are_reported_and_the_good_ones_found(client: TestClient, base: Path) -> None:
    made = make_folder(base / "made", base / "secret.txt")
    good = [name for name in GOOD if "/" not in name]
    for name in (*BAD, *good):
        reply = client.put(
            "/api/uploads",
            params={"name": name},
            content=(made / name).read_bytes(),
            headers=BYTES,
        )
        assert reply.status_code == 201, (name, reply.text)
    _until_ready(client, 1 + len(BAD) + len(good))
    rows = client.get("/api/documents?find=uploads").json()["documents"]
    told = {Path(row["path"]).name: row["problem"] for row in rows if row["problem"]}
    assert set(told) == set(BAD)
    assert all(problem["message"] and problem["hint"] for problem in told.values())
    assert {Path(row["path"]).name for row in rows if row["id"]} == set(good)
    with Index.open(wiring.index_of(base / "docs"), create=False) as index:
        for name in good:
            [hit] = index.search(GOOD[name], 1, "lexical")
            assert Path(hit.path).name == name
        assert index.search(SECRET, 1, "lexical") == []
