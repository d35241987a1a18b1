"""What is held in memory equals what a fresh index would hold, and shows nothing that is hidden."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lmstack.core import IntegrityError
from lmstack.rag import Index, IndexConfig
from lmstack.rag.catalogue.sqlite import FILE_NAME
from lmstack.rag.filters import parse_condition
from lmstack.rag.retrieve.hybrid import SearchConfig

MODES = ("dense", "lexical", "hybrid")
NAMES = [f"{folder}{name}.md" for folder in ("", "in/") for name in "abcd"]
WORDS = ["sea", "ice", "bird", "egg", "stone", "winter"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)
# Two sections, so that a document may hold two passages; the same text in many documents, so
# that scores are equal.
BODIES = st.lists(TEXTS, min_size=1, max_size=2).map(
    lambda parts: "\n\n".join(f"# {part.split()[0]}\n\n{part}." for part in parts)
)
CHANGES = st.lists(
    st.tuples(st.sampled_from(NAMES), st.one_of(st.none(), BODIES)), min_size=1, max_size=6
)
LABELS = st.sampled_from(["", "access: hr", "access: board", "access: [hr, board]"])


def results(index, **options) -> list[tuple]:
    """All that a search says, but for numbers of rows."""
    return [
        (
            mode,
            query,
            hit.rank,
            hit.score,
            hit.similarity,
            Path(hit.path).name,
            Path(hit.path).parent.name,
            hit.start,
            tuple(sorted((k, v) for k, v in hit.ranks.items() if v)),
        )
        for mode in MODES
        for query in ("sea ice", "bird", "a stone egg in winter")
        for hit in index.search(query, 5, mode, **options)
    ]


def write(folder: Path, name: str, body: str | None) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if body is not None:
        path.write_text(body)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    """A folder in which each example begins afresh."""
    return tmp_path_factory.mktemp("corpus")


def fresh(scratch: Path) -> Path:
    shutil.rmtree(scratch / "case", ignore_errors=True)
    (scratch / "case" / "docs").mkdir(parents=True)
    return scratch / "case"


# Each example indexes files: one that fails is shown as it was found.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
CONFIGS = [SearchConfig(depth=3), SearchConfig(depth=3, fusion="rrf")]


@settings(max_examples=6, deadline=None, phases=PHASES)
@given(CHANGES, CHANGES, st.sampled_from(CONFIGS), st.booleans())
def test_an_index_that_changed_searches_like_a_fresh_one(
    scratch, make_embedder, before, after, search, merged
):
    folder, config = fresh(scratch), IndexConfig(search=search)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lmstack.rag.retrieve.corpus._TAIL_ROWS", 0 if merged else 1000)
        with Index.open(folder / "old", make_embedder(), config=config) as old:
            for name, body in before:
                write(folder / "docs", name, body)
            old.update([folder / "docs"])
            results(old)
            for name, body in after:
                write(folder / "docs", name, body)
                old.update()
                results(old)
            with Index.open(folder / "new", make_embedder(), config=config) as new:
                new.update([folder / "docs"])
                assert results(old) == results(new)
                weights = [i.word_weights([*WORDS, "absent"]) for i in (old, new)]
                assert weights[0] == weights[1]


@settings(max_examples=6, deadline=None, phases=PHASES)
@given(
    st.dictionaries(st.sampled_from(NAMES), st.tuples(BODIES, LABELS), min_size=1),
    st.sets(st.sampled_from(["hr", "board"])),
    st.sampled_from(CONFIGS),
)
def test_a_view_searches_like_an_index_of_what_it_sees(scratch, make_embedder, files, held, search):
    folder, config = fresh(scratch), IndexConfig(search=search)
    (folder / "seen").mkdir()
    for name, (body, labels) in files.items():
        text = f"---\n{labels}\n---\n\n{body}" if labels else body
        write(folder / "docs", name, text)
        if all(label not in labels or label in held for label in ("hr", "board")):
            write(folder / "seen", name, text)
    with (
        Index.open(folder / "all", make_embedder(), config=config) as every,
        Index.open(folder / "some", make_embedder(), config=config) as some,
    ):
        every.update([folder / "docs"])
        some.update([folder / "seen"])
        view = every.seen_by(frozenset(held))
        strip = [row[:6] + row[7:] for row in results(view)]
        assert strip == [row[:6] + row[7:] for row in results(some)]
        assert results(every, labels=frozenset(held)) == results(view)
        assert view.word_weights(WORDS) == some.word_weights(WORDS)


@pytest.fixture
def index(tmp_path, docs, embedder):
    with Index.open(tmp_path / "index", embedder) as opened:
        opened.update([docs])
        yield opened


def test_a_filter_keeps_the_order_of_the_rest(index):
    every = index.search("the page light", 100, "lexical")
    found = index.search("the page light", 100, "lexical", where=parse_condition("format = text"))
    assert [h.chunk_id for h in found] == [h.chunk_id for h in every if h.path.endswith(".txt")]


def test_masks_are_made_once_a_state(index, monkeypatch):
    where = parse_condition("format = text")
    first = index.search("light", 5, where=where)
    seen = []
    matches = type(where).matches
    monkeypatch.setattr(type(where), "matches", lambda *args: seen.append(1) or matches(*args))
    assert index.search("light", 5, where=where) == first
    assert not seen


def test_a_change_reads_only_what_changed(index, docs, monkeypatch):
    index.search("light")
    read = []
    from lmstack.rag.retrieve import corpus

    add = corpus._Reading.add
    monkeypatch.setattr(
        corpus._Reading,
        "add",
        lambda self, c, row: read.append(row.document_id) or add(self, c, row),
    )
    (docs / "serving.md").write_text("Only this changed.")
    index.update()
    assert index.search("changed", 1, "lexical")
    assert len(read) == 1


def test_postings_of_another_version_are_made_anew_in_memory(index):
    before = index.search("lighthouse tower", 5, "lexical")
    with sqlite3.connect(index.folder / FILE_NAME) as connection:
        connection.execute(
            "UPDATE postings SET data = CAST(CAST('lmsp0000' AS BLOB) || substr(data, 9) AS BLOB)"
        )
    connection.close()
    with Index.open(index.folder, index.embedder) as again:
        assert again.search("lighthouse tower", 5, "lexical") == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE postings SET data = substr(data, 1, length(data) - 1)",
        "DELETE FROM postings WHERE document_id = 1",
        "UPDATE vectors SET data = substr(data, 5)",
        "UPDATE vectors SET dimensions = dimensions + 1",
    ],
)
def test_a_damaged_blob_is_an_error_and_not_a_wrong_result(index, statement):
    with sqlite3.connect(index.folder / FILE_NAME) as connection:
        connection.execute(statement)
    connection.close()
    with (
        Index.open(index.folder, index.embedder) as again,
        pytest.raises(IntegrityError, match="damaged"),
    ):
        again.search("light")


def test_many_queries_are_searched_as_one_by_one(index):
    queries = ["lighthouse", "the page", "penguin egg"]
    for mode in MODES:
        together = index.search_many(queries, 3, mode)
        assert together == [index.search(query, 3, mode) for query in queries]


def test_signs_and_scan_agree_where_signs_see_all(index, tmp_path, docs, embedder):
    config = IndexConfig(search=SearchConfig(approximate="always"))
    with Index.open(index.folder, embedder, config=config) as signs:
        for query in ("lighthouse", "penguin egg"):
            assert signs.search(query, 10, "dense") == index.search(query, 10, "dense")


def test_weighted_fusion_follows_its_weights(tmp_path, docs, embedder):
    def first(**weights) -> list[int]:
        config = IndexConfig(search=SearchConfig(fusion="weighted", **weights))
        with Index.open(tmp_path / "index", embedder, config=config) as index:
            index.update([docs])
            return [hit.chunk_id for hit in index.search("penguin egg", 5)]

    with Index.open(tmp_path / "index", embedder) as index:
        index.update([docs])
        only = {mode: index.search("penguin egg", 5, mode) for mode in ("dense", "lexical")}
    for mode, hits in only.items():
        other = "lexical" if mode == "dense" else "dense"
        order = first(**{f"{mode}_weight": 1.0, f"{other}_weight": 0.0})
        assert order[: len(hits)] == [hit.chunk_id for hit in hits][: len(order)]
