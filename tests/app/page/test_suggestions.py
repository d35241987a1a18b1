"""Questions that the page suggests are ones that the documents answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.app.conftest import HashEmbedder
from tests.word_reranker import CALIBRATION, WordReranker

from lmstack.app.page.suggestions import answerable
from lmstack.core import ScriptedModel
from lmstack.rag import Answerer, Index

CERTAIN = "Letters are kept for ten years?"
LIKELY = "Letters are kept for how long?"
UNANSWERED = "Who painted the ceiling of a chapel?"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "letters.md").write_text("# Letters\n\nLetters are kept for ten years.\n")
    return folder


async def test_only_what_is_answered_is_suggested_the_most_certain_first(
    docs: Path, tmp_path: Path
) -> None:
    with Index.open(tmp_path / "index", HashEmbedder()) as index:
        index.add([docs])
        model = ScriptedModel()
        reranker = WordReranker()
        answerer = Answerer(index, model, reranker=reranker, calibration=CALIBRATION)
        asked = [UNANSWERED, LIKELY, CERTAIN]
        assert await answerable(answerer, asked, 3) == [CERTAIN, LIKELY]
        assert await answerable(answerer, asked, 1) == [CERTAIN]
        unsure = Answerer(index, model)
        assert await answerable(unsure, asked, 3) == asked
    assert not model.requests


async def test_nothing_is_suggested_of_an_empty_index(tmp_path: Path) -> None:
    with Index.open(tmp_path / "index", HashEmbedder()) as index:
        assert await answerable(Answerer(index, ScriptedModel()), [CERTAIN], 3) == []
