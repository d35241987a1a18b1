"""A file of an older format opens as it was, and the next update fills in what it lacked."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from lmstack.rag import Index
from lmstack.rag.catalogue.sqlite import FILE_NAME

GUIDE = "# Serving\n\nIt listens on port 8000.\n\n## Limits\n\nSixty requests a minute.\n"
PAGE = (
    "<html><head><title>Penguins</title></head><body><h1>Penguins</h1>"
    "<p>The emperor penguin breeds in winter.</p></body></html>"
)


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    (folder / "in").mkdir(parents=True)
    (folder / "guide.md").write_text(GUIDE)
    (folder / "in" / "page.html").write_text(PAGE)
    (folder / "bad.txt").write_bytes(b"\xff")
    (folder / "gone.txt").write_text("taken out by hand")
    return folder


@pytest.fixture
def old(tmp_path, docs) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    connection = sqlite3.connect(folder / FILE_NAME)
    script = Path(__file__).with_name("format2.sql").read_text()
    connection.executescript(script.replace("DOCS", str(docs)))
    connection.close()
    return folder


def test_upgrade_loses_nothing_and_reads_no_file(old, docs, make_embedder):
    for path in docs.rglob("*.*"):
        path.unlink()
    embedder = make_embedder(dimensions=4)
    with Index.open(old, embedder) as index:
        assert index.verify().findings == ()
        assert [(Path(d.path).resolve(), d.chunks) for d in index.documents()] == [
            (docs / "guide.md", 2),
            (docs / "in" / "page.html", 1),
        ]
        assert index.document(docs / "guide.md").text == GUIDE
        for mode in ("dense", "lexical", "hybrid"):
            hit = index.search("emperor penguin", 1, mode)[0]
            assert (Path(hit.path).resolve(), hit.chunk_id) == (docs / "in" / "page.html", 4)
        status = index.status(check=False)
        assert [p.kind for p in status.problems] == ["encoding"]
    assert embedder.embedded == ["emperor penguin", "emperor penguin"]


def test_update_after_an_upgrade_equals_a_rebuild_and_embeds_nothing(
    old, docs, tmp_path, make_embedder
):
    embedder = make_embedder(dimensions=4)
    with Index.open(old, embedder) as index:
        assert index.update().changed == 2
        assert embedder.embedded == []
        assert index.search("port", 1)[0].chunk_id > 9  # ids are not used twice
        with Index.open(tmp_path / "rebuilt", embedder) as rebuilt:
            rebuilt.add([docs])
            rebuilt.remove([docs / "gone.txt"])
            assert index.content_digest() == rebuilt.content_digest()
            assert index.status().problems == rebuilt.status().problems


def test_upgraded_index_of_another_embedder_is_refused_as_before(old, make_embedder):
    from lmstack.core import InputError

    with pytest.raises(InputError, match="was made with hashing"):
        Index.open(old, make_embedder(dimensions=4, seed="b"))


# What of format 2 was not in format 1: the words of languages written without spaces.
FIRST = """
DROP TRIGGER chunk_added; DROP TRIGGER chunk_removed; DROP TABLE postings;
ALTER TABLE chunks DROP COLUMN pieces; PRAGMA user_version = 1;
CREATE VIRTUAL TABLE postings USING fts5(prefix, text, content='chunks',
content_rowid='id', tokenize='porter unicode61 remove_diacritics 2');
CREATE TRIGGER chunk_added AFTER INSERT ON chunks BEGIN SELECT 1; END;
CREATE TRIGGER chunk_removed AFTER DELETE ON chunks BEGIN SELECT 1; END;
INSERT INTO postings(postings) VALUES ('rebuild');
"""


def test_index_of_the_first_format_is_brought_up_to_date(old, docs, make_embedder):
    connection = sqlite3.connect(old / FILE_NAME)
    connection.executescript(FIRST)
    connection.close()
    with Index.open(old, make_embedder(dimensions=4)) as index:
        assert index.search("penguin", 1, "lexical")
        assert index.verify().findings == ()
        (docs / "guide.md").write_text(
            "\u6771\u4eac\u90fd\u306e\u56f3\u66f8\u9928", encoding="utf-8"
        )
        index.update()
        assert index.search("\u56f3\u66f8", 1, "lexical")
        assert index.verify().findings == ()
