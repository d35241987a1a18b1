"""The routes of agents' runs: who may see them, who decides, and what of it is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from tests.agents.scripted_tools import calls
from tests.app.page.agent_runs import HOSTILE, Running, clerk, hostile_run, ran, sender, stored

from lmstack.agents import Agent, ApprovalStep, Member, RunStore, ScriptedApprover, run_to_json
from lmstack.app.page.agents.live import LiveRuns
from lmstack.app.server.approvals import PageApprover
from lmstack.core import ScriptedModel, StoreError
from lmstack.serve.http.guard import client_of_key, key_digest

KEYS = ["sesame", "barley"]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs.sqlite", fsync=False)


@pytest.fixture
def approver() -> Iterator[PageApprover]:
    made = PageApprover()
    yield made
    made.close()  # whatever still waits ends


@pytest.fixture
def records() -> list[Any]:
    return []


@pytest.fixture
def client(
    workspace: Any, serve: Any, store: RunStore, approver: PageApprover, records: list[Any]
) -> Iterator[httpx.Client]:
    server = serve(workspace, agents=LiveRuns(store, approver), record=records.append)
    with httpx.Client(base_url=server.url) as client:
        yield client


def text_of(shape: Any) -> str:
    return shape if isinstance(shape, str) else "".join(map(text_of, shape[2:]))


def waiting(approver: PageApprover, until: Any) -> str:
    until(lambda: approver.pending)
    return approver.pending[0].id


def test_a_server_without_agents_has_no_such_pages(workspace: Any, serve: Any) -> None:
    url = serve(workspace).url
    assert {httpx.get(url + path).status_code for path in ("/agents", "/agents/r")} == {404}
    assert httpx.get(url + "/api/agents").status_code == 404
    assert httpx.get(url + "/api/status").json()["agents"] is False


def test_runs_are_listed_and_shown_as_text(client: httpx.Client, store: RunStore) -> None:
    run = ran(lambda: clerk(ScriptedApprover("approved"), store))
    listed = client.get("/api/agents").json()
    assert "When do backups run?" in text_of(listed["body"])
    assert f"/agents/{run.id}" in json.dumps(listed["body"])
    shown = client.get(f"/api/agents/{run.id}").json()
    assert (shown["live"], shown["end"], shown["waiting"]) == (False, "answered", 0)
    assert "I ask the reader" in text_of(shown["body"])


def test_the_json_is_that_of_the_run(client: httpx.Client, store: RunStore) -> None:
    run = ran(lambda: clerk(ScriptedApprover("approved"), store))
    assert client.get(f"/agents/{run.id}.json").json() == run_to_json(store.load(run.id))


def test_ids_may_hold_anything(client: httpx.Client, store: RunStore) -> None:
    agent, _ = sender()
    for id_ in ("a/b", "ü?#&", "..%2f", "a.b"):
        ran(lambda id_=id_: agent.run("go", store=store, run_id=id_))
        path = f"/agents/{quote(id_, safe='')}"
        assert client.get(f"/api{path}").json()["end"] == "answered", id_
        assert client.get(f"{path}.json").json()["id"] == id_
        assert client.get(path).text.startswith("<!doctype html>")


def test_hostile_text_is_carried_as_text_of_named_elements(
    client: httpx.Client, store: RunStore
) -> None:
    stored(store, hostile_run())
    found = client.get("/api/agents")
    assert HOSTILE[:20] in text_of(found.json()["body"])
    [link] = [a for a in _elements(found.json()["body"]) if a[0] == "a"]
    body = client.get(f"/api{link[1]['href']}").json()["body"]
    assert {tag for tag, *_ in _elements(body)} & {"script", "iframe", "a", "style"} == set()
    names = {name for element in _elements(body) for name in element[1]}
    assert not [name for name in names if name.startswith("on") or name == "style"]


def _elements(shape: Any) -> Iterator[Any]:
    if not isinstance(shape, str):
        yield shape
        for child in shape[2:]:
            yield from _elements(child)


def test_what_has_not_changed_is_not_sent_again(client: httpx.Client, store: RunStore) -> None:
    run = ran(lambda: clerk(None, store))
    for path in ("/api/agents", f"/api/agents/{run.id}", f"/agents/{run.id}.json"):
        first = client.get(path)
        assert first.headers["cache-control"] == "private, no-cache"
        again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_a_run_is_drawn_anew_when_it_went_on_and_when_its_id_is_another_run(
    client: httpx.Client, store: RunStore
) -> None:
    agent, _ = sender("one")
    ran(lambda: agent.run("first task", store=store, run_id="r"))
    assert client.get("/api/agents/r").json()["end"] == "waits for a person"
    ran(lambda: agent.resume("r", store=store, approver=ScriptedApprover("denied")))
    shown = client.get("/api/agents/r").json()
    assert shown["end"] == "answered"
    store.delete("r")
    assert client.get("/api/agents/r").status_code == 404
    other, _ = sender("one")
    ran(lambda: other.run("second task", store=store, run_id="r"))
    assert client.get("/api/agents/r").json()["title"] == "second task"


@pytest.mark.parametrize("path", ["/api/agents/none", "/agents/none.json", "/api/agents/"])
def test_a_run_that_is_not_there_is_404(path: str, client: httpx.Client) -> None:
    assert client.get(path).status_code == 404


# ---- decisions


def test_an_approved_call_runs_and_the_run_keeps_who_approved_it(
    client: httpx.Client,
    store: RunStore,
    approver: PageApprover,
    records: list[Any],
    until: Any,
) -> None:
    agent, tool = sender("one")
    running = Running(lambda: agent.run("go", approver=approver, store=store, run_id="r"))
    id_ = waiting(approver, until)
    shown = client.get("/api/agents/r").json()
    assert (shown["live"], shown["waiting"]) == (True, 1)
    assert tool.ran == []
    answer = client.post(f"/api/approvals/{id_}", json={"verdict": "approved"})
    assert (answer.status_code, answer.json()) == (200, {"verdict": "approved"})
    run = running.wait()
    assert tool.ran == [{"text": "one"}]
    [step] = [step for step in run.steps if isinstance(step, ApprovalStep)]
    assert (step.decision.verdict, step.decision.by) == ("approved", "ip:127.0.0.1")
    [record] = records
    assert (record["event"], record["verdict"], record["run"], record["tool"]) == (
        *("agent_call_decided", "approved", "r", "send"),
    )
    assert "one" not in json.dumps(record)


def test_the_reason_of_a_denial_is_told_to_the_model(
    client: httpx.Client, store: RunStore, approver: PageApprover, until: Any
) -> None:
    agent, tool = sender("one")
    running = Running(lambda: agent.run("go", approver=approver, store=store))
    id_ = waiting(approver, until)
    client.post(f"/api/approvals/{id_}", json={"verdict": "denied", "reason": " not him "})
    run = running.wait()
    assert tool.ran == []
    assert [m.content for m in run.messages if m.role == "tool"] == [
        "Error: the call was not approved: not him"
    ]


def test_a_second_answer_is_refused(
    client: httpx.Client, store: RunStore, approver: PageApprover, records: list[Any], until: Any
) -> None:
    agent, tool = sender("one")
    running = Running(lambda: agent.run("go", approver=approver, store=store))
    id_ = waiting(approver, until)
    assert client.post(f"/api/approvals/{id_}", json={"verdict": "denied"}).status_code == 200
    again = client.post(f"/api/approvals/{id_}", json={"verdict": "approved"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "already_decided")
    running.wait()
    assert (tool.ran, len(records)) == ([], 1)
    unknown = client.post(f"/api/approvals/{'0' * 32}", json={"verdict": "approved"})
    assert unknown.status_code == 404


def test_a_call_of_an_agent_below_is_decided_on_the_page_of_the_run_above(
    client: httpx.Client, store: RunStore, approver: PageApprover, until: Any
) -> None:
    below, tool = sender("one")
    script = [calls(("helper", {"task": "send it"})), "done"]
    above = Agent(ScriptedModel(script), name="boss", team=[Member("helper", below)])
    running = Running(lambda: above.run("go", approver=approver, store=store, run_id="top"))
    id_ = waiting(approver, until)
    shown = client.get("/api/agents/top").json()
    assert shown["waiting"] == 1
    assert "May boss/helper call send?" in text_of(shown["body"])
    links = {
        a[1]["href"] for a in _elements(client.get("/api/agents").json()["body"]) if a[0] == "a"
    }
    assert links == {"/agents/top"}
    client.post(f"/api/approvals/{id_}", json={"verdict": "approved"})
    assert running.wait().end == "answered"
    assert tool.ran == [{"text": "one"}]


def test_a_call_of_a_run_that_is_in_no_store_can_be_decided_in_the_list(
    client: httpx.Client, approver: PageApprover, until: Any
) -> None:
    agent, tool = sender("one")
    running = Running(lambda: agent.run("go", approver=approver))
    id_ = waiting(approver, until)
    body = client.get("/api/agents").json()["body"]
    assert [e for e in _elements(body) if e[0] == "a"] == []
    assert id_ in json.dumps(body)
    client.post(f"/api/approvals/{id_}", json={"verdict": "approved"})
    assert (running.wait().end, tool.ran) == ("answered", [{"text": "one"}])


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"json": {}}, 400),
        ({"json": {"verdict": "later"}}, 400),
        ({"json": {"verdict": "approve"}}, 400),
        ({"json": {"verdict": True}}, 400),
        ({"json": {"verdict": "approved", "tool": "other"}}, 400),
        ({"json": {"verdict": "denied", "reason": "x" * 1001}}, 400),
        ({"json": {"verdict": "denied", "reason": "x" * 20_000}}, 413),
        ({"data": {"verdict": "approved"}}, 415),
        ({"content": b'{"verdict": "approved"}', "headers": {"Content-Type": "text/plain"}}, 415),
        (
            {"json": {"verdict": "approved"}, "headers": {"Origin": "http://evil.example"}},
            403,
        ),
        ({"json": {"verdict": "approved"}, "headers": {"Host": "evil.example"}}, 403),
        ({"json": {"verdict": "approved"}, "headers": {"Sec-Fetch-Site": "cross-site"}}, 403),
    ],
)
def test_what_is_no_decision_of_this_page_decides_nothing(
    sent: Any, status: int, client: httpx.Client, approver: PageApprover, until: Any
) -> None:
    agent, tool = sender("one")
    running = Running(lambda: agent.run("go", approver=approver))
    id_ = waiting(approver, until)
    assert client.post(f"/api/approvals/{id_}", **sent).status_code == status
    assert client.get(f"/api/approvals/{id_}?verdict=approved").status_code == 405
    assert [each.id for each in approver.pending] == [id_]
    approver.close()
    assert (running.wait().end, tool.ran) == ("waiting", [])


def test_without_its_record_nothing_is_approved(
    workspace: Any, serve: Any, store: RunStore, approver: PageApprover, until: Any
) -> None:
    def fails(_: Any) -> None:
        raise StoreError("the audit log is full")

    url = serve(workspace, agents=LiveRuns(store, approver), record=fails).url
    agent, tool = sender("one")
    running = Running(lambda: agent.run("go", approver=approver))
    id_ = waiting(approver, until)
    answer = httpx.post(f"{url}/api/approvals/{id_}", json={"verdict": "approved"})
    assert answer.status_code >= 500
    assert [each.id for each in approver.pending] == [id_]
    approver.close()
    assert (running.wait().end, tool.ran) == ("waiting", [])


def test_without_an_approver_runs_are_shown_and_nothing_is_decided(
    workspace: Any, serve: Any, store: RunStore
) -> None:
    url = serve(workspace, agents=LiveRuns(store)).url
    run = ran(lambda: clerk(None, store))
    shown = httpx.get(f"{url}/api/agents/{run.id}").json()
    assert "Whoever resumes the run is asked again" in text_of(shown["body"])
    assert "data-decide" not in json.dumps(shown)
    answer = httpx.post(f"{url}/api/approvals/x", json={"verdict": "approved"})
    assert answer.status_code == 404


# ---- keys


def test_only_the_operator_sees_runs_and_decides(
    workspace: Any, serve: Any, store: RunStore, approver: PageApprover, until: Any
) -> None:
    owner, other = KEYS
    url = serve(
        workspace,
        api_keys=KEYS,
        operator_digests=[key_digest(owner)],
        agents=LiveRuns(store, approver),
    ).url
    agent, tool = sender("one")
    running = Running(lambda: agent.run("secret task", approver=approver, store=store, run_id="r"))
    id_ = waiting(approver, until)
    read = ["/api/agents", "/api/agents/r", "/agents/r.json", "/agents/none.json"]

    def get(path: str, key: str | None) -> httpx.Response:
        return httpx.get(url + path, headers={"Authorization": f"Bearer {key}"} if key else {})

    assert {get(path, None).status_code for path in read} == {401}
    assert {get(path, "wrong").status_code for path in read} == {401}
    assert {get(path, other).status_code for path in read} == {403}
    assert [get(path, owner).status_code for path in read] == [200, 200, 200, 404]
    for key, status in ((None, 401), ("wrong", 401), (other, 403)):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        answer = httpx.post(
            f"{url}/api/approvals/{id_}", json={"verdict": "approved"}, headers=headers
        )
        assert answer.status_code == status
    assert tool.ran == []
    for path in ("/agents", "/agents/r", "/agents/none"):  # the pages hold no data
        page = get(path, None)
        assert (page.status_code, "secret" in page.text) == (200, False)
        assert page.headers["content-security-policy"].endswith("trusted-types 'none'")
    status = [get("/api/status", key).json()["agents"] for key in (owner, other)]
    assert status == [True, False]
    answer = httpx.post(
        f"{url}/api/approvals/{id_}",
        json={"verdict": "approved"},
        headers={"Authorization": f"Bearer {owner}"},
    )
    assert answer.status_code == 200
    [step] = [step for step in running.wait().steps if isinstance(step, ApprovalStep)]
    assert step.decision.by == client_of_key(owner)


def test_every_file_that_the_page_of_agents_names_is_served(client: httpx.Client) -> None:
    page = client.get("/agents").text
    named = set(re.findall(r"/static/[\w.-]+", page))
    assert {client.get(name).status_code for name in named} == {200}
    preloaded = set(re.findall(r'modulepreload" href="([^"]+)"', page))
    imported = set(re.findall(r'from "(/static/[^"]+)"', client.get("/static/agents.js").text))
    deeper = {
        name
        for module in imported
        for name in re.findall(r'from "(/static/[^"]+)"', client.get(module).text)
    }
    assert preloaded == imported | deeper
