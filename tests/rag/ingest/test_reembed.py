"""A new embedder beside the old: searches go on, nothing is lost, and the change is at once."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import sqlalchemy as sa

from lmstack.core import InputError, StoreError
from lmstack.rag import Index
from lmstack.rag.catalogue.rows import find_vectors
from lmstack.rag.catalogue.schema import ACTIVE, chunks
from lmstack.rag.chunk import embedded_text


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    for n in range(6):
        paragraphs = [f"The lighthouse {n} of harbour {m} was lit." for m in range(12)]
        (folder / f"{n}.md").write_text(f"# Light {n}\n\n" + "\n\n".join(paragraphs))
    return folder


@pytest.fixture
def new(make_embedder):
    """Other weights, other dimensions, and half as many tokens: chunks are others too."""
    return make_embedder(dimensions=48, max_tokens=40, seed="b")


@pytest.fixture(params=["file", "postgres"])
def place(request, tmp_path):
    if request.param == "file":
        return tmp_path / "index"
    return request.getfixturevalue("postgres")


def _rebuilt(folder, embedder, notes) -> str:
    with Index.open(folder, embedder) as index:
        index.update([notes])
        return index.content_digest()


def test_changed_index_equals_a_rebuild_and_reads_no_file(place, tmp_path, notes, embedder, new):
    with Index.open(place, embedder) as index:
        index.update([notes])
        before = [path.read_text() for path in sorted(notes.iterdir())]
        for path in notes.iterdir():
            path.unlink()
        assert index.reembed(new) == 6
    for n, text in enumerate(before):
        (notes / f"{n}.md").write_text(text)
    with Index.open(place, new) as index:
        assert index.verify().findings == ()
        assert index.content_digest() == _rebuilt(tmp_path / "rebuilt", new, notes)
        status = index.status(check=False)
        assert (status.embedder_digest, status.dimensions) == (new.info.digest, 48)
        assert status.chunks == sum(info.chunks for info in index.documents())
        assert index.update().plan.up_to_date
        assert index.reembed(new) == 0


def test_searches_go_on_and_documents_that_change_meanwhile_are_done_again(
    place, tmp_path, notes, embedder, new
):
    with Index.open(place, embedder) as index, Index.open(place, embedder) as other:
        index.update([notes])
        asked = []

        class Busy:
            def __getattr__(self, name):
                return getattr(new, name)

            def embed(self, texts, kind="passage"):
                if not asked:
                    (notes / "0.md").write_text("# Changed\n\nAn owl.\n")
                    (notes / "1.md").unlink()
                    (notes / "9.md").write_text("# New\n\nA heron.\n")
                    other.update()
                asked.append(other.search("owl", 1)[0].title)
                return new.embed(texts, kind)

        index.reembed(Busy())
        assert set(asked) == {"Changed"}
        with pytest.raises(StoreError, match="another embedding model") as caught:
            other.search("owl")
        assert caught.value.hint == "open it again"
        with pytest.raises(StoreError, match="another embedding model"):
            other.update()
        assert not other.is_current()
    with Index.open(place, new) as index:
        assert index.content_digest() == _rebuilt(tmp_path / "rebuilt", new, notes)
    with pytest.raises(InputError, match="was made with"):
        Index.open(place, embedder)


def test_stopped_run_goes_on_where_it_was_and_leaves_the_index_as_it_was(
    tmp_path, notes, embedder, new, monkeypatch
):
    monkeypatch.setattr("lmstack.rag.ingest.reembed._BATCH_CHUNKS", 1)

    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.done == 4:
            raise StoppedError

    with Index.open(tmp_path / "index", embedder) as index:
        index.update([notes])
        before, hits = index.content_digest(), index.search("lighthouse 3", 5)
        with pytest.raises(StoppedError):
            index.reembed(new, stop)
        assert index.content_digest() == before
        assert index.verify().findings == ()
        assert index.search("lighthouse 3", 5) == hits
        assert index.reembed(new) == 2


def test_vectors_of_a_space_that_is_half_filled_are_not_those_of_the_index(tmp_path, embedder, new):
    """Equal texts stand at other places in the new space, and a database gives rows in any order:
    here those of the new space first."""
    (tmp_path / "a.md").write_text("# A\n\n" + "One of many words. " * 30 + "\n\n# B\n\nShort.\n")

    def stop(progress):
        raise KeyboardInterrupt

    with Index.open(tmp_path / "index", embedder) as index:
        index.update([tmp_path / "a.md"])
        with pytest.raises(KeyboardInterrupt):
            index.reembed(new, stop)
        with index._database.writing() as connection:
            other = chunks.c.space_id != ACTIVE
            connection.execute(sa.update(chunks).where(other).values(id=-chunks.c.id))
        with index._database.reading() as connection:
            rows = connection.execute(sa.select(chunks).where(chunks.c.space_id == ACTIVE)).all()
            found = find_vectors(connection, [row.embed_key for row in rows])
    expected = embedder.embed([embedded_text(row.prefix, row.text) for row in rows])
    assert len(rows) > 1
    for row, vector in zip(rows, expected, strict=True):
        np.testing.assert_allclose(found[row.embed_key], vector, atol=1e-6)


def test_other_embedder_than_the_one_begun_with_begins_again(
    tmp_path, notes, embedder, new, make_embedder
):
    third = make_embedder(dimensions=16, seed="c")
    with Index.open(tmp_path / "index", embedder) as index:
        index.update([notes])

        def stop(progress):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            index.reembed(new, stop)
        assert index.reembed(third) == 6
    with Index.open(tmp_path / "index", third) as index:
        assert index.content_digest() == _rebuilt(tmp_path / "rebuilt", third, notes)
        with index._database.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM spaces").scalar_one() == 1


def test_two_at_once_do_not_do_it_twice(tmp_path, notes, embedder, new):
    from lmstack.rag import IndexConfig

    config = IndexConfig(lock_timeout_s=0.1)
    with Index.open(tmp_path / "index", embedder, config=config) as index:
        index.update([notes])
        with index._database.locked("builder", 1), pytest.raises(StoreError, match="locked"):
            index.reembed(new)


def test_waits_for_a_writer_and_catches_up(tmp_path, notes, embedder, new):
    with (
        Index.open(tmp_path / "index", embedder) as index,
        Index.open(tmp_path / "index", embedder) as other,
    ):
        index.update([notes])
        begun, release = threading.Event(), threading.Event()
        embed = embedder.embed

        def slow(texts, kind="passage"):
            begun.set()
            release.wait(60)
            return embed(texts, kind)

        (notes / "7.md").write_text("# Late\n\nA late one.\n")
        embedder.embed = slow
        writer = threading.Thread(target=other.update)
        writer.start()
        assert begun.wait(60)

        def go_on(progress):
            if progress.done == 6:
                release.set()

        index.reembed(new, go_on)
        writer.join()
    with Index.open(tmp_path / "index", new) as index:
        assert len(index.documents()) == 7
        assert np.isfinite(index.search("late one", 1)[0].similarity)
        assert index.search("late one", 1)[0].title == "Late"
