"""An index in PostgreSQL is the index in a file: the same content, for several servers at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lmstack.core import FormatError, InputError, NotFoundError, StoreError
from lmstack.rag import Index, IndexConfig
from lmstack.rag.filters import parse_condition


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    for name, word in [("a", "harbour"), ("b", "lantern"), ("c", "meadow")]:
        (folder / f"{name}.md").write_text(f"# {word}\n\nA {word} stands by the sea.\n")
    return folder


def _hits(index, query):
    return [(h.path, h.start, round(h.score, 12), h.ranks) for h in index.search(query, 50)]


def test_content_and_hits_are_those_of_a_file(postgres, notes, tmp_path, embedder):
    with Index.open(postgres, embedder) as index, Index.open(tmp_path / "i", embedder) as file:
        for one in (index, file):
            one.add([notes], labels=["staff"])
            (notes / "a.md").write_text("# harbour\n\nAnother text.\n")
            (notes / "b.md").rename(notes / "d.md")
            one.update()
            (notes / "d.md").rename(notes / "b.md")
            one.update()
            one.set_labels([notes / "c.md"], ["hr"])
            one.remove([notes / "a.md"])
        assert index.content_digest() == file.content_digest()
        assert index.verify().findings == ()
        for query in ("harbour lantern", "the sea", "meadow"):
            assert _hits(index, query) == _hits(file, query)
        where = parse_condition("title = meadow")
        assert [h.title for h in index.search("sea", where=where)] == ["meadow"]
        assert index.seen_by(frozenset({"staff"})).search("meadow sea", 1)[0].title == "lantern"
        status = index.status(check=False)
        assert (status.folder, status.documents) == (postgres, 2)
        assert status.bytes > 0


def test_address_that_holds_no_index_is_not_made_by_looking(postgres):
    with pytest.raises(NotFoundError):
        Index.open(postgres, create=False)


def test_schemas_of_one_database_are_indexes_of_their_own(postgres, notes, embedder):
    with Index.open(postgres, embedder) as one, Index.open(f"{postgres}_two", embedder) as two:
        one.update([notes])
        assert len(two.documents()) == 0
        two.update([notes / "a.md"])
        assert (len(one.documents()), len(two.documents())) == (3, 1)


@pytest.mark.parametrize("name", ["A", "1a", 'a"b', "a;drop", "x" * 52])
def test_name_that_is_no_schema_is_refused(postgres, name, embedder):
    with pytest.raises(InputError):
        Index.open(f"{postgres.partition('#')[0]}#{name}", embedder)


def test_password_in_the_address_is_refused_and_not_repeated(embedder):
    with pytest.raises(InputError) as caught:
        Index.open("postgresql://me:secret@127.0.0.1/x", embedder)
    assert "secret" not in str(caught.value)


def test_server_that_is_not_there_is_an_error_that_names_it(embedder):
    with pytest.raises(StoreError, match="cannot be reached"):
        Index.open("postgresql://127.0.0.1:9/nothing", embedder)


def test_newer_format_is_refused(postgres, embedder):
    with Index.open(postgres, embedder) as index:
        with index._database.writing() as connection:
            connection.exec_driver_sql("UPDATE meta SET value = '99' WHERE key = 'format'")
        with pytest.raises(FormatError, match="format 99"):
            Index.open(postgres, embedder)


def test_second_writer_waits_and_then_says_why(postgres, notes, embedder):
    config = IndexConfig(lock_timeout_s=0.1)
    with (
        Index.open(postgres, embedder) as first,
        Index.open(postgres, embedder, config=config) as two,
    ):
        with first._database.locked("writer", 1), pytest.raises(StoreError, match="locked"):
            two.update([notes])
        assert two.update([notes]).added == 3


def test_reader_sees_one_snapshot_while_a_writer_commits(postgres, notes, embedder):
    with Index.open(postgres, embedder) as index:
        index.update([notes])
        with index._database.reading() as connection:
            count = "SELECT count(*) FROM documents"
            assert connection.exec_driver_sql(count).scalar_one() == 3
            index.remove([notes / "a.md"])
            assert connection.exec_driver_sql(count).scalar_one() == 3
        assert len(index.documents()) == 2


WRITER = """
import sys
sys.path.insert(0, sys.argv[3])
from conftest import HashingEmbedder
from lmstack.rag import Index, IndexConfig
with Index.open(sys.argv[1], HashingEmbedder(), config=IndexConfig(lock_timeout_s=60)) as index:
    index.add([sys.argv[2]])
"""


def test_two_processes_write_while_two_threads_search_and_nothing_is_lost(
    postgres, tmp_path, embedder
):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        for n in range(6):
            (folder / f"{n}.md").write_text(f"# {folder.name}\n\nThe lighthouse number {n}.\n")
    with Index.open(postgres, embedder) as index:
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, postgres, str(folder), str(Path(__file__).parent)]
            )
            for folder in folders
        ]
        broken: list[BaseException] = []
        done = threading.Event()

        def search() -> None:
            last = 0
            while not done.wait(0.01):
                try:
                    found = len({h.path for h in index.search("lighthouse", 100)})
                    assert found >= last
                    last = found
                except BaseException as error:
                    broken.append(error)
                    return

        threads = [threading.Thread(target=search) for _ in range(2)]
        for thread in threads:
            thread.start()
        codes = [writer.wait(60) for writer in writers]
        done.set()
        for thread in threads:
            thread.join()
        assert (codes, broken) == ([0, 0], [])
        assert len(index.documents()) == 12
        assert index.verify().findings == ()
