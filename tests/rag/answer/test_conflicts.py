"""A passage that answers otherwise is named with its date; one that says the same is not."""

from __future__ import annotations

import pytest
from tests.word_reranker import CALIBRATION, WordReranker

from lmstack.core import ScriptedModel
from lmstack.rag import Answerer, ConflictFound, Index

OLD = "# Fees\n\nVersion 1.0, in force from 3 March 2019.\n\nThe yearly fee for members is €40.\n"
NEW = "# Fees\n\nVersion 2.0, in force from 9 June 2023.\n\nThe yearly fee for members is €55.\n"
QUESTION = "What is the yearly fee for members?"


@pytest.fixture
def ask(tmp_path, embedder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Index.open(tmp_path / "index", embedder) as index:

        async def asked(question=QUESTION, **files):
            for name, text in files.items():
                (tmp_path / f"{name}.md").write_text(text, encoding="utf-8")
            index.update([f"{name}.md" for name in files])
            answerer = Answerer(
                index, ScriptedModel(), reranker=WordReranker(), calibration=CALIBRATION
            )
            return await answerer.answer(question)

        yield asked


async def test_newest_edition_is_cited_and_the_older_named(ask):
    answer = await ask(old=OLD, new=NEW)
    assert "€55" in answer.answer
    (conflict,) = answer.conflicts
    assert (conflict.relation, conflict.citation, conflict.path) == ("older", 1, "old.md")
    assert (conflict.date, conflict.cited_date) == ("2019-03-03", "2023-06-09")
    assert OLD[conflict.start : conflict.end] == conflict.quote
    assert "€40" in conflict.quote
    assert answer.to_json()["conflicts"][0]["relation"] == "older"


@pytest.mark.parametrize("begin", ["As of 2020, ", "Back in 2019, "])
async def test_a_question_about_then_is_answered_by_the_edition_of_then(ask, begin):
    answer = await ask(begin + QUESTION[0].lower() + QUESTION[1:], old=OLD, new=NEW)
    assert "€40" in answer.answer
    assert [c.relation for c in answer.conflicts] == ["newer"]


@pytest.mark.parametrize(
    ("question", "answers"),
    [(QUESTION, ["€55", "€55"]), (f"In 2020, {QUESTION}", ["€40", "€40"])],
)
async def test_the_edition_in_force_is_quoted_alone_whichever_was_indexed_first(
    ask, question, answers
):
    """And it stands first among the passages."""
    told = [await ask(question, old=OLD, new=NEW), await ask(question, new=NEW, old=OLD)]
    for answer, said in zip(told, answers, strict=True):
        assert said in answer.answer
        assert len(answer.citations) == 1
        assert answer.hits[0].path == answer.citations[0].path
        assert [hit.rank for hit in answer.hits] == list(range(1, len(answer.hits) + 1))


async def test_a_newer_edition_that_says_nothing_of_it_does_not_stand_before(ask):
    newer = "# Fees\n\nVersion 3.0, in force from 1 May 2025.\n\nDogs pay nothing.\n"
    answer = await ask(old=OLD, newer=newer)
    assert "€40" in answer.answer


async def test_two_works_that_disagree_are_a_conflict_without_an_order(ask):
    other = NEW.replace("# Fees", "# Handbook")
    answer = await ask(old=OLD, other=other)
    assert [c.relation for c in answer.conflicts] == ["other"]


@pytest.mark.parametrize(
    "rival",
    [
        NEW.replace("€55", "€40"),
        NEW.replace("for members is €55", "for members is €40, and guests pay €9"),
        "# Rents\n\nThe yearly rent of the hall is €900.\n",
        "# Fees\n\nMembers are welcome on all days of the year but Monday.\n",
        "# Handbook\n\nIn 2031 the yearly fee for members of the choir of the town is €99.\n",
    ],
)
async def test_what_says_the_same_or_something_else_is_no_conflict(ask, rival):
    assert (await ask(old=OLD, rival=rival)).conflicts == ()


async def test_a_conflict_is_an_event_before_the_last(tmp_path, embedder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.md").write_text(OLD, encoding="utf-8")
    (tmp_path / "new.md").write_text(NEW, encoding="utf-8")
    with Index.open(tmp_path / "index", embedder) as index:
        index.update(["old.md", "new.md"])
        answerer = Answerer(index, ScriptedModel(), reranker=WordReranker())
        events = [event async for event in answerer.stream(QUESTION)]
    assert isinstance(events[-2], ConflictFound)
    assert events[-1].answer.conflicts == (events[-2].conflict,)
