"""Who asks in one language finds what documents in another say, and is spared it otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.rag.conftest import HashingEmbedder
from tests.word_reranker import CALIBRATION, WordReranker

from lmstack.core import ModelInfo, ScriptedModel
from lmstack.rag import AnswerConfig, Answerer, Index
from lmstack.rag.retrieve.rewriting import languages_to_ask, translated

TEXTS = {
    "post.md": "Parcels to Germany must leave before the ninth of December, says the post office.",
    "pool.md": "The pool is open from eight until ten in the evening, and closed on Mondays.",
    "seil.txt": "Das Seil soll in das Winterquartier geliefert werden, sobald die Straße frei ist.",
}
GERMAN = "Wann müssen die Pakete spätestens verschickt werden?"
ENGLISH = "When must parcels to Germany leave?"


class EnglishReranker(WordReranker):
    info = replace(ModelInfo("english words"), languages=("en",))


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / "docs" / name).write_text(text)
    with Index.open(tmp_path / "index", HashingEmbedder()) as opened:
        opened.update(["docs"])
        yield opened


def answerer(index: Index, model: ScriptedModel, **settings: object) -> Answerer:
    return Answerer(
        index,
        model,
        AnswerConfig(rewrite="model", certain=0.5, **settings),  # type: ignore[arg-type]
        reranker=EnglishReranker(),
        calibration=CALIBRATION,
    )


def test_a_view_counts_the_languages_of_the_documents_that_it_shows(index):
    assert index.languages() == {"en": 2, "de": 1}
    assert index.seen_by(frozenset()).languages() == index.languages()


def test_a_question_is_searched_and_read_in_the_language_of_the_documents(index):
    model = ScriptedModel([f'"{ENGLISH}"\n'])
    found = answerer(index, model).find(GERMAN)
    assert found.hits[0].path.endswith("post.md")
    assert (found.question, found.query) == (GERMAN, GERMAN)
    assert found.asked[found.hits[0].document_id] == ENGLISH
    assert (found.confidence or 0) > 0.9
    [request] = model.requests
    assert "into English" in request.messages[0].content
    assert request.messages[1].content == GERMAN


async def test_what_is_quoted_is_chosen_by_what_was_read_for(index):
    answer = await answerer(index, ScriptedModel([ENGLISH])).answer(GERMAN)
    assert answer.outcome == "answer"
    assert "ninth of December" in answer.answer


@pytest.mark.parametrize("question", [ENGLISH, "Where is the rope delivered?"])
def test_what_a_reranker_does_not_read_is_not_asked_for(index, question):
    """It would take any German passage for an answer."""
    model = ScriptedModel()
    answerer(index, model).find(question)
    assert model.requests == []


@pytest.mark.parametrize("written", ["", "  \n", GERMAN, "?!"])
def test_what_says_nothing_changes_nothing(index, written):
    found = answerer(index, ScriptedModel([written])).find(GERMAN)
    assert found.asked == {}


def test_without_a_model_that_rewrites_nothing_is_translated(index):
    model = ScriptedModel()
    Answerer(index, model, reranker=EnglishReranker(), calibration=CALIBRATION).find(GERMAN)
    assert model.requests == []


@pytest.mark.parametrize(
    ("question", "documents", "languages"),
    [
        (GERMAN, {"en": 90, "de": 10}, ["en"]),
        (ENGLISH, {"en": 90, "de": 10}, ["de"]),
        (ENGLISH, {"en": 99, "de": 1}, []),
        (ENGLISH, {"de": 30, "fr": 50, "es": 20}, ["fr", "de"]),
        (ENGLISH, {"cy": 50}, []),
        (ENGLISH, {}, []),
        ("4711", {"de": 50}, []),
    ],
)
def test_the_languages_of_most_documents_are_asked(question, documents, languages):
    assert languages_to_ask(question, documents) == languages


def test_only_the_first_line_of_a_translation_counts():
    model = ScriptedModel(["Wann?\n\nOr: Wann genau?"])
    assert translated(model, "When?", "de") == "Wann?"
