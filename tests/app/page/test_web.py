"""The page's routes: headers, caching, checks of what is sent, the end of a stream."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from lmstack.app.page.stream import AnswerStream
from lmstack.core import InputError, OverloadedError
from lmstack.serve.http.streams import StopSignal


@pytest.fixture
def client(workspace: Any, serve: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serve(workspace).url) as client:
        yield client


def events(body: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for part in body.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in part.splitlines() if ": " in line)
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def policy(response: httpx.Response) -> dict[str, str]:
    parts = response.headers["content-security-policy"].split(";")
    return dict(part.strip().split(" ", 1) for part in parts)


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/static/base.css", "/static/icon.svg"])
def test_page_may_load_only_from_its_own_server(path: str, client: httpx.Client) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert (
        policy(response).items()
        >= {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "connect-src": "'self'",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
            "trusted-types": "'none'",
        }.items()
    )
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"


def test_browser_copy_is_asked_about_and_not_sent_again(client: httpx.Client) -> None:
    first = client.get("/static/main.js")
    again = client.get(
        "/static/main.js", headers={"If-None-Match": f'"x", {first.headers["etag"]}'}
    )
    assert first.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    ["/static/none.js", "/static/..%2fweb.py", "/static/%2e%2e%2fweb.py", "/static//etc/passwd"],
)
def test_only_files_of_the_page_are_served(path: str, client: httpx.Client) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert response.json()["error"]["message"]


def test_every_file_that_the_page_names_is_served(client: httpx.Client) -> None:
    waiting, seen = ["/"], set()
    while waiting:
        path = waiting.pop()
        response = client.get(path)
        assert response.status_code == 200, path
        seen.add(path)
        waiting += set(re.findall(r"/static/[\w.-]+", response.text)) - seen
    assert {"/static/text.js", "/static/panel.css"} <= seen


def test_every_module_is_loaded_at_once_and_not_one_after_another(client: httpx.Client) -> None:
    page = client.get("/").text
    preloaded = set(re.findall(r'modulepreload" href="([^"]+)"', page))
    imported = set(re.findall(r'from "(/static/[^"]+)"', client.get("/static/main.js").text))
    deeper = {
        name
        for module in imported
        for name in re.findall(r'from "(/static/[^"]+)"', client.get(module).text)
    }
    assert preloaded == imported | deeper


def test_data_needs_the_key_and_the_page_does_not(workspace: Any, serve: Any) -> None:
    url = serve(workspace, api_keys=["sesame"]).url
    public = ["/", "/static/main.js"]
    private = ["/api/status", "/api/documents", "/api/documents/1", "/api/documents/1/text"]
    private += ["/api/suggestions", "/api/nothing"]
    assert [httpx.get(url + path).status_code for path in public] == [200, 200]
    assert {httpx.get(url + path).status_code for path in private} == {401}
    assert httpx.post(url + "/api/ask", json={"question": "q"}).status_code == 401
    assert httpx.post(url + "/api/index", json={}).status_code == 401
    key = {"Authorization": "Bearer sesame"}
    assert httpx.get(url + "/api/status", headers=key).status_code == 200
    assert workspace.asked == []


def test_other_sites_cannot_ask_nor_read(client: httpx.Client, workspace: Any) -> None:
    rebound = client.get("/api/documents/1", headers={"Host": "evil.example"})
    foreign = client.post(
        "/api/ask", json={"question": "q"}, headers={"Origin": "http://evil.example"}
    )
    assert (rebound.status_code, foreign.status_code) == (403, 403)
    assert workspace.asked == []


@pytest.mark.parametrize(
    ("body", "status", "names"),
    [
        ({}, 400, "question"),
        ({"question": ""}, 400, "question"),
        ({"question": "   \n"}, 400, "question"),
        ({"question": 7}, 400, "question"),
        ({"question": "x" * 4001}, 400, "question"),
        ({"question": "q", "historie": []}, 400, "history"),
        ({"question": "q", "history": [{"role": "system", "content": "x"}]}, 400, "role"),
        ({"question": "q", "history": [{"role": "user", "content": ""}]}, 400, "content"),
        ({"question": "q", "history": [{"role": "user", "content": "x"}] * 17}, 400, "history"),
        ([], 400, "object"),
        ({"question": "q", "history": [{"role": "user", "content": "x" * 600_000}]}, 413, "bytes"),
    ],
)
def test_bad_question_is_refused_with_what_is_wrong(
    body: Any, status: int, names: str, client: httpx.Client, workspace: Any
) -> None:
    response = client.post("/api/ask", json=body)
    assert response.status_code == status
    error = response.json()["error"]
    assert names in f"{error['message']} {error['hint']}"
    assert workspace.asked == []


def test_form_of_another_site_is_no_question(client: httpx.Client) -> None:
    response = client.post("/api/ask", data={"question": "q"})
    assert response.status_code == 415


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/documents/99", 404),
        ("/api/documents/-1", 400),
        ("/api/documents/one", 400),
        ("/api/documents/²", 400),
        ("/api/documents/1?start=x", 400),
        ("/api/documents/1?around=99999999999999999", 400),
        ("/api/documents/1/text/more", 404),
        ("/api/ask", 405),
    ],
)
def test_bad_addresses_get_an_error_with_a_message(
    path: str, status: int, client: httpx.Client
) -> None:
    response = client.get(path)
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_answer_comes_as_named_events_in_order(client: httpx.Client, workspace: Any) -> None:
    workspace.scripts = [workspace.script("Two words.")]
    response = client.post(
        "/api/ask", json={"question": " q ", "history": [{"role": "user", "content": "before"}]}
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    names = [name for name, _ in events(response.text)]
    assert names == ["searching", "hits", "outcome", "delta", "delta", "done"]
    question, history = workspace.asked[0]
    assert (question, [message.content for message in history]) == ("q", ["before"])


def test_error_in_mid_stream_is_its_last_event(client: httpx.Client, workspace: Any) -> None:
    workspace.scripts = [[("delta", {"text": "x"}), OverloadedError("busy", hint="wait")]]
    found = events(client.post("/api/ask", json={"question": "q"}).text)
    assert found[-1] == ("error", {"message": "busy", "hint": "wait", "status": 429})


def test_fault_in_mid_stream_tells_an_id_and_nothing_of_the_inside(
    client: httpx.Client, workspace: Any
) -> None:
    workspace.scripts = [[("secret",)]]
    name, data = events(client.post("/api/ask", json={"question": "q"}).text)[-1]
    assert (name, data["status"]) == ("error", 500)
    assert "secret" not in json.dumps(data)


def test_lone_surrogate_in_a_document_does_not_break_the_stream(
    client: httpx.Client, workspace: Any
) -> None:
    workspace.scripts = [[("delta", {"text": "a\ud800b"}), InputError("bad \udcff name")]]
    found = events(client.post("/api/ask", json={"question": "q"}).text)
    assert found[0] == ("delta", {"text": "a\ud800b"})
    assert found[1][1]["message"] == "bad ? name"


def test_reader_who_leaves_stops_the_answer_at_once(
    client: httpx.Client, workspace: Any, until: Any
) -> None:
    workspace.scripts = [[("delta", {"text": "x"}), 60.0]]
    with client.stream("POST", "/api/ask", json={"question": "q"}) as response:
        received = response.iter_bytes()
        next(received)
        assert workspace.open_answers == 1
    until(lambda: workspace.open_answers == 0, seconds=2)


async def test_slow_answer_says_that_it_is_still_there() -> None:
    async def slow() -> AsyncIterator[tuple[str, dict[str, Any]]]:
        await asyncio.sleep(0.2)
        yield "done", {}

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    response = AnswerStream(
        slow(),
        stopping=StopSignal(),
        failed=lambda error: InputError(str(error)),
        left=lambda: None,
        heartbeat_s=0.02,
    )
    await response({"type": "http"}, asyncio.Event().wait, send)
    bodies = [message["body"] for message in sent[1:]]
    assert sent[0]["type"] == "http.response.start"
    assert bodies[0] == b": waiting\n\n"  # a comment, which is no event
    assert bodies[-2:] == [b"event: done\ndata: {}\n\n", b""]
    assert [message.get("more_body") for message in sent[-2:]] == [True, False]


def test_document_is_served_as_text_that_no_browser_runs(
    client: httpx.Client, workspace: Any
) -> None:
    workspace.texts = {"evil.html": "<script>alert(1)</script>"}
    response = client.get("/api/documents/1/text")
    assert response.text == "<script>alert(1)</script>"
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert policy(response)["default-src"] == "'none'"


def test_page_routes_are_not_part_of_the_public_api(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert [path for path in paths if path.startswith(("/api", "/static"))] == []
