"""`lmstack agent`: a task with tools, its steps, what waits for a person, and what is kept."""

from __future__ import annotations

import json
import re
import secrets
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.word_reranker import WordReranker

from lmstack.agents import ApprovalDecision, ApprovalRequest, Flow
from lmstack.agents.mcp import Offer
from lmstack.agents.toolkit import mcp_server_of
from lmstack.app import wiring
from lmstack.app.cli.commands import _agent_view
from lmstack.app.cli.output import Output
from lmstack.app.wiring import retrieval
from lmstack.app.wiring.agents import run_store
from lmstack.core import InputError, Message, ScriptedModel, ToolCall

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder, Run


def called(name: str, **arguments: Any) -> Message:
    return Message("assistant", "", tool_calls=(ToolCall("", name, json.dumps(arguments)),))


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the model says, to be filled by the test."""
    said: list[Any] = ["ok"]
    monkeypatch.setattr(wiring, "generator", lambda *_, **__: ScriptedModel(said, name="tiny"))
    return said


def test_an_answer_is_printed_and_its_steps_beside(run: Run, replies: list[Any]) -> None:
    replies[:] = [called("calculator", expression="12 * 31"), "It is 372."]
    ran = run("agent", "run", "What is 12 times 31?")
    assert ran.code == 0
    assert ran.out == "It is 372.\n"
    assert '-> calculator {"expression": "12 * 31"}' in ran.err
    assert "<- 372 (" in ran.err
    shown = run("agent", "show")
    assert "answered" in shown.out
    assert "What is 12 times 31?" in shown.out
    short = shown.out.splitlines()[1].split()[0]
    whole = run("agent", "show", short, "--json").json
    assert whole["id"].startswith(short)
    assert "It is 372." in run("agent", "show", short).out
    again = run("agent", "replay", short)
    assert again.code == 0
    assert "0 differ" in again.out


def test_json_is_the_run(run: Run, replies: list[Any]) -> None:
    replies[:] = ["Yes."]
    assert run("agent", "run", "Is it?", "--json").json["steps"]


@pytest.mark.parametrize(
    ("words", "must_call"),
    [
        (("run", "How much?"), True),
        (("run", "How much?", "--no-must-call"), False),
        (("run", "How much?", "--model", "larger"), False),
        (("run", "How much?", "--model", "larger", "--must-call"), True),
    ],
)
def test_the_default_model_has_to_call_a_tool_first(
    run: Run, replies: list[Any], words: tuple[str, ...], must_call: bool
) -> None:
    replies[:] = [called("calculator", expression="1 + 1"), "Two."]
    run("agent", *words)
    [kept] = run("agent", "show", "--json").json
    assert run_store(None).load(kept["id"]).spec.must_call is must_call


@pytest.mark.parametrize(("words", "protocol"), [((), "react"), (("--protocol", "tools"), "tools")])
def test_a_model_that_does_better_by_react_is_asked_so_unless_somebody_says(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], protocol: str
) -> None:
    model = ScriptedModel(["Thought: done.\nFinal Answer: 2", "2"], name="tiny")
    model.info = replace(model.info, reacts=True)
    monkeypatch.setattr(wiring, "generator", lambda *_, **__: model)
    run("agent", "run", "How much?", "--model", "tiny", *words)
    [kept] = run("agent", "show", "--json").json
    assert run_store(None).load(kept["id"]).spec.protocol == protocol


def test_a_dangerous_call_waits_where_nobody_sits_and_goes_on(
    run: Run, replies: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    replies[:] = [called("calculator", expression="1 + 1"), "Two."]
    ran = run("agent", "run", "How much is 1 + 1?", "--ask", "calculator")
    assert ran.code == 0
    assert "waiting for a person: lmstack agent run --ask calculator --resume" in ran.err
    waiting = ran.err.split("--resume ")[1].split()[0]
    answers = iter(["y\n"])
    monkeypatch.setattr(_agent_view.Person, "is_here", True)
    monkeypatch.setattr(sys.stdin, "readline", lambda: next(answers), raising=False)
    replies[:] = ["Two."]
    done = run("agent", "run", "--ask", "calculator", "--resume", waiting)
    assert done.code == 0
    assert done.out == "Two.\n"
    assert "May agent call calculator?" in done.err


def test_denying_is_told_to_the_model(
    run: Run, replies: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    replies[:] = [called("calculator", expression="1 + 1"), "Then not."]
    answers = iter(["n\n", "not today\n"])
    monkeypatch.setattr(_agent_view.Person, "is_here", True)
    monkeypatch.setattr(sys.stdin, "readline", lambda: next(answers), raising=False)
    ran = run("agent", "run", "How much?", "--ask", "calculator")
    assert ran.out == "Then not.\n"
    assert "not today" in ran.err


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What somebody at the terminal types, to be filled by the test."""
    lines: list[str] = []
    monkeypatch.setattr(_agent_view.Person, "is_here", True)
    monkeypatch.setattr(sys.stdin, "readline", lambda: lines.pop(0), raising=False)
    return lines


def test_what_cannot_be_seen_in_arguments_is_shown_by_its_code_point(
    run: Run, replies: list[Any], person: list[str]
) -> None:
    hidden = "1+1\u200b\U000e0072\u00ad\u2028\u3164\u2800\ufe01\x1b[2J"
    replies[:] = [called("calculator", expression=hidden), "Two."]
    person += ["n\n", "\n"]
    ran = run("agent", "run", "How much?", "--ask", "calculator")
    assert "1+1\\u200b\\U000e0072\\xad\\u2028\\u3164\\u2800\\ufe01\\u001b[2J" in ran.err
    assert not set(hidden[3:-3]) & set(ran.err)


def test_long_arguments_do_not_push_the_question_away_and_are_shown_before_they_are_approved(
    run: Run, replies: list[Any], person: list[str]
) -> None:
    long = "1+" * 20_000 + "SECRET" + "+1" * 20_000
    replies[:] = [called("calculator", expression=long), "Two."]
    person += ["y\n"]
    folded = run("agent", "run", "How much?", "--ask", "calculator")
    assert "waiting for a person" in folded.err  # a yes to what was not shown counts for nothing
    _, _, asked = folded.err.partition("arguments:")
    assert len(asked.partition("[s]how all")[0]) < 3_000
    assert "SECRET" not in asked
    person += ["s\n", "Y\n"]
    whole = run("agent", "run", "How much?", "--ask", "calculator")
    assert "SECRET" in whole.err
    assert whole.err.rpartition("SECRET")[2].count("May agent call calculator?") == 1
    assert whole.out == "Two.\n"


async def test_many_origins_are_counted_and_not_all_listed(
    person: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flows = tuple(Flow("page", f"/{n}", "x") for n in range(500))
    person += ["l\n"]
    asked = ApprovalRequest("call_1", "send", "{}", "send is dangerous", flows)
    assert (await _agent_view.Person(Output()).decide(asked)).verdict == "later"
    shown = capsys.readouterr().err
    assert shown.count("holds text of page") == 10
    assert "and 490 more like these" in shown


@pytest.mark.parametrize(
    ("typed", "verdict"), [("y", True), ("Y", True), ("Yes", True), ("", False)]
)
async def test_a_capital_y_is_a_yes_to_the_tools_of_a_server(
    person: list[str], typed: str, verdict: bool
) -> None:
    person += [f"{typed}\n"]
    assert await _agent_view.Person(Output()).approve(Offer("files")) is verdict


async def test_a_reason_keeps_its_capitals(person: list[str]) -> None:
    person += ["NO\n", "Ask Ada\n"]
    asked = ApprovalRequest("call_1", "send", "{}", "send is dangerous")
    assert await _agent_view.Person(Output()).decide(asked) == ApprovalDecision("denied", "Ask Ada")


def test_documents_and_files_become_tools(
    run: Run,
    docs: Path,
    replies: list[Any],
    embedder: HashEmbedder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrieval, "is_here", lambda name: True)
    monkeypatch.setattr(retrieval, "_reranker", WordReranker)
    replies[:] = [
        called("search", query="letters"),
        called("list_files"),
        "Found.",
    ]
    ran = run("agent", "run", "What do the documents say?", "--docs", "docs", "--files", "docs")
    assert ran.code == 0
    assert "-> search" in ran.err
    assert "untrusted" in ran.err
    assert "<- error" not in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "an agent needs a task"),
        (("x", "--resume", "y"), "has its task already"),
        (("--resume", "nothing"), "no run"),
        (("x", "--ask", "calculater"), "did you mean 'calculator'?"),
        (("x", "--mcp", "files"), "--mcp is 'files'"),
        (("x", "--files", "nowhere"), "nowhere"),
        (("x", "--steps", "0"), "steps"),
    ],
)
def test_what_cannot_be_done_is_said(
    run: Run, replies: list[Any], words: tuple[str, ...], said: str
) -> None:
    ran = run("agent", "run", *words)
    assert ran.code == 1
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_a_talk_goes_on_from_what_was_said(
    run: Run, replies: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    replies[:] = ["Hello Ada.", "You are Ada."]
    lines = iter(["I am Ada.\n", "Who am I?\n", "\n"])
    monkeypatch.setattr(sys.stdin, "readline", lambda: next(lines), raising=False)
    ran = run("agent", "chat")
    assert ran.out == "Hello Ada.\nYou are Ada.\n"


def test_servers_are_named_by_a_command_or_a_url() -> None:
    made = mcp_server_of("files=npx 'a server' --root .")
    assert (made.name, made.command, made.arguments) == (
        "files",
        "npx",
        ("a server", "--root", "."),
    )
    assert mcp_server_of("web=http://127.0.0.1:1/mcp").url == "http://127.0.0.1:1/mcp"
    for wrong in ("files", "files=", "=npx"):
        with pytest.raises(InputError):
            mcp_server_of(wrong)


def test_nothing_to_serve_is_said(run: Run) -> None:
    ran = run("mcp", "serve")
    assert ran.code == 1
    assert "there is nothing to serve" in ran.err


def test_a_call_is_approved_on_the_page_by_who_has_its_key(
    run: Run, replies: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "token_urlsafe", lambda: "sesame")
    refused: list[int] = []
    over = threading.Event()
    replies[:] = [called("calculator", expression="1 + 1"), "Two."]
    port = free_port()

    def approve() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            key = {"Authorization": "Bearer sesame"}
            while not (found := ids(client, key)):
                if over.wait(0.02):
                    return
            approved = (f"/api/approvals/{found[0]}", {"verdict": "approved"})
            for headers in ({}, {"Authorization": "Bearer guess"}):
                refused.append(client.get("/api/agents", headers=headers).status_code)
                said = client.post(approved[0], json=approved[1], headers=headers)
                refused.append(said.status_code)
            assert client.get("/api/status", headers=key).status_code == 200
            client.post(approved[0], json=approved[1], headers=key)

    person = threading.Thread(target=approve, daemon=True)
    person.start()
    ran = run("agent", "run", "How much?", "--ask", "calculator", "--page", str(port))
    over.set()
    person.join()
    assert ran.out == "Two.\n"
    assert refused == [401] * 4
    assert f"the run is at http://127.0.0.1:{port}/agents#key=sesame" in ran.err
    with socket.create_server(("127.0.0.1", port)):
        taken = run("agent", "run", "How much?", "--page", str(port))
    assert taken.code == 1
    assert f"port {port} cannot be used" in taken.err


def ids(client: httpx.Client, key: dict[str, str]) -> list[str]:
    """Of what waits for a person."""
    try:
        shown = client.get("/api/agents", headers=key).text
    except httpx.TransportError:
        return []
    return re.findall(r'"value": "([0-9a-f]{32})"', shown)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])
