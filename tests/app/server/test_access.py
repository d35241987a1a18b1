"""Access labels hold on every route, for every key."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient
from tests.app.services import local_service
from tests.byte_tokens import byte_level
from tests.serve.tiny_models import tiny_decoder

from lmstack.app import wiring
from lmstack.app.server.access import Access, KeyEntry, ScopedModel, read_keys
from lmstack.app.wiring.build import served_name
from lmstack.core import InputError, Request, ScriptedModel
from lmstack.engine import EngineConfig
from lmstack.rag import Index
from lmstack.serve import client_of_key
from lmstack.serve.local import LocalModel
from lmstack.text import Tokenizer

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder, Run

SECRET = "zanzibar"
KEYS = ("visitor", "hr", "boss")
ENTRIES = (
    KeyEntry(hashlib.sha256(b"hr").digest(), frozenset({"hr", "staff"})),
    KeyEntry(hashlib.sha256(b"boss").digest(), None),
)


@pytest.fixture
def server(home: Path, docs: Path, embedder: HashEmbedder) -> Iterator[TestClient]:
    """Two open documents and one, under salaries/, for those who hold ``hr``."""
    (docs / "salaries").mkdir()
    (docs / "salaries" / "letters.txt").write_text(
        f"# Letters of {SECRET}\n\nHow long are letters kept? The letters of {SECRET} are kept "
        "for ninety years.\n"
    )
    model = ScriptedModel(["[1] Letters are kept."] * 20, name="tiny")
    with Index.open(wiring.index_of(docs), embedder) as index:
        index.add([docs / "salaries"], labels=["hr"])
    service = local_service(docs, model, embedder, keys=KEYS, entries=ENTRIES)
    with TestClient(service.app, base_url="http://127.0.0.1:8000") as client:
        deadline = time.monotonic() + 20
        while _get(client, "boss", "/api/status")["files"]["indexed"] < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield client
    service.close()


def _get(client: TestClient, key: str, path: str) -> Any:
    reply = client.get(path, headers={"Authorization": f"Bearer {key}"})
    return reply.json() if "json" in reply.headers["content-type"] else reply.text


def _post(client: TestClient, key: str, path: str, body: Any) -> str:
    return client.post(path, json=body, headers={"Authorization": f"Bearer {key}"}).text


QUESTION = f"How long are the letters of {SECRET} kept?"


def _all_routes(client: TestClient, key: str, docs: Path) -> dict[str, str]:
    """Everything that a key can get to see, by route; asking for hidden things by name."""
    chat = {"messages": [{"role": "user", "content": QUESTION}], "model": served_name(docs, "tiny")}
    said = {
        path: json.dumps(_get(client, key, path))
        for path in (
            "/api/status",
            "/api/documents",
            "/api/documents?find=salaries",
            "/api/suggestions",
            "/v1/models",
            *(f"/api/documents/{n}{part}" for n in range(1, 6) for part in ("", "/text")),
            "/api/documents/99/text?path=docs/salaries/letters.txt",
        )
    }
    said["ask"] = _post(client, key, "/api/ask", {"question": QUESTION})
    said["chat"] = _post(client, key, "/v1/chat/completions", chat)
    said["index"] = _post(client, key, "/api/index", {})
    return said


def test_no_route_shows_a_hidden_document(server: TestClient, docs: Path) -> None:
    seen = _all_routes(server, "visitor", docs)
    told = {route for route, text in seen.items() if "salaries" in text or "ninety" in text}
    assert told == set()
    assert json.loads(seen["/api/status"])["files"] == {
        "total": 2,
        "indexed": 2,
        "problems": 0,
        "not_read": 0,
    }
    assert json.loads(seen["/api/documents"])["total"] == 2
    assert json.loads(seen["/api/documents?find=salaries"])["found"] == 0


@pytest.mark.parametrize("key", ["hr", "boss"])
def test_who_holds_the_labels_sees_it_on_every_route(
    server: TestClient, docs: Path, key: str
) -> None:
    seen = _all_routes(server, key, docs)
    for route in ("/api/documents", "/api/documents?find=salaries", "ask", "chat"):
        assert "salaries" in seen[route], route
    assert "ninety" in seen["/api/documents/99/text?path=docs/salaries/letters.txt"]
    assert json.loads(seen["/api/status"])["files"]["indexed"] == 3


def test_change_in_what_is_hidden_changes_no_number_that_is_shown(
    server: TestClient, docs: Path
) -> None:
    before = _get(server, "visitor", "/api/status")
    (docs / "salaries" / "more.txt").write_text("More.")
    _post(server, "boss", "/api/index", {})
    deadline = time.monotonic() + 20
    while _get(server, "boss", "/api/status")["files"]["indexed"] < 4:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert _get(server, "visitor", "/api/status") == before


class _Hearing(ScriptedModel):
    def stream(self, request: Request) -> Any:
        self.scopes = [*getattr(self, "scopes", []), request.cache_scope]
        return super().stream(request)


async def test_keys_of_equal_labels_share_no_computed_prompt() -> None:
    model = _Hearing(["x"] * 9)
    access = Access(("visitor", "other"), ENTRIES)
    for key in ("visitor", "other", "hr", "boss", "visitor"):
        request = Request(prompt="x", client=client_of_key(key))
        [_ async for _ in ScopedModel(model, access).stream(request)]
    assert len(set(model.scopes[:4])) == 4
    assert model.scopes[0] == model.scopes[4]


async def test_without_keys_all_share_computed_prompts() -> None:
    model = _Hearing(["x"] * 9)
    for client in ("ip:127.0.0.1", "ip:127.0.0.2"):
        request = Request(prompt="x", client=client)
        [_ async for _ in ScopedModel(model, Access()).stream(request)]
    assert set(model.scopes) == {""}


def test_cached_tokens_do_not_tell_the_digits_that_another_key_asked_about(
    home: Path, docs: Path, embedder: HashEmbedder
) -> None:
    """The attack: of ten questions that go on with another digit, the one that another key's
    question goes on with finds a token more in the cache, digit by digit."""
    tokenizer = Tokenizer.from_json(byte_level("<|end|>").to_str(), {"eos_token": "<|end|>"})
    engine = EngineConfig(block_size=4, num_blocks=400)
    begin, secret = "My number is ", "493817"
    with LocalModel(tiny_decoder(tokenizer), engine) as model:
        service = local_service(docs, model, embedder, keys=("victim", "spy"))
        with TestClient(service.app, base_url="http://127.0.0.1:8000") as client:

            def cached(key: str, prompt: str) -> int:
                body = {"model": "tiny", "prompt": prompt, "max_tokens": 1}
                usage = json.loads(_post(client, key, "/v1/completions", body))["usage"]
                return int(usage["prompt_tokens_details"]["cached_tokens"])

            cached("victim", f"{begin}{secret}, keep it to yourself.")
            assert cached("victim", f"{begin}{secret}, keep") >= len(begin) + len(secret) - 1
            hits = model.stats().num_prefix_hits
            cached("spy", f"{begin}?????")
            assert model.stats().num_prefix_hits == hits
            for place in range(len(secret)):
                known = begin + secret[:place]
                cached("spy", f"{known}?????")
                told = {cached("spy", f"{known}{digit}?????") for digit in "0123456789"}
                assert len(told) == 1, f"digit {place + 1}"
        service.close()


def test_without_keys_whoever_asks_is_the_owner() -> None:
    assert Access().labels_of("ip:127.0.0.1") is None
    assert Access(("k",)).labels_of("ip:127.0.0.1") == frozenset()


GOOD = {"sha256": "ab" * 32, "labels": ["hr"]}


def test_keys_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [GOOD, {"sha256": "cd" * 32, "owner": True}]}))
    assert read_keys(path) == (
        KeyEntry(b"\xab" * 32, frozenset({"hr"})),
        KeyEntry(b"\xcd" * 32, None),
    )


def entry(**changes: Any) -> dict[str, Any]:
    """A key without labels, right but for ``changes``: nothing else in it can be refused."""
    return {"sha256": "cd" * 32, **changes}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON"),
        ("[]", 'no list of "keys"'),
        ("{}", 'no list of "keys"'),
        ('{"keys": []}', 'no list of "keys"'),
        ('{"keys": {}}', 'no list of "keys"'),
        (json.dumps({"keys": [GOOD], "more": 1}), "something beside it"),
        (json.dumps({"keys": [GOOD, GOOD]}), "has a key twice"),
        (json.dumps({"keys": ["secret"]}), "key 1 is 'secret'"),
        *(
            (json.dumps({"keys": [GOOD, entry(**change)]}), said)
            for change, said in (
                ({"sha256": "secret"}, "key 2 has no sha256"),
                ({"sha256": None}, "key 2 has no sha256"),
                ({"sha256": "ef" * 33}, "key 2 has no sha256"),
                ({"labels": "hr"}, "labels of key 2 are not"),
                ({"labels": [1]}, "labels of key 2 are not"),
                ({"labels": ["h r"]}, "'h r'"),
                ({"labels": ["!"]}, "'!'"),
                ({"labels": ["hr"], "owner": True}, "key 2 is either"),
                *(({"owner": value}, "key 2 is either") for value in ("false", "yes", 1, 0, None)),
                ({"label": ["hr"]}, "key 2 is"),
            )
        ),
    ],
)
def test_keys_file_that_is_not_understood_opens_nothing(
    tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(InputError, match=re.escape(said)):
        read_keys(path)


def test_up_refuses_a_bad_keys_file_before_it_loads_anything(
    run: Run, docs: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys.json").write_text("{}")
    ran = run("up", str(docs), "--keys", str(tmp_path / "keys.json"))
    assert ran.code == 1
    assert "keys file" in ran.err


def test_only_the_owners_key_reads_what_everybody_did(server: TestClient) -> None:
    assert "lmstack_requests" in _get(server, "boss", "/metrics")
    for key in ("visitor", "hr"):
        assert _get(server, key, "/metrics")["error"]["code"] == "operator_only"
