"""The page of first questions is what was recorded, and each verdict is of the very answer."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import first_questions

    yield first_questions
    for name in ("first_questions", "first_folders", "planted_files"):
        sys.modules.pop(name, None)


def test_the_page_is_what_was_recorded(first: ModuleType) -> None:
    printed = json.loads(first.RESULT.read_text())
    made = first.page(first.read_questions(), printed, first.read_verdicts())
    assert first.PAGE.read_text() == made, "python benchmarks/first_questions.py --page"


def test_the_readme_shows_what_make_demo_prints(first: ModuleType) -> None:
    asked = re.search(r"^QUESTION \?= (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert json.loads(first.RESULT.read_text())[asked[1]] in (ROOT / "README.md").read_text()


def test_every_answer_has_a_verdict(first: ModuleType) -> None:
    printed = json.loads(first.RESULT.read_text())
    verdicts = first.read_verdicts()
    questions = first.read_questions()
    asked = Counter(one.about for one in questions)
    assert asked == {"docs": 11, "practice": 20, "trade": 20, "club": 20}
    for one in questions:
        row = verdicts.get((one.question, first.digest(printed[one.question])))
        assert row is not None, one.question
        assert row.verdict in first.KINDS
        needs_why = row.verdict in ("partly", "wrong", "wrongly refused")
        assert row.why or not needs_why, row


def test_a_verdict_does_not_hold_for_another_answer(first: ModuleType) -> None:
    question = first.Question("docs", "port", "Which port?", "8000")
    verdict = first.Verdict("Which port?", first.digest("8000"), "right")
    known = {(verdict.question, verdict.printed): verdict}
    assert "| port | right |" in first.page([question], {"Which port?": "8000"}, known)
    assert "| port | not judged |" in first.page([question], {"Which port?": "8001"}, known)


def test_the_folders_have_as_many_files_as_the_page_says(first: ModuleType, tmp_path: Path) -> None:
    first.write_folders(tmp_path)
    files = Counter(path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.*"))
    assert files == {"practice": 23, "trade": 25, "club": 23}


def test_no_page_that_is_indexed_asks_a_question_itself(first: ModuleType) -> None:
    """It would be found instead of its answer."""
    ignored = (ROOT / "docs/.lmstackignore").read_text().split()
    assert first.PAGE.name in ignored
    pages = [page for page in (ROOT / "docs").rglob("*.md") if page.name not in ignored]
    texts = {page.name: page.read_text().casefold() for page in pages}
    asked = [one.question.casefold() for one in first.read_questions() if one.about == "docs"]
    wrong = [f"{name}: {each}" for name, text in texts.items() for each in asked if each in text]
    assert not wrong
