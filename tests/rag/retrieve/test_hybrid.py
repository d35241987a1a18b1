"""Search finds by meaning and by words, exactly, for any text, in one snapshot."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import InputError
from lmstack.rag import Index, IndexConfig
from lmstack.rag.catalogue.schema import dump_pages, texts
from lmstack.rag.documents import Page
from lmstack.rag.retrieve.hybrid import SearchConfig, fuse, fuse_covered, fuse_scores
from lmstack.rag.words import content_words, pieces_of, query_terms

# No scores so small that multiplying them loses all their digits.
WORDS = st.just(0.0) | st.floats(1e-6, 50)
CASES = st.lists(st.tuples(st.floats(-1, 1), WORDS), min_size=1)


@pytest.fixture(scope="module")
def index(tmp_path_factory, make_embedder):
    folder = tmp_path_factory.mktemp("search")
    for number in range(40):
        words = [f"word{(number * 7 + step * step) % 50}" for step in range(30)]
        (folder / f"{number}.txt").write_text(" ".join(words) + f" only{number}")
    with Index.open(folder / "index", make_embedder()) as opened:
        opened.update([folder])
        yield opened


@settings(deadline=None, max_examples=200)
@given(query=st.text(min_size=1, max_size=80))
def test_no_text_is_a_syntax_error(index, query):
    if query.strip():
        assert len(index.search(query, 3)) == 3


@pytest.mark.parametrize(
    "query",
    ['"', "a AND", "NEAR(", "text:x", "*", "^a", "-x", "a OR OR b", "' ; DROP TABLE chunks", "\0"],
)
def test_query_syntax_is_text(index, query):
    index.search(f"word1 {query}", 3, "lexical")
    assert index.verify().ok


def test_dense_ranks_equal_exact_scan(index, embedder):
    vectors = embedder.embed(
        [f"{Path(d.path).stem}\n{index.document(d.id).text}" for d in index.documents()]
    )
    expected = vectors @ embedder.embed(["word1 word2 only7"], "query")[0]
    hits = index.search("word1 word2 only7", 40, "dense")
    assert [h.similarity for h in hits] == pytest.approx(sorted(expected, reverse=True), abs=1e-6)


def test_documents_are_embedded_as_passages_and_questions_as_queries(tmp_path, embedder):
    """Models that were trained on marked texts find worse without the right mark."""
    (tmp_path / "a.txt").write_text("A harbour in the north.")
    with Index.open(tmp_path / "index", embedder) as index:
        index.update([tmp_path])
        assert not embedder.kinds["query"]
        index.search("harbour?", 1)
        index.search_many(["north?", "where?"], 1)
    assert embedder.kinds["query"] == {"harbour?", "north?", "where?"}
    assert [text.endswith("A harbour in the north.") for text in embedder.kinds["passage"]] == [
        True
    ]


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_more_hits_than_lists_are_deep_are_found_all_the_same(index, mode):
    config = IndexConfig(search=SearchConfig(depth=3))
    with Index.open(index.folder, index.embedder, config=config) as shallow:
        assert len(shallow.search(" ".join(f"word{n}" for n in range(50)), 30, mode)) == 30


def test_a_passage_over_a_page_break_is_on_the_page_where_it_begins(tmp_path, embedder):
    (tmp_path / "a.txt").write_text("The first page ends in the\nmiddle of a sentence.")
    with Index.open(tmp_path / "index", embedder) as index:
        index.update([tmp_path])
        pages = dump_pages((Page(7, 0, 27), Page(8, 27, 48)))
        with index._database.writing() as connection:
            connection.execute(sa.update(texts).values(pages=pages))
        (hit,) = index.search("sentence", 5)
    assert (hit.start, hit.end, hit.page) == (0, 48, 7)


def test_rare_word_is_found_by_words(index):
    hit = index.search("only17", 1, "lexical")[0]
    assert Path(hit.path).name == "17.txt"
    assert hit.ranks == {"dense": None, "lexical": 1}
    assert hit.similarity is None


def test_word_forms_are_one_word(tmp_path, embedder):
    (tmp_path / "a.txt").write_text("The café serves running dogs.", encoding="utf-8")
    with Index.open(tmp_path / "index", embedder) as index:
        index.update([tmp_path])
        assert index.search("cafe", 1, "lexical")
        assert index.search("RUNS", 1, "lexical")


def test_hybrid_hit_says_what_found_it(index):
    hit = index.search("only17", 5)[0]
    assert Path(hit.path).name == "17.txt"
    assert hit.ranks["lexical"] == 1
    assert hit.ranks["dense"] is not None
    assert [h.rank for h in index.search("only17", 5)] == [1, 2, 3, 4, 5]


def test_json_of_a_hit_is_the_contract(index):
    assert list(index.search("word1", 1)[0].to_json()) == [
        "rank",
        "score",
        "path",
        "start",
        "end",
        "text",
        "page",
    ]


def test_fusion_is_the_sum_of_reciprocal_ranks():
    fused = fuse({"dense": [1, 2], "lexical": [2, 3]}, {"dense": 1, "lexical": 1}, 60)
    assert fused == [
        (2, pytest.approx(1 / 62 + 1 / 61)),
        (1, pytest.approx(1 / 61)),
        (3, pytest.approx(1 / 62)),
    ]


@given(st.permutations(list(range(8))), st.permutations(list(range(8))))
def test_fusion_puts_what_both_lists_put_first_first(one, two):
    two = [one[0], *[item for item in two if item != one[0]]]
    assert fuse({"a": one, "b": two}, {"a": 1, "b": 1}, 60)[0][0] == one[0]


def test_weighted_fusion_adds_shares_of_the_highest_score_by_words():
    fused = fuse_scores(np.array([0.2, 0.5]), np.array([4.0, 2.0]), SearchConfig().weights)
    assert fused == pytest.approx([0.2 + 0.3, 0.5 + 0.15])


@given(CASES, st.floats(0.01, 100))
def test_weighted_fusion_does_not_depend_on_the_scale_of_scores_by_words(case, factor):
    cosines, words = map(np.array, zip(*case, strict=True))
    weights = SearchConfig().weights
    assert fuse_scores(cosines, factor * words, weights) == pytest.approx(
        fuse_scores(cosines, words, weights)
    )


def test_weighted_fusion_without_words_is_meaning_alone():
    cosines = np.array([0.3, -0.1])
    assert list(fuse_scores(cosines, np.zeros(2), SearchConfig().weights)) == list(cosines)


def test_a_name_that_one_passage_holds_is_found_though_none_is_alike_in_meaning():
    """Cosines of a single name are low and close together; of a question they are not."""
    weights = SearchConfig().weights
    name = fuse_scores(np.array([0.42, 0.38, 0.25]), np.array([0.0, 0.0, 6.0]), weights)
    asked = fuse_scores(np.array([0.71, 0.38, 0.25]), np.array([0.0, 0.0, 6.0]), weights)
    assert (int(name.argmax()), int(asked.argmax())) == (2, 0)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (SearchConfig(), SearchConfig(fusion="covered", lexical_weight=0.05)),
        (SearchConfig(lexical_weight=0.4), SearchConfig(lexical_weight=0.4)),
        (SearchConfig(fusion="rrf"), SearchConfig(fusion="rrf")),
    ],
)
def test_weight_of_words_is_that_of_the_embedder_unless_one_is_given(
    tmp_path, make_embedder, config, expected
):
    plain, measured = make_embedder(), make_embedder()
    measured.info = replace(measured.info, lexical_weight=0.05)
    (tmp_path / "a.txt").write_text("the tower by the sea is old")
    (tmp_path / "b.txt").write_text("only words and more words about nothing else here")
    found = []
    for embedder, chosen in ((measured, config), (plain, expected)):
        with Index.open(tmp_path / "i", embedder, config=IndexConfig(search=chosen)) as opened:
            opened.update([tmp_path])
            found.append(opened.search("old tower", 2))
    assert found[0] == found[1]


def test_words_are_measured_against_what_those_of_the_query_could_give():
    weights = SearchConfig(fusion="covered", lexical_weight=0.4).weights
    fused = fuse_covered(np.array([0.8, 0.9]), np.array([4.0, 2.0]), 8.0, weights)
    assert fused == pytest.approx([0.8 + 0.4 * 0.5, 0.9 + 0.4 * 0.25])
    assert list(fuse_covered(np.array([0.3]), np.zeros(1), 0.0, weights)) == [0.3]


def test_no_score_by_words_reaches_what_the_query_could_give(index):
    with index._opened.database.reading() as connection:
        words = index._corpus(connection).words(None)
    rows = np.arange(words.count)
    for query in ("word7", "word7 word11 only3", "word7 nowhere"):
        terms = query_terms(query)
        assert 0 < words.scores(terms, rows).max() < words.most(terms)
    assert words.most(query_terms("nowhere")) == 0
    assert words.most(query_terms("word7 nowhere")) > 2 * words.most(query_terms("word7"))


@pytest.mark.parametrize("fusion", ["weighted", "rrf", "covered"])
def test_a_weight_that_is_given_leaves_the_other_as_it_was(fusion):
    measured = SearchConfig(fusion=fusion).weights
    given = SearchConfig(fusion=fusion, lexical_weight=7).weights
    assert given == measured | {"lexical": 7}


@pytest.mark.parametrize("k", [0, -1, 1001])
def test_k_out_of_range_is_refused(index, k):
    with pytest.raises(InputError, match="k is"):
        index.search("x", k)


@pytest.mark.parametrize("query", ["", " \n"])
def test_empty_query_is_refused(index, query):
    with pytest.raises(InputError, match="empty"):
        index.search(query)


def test_unknown_mode_names_the_modes(index):
    with pytest.raises(InputError, match="magic"):
        index.search("x", 1, "magic")


def test_stop_words_count_only_when_there_is_nothing_else():
    assert content_words("What is the lighthouse?") == ["lighthouse"]
    assert content_words("to be or not to be") == ["to", "be", "or", "not"]
    assert content_words("?!") == []


def test_change_by_another_process_is_seen_at_the_next_search(tmp_path, make_embedder):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.txt").write_text("alpha words")
    with (
        Index.open(tmp_path / "index", make_embedder()) as writer,
        Index.open(tmp_path / "index", make_embedder()) as reader,
    ):
        writer.update([docs])
        assert len(reader.search("alpha", 5, "dense")) == 1
        (docs / "b.txt").write_text("beta words")
        (docs / "a.txt").write_text("gamma words")
        writer.update()
        assert {h.text for h in reader.search("beta", 5, "dense")} == {"beta words", "gamma words"}
        assert reader.search("beta", 1, "dense")[0].text == "beta words"


def test_searches_during_updates_never_see_half_a_document(tmp_path, make_embedder):
    docs = tmp_path / "docs"
    docs.mkdir()
    path = docs / "a.txt"
    stop = threading.Event()
    broken: list[str] = []

    def search(index: Index) -> None:
        while not stop.wait(0.005):
            hits = index.search("marker", 1000)
            if {h.text.split()[0] for h in hits} not in ({"even"}, {"odd"}):
                broken.append(str(hits))

    path.write_text("\n\n".join(f"even marker {n} " + "x " * 100 for n in range(20)))
    with Index.open(tmp_path / "index", make_embedder()) as index:
        index.update([docs])
        threads = [threading.Thread(target=search, args=(index,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(12):
            kind = "odd" if number % 2 else "even"
            path.write_text("\n\n".join(f"{kind} marker {n} " + "x " * 100 for n in range(20)))
            index.update()
        stop.set()
        for thread in threads:
            thread.join()
    assert not broken


def test_index_without_documents_finds_nothing(tmp_path, embedder):
    with Index.open(tmp_path / "index", embedder) as index:
        assert index.search("anything") == []


def test_word_weights_grow_with_rarity(index):
    weights = index.word_weights(["only7", "word1", "absent"])
    assert weights["word1"] < weights["only7"] < weights["absent"]
    assert np.isfinite(list(weights.values())).all()


@pytest.fixture(scope="module")
def unspaced(tmp_path_factory, make_embedder):
    folder = tmp_path_factory.mktemp("unspaced")
    for name, text in _UNSPACED.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    with Index.open(folder / "index", make_embedder()) as opened:
        opened.update([folder])
        yield opened


_UNSPACED = {
    "ja": "\u6771\u4eac\u90fd\u306e\u56f3\u66f8\u9928\u306f\u4e5d\u6642\u306b\u958b\u304d"
    "\u307e\u3059\u3002GPU\u642d\u8f09\u3002\u30ac\u30a4\u30c9",
    "zh": "\u56fe\u4e66\u9986\u5728\u5317\u4eac\uff0c\u732b\u4e0d\u80fd\u8fdb\u53bb\u3002",
    "ko": "\ub3c4\uc11c\uad00\uc5d0\uc11c\ub294 \uc870\uc6a9\ud788 \ud558\uc138\uc694.",
    "en": "The library opens at nine.",
}


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("\u56f3\u66f8\u9928", "ja"),
        ("\u56f3\u66f8\u9928\u306f\u4f55\u6642\u306b\u958b\u304d\u307e\u3059\u304b", "ja"),
        ("gpu", "ja"),
        ("\uff76\uff9e\uff72\uff84\uff9e", "ja"),
        ("\u30ab\u3099\u30a4\u30c8\u3099", "ja"),
        ("\u5317\u4eac", "zh"),
        ("\u732b", "zh"),
        ("\ub3c4\uc11c\uad00", "ko"),
        ("library", "en"),
    ],
)
def test_word_within_text_without_spaces_is_found_first(unspaced, query, name):
    assert Path(unspaced.search(query, 1, "lexical")[0].path).stem == name


@pytest.mark.parametrize("query", ["\u4eac\u6771", "\u5927\u962a"])
def test_characters_that_do_not_stand_together_are_not_a_word(unspaced, query):
    assert unspaced.search(query, 5, "lexical") == []


def test_word_without_spaces_has_a_weight(unspaced):
    weights = unspaced.word_weights(["\u56f3\u66f8\u9928", "\u4eac", "\u5927\u962a"])
    assert weights["\u4eac"] < weights["\u56f3\u66f8\u9928"] < weights["\u5927\u962a"]


def test_text_with_spaces_is_posted_once():
    assert (
        pieces_of("caf\u00e9 \u0441\u043b\u043e\u0432\u043e \u03bb\u03cc\u03b3\u03bf\u03c2 nine")
        == ""
    )
