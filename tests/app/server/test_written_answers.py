"""Answers that a strong model writes, wherever one asks: cited, checked, streamed.

The model is scripted: it finds the passages that it is shown by their words and cites them. What
it says that is false was made from the documents by changing one thing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
from starlette.testclient import TestClient
from tests.app.services import local_service
from tests.remote.conftest import KEY
from tests.remote.conftest import Server as Provider

from lmstack.app import wiring
from lmstack.app.wiring import build, retrieval
from lmstack.core import Message, Request, ScriptedModel
from lmstack.rag import AnswerConfig, Index

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder, Run

KEPT = "Anna signs contracts above 5,000 euros."
LIMIT = "The limit does not hold for renewals."
DOCUMENTS = {
    "contracts.md": f"# Contracts\n\n{KEPT} Below that, the head of the team signs them.\n",
    "renewals.md": f"# Renewals of contracts\n\n{LIMIT} They are signed by the head of the team.\n",
}
QUESTION = "Who signs contracts above 5,000 euros?"
FOLLOW_UP = "And what of renewals?"
TRUE = ("Contracts above 5,000 euros are signed by Anna.", "The limit does not hold for renewals.")
FALSE = (
    "Anna signs contracts above 50,000 euros.",
    "Paul signs contracts above 5,000 euros.",
    "Contracts above 5,000 euros are signed by Paul.",
    "Anna does not sign contracts above 5,000 euros.",
    "The limit holds for renewals.",
    "The office is closed on Sundays.",
)


def passage(messages: list[Message], words: str) -> str:
    """The number under which the model was shown the passage that holds ``words``."""
    shown = "".join(message.content for message in messages)
    return re.findall(rf"\[(\d)\][^\[]*{re.escape(words)}", shown)[-1]


def strong(messages: list[Message]) -> str:
    """What a strong model writes, with falsehoods strewn in."""
    asked = messages[-1].content.rpartition("Question: ")[2]
    if asked.startswith(FOLLOW_UP):
        earlier = [m.content for m in messages if m.role == "assistant"]
        assert earlier, "a follow-up is shown what was said before"
        return f"{TRUE[1]} [{passage(messages, LIMIT)}]"
    first, second = passage(messages, KEPT), passage(messages, LIMIT)
    said = [f"{TRUE[0]} [{first}]"]
    said += [f"{false} [{second if 'limit' in false else first}]" for false in FALSE]
    return " ".join([*said, f"{TRUE[1]} [{second}]"])


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ScriptedModel:
    def reply(request: Request) -> str:
        return strong(list(request.messages))

    fake = ScriptedModel([reply], name="strong")
    monkeypatch.setattr(wiring, "lazy_generator", lambda *_, **__: fake)
    monkeypatch.setattr(wiring, "require_models", lambda *_: None)
    monkeypatch.setattr(retrieval, "is_here", lambda name: False)
    return fake


@pytest.fixture
def client(
    home: Path,
    docs: Path,
    model: ScriptedModel,
    embedder: HashEmbedder,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[TestClient]:
    monkeypatch.setattr(build, "usual_answers", lambda _: AnswerConfig(strategy="write"))
    with Index.open(wiring.index_of(docs), embedder) as index:
        index.add([docs])
    served = local_service(docs, model, embedder)
    yield TestClient(served.app, base_url="http://127.0.0.1:8000")
    served.close()


def assert_checked(text: str, citations: list[dict[str, Any]]) -> None:
    """All that is true is there with its source, and nothing of what is false."""
    for number, (true, quote) in enumerate(zip(TRUE, (KEPT, LIMIT), strict=True), 1):
        assert f"{true} [{number}]" in text
        assert citations[number - 1]["quote"] == quote
    assert len(citations) == len(TRUE)
    assert_nothing_false(text)


def assert_nothing_false(text: str) -> None:
    for false in FALSE:
        assert false not in text
    assert "Sundays" not in text


def test_the_command_shows_what_is_true_with_its_sources(
    run: Run, docs: Path, model: ScriptedModel, embedder: HashEmbedder
) -> None:
    asked = ("ask", QUESTION, "--docs", "docs", "--write", "--no-server")
    told = run(*asked, "--json").json
    assert_checked(told["answer"], told["citations"])
    assert (told["outcome"], told["supported"]) == ("answer", True)
    printed = run(*asked).out
    assert f"  {TRUE[0]} [1]" in printed
    assert_nothing_false(printed)
    assert f'docs/contracts.md:3   "{KEPT}"' in printed
    quoted = run("ask", QUESTION, "--docs", "docs", "--quote", "--no-server", "--json").json
    assert quoted["answer"].startswith(KEPT)


def page_events(client: TestClient, **body: Any) -> list[tuple[str, Any]]:
    text = client.post("/api/ask", json=body).text
    found = re.findall(r"^event: (\w+)\ndata: (.*)$", text, re.MULTILINE)
    return [(name, json.loads(data)) for name, data in found]


def test_the_page_streams_sentences_as_they_are_checked(client: TestClient) -> None:
    events = page_events(client, question=QUESTION)
    names = [name for name, _ in events]
    assert names[:4] == ["searching", "hits", "quotes", "outcome"]
    assert names[-1] == "done"
    # Each sentence is sent once it was checked, not with the whole answer.
    assert [name for name in names if name in ("citation", "sentence")] == [
        *("citation", "sentence"),
        *("citation", "sentence"),
    ]
    streamed = "".join(data["text"] for name, data in events if name == "delta")
    done = events[-1][1]
    assert streamed == done["answer"]
    assert_checked(streamed, done["citations"])
    assert all(sentence["supported"] for sentence in done["sentences"])


def test_a_follow_up_is_understood_from_what_was_asked_before(
    client: TestClient, model: ScriptedModel
) -> None:
    first = page_events(client, question=QUESTION)[-1][1]["answer"]
    history = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": first},
    ]
    done = page_events(client, question=FOLLOW_UP, history=history)[-1][1]
    assert done["answer"] == f"{TRUE[1]} [1]"
    # What was sent for the first question is sent again as it was.
    earlier, later = (request.messages for request in model.requests)
    assert later[: len(earlier)] == earlier


def test_marked_sentences_are_shown_as_not_supported(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = AnswerConfig(strategy="write", unsupported="mark")
    monkeypatch.setattr(AnswerConfig, "wished", lambda *_: config)
    done = page_events(client, question=QUESTION)[-1][1]
    shown = [(done["answer"][s["start"] : s["end"]], s["supported"]) for s in done["sentences"]]
    for false in FALSE:
        assert (false, False) in shown
    for true in TRUE:
        assert any(text.startswith(true) and supported for text, supported in shown)
    assert not done["supported"]


@pytest.fixture
def sdk(client: TestClient) -> openai.OpenAI:
    """The official client, over the app itself."""
    return openai.OpenAI(
        base_url="http://127.0.0.1:8000/v1", api_key="x", max_retries=0, http_client=client
    )


def test_the_official_client_gets_it_whole_and_streamed(sdk: openai.OpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": QUESTION}]
    whole = sdk.chat.completions.create(model="docs", messages=asked)
    text = whole.choices[0].message.content or ""
    said, _, sources = text.partition("\n\nSources:\n")
    assert said == f"{TRUE[0]} [1] {TRUE[1]} [2]"
    assert_nothing_false(text)
    assert KEPT in sources
    assert LIMIT in sources
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 0
    stream = sdk.chat.completions.create(model="docs", messages=asked, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert len(pieces) > 3
    assert "".join(pieces) == text


def test_the_official_client_sends_what_is_wanted_as_extra_fields(sdk: openai.OpenAI) -> None:
    def answer(**fields: str) -> str:
        asked: list[Any] = [{"role": "user", "content": QUESTION}]
        created = sdk.chat.completions.create(model="docs", messages=asked, extra_body=fields)
        return created.choices[0].message.content or ""

    assert answer(answers="quote").startswith(KEPT)
    assert answer(answers="write").startswith(TRUE[0])
    with pytest.raises(openai.BadRequestError) as caught:
        answer(answer="write")
    assert caught.value.param == "answer"


def test_the_official_client_asks_follow_ups_under_a_system_message(
    sdk: openai.OpenAI, model: ScriptedModel
) -> None:
    asked: list[Any] = [
        {"role": "system", "content": "Answer politely."},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": f"{TRUE[0]} [1]"},
        {"role": "user", "content": FOLLOW_UP},
    ]
    whole = sdk.chat.completions.create(model="docs", messages=asked)
    assert (whole.choices[0].message.content or "").startswith(f"{TRUE[1]} [1]")
    assert model.requests[-1].messages[0].content.endswith("Answer politely.")


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """A server with OpenAI's API on this machine, behind which is the strong model."""
    server = Provider()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")

    def reply() -> list[Any]:
        sent = [Message(m["role"], m["content"]) for m in server.bodies[-1]["messages"]]
        body = server.bodies[-1]
        # It has no log-probabilities, so it is asked about one sentence and no more.
        said = "yes" if "logprobs" in body else server.plan
        said = said if {"logprobs", "response_format"} & set(body) else strong(sent)
        pieces = re.findall(r"\S+\s*", said)
        events = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        usage = {"prompt_tokens": 9, "completion_tokens": len(pieces), "total_tokens": 99}
        return [*events, end, {"choices": [], "usage": usage}]

    server.plan = json.dumps({"task": "answer", "documents": []})
    server.reply = reply
    yield server
    server.server.should_exit = True
    server.thread.join()


def test_a_remote_model_writes_without_being_told_to(
    run: Run,
    docs: Path,
    embedder: HashEmbedder,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrieval, "is_here", lambda name: False)
    ran = run("ask", QUESTION, "--docs", "docs", "--model", "openai:gpt-x", "--json")
    assert f"are sent to {provider.url}/v1" in ran.err
    told = ran.json
    assert_checked(told["answer"], told["citations"])
    assert told["model"] == {"name": "gpt-x", "digest": None}
    # It is asked first what the question is, and once what a sentence is borne out by.
    assert told["usage"]["prompt_tokens"] == 3 * 9
    planned, body, asked = provider.bodies
    assert asked["max_completion_tokens"] == 1
    assert "response_format" not in body
    assert "summarize" in json.dumps(planned["response_format"])
    assert (body["model"], body["stream"]) == ("gpt-x", True)
    quoted = run("ask", QUESTION, "--docs", "docs", "--model", "openai:gpt-x", "--quote")
    assert KEPT in quoted.out
    assert len(provider.bodies) == 3


def test_a_remote_model_that_sees_a_comparison_reads_both_documents_whole(
    run: Run,
    docs: Path,
    embedder: HashEmbedder,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrieval, "is_here", lambda name: False)
    provider.plan = json.dumps({"task": "compare", "documents": [1, 2]})
    asked = "How do contracts differ from renewals?"
    told = run("ask", asked, "--docs", "docs", "--model", "openai:gpt-x", "--json").json
    assert (told["task"], told["outcome"], told["unread"]) == ("compare", "answer", 0)
    assert_checked(told["answer"], told["citations"])
    assert {citation["path"] for citation in told["citations"]} == {
        *("docs/contracts.md", "docs/renewals.md"),
    }
    shown = provider.bodies[1]["messages"][-1]["content"]
    assert "docs/contracts.md: " in shown
    assert "docs/renewals.md: " in shown
