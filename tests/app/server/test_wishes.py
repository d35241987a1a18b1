"""What is wanted of an answer: written or quoted, strict or what comes closest, wherever one asks.

The same four ways for each: `lmstack ask`, a running `lmstack up` that answers for it, the page's
API and `/v1/chat/completions`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient
from tests.app.services import local_service

from lmstack.app import wiring
from lmstack.app.server.command_server import CommandDoor, open_server
from lmstack.app.server.command_socket import RunningServer, connect
from lmstack.app.server.serve import Service
from lmstack.app.server.workspace import Workspace
from lmstack.app.wiring import retrieval
from lmstack.core import InputError, ModelInfo, ScriptedModel
from lmstack.rag import AnswerWishes, Index
from lmstack.rag.answer import confidence
from lmstack.rag.answer.answer import MIN_PARAMETERS, usual_answers
from lmstack.rag.answer.confidence import Calibration
from lmstack.rag.answer.writing import NONE

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder, Run

QUESTION = "How long are letters kept?"
QUOTED = "Letters are kept for ten years."
WRITTEN = "Ten years is how long letters are kept."
NOTHING = "Nothing about this was found in the documents."
SMALL = ModelInfo("small", "sha256:" + "0" * 64, parameters=135_000_000)

# What each way says of the answer: its text and its outcome, "" where that is not told.
Way = Callable[[AnswerWishes], tuple[str, str]]


@pytest.fixture
def said() -> list[str]:
    """What the model writes: the last of these."""
    return [f"[1] {WRITTEN}"]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> ScriptedModel:
    fake = ScriptedModel([lambda _: said[-1]], name="tiny")
    monkeypatch.setattr(wiring, "lazy_generator", lambda *_, **__: fake)
    monkeypatch.setattr(wiring, "require_models", lambda *_: None)
    monkeypatch.setattr(retrieval, "is_here", lambda name: False)
    return fake


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch, embedder: HashEmbedder) -> Callable[[float], None]:
    """``sure(probability)``: how likely every passage answers."""

    def state(log_odds: float) -> None:
        monkeypatch.setitem(confidence._KNOWN, embedder.info.name, Calibration(0, log_odds))

    return state


SURE, UNSURE, HOPELESS = 3.0, -2.0, -6.0  # log-odds: 95 %, 12 %, 0.2 %


@pytest.fixture
def service(
    home: Path, docs: Path, model: ScriptedModel, embedder: HashEmbedder
) -> Iterator[Service]:
    with Index.open(wiring.index_of(docs), embedder) as index:
        index.add([docs])
    served = local_service(docs, model, embedder)
    yield served
    served.close()


@pytest.fixture(params=["command", "page", "chat", "socket"])
def ask(request: pytest.FixtureRequest) -> Way:
    way: Way = request.getfixturevalue(f"by_{request.param}")
    return way


@pytest.fixture
def by_command(run: Run, docs: Path, model: ScriptedModel, embedder: HashEmbedder) -> Way:
    def ask(wishes: AnswerWishes) -> tuple[str, str]:
        named = {**wishes.given}
        options = ["--task", named.pop("task")] if "task" in named else []
        options += [f"--{value}" for value in named.values()]
        told = run("ask", QUESTION, "--docs", "docs", "--json", "--no-server", *options).json
        return told["answer"], told["outcome"]

    return ask


@pytest.fixture
def client(service: Service) -> TestClient:
    return TestClient(service.app, base_url="http://127.0.0.1:8000")


@pytest.fixture
def by_page(client: TestClient) -> Way:
    def ask(wishes: AnswerWishes) -> tuple[str, str]:
        body = {"question": QUESTION, **wishes.given}
        text = client.post("/api/ask", json=body).text
        done = json.loads(text.split("event: done\ndata: ", 1)[1].split("\n", 1)[0])
        return done["answer"], done["outcome"]

    return ask


@pytest.fixture
def by_chat(client: TestClient) -> Way:
    def ask(wishes: AnswerWishes) -> tuple[str, str]:
        asked = [{"role": "user", "content": QUESTION}]
        body = {"model": "docs", "messages": asked, **wishes.given}
        answer = client.post("/v1/chat/completions", json=body).json()
        return answer["choices"][0]["message"]["content"], ""

    return ask


@pytest.fixture
def by_socket(
    home: Path, docs: Path, model: ScriptedModel, embedder: HashEmbedder, tmp_path: Path
) -> Iterator[Way]:
    path = wiring.command_socket(docs)
    assert path is not None
    with Workspace(docs, tmp_path / "index", model=model, embedder=embedder) as workspace:
        server = open_server(CommandDoor(path, {"folder": "docs"}), workspace)
        assert server is not None

        def ask(wishes: AnswerWishes) -> tuple[str, str]:
            connection = connect(path)
            assert connection is not None
            with RunningServer(connection) as running:
                assert running.hello() == {"folder": "docs"}
                *_, done = running.ask(QUESTION, None, wishes.given)
            return done["answer"]["answer"], done["answer"]["outcome"]

        yield ask
        server.close()


@pytest.mark.parametrize(
    ("wishes", "begins"),
    [
        (AnswerWishes(), QUOTED),
        (AnswerWishes("quote"), QUOTED),
        (AnswerWishes("write"), f"{WRITTEN} [1]"),
    ],
)
def test_answers_are_written_or_quoted_as_is_wanted(
    ask: Way, sure: Callable[[float], None], wishes: AnswerWishes, begins: str
) -> None:
    sure(SURE)
    text, outcome = ask(wishes)
    assert text.startswith(begins)
    assert outcome in ("answer", "")


def test_a_task_is_written_from_whole_documents_wherever_one_asks(
    ask: Way, sure: Callable[[float], None], model: ScriptedModel
) -> None:
    sure(HOPELESS)  # Of no passage it is certain that it answers, and a summary needs none.
    text, outcome = ask(AnswerWishes(task="summarize"))
    assert text.startswith(f"{WRITTEN} [1]")
    assert outcome in ("answer", "")
    assert "Write the summary" in model.requests[-1].messages[0].content


def test_a_file_that_is_named_is_read_whole(
    run: Run, docs: Path, model: ScriptedModel, embedder: HashEmbedder
) -> None:
    asked = ("ask", "Write me a summary", "--docs", "docs", "--no-server", "--task", "summarize")
    assert run(*asked, "--document", "docs/letters.md").code == 0
    said = model.requests[-1].messages[1].content
    assert "Letters are kept" in said
    assert {path for path in ("letters.md", "ports.txt") if path in said} == {"letters.md"}


@pytest.mark.parametrize(
    ("log_odds", "unsure", "outcome"),
    [
        (UNSURE, None, "closest"),
        (UNSURE, "strict", "nothing"),
        (HOPELESS, None, "nothing"),
        (HOPELESS, "closest", "closest"),
        (SURE, "strict", "answer"),
    ],
)
def test_where_nothing_is_certain_to_answer_is_as_strict_as_is_wanted(
    ask: Way, sure: Callable[[float], None], log_odds: float, unsure: Any, outcome: str
) -> None:
    sure(log_odds)
    text, told = ask(AnswerWishes(unsure=unsure))
    assert told in (outcome, "")
    assert text.startswith(NOTHING) == (outcome == "nothing")
    assert (QUOTED in text) == (outcome != "nothing")


def test_what_is_wanted_also_holds_where_nothing_that_was_written_is_shown(
    by_page: Way, sure: Callable[[float], None], said: list[str]
) -> None:
    sure(SURE)
    # What no passage bears out is left out, and the quotation answers as certainly as before.
    said.append("[1] Elephants never forget a birthday in Peru.")
    for wishes in (AnswerWishes("write"), AnswerWishes("write", "strict")):
        text, outcome = by_page(wishes)
        assert text.startswith(QUOTED)
        assert outcome == "answer"
    # Nor does a small one that says so when the passages are certain.
    said[:] = [NONE]
    assert by_page(AnswerWishes("write", "strict"))[1] == "answer"


def test_that_there_is_no_answer_is_the_word_of_the_model_where_no_passage_is_certain(
    by_page: Way, sure: Callable[[float], None], said: list[str]
) -> None:
    sure(math.log(0.4 / 0.6))
    said[:] = [NONE]
    assert by_page(AnswerWishes("write"))[1] == "closest"
    assert by_page(AnswerWishes("write", "strict")) == (NOTHING, "nothing")


@pytest.mark.parametrize(
    ("info", "strategy"),
    [
        (SMALL, "quote"),
        (ModelInfo("large", SMALL.digest, parameters=MIN_PARAMETERS), "write"),
        (ModelInfo("unknown", SMALL.digest), "quote"),
        (ModelInfo("remote"), "write"),
    ],
)
def test_models_that_write_well_write(info: ModelInfo, strategy: str) -> None:
    assert usual_answers(info).strategy == strategy


def test_what_is_usual_of_the_model_is_what_the_server_does(
    home: Path, docs: Path, model: ScriptedModel, embedder: HashEmbedder
) -> None:
    model.info = ModelInfo("remote")
    served = local_service(docs, model, embedder)
    client = TestClient(served.app, base_url="http://127.0.0.1:8000")
    assert client.get("/api/status").json()["answers"] == "write"
    served.close()


def test_a_wish_that_is_not_known_is_named_with_those_that_are() -> None:
    with pytest.raises(InputError, match="answers is 'sing'") as caught:
        AnswerWishes("sing")  # type: ignore[arg-type]
    assert caught.value.hint == "choose one of quote, write"


@pytest.mark.parametrize("field", ["answers", "unsure", "task"])
def test_the_page_refuses_a_wish_that_is_not_known(client: TestClient, field: str) -> None:
    answer = client.post("/api/ask", json={"question": QUESTION, field: "sing"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field
