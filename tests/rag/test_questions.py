"""Questions asked about passages: which are kept, and what stands beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.rag.conftest import HashingEmbedder
from tests.word_reranker import CALIBRATION, WordReranker

from lmstack.core import Request, ScriptedModel
from lmstack.rag import Answerer, Index
from lmstack.rag.questions import AskedPassage, QuestionConfig, QuestionWriter, passages_of

TEXTS = {
    "oak.txt": "The oak beside the mill was planted by the baker in spring.",
    "elm.txt": "The elm beside the church was planted by the smith in autumn.",
    "ash.txt": "The ash beside the bridge was felled by the miller in winter.",
}
GOOD = {
    "oak": "Was the oak planted by the baker?",
    "elm": "Was the elm planted by the smith?",
    "ash": "Was the ash felled by the miller?",
}
ALWAYS, NEVER = {"unanswerable": 1.0}, {"unanswerable": 0.0}


@pytest.fixture
def index(
    tmp_path: Path, embedder: HashingEmbedder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Index]:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "trees"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    with Index.open(tmp_path / "index", embedder) as opened:
        opened.update(["trees"])
        yield opened


def asked_about(
    index: Index, reply: Callable[[str], str], asked: tuple[str, ...] = (), **config: Any
) -> list[AskedPassage]:
    """What is kept where a model writes ``reply`` of the passage that it is shown."""

    def write(request: Request) -> str:
        text = request.messages[-1].content
        return reply(next(tree for tree in GOOD if f"The {tree} " in text))

    model = ScriptedModel([write])
    answerer = Answerer(index, model, reranker=WordReranker(), calibration=CALIBRATION)
    writer = QuestionWriter(answerer, model, QuestionConfig(questions=1, **config), asked)

    async def collect() -> list[AskedPassage]:
        return [each async for each in writer.write(passages_of(index))]

    return asyncio.run(collect())


def embedded(name: str) -> str:
    """A passage below its title."""
    return f"{name.removesuffix('.txt')}\n{TEXTS[name]}"


def rows_of(found: list[AskedPassage]) -> list[dict[str, Any]]:
    return [row for each in found for row in each.rows]


def test_a_question_is_kept_with_its_passage_and_what_else_was_found(index: Index) -> None:
    rows = rows_of(asked_about(index, GOOD.__getitem__, **NEVER))
    assert {row["query"] for row in rows} == set(GOOD.values())
    for row in rows:
        own = Path(row["path"]).name
        assert row["positives"] == [embedded(own)]
        assert TEXTS[own][row["start"] : row["end"]] == TEXTS[own]
        assert set(row["negatives"]) == {embedded(name) for name in TEXTS if name != own}


def test_where_the_document_is_taken_away_nothing_of_it_is_left(index: Index) -> None:
    for row in rows_of(asked_about(index, GOOD.__getitem__, **ALWAYS)):
        assert row["positives"] == []
        assert embedded(Path(row["path"]).name) not in row["negatives"]
        assert len(row["negatives"]) == 2


@pytest.mark.parametrize(
    ("reply", "within", "reason"),
    [
        (lambda tree: f"The {tree} was planted by the baker.", 1, "no question"),
        (lambda tree: "?", 1, "no question"),
        (lambda tree: f"{tree} wine, palm wine, is it sold near Paris?", 10, "not certain"),
        (lambda tree: GOOD["oak" if tree == "ash" else "ash"], 1, "not found again"),
    ],
)
def test_what_does_not_stand_the_round_trip_is_counted(
    index: Index, reply: Callable[[str], str], within: int, reason: str
) -> None:
    found = asked_about(index, reply, found_within=within, **NEVER)
    assert any(reason in each.dropped for each in found)
    assert sum(len(each.rows) + sum(each.dropped.values()) for each in found) == len(TEXTS)


def test_a_question_in_another_order_is_asked_once(index: Index) -> None:
    before = ("By the baker was the oak planted?",)
    found = asked_about(index, GOOD.__getitem__, before, **NEVER)
    assert {row["query"] for row in rows_of(found)} == {GOOD["elm"], GOOD["ash"]}
    assert sum(each.dropped.get("asked before", 0) for each in found) == 1


def test_what_answers_at_least_as_well_is_no_negative(index: Index, tmp_path: Path) -> None:
    (tmp_path / "trees" / "copy.txt").write_text(TEXTS["oak.txt"] + " It is tall.")
    index.update(["trees"])
    for row in rows_of(asked_about(index, GOOD.__getitem__, **NEVER)):
        if row["query"] == GOOD["oak"]:
            assert not any("oak" in text for text in row["negatives"])


def test_passages_are_drawn_by_what_they_say(index: Index, tmp_path: Path) -> None:
    drawn = {hit.text for hit in passages_of(index, 2)}
    assert len(drawn) == 2
    (tmp_path / "trees" / "a").mkdir()
    (tmp_path / "trees" / "oak.txt").rename(tmp_path / "trees" / "a" / "oak.txt")
    index.update(["trees"])
    assert {hit.text for hit in passages_of(index, 2)} == drawn
