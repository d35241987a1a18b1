"""What a caller may see: everything a view returns is what an index without the rest returns."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import InputError, NotFoundError, ScriptedModel
from lmstack.rag import AnswerConfig, Answerer, Document, Index
from lmstack.rag.catalogue.rows import NewDocument, absorb_sources, embed_key, put_document
from lmstack.rag.catalogue.rules import UNREADABLE, check_labels, labels_of
from lmstack.rag.catalogue.schema import load_sections
from lmstack.rag.catalogue.snapshot import DocumentKey
from lmstack.rag.chunking import chunk_document
from lmstack.rag.filters import parse_condition
from lmstack.rag.formats.load import Fingerprint

WORDS = ["harbour", "lantern", "meadow", "quartz", "violet", "copper"]
LABELS = ["hr", "board"]


def fill(index, documents, root="/corpus"):
    """Documents without files: (name, text, fields)."""
    with index._database.writing() as connection:
        source = absorb_sources(connection, root)
        for name, text, fields in documents:
            section = load_sections(f'[["", 0, 0, {len(text)}, []]]')
            document = Document(name, text, "text", name, section, (), fields=fields)
            cut = chunk_document(document, index.embedder.count_tokens, 256)
            print_ = Fingerprint(len(text), 10**18, 0, 0)
            new = NewDocument(DocumentKey(source, name), document, b"d", "recipe", print_, 0, cut)
            matrix = index.embedder.embed([f"{c.prefix}\n{c.text}" for c in cut])
            assert all(map(embed_key, cut))
            put_document(connection, new, np.asarray(matrix, np.float32))


_TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)
_ACCESS = st.one_of(
    st.just({}),
    st.sets(st.sampled_from(LABELS)).map(lambda found: {"access": tuple(sorted(found))}),
    st.sampled_from([{"access": ""}, {"access": 7}, {"access": "hr, board"}, {"access": "a b"}]),
)
_CORPUS = st.lists(st.tuples(_TEXT, _ACCESS), max_size=7)
_HELD = st.sets(st.sampled_from([*LABELS, "other"])).map(frozenset)


def _everything(view) -> list[object]:
    """All that a view says, row numbers apart."""
    said: list[object] = [view.word_weights(WORDS)]
    for mode in ("dense", "lexical", "hybrid"):
        for hit in view.search("harbour lantern copper", 20, mode):
            shown = dataclasses.asdict(hit)
            del shown["chunk_id"], shown["document_id"]
            said.append(shown)
    for info in view.documents():
        said.append(dataclasses.replace(info, id=0))
        said += [view.document(info.id), view.document(Path(info.path))]
    return said


def _answer(view, strategy) -> dict[str, object]:
    model = ScriptedModel(["The harbour has a lantern [1]."])
    answerer = Answerer(view, model, AnswerConfig(strategy=strategy))
    said = asyncio.run(answerer.answer("Where is the lantern of the harbour?")).to_json()
    return {name: value for name, value in said.items() if name != "timings"}


@settings(max_examples=6, deadline=None)
@given(_CORPUS, _HELD, st.sampled_from([None, "b*", "all"]))
def test_view_equals_an_index_without_the_hidden(
    tmp_path_factory, make_embedder, corpus, held, rule
):
    names = [f"{'ab'[n % 2]}/{n}.txt" for n in range(len(corpus))]
    rules = {None: {}, "b*": {"/corpus/b": {"hr"}}, "all": {"/corpus": {"board"}}}[rule]
    rows = [(name, text, fields) for name, (text, fields) in zip(names, corpus, strict=True)]

    def visible(name, fields):
        found = labels_of(f"/corpus/{name}", fields, {k: frozenset(v) for k, v in rules.items()})
        return found <= held

    folder = tmp_path_factory.mktemp("index")
    with (
        Index.open(folder / "all", make_embedder()) as index,
        Index.open(folder / "part", make_embedder()) as part,
    ):
        fill(index, rows)
        fill(part, [row for row in rows if visible(row[0], row[2])])
        for path, labels in rules.items():
            for one in (index, part):
                one.set_labels([path], labels)
        assert _everything(index.seen_by(held)) == _everything(part)
        for strategy in ("quote", "write"):
            assert _answer(index.seen_by(held), strategy) == _answer(part, strategy)
        for info in index.documents():
            if not set(info.labels) <= held:
                for which in (info.id, info.path):
                    with pytest.raises(NotFoundError):
                        index.seen_by(held).document(which)


def test_store_beside_the_index_shows_nothing_hidden(tmp_path, make_embedder, places):
    rows = [(f"{n}.txt", f"harbour {w}", {}) for n, w in enumerate(WORDS)]
    hidden = [(f"h{n}.txt", f"harbour lantern {w}", {"access": "hr"}) for n, w in enumerate(WORDS)]
    with (
        Index.open(tmp_path / "all", make_embedder()) as index,
        Index.open(tmp_path / "part", make_embedder()) as part,
    ):
        fill(index, [*hidden, *rows])
        fill(part, rows)
        index.move_store(places.new("qdrant").url)
        view = index.seen_by(frozenset({"board"}))
        assert _everything(view) == _everything(part)
        index.set_labels(["/corpus/0.txt"], ["hr"])
        assert all(Path(h.path).name != "0.txt" for h in view.search("harbour", 100, "dense"))


def test_view_of_a_view_never_widens(tmp_path, embedder):
    with Index.open(tmp_path, embedder) as index:
        fill(index, [("a", "harbour", {"access": "hr"}), ("b", "harbour", {"access": "board"})])
        view = index.seen_by(frozenset({"hr"})).seen_by(frozenset({"board", "hr"}))
        assert [Path(d.path).name for d in view.documents()] == ["a"]
        assert [Path(d.path).name for d in view.seen_by(None).documents()] == ["a"]
        assert view.search("harbour", labels=frozenset({"board"})) == []
        assert len(index.search("harbour", labels=frozenset({"board"}))) == 1


def test_labels_given_to_a_path_hold_for_what_comes_under_it_later(tmp_path, docs, embedder):
    with Index.open(tmp_path / "index", embedder) as index:
        index.add([docs / "more"], labels=["hr"])
        index.add([docs])
        (docs / "more" / "new.txt").write_text("A new one.")
        index.update()
        nobody = index.seen_by(frozenset())
        assert {Path(d.path).name for d in nobody.documents()} == {"serving.md", "penguins.html"}
        labelled = index.status(check=False).labels
        assert {Path(path).resolve() for path in labelled} == {docs / "more"}
        assert index.set_labels([docs / "more"], None) == 2
        assert len(nobody.documents()) == 4


def test_new_labels_count_at_once_for_everyone_who_has_the_index_open(tmp_path, docs, embedder):
    with (
        Index.open(tmp_path / "i", embedder) as index,
        Index.open(tmp_path / "i", embedder) as other,
    ):
        index.update([docs])
        view = other.seen_by(frozenset())
        assert view.search("emperor penguin", 1)[0].title == "Penguins"
        index.set_labels([docs / "penguins.html"], ["hr"])
        assert all(hit.title != "Penguins" for hit in view.search("emperor penguin", 100))


def test_unreadable_access_field_hides_the_document_and_is_reported(tmp_path, embedder):
    with Index.open(tmp_path, embedder) as index:
        fill(index, [("a", "harbour", {"access": "h r"}), ("b", "lantern", {})])
        assert [p.kind for p in index.status(check=False).problems] == ["access"]
        assert len(index.documents()) == 2
        assert len(index.seen_by(frozenset({"h", "r"})).documents()) == 1
        with pytest.raises(InputError, match="no access label"):
            index.seen_by(frozenset({UNREADABLE}))


@pytest.mark.parametrize("label", ["", " ", "!", "a b", "a,b", "x" * 65, "é"])
def test_what_is_no_label_is_refused(label):
    with pytest.raises(InputError, match="no access label"):
        check_labels([label])


def test_labels_of_a_path_that_is_not_in_the_index_are_refused(tmp_path, docs, embedder):
    with Index.open(tmp_path / "index", embedder) as index:
        index.update([docs])
        with pytest.raises(NotFoundError):
            index.set_labels([tmp_path / "docz"], ["hr"])


def test_filters_hold_for_fields_of_the_document_and_of_the_index(tmp_path, embedder, monkeypatch):
    monkeypatch.chdir("/")
    with Index.open(tmp_path, embedder) as index:
        own = {"tags": ("budget", "2026"), "path": "/elsewhere", "title": "Plan", "size": 0}
        fill(index, [("a/x.txt", "harbour", own), ("b/y.txt", "harbour lantern", {"year": 2024})])
        for condition, names in {
            "tags has budget": ["x.txt"],
            "title = Plan": ["x.txt"],
            "path under corpus/b": ["y.txt"],
            "path under /corpus": ["x.txt", "y.txt"],
            "size > 7": ["y.txt"],
            "source = /corpus": ["x.txt", "y.txt"],
            "year >= 2024": ["y.txt"],
            "year != 2024": ["x.txt"],
            "format = text": ["x.txt", "y.txt"],
            "modified < 2001-09-10": ["x.txt", "y.txt"],
            'path in ["corpus/a/x.txt"]': ["x.txt"],
        }.items():
            where = parse_condition(condition)
            assert [Path(d.path).name for d in index.documents(where)] == names, condition
            for mode in ("dense", "lexical"):
                hits = index.search("harbour", 10, mode, where=where)
                assert sorted(Path(h.path).name for h in hits) == names, condition
            view = index.matching(where)
            assert [d.id for d in view.documents()] == [d.id for d in index.documents(where)]
        assert index.status(check=False).fields["tags"] == 1
        assert index.document("/corpus/a/x.txt").fields == own


def test_new_file_time_is_a_new_field(tmp_path, docs, embedder):
    import os

    with Index.open(tmp_path / "index", embedder) as index:
        index.update([docs])
        old = parse_condition("modified < 1990-01")
        assert index.search("emperor penguin", 5, where=old) == []
        os.utime(docs / "penguins.html", (1, 1))
        index.update()
        assert [h.title for h in index.search("emperor penguin", 1, where=old)] == ["Penguins"]
