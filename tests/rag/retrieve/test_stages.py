"""Stages one by one: dates, copies, diversity, late interaction, expansion, words of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.core import ModelInfo
from lmstack.core.scripted import ScriptedModel
from lmstack.rag.documents import Document, Section
from lmstack.rag.formats.load import parse_document
from lmstack.rag.retrieve.expansion import expand, neighbour_span, section_span
from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.retrieve.rewriting import query_variants, standalone_query
from lmstack.rag.retrieve.stages import (
    LateInteractionReranker,
    collapse,
    day_of,
    diversify,
    prefer_fresh,
    rescore,
    scaled,
    with_read,
)


class Known:
    """Scores that are given."""

    info = ModelInfo("known")

    def __init__(self, scores: dict[str, float]) -> None:
        self._scores = scores

    def score(self, query: str, passages: Sequence[str]) -> np.ndarray:
        return np.array([self._scores[text] for text in passages], np.float32)


def hit(
    chunk: int, text: str = "t", *, score: float = 1.0, start: int = 0, document: int = 1
) -> Hit:
    end = start + len(text)
    return Hit(
        0, score, f"p{document}", start, end, text, None, {}, chunk, document, "", (), "", None
    )


@pytest.mark.parametrize(
    ("written", "day"),
    [
        ("2024-06-03", date(2024, 6, 3)),
        ("2024-06-03T10:00:00Z", date(2024, 6, 3)),
        ("2024-06", date(2024, 6, 1)),
        ("2024", date(2024, 1, 1)),
        ("2024-13", None),
        ("20240603", None),
        ("yesterday", None),
        (2024, None),
        (None, None),
    ],
)
def test_dates_as_documents_give_them(written, day):
    assert day_of(written) == day


def test_newer_document_wins_among_equals_and_not_against_relevance():
    fields = {1: {"date": "2020-01-01"}, 2: {"date": "2026-11-01"}, 3: {"date": "2026-11-01"}}
    found = [hit(n, score=score, document=n) for n, score in ((1, 1.0), (2, 1.0), (3, 0.1))]
    ordered = prefer_fresh(
        found, lambda h: fields[h.document_id], date(2026, 11, 26), 100, 0.3, "date"
    )
    assert [h.document_id for h in ordered] == [2, 1, 3]


def test_score_of_freshness_is_the_formula():
    found = [hit(1, score=3.0, document=1), hit(2, score=1.0, document=2)]
    fields = {1: {"date": "2026-08-18"}, 2: {}}
    [first, second] = prefer_fresh(
        found, lambda h: fields[h.document_id], date(2026, 11, 26), 50, 0.4, "date"
    )
    assert first.score == pytest.approx(0.6 * 1 + 0.4 * 0.25)
    assert second.score == pytest.approx(0.6 * 0 + 0.4 * 0.5)


SENTENCE = "The office opens at nine and closes at five on every working day of the week"


def test_copies_collapse_into_the_first():
    kept, gone = collapse(
        [hit(1, SENTENCE), hit(2, SENTENCE + "!"), hit(3, "Other words here.")], 0.9
    )
    assert [h.chunk_id for h in kept] == [1, 3]
    assert gone == {2: f"says what p1 (0-{len(SENTENCE)}) says"}


def test_texts_that_differ_in_a_number_are_no_copies():
    texts = [f"{SENTENCE}, room {n}" for n in (1, 2)]
    assert len(collapse([hit(n, text) for n, text in enumerate(texts)], 0.5)[0]) == 2


@given(st.lists(st.sampled_from([SENTENCE, "a b c d", "a b c d e", "", "x"]), max_size=8))
def test_collapse_keeps_the_best_and_reports_the_rest(texts):
    found = [hit(n, text) for n, text in enumerate(texts)]
    kept, gone = collapse(found, 0.8)
    assert [h for h in found if h.chunk_id not in gone] == kept
    assert kept[:1] == found[:1]


def unit(rows: Sequence[Sequence[float]]) -> np.ndarray:
    matrix = np.array(rows, np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def test_mmr_takes_what_is_new_before_what_was_said():
    vectors = unit([[1, 0], [1, 0.01], [0, 1]])
    found = [hit(n, score=score) for n, score in ((1, 1.0), (2, 0.9), (3, 0.5))]
    assert [h.chunk_id for h in diversify(found, vectors, 3, 0.5)] == [1, 3, 2]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.integers(1, 8))
def test_mmr_of_relevance_alone_is_the_order_by_score(scores, k):
    found = [hit(n, score=score) for n, score in enumerate(scores)]
    vectors = unit(np.random.default_rng(0).normal(size=(len(found), 4)).tolist())
    chosen = [h.chunk_id for h in diversify(found, vectors, k, 1.0)]
    values = scaled(scores)
    assert chosen == sorted(range(len(scores)), key=lambda n: (-values[n], n))[:k]


class Letters:
    """A unit vector a letter; remembers what it was asked."""

    info = ModelInfo("letters")

    def __init__(self) -> None:
        self.passages: list[str] = []

    def embed_tokens(self, texts: Sequence[str], kind: str = "passage") -> list[np.ndarray]:
        if kind == "passage":
            self.passages += texts
        return [np.eye(26, dtype=np.float32)[[ord(c) - 97 for c in text]] for text in texts]


def test_late_interaction_is_the_mean_of_the_best_matches():
    scores = LateInteractionReranker(Letters()).score("abcd", ["ab", "abcd", "xyz", ""])
    assert scores.tolist() == pytest.approx([0.5, 1, 0, 0])


def test_passages_are_encoded_once_until_they_are_forgotten():
    letters = Letters()
    late = LateInteractionReranker(letters, cache_bytes=80)
    late.score("a", ["ab", "ab", "c"])
    assert letters.passages == ["ab", "c"]
    assert late.score("a", ["c", "ab"]).tolist() == [0, 1]
    assert letters.passages == ["ab", "c"]
    late.score("a", ["x"])
    late.score("a", ["ab", "c"])
    assert letters.passages == ["ab", "c", "x", "c"]


def test_int8_loses_less_than_a_hundredth():
    rng = np.random.default_rng(0)
    vectors = {text: unit(rng.normal(size=(12, 32)).tolist()) for text in "qp"}

    class Random:
        info = ModelInfo("random")

        def embed_tokens(self, texts: Sequence[str], kind: str = "passage") -> list[np.ndarray]:
            return [vectors[text] for text in texts]

    exact = (vectors["q"] @ vectors["p"].T).max(axis=1).mean()
    assert LateInteractionReranker(Random()).score("q", ["p"])[0] == pytest.approx(exact, abs=0.01)


TEXT = "# One\n\nAlpha is first. Beta is second. Gamma is third.\n\n# Two\n\nDelta is last.\n"
CUT = TEXT.index("# Two")
SECTIONS = (
    Section("One", 1, 0, CUT, ("One",)),
    Section("Two", 1, CUT, len(TEXT), ("Two",)),
)
DOCUMENT = Document("p1", TEXT, "markdown", "t", SECTIONS, ())


def words(text: str) -> int:
    return len(text.split())


def found_at(chunk: int, text: str) -> Hit:
    return hit(chunk, text, start=TEXT.index(text))


def shown(hits: Sequence[Hit], budget: int) -> list[str]:
    wider, _ = expand(hits, lambda _: DOCUMENT, lambda h, d: section_span(h, d, words, budget))
    return [h.text for h in wider]


def test_whole_section_where_it_fits():
    assert shown([found_at(1, "Beta is second.")], 50) == [TEXT[:CUT].strip()]


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (3, "Beta is second."),
        (6, "Beta is second. Gamma is third."),
        (9, "Alpha is first. Beta is second. Gamma is third."),
    ],
)
def test_as_many_whole_sentences_as_fit(budget, text):
    assert shown([found_at(1, "Beta is second.")], budget) == [text]


def test_what_a_better_hit_shows_is_not_shown_again():
    hits = [found_at(1, "Beta is second."), found_at(2, "Gamma is third."), found_at(3, "Delta")]
    wider, gone = expand(hits, lambda _: DOCUMENT, lambda h, d: section_span(h, d, words, 50))
    assert [h.chunk_id for h in wider] == [1, 3]
    assert gone == {2: f"is part of p1 (0-{len(TEXT[:CUT].rstrip())})"}


def test_document_that_changed_gives_nothing_more():
    found = [found_at(1, "Beta is second.")]
    assert expand(found, lambda _: None, lambda h, d: (0, len(d.text)))[0] == found


@pytest.mark.parametrize(
    ("distance", "budget", "span"),
    [(1, 99, (10, 40)), (2, 99, (0, 50)), (1, 25, (20, 40)), (1, 5, (20, 30))],
)
def test_neighbours_within_the_budget(distance, budget, span):
    document = Document("p", "x" * 60, "text", "t", (), ())
    spans = [(n, n + 10) for n in range(0, 60, 10)]
    middle = hit(1, "x" * 10, start=20)
    assert neighbour_span(middle, document, spans, len, budget, distance) == span


@pytest.mark.parametrize(
    ("written", "queries"),
    [
        ('1. "Who lit it?"\n2) When was it lit?\n', ["Who lit it?", "When was it lit?"]),
        ("- a?\n\n- a?\n- Q?\n* b?\n- c?", ["a?", "b?"]),
        ("\n --- \n", []),
    ],
)
def test_variants_are_read_from_lists(written, queries):
    assert query_variants(ScriptedModel([written]), "q?", 2) == queries


def test_questions_of_a_conversation_reach_the_model_that_rewrites():
    model = ScriptedModel(["Who built the tower?"])
    history = [("Is there a tower?", "Yes, tall."), ("Is it old?", "It is.")]
    assert standalone_query(model, "Who built it?", history) == "Who built the tower?"
    said = model.requests[0].messages[-1].content
    assert said == "Earlier: Is there a tower?\nEarlier: Is it old?\nLast: Who built it?"


@pytest.mark.parametrize(
    ("written", "query"),
    [
        ("What does the tower cost in winter?", "What does the tower cost in winter?"),
        ("What does the tower cost?", "Is there a tower? And in winter?"),  # winter is lost
        ("And in winter?", "Is there a tower? And in winter?"),  # nothing was done
        (" \n", "Is there a tower? And in winter?"),
    ],
)
def test_a_question_in_full_says_all_that_was_asked(written, query):
    history = [("Is there a tower?", "Yes.")]
    assert standalone_query(ScriptedModel([written]), "And in winter?", history) == query


def test_what_words_put_first_is_among_those_that_are_read():
    found = [replace(hit(n), ranks={"lexical": rank}) for n, rank in enumerate((3, None, 2, 1))]
    assert [h.chunk_id for h in with_read(found, 2, ())] == [0, 3, 1, 2]
    assert with_read(found, 4, ()) == found
    assert with_read(found[:3], 2, ()) == found[:3]


def test_some_passages_of_a_document_that_is_named_are_among_those_that_are_read():
    """Many hold its name, and cosines put all of them sooner."""
    found = [hit(n, document=1 + n // 5) for n in range(10)]
    assert [h.chunk_id for h in with_read(found, 4, {2})] == [0, 5, 6, 7, 1, 2, 3, 4, 8, 9]


def test_a_reranker_does_not_put_a_look_alike_before_what_is_named():
    """However much better it reads: only the name tells them apart."""
    found = [hit(n, f"{n}", document=n) for n in (1, 2, 3)]
    scorer = Known({"1": -9.0, "2": 5.0, "3": 6.0})
    for weight in (0.5, 1.0):
        assert [h.chunk_id for h in rescore(scorer, "q", found, 3, weight)] == [3, 2, 1]
        assert [h.chunk_id for h in rescore(scorer, "q", found, 3, weight, {2, 3})] == [1, 3, 2]


def test_the_section_of_a_passage_that_begins_with_headings_alone_is_what_they_head():
    text = "# A\n\n## B\n\nOne. Two. Three.\n\n## C\n\nFour."
    document = parse_document("a.md", text.encode())
    begun = hit(1, text[: text.index("Two")])
    assert section_span(begun, document, words, 50) == (0, text.index("## C"))


def test_a_reranker_reads_a_passage_with_the_names_that_its_document_begins_with():
    scorer = Known({"4711\nTotal: 12.50": 2.0, "Total: 9.50": 1.0, "Invoice 4711": 0.0})
    total, other, first = hit(1, "Total: 12.50"), hit(2, "Total: 9.50"), hit(3, "Invoice 4711")
    found = [other, replace(total, own_names=("4711",)), replace(first, own_names=("4711",))]
    assert [h.chunk_id for h in rescore(scorer, "total of 4711", found, 3, 1.0)] == [1, 2, 3]
