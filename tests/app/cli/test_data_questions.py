"""`lmstack data questions`: the file, what it says of it, and going on after it was stopped."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.word_reranker import CALIBRATION, WordReranker

from lmstack.app import wiring
from lmstack.app.wiring import retrieval
from lmstack.core import Request, ScriptedModel, UnsupportedError
from lmstack.rag import questions as asking
from lmstack.rag.answer import confidence
from lmstack.train import Recipe

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder, Run


def _ask(request: Request) -> str:
    shown = request.messages[-1].content
    return "How long are letters kept?" if "Letters" in shown else "Where does the server listen?"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, embedder: HashEmbedder) -> ScriptedModel:
    fake = ScriptedModel([_ask], name="tiny")
    monkeypatch.setattr(wiring, "lazy_generator", lambda *_, **__: fake)
    monkeypatch.setattr(wiring, "require_models", lambda *_: None)
    monkeypatch.setattr(retrieval, "answer_reranker", lambda note: WordReranker())
    monkeypatch.setitem(confidence._KNOWN, "words", CALIBRATION)
    return fake


def test_rows_are_written_and_counted(run: Run, docs: Path, model: ScriptedModel) -> None:
    ran = run("data", "questions", "docs", "--questions", "2", "--json")
    assert ran.code == 0, ran.err
    rows = [json.loads(line) for line in Path("questions.jsonl").read_text().splitlines()]
    assert ran.json["questions"] == len(rows) > 0
    assert ran.json["dropped"]["asked before"] >= len(rows)
    for row in rows:
        text = Path(row["path"]).read_text()[row["start"] : row["end"]]
        assert all(positive.endswith(text) for positive in row["positives"])
    assert not Path("questions.jsonl.unfinished").exists()


def test_a_file_that_is_there_is_not_written_over(
    run: Run, docs: Path, model: ScriptedModel
) -> None:
    Path("mine.jsonl").write_text("mine\n")
    ran = run("data", "questions", "docs", "-o", "mine.jsonl")
    assert ran.code != 0
    assert "is there already" in ran.err
    assert Path("mine.jsonl").read_text() == "mine\n"


def test_what_was_asked_is_not_asked_again(
    run: Run, docs: Path, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "QuestionConfig", partial(asking.QuestionConfig, batch=1))
    whole = run("data", "questions", "docs", "-o", "whole.jsonl", "--json").json
    asked = len(model.requests)
    assert asked > 1
    model._replies[:] = [_ask, UnsupportedError("the power failed")]
    model.requests.clear()
    assert run("data", "questions", "docs", "-o", "again.jsonl").code != 0
    journal = Path("again.jsonl.unfinished")
    with journal.open("a") as file:
        file.write('{"key": "half a li')
    model._replies[:] = [_ask]
    model.requests.clear()
    ran = run("data", "questions", "docs", "-o", "again.jsonl", "--json")
    assert ran.json == {**whole, "file": "again.jsonl"}
    assert len(model.requests) == asked - 1
    assert Path("again.jsonl").read_text() == Path("whole.jsonl").read_text()
    assert not journal.exists()


def test_a_journal_of_other_settings_is_left_alone(
    run: Run, docs: Path, model: ScriptedModel
) -> None:
    model._replies[:] = [UnsupportedError("the power failed")]
    run("data", "questions", "docs")
    ran = run("data", "questions", "docs", "--questions", "5")
    assert ran.code != 0
    assert "begun with other settings" in ran.err


def test_a_recipe_with_docs_is_trained_on_questions_about_them(
    run: Run, docs: Path, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def train(recipe: Recipe, **_: object) -> None:
        trained.append(recipe)
        raise UnsupportedError("enough")

    monkeypatch.setattr("lmstack.train.run.train", train)
    Path("recipe.yaml").write_text(
        "{objective: reader, base: any, data: other.jsonl, output: mine, run: here}"
    )
    for _ in range(2):
        ran = run("train", "recipe.yaml", "docs=docs", "epochs=2")
        assert "enough" in ran.err
    assert [(recipe.data, recipe.epochs) for recipe in trained] == [
        (("here/questions.jsonl",), 2)
    ] * 2
    rows = [json.loads(line) for line in Path("here/questions.jsonl").read_text().splitlines()]
    assert rows[0]["query"] in ("How long are letters kept?", "Where does the server listen?")
    # The second time there was nothing left to ask.
    assert len(model.requests) == len(list(docs.iterdir()))


def test_docs_are_for_the_reader(run: Run, docs: Path, model: ScriptedModel) -> None:
    Path("recipe.yaml").write_text("{objective: sft, base: any, data: a.jsonl, output: mine}")
    ran = run("train", "recipe.yaml", "docs=docs")
    assert ran.code != 0
    assert "docs is for the objective reader" in ran.err
    assert not model.requests
