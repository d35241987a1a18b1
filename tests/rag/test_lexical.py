"""Words: what is a term, and BM25 equal to bm25s over any cut of the collection."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise

import bm25s
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmstack.core import IntegrityError
from lmstack.rag.retrieve.bm25 import K1, B, Bm25, merge_postings, without_rows
from lmstack.rag.words import (
    MAX_TERMS,
    Postings,
    content_words,
    is_of_other_version,
    posting_blob,
    query_terms,
    read_postings,
)

# Words that stemming, folding and cutting leave as they are.
VOCABULARY = [f"w{n}x" for n in range(12)]
WORDS = st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join)
CHUNKS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=14)
QUERIES = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=5, unique=True)


def posted(chunks: Sequence[tuple[str, str]]) -> Postings:
    return read_postings(posting_blob(chunks))


def ranker(parts: Sequence[Postings], visible=None) -> Bm25:
    size = sum(len(part.lengths) for part in parts)
    return Bm25(parts, np.arange(size, dtype=np.int32), visible)


def parts_of(chunks, cuts: Sequence[int]) -> list[Postings]:
    """The chunks as documents that begin at ``cuts``."""
    edges = sorted({0, len(chunks), *(cut % (len(chunks) + 1) for cut in cuts)})
    return [posted(chunks[a:b]) for a, b in pairwise(edges)]


def scores_of(ranking: Bm25, query: str, size: int, allowed=None) -> np.ndarray:
    rows, scores = ranking.search(query_terms(query), size, allowed)
    found = np.zeros(size, np.float32)
    found[rows] = scores
    return found


def terms(text: str) -> set[int]:
    return set(map(int, posted([("", text)]).hashes))


def finds(query: str, text: str) -> bool:
    return bool(set(map(int, query_terms(query))) & terms(text))


@settings(deadline=None)
@given(CHUNKS, QUERIES)
def test_scores_equal_those_of_bm25s(chunks, query):
    corpus = [f"{prefix} {text}".split() for prefix, text in chunks]
    if not any(corpus):
        return
    oracle = bm25s.BM25(method="lucene", k1=K1, b=B, backend="numpy")
    oracle.index(corpus, show_progress=False)
    known = [word for word in query if any(word in words for words in corpus)]
    expected = oracle.get_scores(known) if known else np.zeros(len(chunks))
    found = scores_of(ranker([posted(chunks)]), " ".join(query), len(chunks))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@settings(deadline=None)
@given(CHUNKS, st.permutations(VOCABULARY), st.permutations(range(12)))
def test_scores_have_the_same_bits_in_whatever_order_words_are_asked(chunks, query, order):
    """Or of two equal passages one would come first by chance."""
    ranking, terms = ranker([posted(chunks)]), query_terms(" ".join(query))
    shuffled = [terms[n] for n in order]
    for one, other in zip(ranking.search(terms, 9), ranking.search(shuffled, 9), strict=True):
        assert np.array_equal(one, other)
    rows = np.arange(len(chunks))
    assert np.array_equal(ranking.scores(terms, rows), ranking.scores(shuffled, rows))


@settings(deadline=None)
@given(CHUNKS, QUERIES, st.lists(st.integers(0, 20), max_size=4))
def test_scores_do_not_depend_on_how_the_collection_is_cut(chunks, query, cuts):
    whole = scores_of(ranker([posted(chunks)]), " ".join(query), len(chunks))
    cut = scores_of(ranker(parts_of(chunks, cuts)), " ".join(query), len(chunks))
    assert (whole == cut).all()


@settings(deadline=None)
@given(CHUNKS, st.lists(st.integers(0, 20), max_size=4))
def test_merging_documents_posts_them_as_one(chunks, cuts):
    merged, whole = merge_postings(parts_of(chunks, cuts)), posted(chunks)
    for name in Postings.__slots__:
        assert np.array_equal(getattr(merged, name), getattr(whole, name)), name


@settings(deadline=None)
@given(CHUNKS, st.data())
def test_taking_rows_out_equals_never_having_had_them(chunks, data):
    kept = data.draw(st.lists(st.booleans(), min_size=len(chunks), max_size=len(chunks)))
    fewer = without_rows(posted(chunks), np.array(kept, bool))
    rest = posted([chunk for chunk, keep in zip(chunks, kept, strict=True) if keep])
    for name in Postings.__slots__:
        assert np.array_equal(getattr(fewer, name), getattr(rest, name)), name


@settings(deadline=None)
@given(CHUNKS, QUERIES, st.data())
def test_hidden_rows_leave_no_trace_in_scores(chunks, query, data):
    seen = np.array(data.draw(st.lists(st.booleans(), min_size=len(chunks), max_size=len(chunks))))
    view = ranker([posted(chunks)], seen)
    rest = ranker([posted([c for c, keep in zip(chunks, seen, strict=True) if keep])])
    text = " ".join(query)
    assert (scores_of(view, text, len(chunks))[seen] == scores_of(rest, text, seen.sum())).all()
    assert view.weights(query) == rest.weights(query)
    assert not scores_of(view, text, len(chunks))[~seen].any()


@settings(deadline=None)
@given(CHUNKS, QUERIES, st.data())
def test_a_filter_changes_no_score(chunks, query, data):
    allowed = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(chunks), max_size=len(chunks)))
    )
    ranking, text = ranker([posted(chunks)]), " ".join(query)
    every = scores_of(ranking, text, len(chunks))
    some = scores_of(ranking, text, len(chunks), allowed)
    assert (some == np.where(allowed, every, 0)).all()


@settings(deadline=None)
@given(CHUNKS, QUERIES)
def test_scores_of_given_rows_are_those_of_the_search(chunks, query):
    ranking, text = ranker([posted(chunks)]), " ".join(query)
    rows = np.arange(len(chunks))[::-1].copy()
    every = scores_of(ranking, text, len(chunks))
    assert (ranking.scores(query_terms(text), rows) == every[::-1]).all()


@pytest.mark.parametrize("filtered", [False, True])
def test_how_a_term_is_kept_changes_nothing(filtered, monkeypatch):
    dice = np.random.default_rng(0)
    common = [f"w{n}x" for n in range(200)]
    weights = 1 / np.arange(1, 201) ** 1.2
    chunks = [
        ("", " ".join(dice.choice(common, 12, p=weights / weights.sum()))) for _ in range(3000)
    ]
    allowed = dice.random(3000) < 0.5 if filtered else None
    postings, rows = posted(chunks), dice.permutation(3000)[:100]
    queries = [list(dice.choice(common, 4, replace=False)) for _ in range(60)]
    found = []
    for share in (0, 4, 10**9):  # no term, some terms, every term a column
        monkeypatch.setattr("lmstack.rag.retrieve.bm25._COLUMN_SHARE", share)
        ranking = ranker([postings])
        terms = [query_terms(" ".join(words)) for words in queries]
        found.append(
            [
                *(array for each in terms for array in ranking.search(each, 10, allowed)),
                *(ranking.scores(each, rows) for each in terms),
                *(np.array(list(ranking.weights(words).values())) for words in queries),
            ]
        )
    for lists, some, columns in zip(*found, strict=True):
        assert (lists == some).all()
        assert (lists == columns).all()


def test_equal_scores_go_by_place():
    places = np.array([2, 0, 1], np.int32)
    rows, scores = Bm25([posted([("", "w1x")] * 3)], places).search(query_terms("w1x"), 2)
    assert list(rows) == [1, 2]
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("running", "she runs"),
        ("CAFE", "caf\u00e9"),
        ("caf\u00e9", "CAFE\u0301"),
        ("Stra\u00dfe", "stra\u00dfe"),
        ("\u0130stanbul", "istanbul"),
        ("\u0444\u0438\u043b\u0438\u043d", "\u0424\u0438\u043b\u0438\u043d"),
        ("\u043c\u043e\u0439", "\u043c\u043e\u0439"),
        ("find", "\ufb01nd"),
        ("email", "an e-mail"),
        ("e-mail", "an email"),
        ("snake_case", "call snake_case now"),
        ("snake case", "call snake_case now"),
        ("snakecase", "call snake_case now"),
        ("SnakeCase", "call snake_case now"),
        ("cache", "class MatrixCache"),
        ("matrix_cache", "class MatrixCache"),
        ("os.path.join", "use os.path.join here"),
        ("join", "use os.path.join here"),
        ("1,024", "1024 bytes"),
        ("1024", "1,024 bytes"),
        ("3.14", "pi is 3.14"),
        ("__init__", "def __init__(self)"),
        ("penguin", "the penguin's egg"),
        ("penguin's", "a penguin"),
        ("COVID-19", "covid19"),
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940",
            "\u0939\u093f\u0928\u094d\u0926\u0940 \u092d\u093e",
        ),
        ("\u0645\u064f\u062d\u064e\u0645\u0651\u064e\u062f", "\u0645\u062d\u0645\u062f"),
    ],
)
def test_finds_what_a_reader_takes_for_the_same(query, text):
    assert finds(query, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("1,2", "12 apples"),
        ("don't", "d t"),
        ("to_string", "we go to them"),
        ("\u4eac\u6771", "\u6771\u4eac"),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", "\u0939 \u0928 \u0926"),
    ],
)
def test_does_not_find_what_is_something_else(query, text):
    assert not finds(query, text)


def test_what_an_apostrophe_leaves_is_no_word():
    assert content_words("What's the penguin's egg? Don't they\u2019ll") == [
        "penguin",
        "egg",
        "don",
    ]


def test_stop_words_are_asked_for_only_where_there_is_nothing_else():
    assert query_terms("what is the egg") == query_terms("egg")
    assert len(query_terms("to be or not to be")) == 4
    assert finds("to be or not to be", "to be")
    assert len(query_terms("?! ...")) == 0


def test_words_that_stem_alike_are_asked_for_once():
    assert len(query_terms("run runs running")) == 1


def test_a_long_query_is_cut():
    assert len(query_terms(" ".join(f"word{n}" for n in range(1000)))) == MAX_TERMS


@settings(deadline=None)
@given(st.text(max_size=60), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_terms_do_not_depend_on_the_form_of_unicode(text, form):
    assert terms(unicodedata.normalize(form, text)) == terms(text)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=80)), max_size=5))
def test_postings_count_every_term(chunks):
    found = posted(chunks)
    assert len(found.lengths) == len(chunks)
    assert found.frequencies.sum() == found.lengths.sum()
    assert (np.diff(found.hashes.astype(object)) > 0).all()
    assert posting_blob(chunks) == posting_blob(chunks)


@settings(deadline=None)
@given(st.text(max_size=60))
@example("0\u03000")
def test_every_word_of_a_text_finds_it(text):
    for word in content_words(text):
        assert finds(word, text) or len(query_terms(word)) == 0


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_bytes_that_are_no_postings_are_refused(data):
    with pytest.raises(IntegrityError):
        read_postings(data)


@settings(deadline=None)
@given(CHUNKS, st.data())
def test_postings_that_break_off_are_refused(chunks, data):
    blob = posting_blob(chunks)
    with pytest.raises(IntegrityError):
        read_postings(blob[: data.draw(st.integers(0, len(blob) - 1))])


def test_postings_of_another_version_are_known_as_such():
    blob = posting_blob([("", "words")])
    assert not is_of_other_version(blob)
    assert is_of_other_version(blob[:4] + b"0000" + blob[8:])
    assert not is_of_other_version(b"")


def test_a_megabyte_without_a_space_is_posted():
    found = posted([("", "a" * 10**6), ("", "a.b-" * 10**5), ("", "\u6771" * 10**5)])
    assert found.lengths.min() >= 1
