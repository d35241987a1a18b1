"""Questions to an index whose order and confidence can be worked out by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.rag.conftest import HashingEmbedder, written_docs
from tests.word_reranker import CALIBRATION, WordReranker

from lmstack.core import ChatModel, ScriptedModel
from lmstack.rag import Answer, AnswerConfig, Answerer, Index

MakeAnswerer = Callable[..., Answerer]


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``work/docs`` and ``work/index`` as they are first, and a copy of both beside them."""
    place = tmp_path_factory.mktemp("indexed")
    written_docs(place / "work" / "docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place / "work")
        with Index.open(place / "work" / "index", HashingEmbedder()) as opened:
            opened.update(["docs"])
    shutil.copytree(place / "work", place / "first")
    return place


@pytest.fixture
def docs(indexed: Path) -> Path:
    """The same path for each test, because an index names its documents by it."""
    shutil.rmtree(indexed / "work")
    shutil.copytree(indexed / "first", indexed / "work")
    return indexed / "work" / "docs"


@pytest.fixture
def index(
    docs: Path, embedder: HashingEmbedder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Index]:
    monkeypatch.chdir(docs.parent)
    with Index.open(docs.parent / "index", embedder) as opened:
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
