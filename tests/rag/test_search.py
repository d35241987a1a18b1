"""Search finds by meaning and by words, exactly, for any text, in one snapshot."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import InputError
from lmstack.rag import Index
from lmstack.rag.lexical import content_words, match_query
from lmstack.rag.search import fuse


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


def test_rare_word_is_found_by_words(index):
    hit = index.search("only17", 1, "lexical")[0]
    assert Path(hit.path).name == "17.txt"
    assert hit.ranks == {"dense": None, "lexical": 1}
    assert hit.similarity is None


def test_word_forms_are_one_word(tmp_path, embedder):
    (tmp_path / "a.txt").write_text("The café serves running dogs.")
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
    assert match_query("?!") == ""


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
        while not stop.is_set():
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
