"""The commands over the real default models, with the network shut."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lmstack
from lmstack.app import wiring
from lmstack.registry import ModelFolder

if TYPE_CHECKING:
    from tests.app.conftest import Run

pytestmark = pytest.mark.weights


@pytest.fixture
def full_store(
    home: Path,
    furnish: Callable[[Path], None],
    smollm2: ModelFolder,
    minilm: ModelFolder,
    reranker: ModelFolder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A home of its own with the default models in it, the small one for answers, and no way out
    of this machine."""
    assert {minilm.name, reranker.name} < set(wiring.PURPOSES)
    assert smollm2.name == wiring.SMALL_MODEL
    furnish(home)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_a_question_is_answered_with_a_quote_that_is_in_the_file(
    run: Run, docs: Path, full_store: None
) -> None:
    ran = run("ask", "How long are letters kept?", "--docs", "docs", "--json")
    assert ran.code == 0, ran.err
    answer = ran.json
    assert answer["outcome"] == "answer"
    assert answer["model"]["name"] == "smollm2-135m-instruct"
    [cited] = [c for c in answer["citations"] if "ten years" in c["quote"]]
    text = Path(cited["path"]).read_bytes().decode()
    assert text[cited["start"] : cited["end"]] == cited["quote"]


def test_what_the_documents_do_not_say_is_not_called_an_answer(
    run: Run, docs: Path, full_store: None
) -> None:
    ran = run("ask", "Who painted the ceiling of the chapel?", "--docs", "docs", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["outcome"] in ("closest", "nothing")
    assert ran.json["supported"] is False


def test_doctor_finds_nothing_in_the_way(run: Run, full_store: None) -> None:
    assert run("doctor").code == 0


def test_inspect_counts_the_default_model_as_its_makers_do(run: Run, full_store: None) -> None:
    found = run("model", "inspect", "smollm2-135m-instruct", "--json").json
    assert found["total_parameters"] == 134_515_008
    assert run("model", "inspect", "all-minilm-l6-v2", "--json").json["kind"] == "embed"


def test_load_gives_each_kind_its_object(full_store: None) -> None:
    embedder = lmstack.load("all-minilm-l6-v2")
    assert isinstance(embedder, lmstack.LocalEmbedder)
    model = lmstack.load("smollm2-135m-instruct")
    assert isinstance(model, lmstack.LocalModel)
    model.close()


@pytest.mark.long
def test_the_example_of_agent_run_answers_right(run: Run, full_store: None) -> None:
    """With a scripted model: `test_agent.py`."""
    ran = run("agent", "run", "How much is 17 % of 2,340?")
    assert ran.code == 0, ran.err
    assert "397.8" in ran.out
