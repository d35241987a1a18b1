"""Questions to an index whose order and confidence can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.rag.conftest import HashingEmbedder
from tests.word_reranker import CALIBRATION, WordReranker

from lmstack.core import ChatModel, ScriptedModel
from lmstack.rag import Answer, AnswerConfig, Answerer, Index

MakeAnswerer = Callable[..., Answerer]


@pytest.fixture
def index(
    tmp_path: Path, docs: Path, embedder: HashingEmbedder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Index]:
    monkeypatch.chdir(tmp_path)
    with Index.open(tmp_path / "index", embedder) as opened:
        opened.update(["docs"])
        yield opened


@pytest.fixture
def make_answerer(index: Index) -> MakeAnswerer:
    """``make_answerer(model, min_confidence=0.5)``: with a reranker whose scores are the share of
    the question's words that a passage holds."""

    def make(model: ChatModel | None = None, **settings: object) -> Answerer:
        return Answerer(
            index,
            model or ScriptedModel(),
            AnswerConfig(**settings),  # type: ignore[arg-type]
            reranker=WordReranker(),
            calibration=CALIBRATION,
        )

    return make


@pytest.fixture
def assert_valid(index: Index) -> Callable[[Answer], None]:
    """Every citation is of what its document says, was retrieved and is numbered in the text."""

    def check(answer: Answer) -> None:
        for citation in answer.citations:
            text = index.document(citation.document_id).text
            if citation.path.endswith((".md", ".txt")):
                assert text == Path(citation.path).read_bytes().decode()
            assert text[citation.start : citation.end] == citation.quote
            assert text[slice(*citation.focus)] == citation.point
            assert f"[{citation.id}]" in answer.answer
            hit = next(hit for hit in answer.hits if hit.rank == citation.passage)
            assert hit.path == citation.path
            assert hit.start <= citation.start < citation.end <= hit.end
        assert [c.id for c in answer.citations] == list(range(1, len(answer.citations) + 1))

    return check
