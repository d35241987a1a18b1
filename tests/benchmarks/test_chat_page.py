"""The page of sixty prompts is what was recorded, and each verdict is of the very answer."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import chat_page

    yield chat_page
    for name in ("chat_page", "babble"):
        sys.modules.pop(name, None)


def test_the_page_is_what_was_recorded(chat: ModuleType) -> None:
    made = chat.page(chat.read_prompts(), chat.read_said(), chat.read_verdicts())
    assert chat.PAGE.read_text() == made, "python benchmarks/chat_page.py --page"


def test_there_are_sixty_prompts_twenty_in_other_languages_and_ten_of_several_turns(
    chat: ModuleType,
) -> None:
    prompts = chat.read_prompts()
    assert Counter(each.group for each in prompts) == {
        "English, short questions": 20,
        "English, tasks of an office": 10,
        "other languages": 20,
        "several turns": 10,
    }
    for each in prompts:
        assert (len(each.turns) > 1) is (each.group == "several turns"), each.key
        assert (each.language != "English") or each.group != "other languages", each.key


def test_every_answer_has_a_verdict(chat: ModuleType) -> None:
    said, verdicts = chat.read_said(), chat.read_verdicts()
    for each in chat.read_prompts():
        assert len(said[each.key]) == len(each.turns), each.key
        row = verdicts.get((each.key, chat.digest(said[each.key])))
        assert row is not None, each.key
        assert row.verdict in chat.KINDS
        assert bool(row.why) == (row.verdict != "right" or row.babbles), row


def test_a_verdict_does_not_hold_for_another_answer(chat: ModuleType) -> None:
    prompt = chat.Prompt("English", "English", ("Two plus two?",))
    right, other = (chat.Said("4", "stop", 2),), (chat.Said("5", "stop", 2),)
    verdict = chat.Verdict(prompt.key, chat.digest(right), "right")
    known = {(prompt.key, verdict.said): verdict}
    assert "| English | right |" in chat.page([prompt], {prompt.key: right}, known)
    assert "| English | not judged |" in chat.page([prompt], {prompt.key: other}, known)


def test_an_answer_that_is_cut_is_counted_and_said(chat: ModuleType) -> None:
    prompt = chat.Prompt("several turns", "English", ("Hello", "Go on"))
    said = (chat.Said("Hi", "stop", 2), chat.Said("and so", "length", 1024))
    made = chat.page([prompt], {prompt.key: said}, {})
    assert "by rule | 2, 1024 |" in made
    assert made.count("Ended by `length`.") == 1


def test_what_another_model_said_is_not_taken(
    chat: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chat.read_said()
    monkeypatch.setattr(chat, "MODEL", "another")
    assert chat.read_said() == {}
