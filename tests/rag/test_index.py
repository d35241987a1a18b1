"""The index holds what the files hold: after any edit, for any reader, or it says why not."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sqlite3
import time
import tracemalloc
from pathlib import Path

import pytest

from lmstack.core import (
    FormatError,
    InputError,
    NotFoundError,
    ScriptedModel,
    StoreError,
    UnsupportedError,
)
from lmstack.rag import ChunkConfig, ContextWriter, Index, IndexConfig, LoadConfig
from lmstack.rag.catalogue.sqlite import FILE_NAME
from lmstack.rag.filters import parse_condition
from lmstack.rag.ingest.reading import FileReader


@pytest.fixture
def index(tmp_path, embedder):
    with Index.open(tmp_path / "index", embedder) as opened:
        yield opened


def _paths(index: Index) -> list[str]:
    return [Path(info.path).name for info in index.documents()]


def _rebuilt(index: Index, folder: Path, sources: list[Path]) -> str:
    with Index.open(folder, index.embedder) as other:
        other.update(sources)
        return other.content_digest()


def test_first_update_adds_and_second_does_nothing(index, docs):
    first = index.update([docs])
    assert (first.added, first.changed, first.removed, first.problems) == (3, 0, 0, ())
    second = index.update()
    assert second.plan.up_to_date
    assert second.plan.unchanged == 3


def test_change_add_and_remove_equal_a_rebuild(index, docs, tmp_path):
    index.update([docs])
    (docs / "serving.md").write_text("# New\n\nOther words.\n")
    (docs / "fresh.txt").write_text("A fresh file.")
    (docs / "penguins.html").unlink()
    plan = index.scan()
    assert [[Path(p).name for p in names] for names in (plan.add, plan.change, plan.remove)] == [
        ["fresh.txt"],
        ["serving.md"],
        ["penguins.html"],
    ]
    index.update()
    assert index.content_digest() == _rebuilt(index, tmp_path / "other", [docs])
    assert index.verify().ok


def test_removed_document_is_not_found_again(index, docs):
    index.update([docs])
    assert index.search("emperor penguin", mode="lexical")
    (docs / "penguins.html").unlink()
    index.update()
    assert not index.search("emperor penguin", mode="lexical")
    assert all("penguins" not in hit.path for hit in index.search("emperor penguin", 100))


def test_content_decides_when_times_lie(index, docs):
    path = docs / "serving.md"
    index.update([docs])
    before = path.stat()
    path.write_text(path.read_text().replace("8000", "9000"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert index.update().changed == 1
    assert index.search("9000", mode="lexical")


def test_new_times_alone_change_nothing(index, docs, embedder):
    index.update([docs])
    for path in docs.rglob("*.*"):
        os.utime(path, (1, 1))
    embedder.embedded.clear()
    assert index.update().plan.up_to_date
    assert not embedder.embedded


def test_unchanged_old_files_are_not_read_again(index, docs, monkeypatch):
    monkeypatch.setattr("lmstack.rag.ingest.plan._RACY_NS", -(10**18))
    index.update([docs])
    monkeypatch.setattr("lmstack.rag.ingest.plan.read_file", None)
    assert index.scan().unchanged == 3
    with pytest.raises(TypeError):
        index.scan(thorough=True)


def test_moved_text_is_not_embedded_again(index, docs, embedder):
    index.update([docs])
    embedder.embedded.clear()
    (docs / "more" / "lighthouse.txt").rename(docs / "lighthouse.txt")
    result = index.update()
    assert (result.added, result.removed) == (1, 1)
    assert result.reused == result.chunks
    assert not embedder.embedded


def test_chunks_that_stay_are_not_embedded_again(index, docs, embedder):
    index.update([docs])
    embedder.embedded.clear()
    path = docs / "serving.md"
    path.write_text(path.read_text() + "\n## Extra\n\nMore words.\n")
    result = index.update()
    assert result.reused == 3
    assert len(embedder.embedded) == 1


def test_broken_files_are_reported_and_the_rest_is_indexed(index, docs):
    (docs / "empty.md").write_text("")
    (docs / "binary.txt").write_bytes(b"a\0b")
    (docs / "latin.txt").write_bytes(b"caf\xe9")
    (docs / "new\nline.txt").write_text("text")
    os.mkfifo(docs / "pipe.txt")
    result = index.update([docs])
    assert result.added == 6
    assert len(_paths(index)) == 3
    assert sorted(p.kind for p in result.problems) == [
        "binary",
        "empty",
        "encoding",
        "name",
        "special",
    ]
    status = index.status()
    assert len(status.problems) == 5
    assert status.up_to_date


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _garbled(path: Path) -> None:
    path.write_bytes(b"\xff\xff")


def _a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("break_it", "kind"),
    [(_emptied, "empty"), (_garbled, "encoding"), (_a_pipe, "special"), (_a_link, "symlink")],
)
def test_document_that_breaks_leaves_the_index_and_comes_back_mended(index, docs, break_it, kind):
    index.update([docs])
    path = docs / "serving.md"
    good = path.read_bytes()
    break_it(path)
    assert [p.kind for p in index.update().problems] == [kind]
    assert "serving.md" not in _paths(index)
    assert index.update().plan.up_to_date
    path.unlink()
    path.write_bytes(good)
    assert not index.update().problems
    assert "serving.md" in _paths(index)
    assert not index.status().problems


def test_file_that_was_refused_is_tried_again_under_other_settings(index, docs, embedder):
    (docs / "long.eml").write_text("Subject: long\n\n" + "many words\n" * 300)
    other = IndexConfig(chunking=ChunkConfig(target_tokens=24))
    strict = LoadConfig(max_text_chars=1000)
    with Index.open(index.folder, embedder, config=IndexConfig(load=strict)) as one:
        assert [p.kind for p in one.update([docs]).problems] == ["size"]
        assert one.scan().up_to_date
    assert len(index.scan().add) == 1
    with Index.open(index.folder, embedder, config=other.replace(load=strict)) as one:
        assert len(one.scan().add) == 1
    assert not index.update().problems


def test_too_large_file_is_reported(tmp_path, docs, embedder):
    config = IndexConfig(load=LoadConfig(max_file_bytes=200))
    with Index.open(tmp_path / "index", embedder, config=config) as index:
        assert {p.kind for p in index.update([docs]).problems} == {"size"}


def test_file_that_vanishes_while_indexing_is_simply_gone(index, docs, monkeypatch):
    def vanish(path: Path, config: LoadConfig) -> object:
        from lmstack.rag.formats.load import read_file

        Path(path).unlink(missing_ok=True)
        return read_file(path, config)

    monkeypatch.setattr("lmstack.rag.ingest.reading.read_file", vanish)
    result = index.update([docs])
    assert {p.kind for p in result.problems} == {"vanished"}
    monkeypatch.undo()
    assert index.status().up_to_date
    assert not index.status().problems


def test_removed_path_stays_out_until_added_again(index, docs):
    index.update([docs])
    assert index.remove([docs / "more"]) == 1
    assert index.update().plan.up_to_date
    assert index.update([docs]).plan.up_to_date
    assert index.add([docs / "more"]).added == 1
    assert index.update().plan.up_to_date


def test_removed_source_is_forgotten(index, docs):
    index.update([docs])
    assert index.remove([docs]) == 3
    assert index.status().sources == ()
    assert index.update().plan.up_to_date


def test_removing_what_is_not_there_is_an_error(index, tmp_path):
    with pytest.raises(NotFoundError, match="not in the index"):
        index.remove([tmp_path / "other"])


def test_missing_path_is_an_error_and_not_a_source(index, tmp_path):
    with pytest.raises(NotFoundError, match="no such file"):
        index.update([tmp_path / "none"])
    assert index.status().sources == ()


def test_source_that_is_not_there_keeps_its_documents_and_says_so(index, docs, tmp_path):
    _garbled(docs / "garbled.txt")
    index.update([docs])
    before = index.content_digest()
    docs.rename(tmp_path / "elsewhere")
    for _ in range(2):
        result = index.update()
        assert result.removed == 0
        assert [(p.kind, Path(p.path).name) for p in result.problems] == [("absent", "docs")]
        assert "3 documents kept" in result.problems[0].message
        known = {Path(p.path).name: p.kind for p in index.status(check=False).problems}
        assert known == {"docs": "absent", "garbled.txt": "encoding"}
    assert index.content_digest() == before
    (tmp_path / "elsewhere").rename(docs)
    assert [p.kind for p in index.update().problems] == ["encoding"]
    (docs / "garbled.txt").unlink()
    index.update()
    assert not index.status(check=False).problems


def test_file_that_was_added_by_itself_is_kept_while_it_is_not_there(index, docs, tmp_path):
    path = docs / "serving.md"
    index.update([path])
    path.rename(tmp_path / "kept.md")
    assert [p.kind for p in index.update().problems] == ["absent"]
    assert _paths(index) == ["serving.md"]
    (tmp_path / "kept.md").rename(path)
    assert not index.update().problems
    assert not index.status(check=False).problems


def test_empty_folder_in_place_of_a_source_is_a_disk_that_is_not_mounted(index, docs, tmp_path):
    index.update([docs])
    docs.rename(tmp_path / "disk")
    docs.mkdir()
    result = index.update()
    assert (result.removed, [p.kind for p in result.problems]) == (0, ["absent"])
    assert len(_paths(index)) == 3
    docs.rmdir()
    (tmp_path / "disk").rename(docs)
    assert not index.update().problems


def test_source_that_was_emptied_by_hand_is_empty(index, docs):
    index.update([docs])
    for path in docs.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert index.update().removed == 3


def test_part_of_a_source_that_is_not_there_is_kept_too(index, docs, tmp_path):
    index.update([docs])
    docs.rename(tmp_path / "elsewhere")
    assert index.update([docs / "more"]).removed == 0
    assert len(_paths(index)) == 3


def test_source_that_is_not_there_can_be_dropped(index, docs):
    index.update([docs])
    shutil.rmtree(docs)
    index.update()
    assert index.remove([docs]) == 3
    assert index.update().problems == ()


def test_folder_deleted_inside_a_source_takes_its_documents_along(index, docs):
    index.update([docs])
    shutil.rmtree(docs / "more")
    assert index.update([docs / "more"]).removed == 1
    assert index.update().plan.up_to_date


def test_folder_that_cannot_be_listed_keeps_its_documents(index, docs, monkeypatch):
    index.update([docs])
    real = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    result = index.update()
    assert (result.removed, [p.kind for p in result.problems]) == (0, ["closed"])
    monkeypatch.undo()
    assert not index.update().problems


def test_folder_whose_name_only_begins_alike_is_another(index, docs, tmp_path):
    """docs and docs2, side by side and as parts of one source."""
    other = tmp_path / "docs2"
    shutil.copytree(docs, other)
    (docs / "more2").mkdir()
    (docs / "more2" / "kept.txt").write_text("Kept.")
    index.update([docs, other])
    (docs / "penguins.html").unlink()
    assert index.update([docs]).removed == 1
    assert len(_paths(index)) == 6
    assert index.update([docs / "more"]).removed == 0
    assert index.remove([docs / "more"]) == 1
    assert index.update([docs]).plan.up_to_date
    assert {"kept.txt", "lighthouse.txt"} < set(_paths(index))
    assert index.remove([docs]) == 2
    assert len(_paths(index)) == 3


def test_folder_around_a_source_takes_it_over(index, docs, tmp_path):
    index.update([docs / "more", docs / "serving.md"])
    where = parse_condition(f"source = {docs}")
    assert not index.search("Skerryvore", 1, where=where)
    assert index.update([docs]).added == 1
    (hit,) = index.search("Skerryvore", 1, where=where)
    assert hit.path.endswith("lighthouse.txt")
    assert len(index.status().sources) == 1
    assert index.content_digest() == _rebuilt(index, tmp_path / "other", [docs])


def test_a_copy_holds_what_the_index_held_and_stays_so(index, docs, tmp_path, embedder):
    index.update([docs])
    held = index.content_digest()
    index.copy_to(tmp_path / "copy")
    (docs / "new.md").write_text("# New\n\nA keeper came to the lighthouse.\n")
    assert index.update([docs]).added == 1
    with Index.open(tmp_path / "copy", embedder, create=False) as copy:
        assert copy.content_digest() == held != index.content_digest()
        assert copy.verify().ok
        assert copy.search("Skerryvore", 1)[0].path == index.search("Skerryvore", 1)[0].path


def test_an_index_with_a_store_beside_it_is_not_copied(index, docs, tmp_path):
    index.update([docs])
    index.keep_in(f"faiss:{tmp_path / 'store'}")
    with pytest.raises(UnsupportedError, match="is not in a file alone"):
        index.copy_to(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_scan_of_a_new_folder_changes_nothing(index, docs):
    index.update([docs / "more"])
    assert len(index.scan([docs]).add) == 2
    assert [Path(source).name for source in index.status().sources] == ["more"]


def test_paths_open_from_the_current_folder(index, docs, monkeypatch):
    monkeypatch.chdir(docs.parent)
    index.update(["docs"])
    hit = index.search("Skerryvore", 1, "lexical")[0]
    assert hit.path == "docs/more/lighthouse.txt"
    assert Path(hit.path).read_text()[hit.start : hit.end] == hit.text
    monkeypatch.chdir(docs)
    assert index.search("Skerryvore", 1, "lexical")[0].path == "more/lighthouse.txt"
    assert index.document("more/lighthouse.txt").text == index.document(hit.document_id).text


def test_unknown_document_is_an_error(index):
    with pytest.raises(NotFoundError, match="no document '7'"):
        index.document(7)


def test_another_embedder_is_refused_with_the_way_out(index, docs, make_embedder):
    index.update([docs])
    with pytest.raises(InputError, match="--rebuild"):
        Index.open(index.folder, make_embedder(seed="b"))


def test_the_same_embedder_in_another_form_is_refused_and_named(index, docs, make_embedder):
    index.update([docs])
    small = make_embedder()
    small.info = dataclasses.replace(small.info, digest=f"{small.info.digest}+int8")
    with pytest.raises(InputError, match=r"not hashing \(sha256:[a-f0-9]{12}\+int8\)"):
        Index.open(index.folder, small)


def test_rebuild_changes_the_embedder(index, docs, make_embedder):
    index.update([docs])
    other = make_embedder(dimensions=32, seed="b")
    with Index.open(index.folder, other, rebuild=True) as rebuilt:
        assert rebuilt.update().added == 3
        assert rebuilt.verify().ok
        assert len(rebuilt.search("penguin", 3)) == 3
    with pytest.raises(StoreError, match="another embedding model"):
        index.search("penguin")


@pytest.mark.parametrize("racy_ns", [0, -(10**18)], ids=["read_again", "times_are_trusted"])
def test_other_chunk_size_makes_every_document_a_changed_one(
    index, docs, embedder, racy_ns, monkeypatch
):
    monkeypatch.setattr("lmstack.rag.ingest.plan._RACY_NS", racy_ns)
    index.update([docs])
    config = IndexConfig(chunking=ChunkConfig(target_tokens=24))
    with Index.open(index.folder, embedder, config=config) as other:
        assert len(other.scan().change) == 3


def test_without_embedder_words_are_searched_and_documents_removed(index, docs):
    index.update([docs])
    with Index.open(index.folder, create=False) as plain:
        assert plain.search("penguin", mode="lexical")
        with pytest.raises(InputError, match="embedding model"):
            plain.search("penguin")
        assert plain.remove([docs / "penguins.html"]) == 1


def test_without_embedder_new_documents_are_refused_before_anything_is_done(index, docs):
    index.update([docs])
    (docs / "new.md").write_text("new")
    (docs / "serving.md").unlink()
    with (
        Index.open(index.folder, create=False) as plain,
        pytest.raises(InputError, match="embedding model"),
    ):
        plain.update()
    assert "serving.md" in _paths(index)


def test_missing_index_says_how_to_make_one(tmp_path):
    with pytest.raises(NotFoundError, match="lmstack index add"):
        Index.open(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()


def test_file_that_is_not_sqlite_is_named(tmp_path, embedder):
    (tmp_path / FILE_NAME).write_text("not a database, just text" * 50)
    with pytest.raises(FormatError, match="not an index"):
        Index.open(tmp_path, embedder)


@pytest.mark.parametrize("damage", ["all", "middle"])
def test_rebuild_puts_a_damaged_file_aside_and_starts_again(tmp_path, docs, embedder, damage):
    folder = tmp_path / "index"
    with Index.open(folder, embedder) as index:
        index.update([docs])
    data = bytearray((folder / FILE_NAME).read_bytes())
    start = 0 if damage == "all" else 4096
    data[start:] = b"\x5a" * (len(data) - start)
    (folder / FILE_NAME).write_bytes(data)
    with pytest.raises(FormatError, match="--rebuild"):
        Index.open(folder, embedder)
    with Index.open(folder, embedder, rebuild=True) as index:
        assert index.update([docs]).added == 3
        assert index.verify().ok
    assert (folder / "damaged-1.sqlite").read_bytes() == data


def test_foreign_sqlite_file_is_left_alone(tmp_path, embedder):
    path = tmp_path / FILE_NAME
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(FormatError, match="not an lmstack index"):
        Index.open(tmp_path, embedder)
    assert path.read_bytes() == before


def test_newer_format_says_to_update(index, embedder):
    with sqlite3.connect(index.folder / FILE_NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(FormatError, match="format 99"):
        Index.open(index.folder, embedder)


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE texts SET text = text || 'x'", "hash"),
        ("UPDATE chunks SET start = start + 1", "not the text at"),
        ("DELETE FROM chunks WHERE ordinal = 0", "chunks where"),
        ("UPDATE vectors SET data = zeroblob(length(data))", "length"),
        ("UPDATE vectors SET data = substr(data, 5)", "bytes"),
        ("DELETE FROM vectors", "no vectors"),
        ("UPDATE documents SET labels = '[\"hr\"]'", "access labels"),
        ("INSERT INTO label_rules VALUES ('/', '[\"hr\"]')", "access labels"),
        ("UPDATE chunks SET prefix = 'other' WHERE id = 1", "postings"),
        ("UPDATE postings SET data = x'00'", "postings"),
        ("DELETE FROM postings", "postings"),
        ("DELETE FROM documents", "refers to nothing"),
    ],
)
def test_verify_sees_tampering(index, docs, statement, finding):
    index.update([docs])
    assert index.verify().ok
    with sqlite3.connect(index.folder / FILE_NAME) as connection:
        connection.execute(statement)
    connection.close()
    assert any(finding in line for line in index.verify().findings)


def test_second_writer_waits_then_names_the_first(index, docs, embedder):
    from lmstack.rag.catalogue.database import writer_lock

    config = IndexConfig(lock_timeout_s=0.1)
    with (
        writer_lock(index.folder, 1),
        Index.open(index.folder, embedder, config=config) as second,
        pytest.raises(StoreError, match=f"locked by process {os.getpid()}"),
    ):
        second.update([docs])


def test_update_with_nothing_to_do_does_not_wait_for_a_writer(index, docs):
    from lmstack.rag.catalogue.database import writer_lock

    (docs / "big.md").write_bytes(b"\xff")
    os.mkfifo(docs / "pipe.md")
    index.update([docs])
    with writer_lock(index.folder, 1):
        result = index.update([docs])
    assert sorted(p.kind for p in result.problems) == ["encoding", "special"]


def test_source_that_no_citation_can_name_is_refused(index, tmp_path):
    folder = tmp_path / "a\nb"
    folder.mkdir()
    with pytest.raises(InputError, match="line break"):
        index.update([folder])


def test_search_goes_on_while_a_writer_holds_the_lock(index, docs):
    from lmstack.rag.catalogue.database import writer_lock

    index.update([docs])
    with writer_lock(index.folder, 1):
        assert index.search("penguin", 1)


def test_full_disk_is_an_error_and_the_index_stays_whole(index, docs):
    index.update([docs])
    (docs / "large.txt").write_text("many different words " * 10_000)
    with sqlite3.connect(index.folder / FILE_NAME) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.close()
    real = index._database._connect

    def limited() -> sqlite3.Connection:
        connection = real()
        connection.execute(f"PRAGMA max_page_count = {pages + 10}")
        return connection

    index._database._engine.dispose()
    index._database._engine.pool._creator = limited
    index._database._engine.pool._invoke_creator = lambda _: limited()
    with pytest.raises(StoreError, match="full"):
        index.update()
    assert index.verify().ok
    assert len(_paths(index)) == 3


def test_progress_counts_every_file_once(index, docs):
    seen = []
    index.update([docs], progress=seen.append)
    assert [(p.done, p.total) for p in seen] == [(1, 3), (2, 3), (3, 3)]
    assert seen[-1].remaining_s == 0
    seen.clear()
    (docs / "penguins.html").unlink()
    (docs / "fresh.txt").write_text("A fresh file.")
    _garbled(docs / "serving.md")
    index.update(progress=seen.append)
    assert [(p.done, p.total) for p in seen] == [(1, 3), (2, 3), (3, 3)]
    assert {Path(p.path).name for p in seen} == {"penguins.html", "fresh.txt", "serving.md"}


def test_what_was_read_before_a_slow_file_is_found_while_that_is_parsed(index, docs, monkeypatch):
    found = []

    class Slow(FileReader):
        """One whose last file is not ready for a while."""

        def __iter__(self):
            *ready, last = super().__iter__()
            yield from ready
            yield None
            found.append(len(_paths(index)))
            yield last

    monkeypatch.setattr("lmstack.rag.ingest.update.FileReader", Slow)
    index.update([docs])
    assert found == [2]
    assert len(_paths(index)) == 3


def test_long_document_reports_progress_within(index, docs):
    text = "".join(f"Sentence number {n} is here. " for n in range(30_000))
    (docs / "long.txt").write_text(text)
    seen = []
    index.update([docs], progress=seen.append)
    assert len([p for p in seen if p.path.endswith("long.txt")]) > 1
    assert [p.chunks for p in seen] == sorted(p.chunks for p in seen)
    assert (seen[-1].done, seen[-1].total) == (4, 4)


def test_while_several_documents_are_embedded_the_longest_is_named(
    index, tmp_path, embedder, monkeypatch
):
    monkeypatch.setattr("lmstack.rag.ingest.update._TELL_EVERY_S", 0.001)
    embed = embedder.embed

    def slowly(*given):
        time.sleep(0.05)
        return embed(*given)

    monkeypatch.setattr(embedder, "embed", slowly)
    (tmp_path / "several").mkdir()
    for name, count in (("a", 1), ("b", 200), ("c", 1)):
        text = "".join(f"Sentence number {n} of {name} is here. " for n in range(count))
        (tmp_path / "several" / f"{name}.txt").write_text(text)
    seen = []
    index.update([tmp_path / "several"], progress=seen.append)
    assert {Path(p.path).name for p in seen if not p.done} == {"b.txt"}
    assert [p.done for p in seen][-3:] == [1, 2, 3]


def test_huge_file_is_read_last(index, docs, monkeypatch):
    monkeypatch.setattr("lmstack.rag.ingest.plan._LARGE", 1000)
    (docs / "a.txt").write_text("huge " * 1000)
    seen = []
    index.update([docs], progress=seen.append)
    assert Path(seen[-1].path).name == "a.txt"


def test_embedder_that_fails_leaves_what_was_written(index, docs, embedder, monkeypatch):
    index.update([docs / "more"])
    monkeypatch.setattr(embedder, "embed", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        index.update([docs])
    monkeypatch.undo()
    assert index.verify().ok
    assert len(_paths(index)) == 1
    assert index.update([docs]).added == 2


def test_read_only_folder_can_be_searched_and_says_why_it_cannot_be_written(
    tmp_path, docs, embedder, monkeypatch
):
    with Index.open(tmp_path / "index", embedder) as index:
        index.update([docs])
    monkeypatch.setattr(os, "access", lambda *_: False)
    with Index.open(tmp_path / "index", embedder) as index:
        assert index.search("penguin", 1)
        (docs / "penguins.html").unlink()
        with pytest.raises(StoreError, match="permissions"):
            index.update()
    assert sorted(p.name for p in (tmp_path / "index").iterdir()) == ["index.lock", FILE_NAME]


def test_folder_that_is_a_file_is_an_error(tmp_path, embedder):
    (tmp_path / "index").write_text("x")
    with pytest.raises(StoreError, match="cannot make the index folder"):
        Index.open(tmp_path / "index", embedder)


def test_folder_name_with_query_signs_is_a_folder_name(tmp_path, embedder, docs):
    folder = tmp_path / "a?mode=memory&b#c%20d"
    with Index.open(folder, embedder) as index:
        index.update([docs])
    assert (folder / FILE_NAME).exists()


@pytest.mark.parametrize("strategy", ["fixed", "sentence", "recursive", "semantic"])
def test_index_of_every_strategy_is_whole(tmp_path, docs, embedder, strategy):
    overlap = 0 if strategy == "semantic" else 4
    chunking = ChunkConfig(strategy=strategy, target_tokens=24, overlap=overlap)
    with Index.open(tmp_path / "i", embedder, config=IndexConfig(chunking=chunking)) as index:
        index.update([docs])
        assert index.verify().ok
        assert index.search("eighteen nautical miles", 1)[0].path.endswith("lighthouse.txt")


def test_chosen_chunking_is_kept_and_cuts_all_anew(tmp_path, docs, embedder):
    with Index.open(tmp_path / "i", embedder) as index:
        index.update([docs])
        before = index.status().chunks
        index.choose_chunking(strategy="fixed", target_tokens=24, overlap=4)
        result = index.add([docs / "serving.md"])
        assert len(result.plan.change) == 3
    with Index.open(tmp_path / "i", embedder) as index:
        assert index.status().up_to_date
        assert index.status(check=False).chunks > before
        assert index.verify().ok
    with Index.open(tmp_path / "other", embedder) as fresh:
        fresh.choose_chunking(strategy="fixed", target_tokens=24, overlap=4)
        fresh.add([docs])
        assert fresh.content_digest() == index_digest(tmp_path / "i", embedder)


def index_digest(folder, embedder):
    with Index.open(folder, embedder) as index:
        return index.content_digest()


def test_lines_of_context_are_found_and_not_cited(tmp_path, docs, embedder):
    writer = ContextWriter(ScriptedModel(["Xylophones are mentioned."]))
    config = IndexConfig(chunking=ChunkConfig(context="model"))
    with Index.open(tmp_path / "i", embedder, config=config, context_writer=writer) as index:
        index.update([docs])
        hit = index.search("xylophones", 1, "lexical")[0]
        assert "ylophone" not in hit.text
    with Index.open(tmp_path / "i", embedder) as index:
        assert index.status().up_to_date
        (docs / "serving.md").write_text("Another text.")
        with pytest.raises(InputError, match="no model to write it"):
            index.update()


def test_file_of_200_megabytes_is_reported_and_not_read(index, docs, monkeypatch):
    with open(docs / "huge.txt", "wb") as file:
        file.truncate(200_000_000)
    with open(docs / "huge.pdf", "wb") as file:
        file.truncate(200_000_000)
    tracemalloc.start()
    try:
        result = index.update([docs])
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert [(p.kind, p.message[:11]) for p in result.problems] == [("size", "is 200.0 MB")] * 2
    assert len(_paths(index)) == 3
