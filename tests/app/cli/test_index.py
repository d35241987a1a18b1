"""`lmstack index` and `lmstack search`, with an embedder that needs no model."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.postgres import postgres_server

from lmstack.app import wiring
from lmstack.app.cli.commands import index as index_command
from lmstack.app.cli.indexing import told
from lmstack.app.wiring import documents
from lmstack.core import ModelInfo
from lmstack.rag import FORMATS, UpdateProgress

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder, Run


@pytest.fixture
def index(run: Run, docs: Path, embedder: HashEmbedder) -> str:
    """An index of `docs`, as ``--index`` takes it."""
    assert run("index", "add", "--index", "my.idx", "docs").code == 0
    return "my.idx"


def test_add_counts_what_it_did(run: Run, docs: Path, embedder: HashEmbedder) -> None:
    ran = run("index", "add", "--index", "my.idx", "docs", "--json")
    assert ran.code == 0
    assert (ran.json["added"], ran.json["changed"], ran.json["removed"]) == (2, 0, 0)


def test_update_sees_new_changed_and_removed_files(run: Run, docs: Path, index: str) -> None:
    (docs / "new.txt").write_text("New.")
    (docs / "ports.txt").write_text("The server listens on port 9000.")
    (docs / "letters.md").unlink()
    done = run("index", "update", "--index", index, "--json").json
    assert (done["added"], done["changed"], done["removed"]) == (1, 1, 1)


def test_an_update_without_changes_embeds_nothing(
    run: Run, docs: Path, index: str, monkeypatch: pytest.MonkeyPatch, embedder: HashEmbedder
) -> None:
    monkeypatch.setattr(embedder, "embed", None)
    assert run("index", "update", "--index", index).code == 0


def test_removed_documents_are_not_found_again(run: Run, docs: Path, index: str) -> None:
    assert run("index", "remove", "--index", index, "docs/ports.txt", "--json").json == {
        "index": index,
        "removed": 1,
    }
    hits = run("search", "port server", "--index", index, "--json").json
    assert {hit["path"] for hit in hits} <= {"docs/letters.md"}


def test_status_and_verify_need_no_model(
    run: Run, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "embedder", None)
    assert run("index", "status", "--index", index, "--json").json["documents"] == 2
    assert run("index", "verify", "--index", index, "--json").json["ok"] is True


def test_status_and_help_name_the_formats(run: Run, docs: Path, index: str) -> None:
    ran = run("index", "status", "--index", index)
    assert "formats            markdown (1), text (1)" in ran.out
    endings = [ending for ending, form in FORMATS.items() if form != "code"]
    assert f"endings read       {', '.join(endings)} and source code\n" in ran.out
    help_text = " ".join(run("index", "--help").out.split())
    assert f"({', '.join(endings)} and source code)" in help_text


def test_adding_a_folder_without_documents_says_what_is_read(
    run: Run, tmp_path: Path, embedder: HashEmbedder
) -> None:
    (tmp_path / "empty").mkdir()
    ran = run("index", "add", "--docs", str(tmp_path / "empty"))
    assert ran.code == 0
    assert "no document was found; these are read: .txt" in ran.err


def test_status_says_when_files_have_changed_and_what_to_do(
    run: Run, docs: Path, index: str
) -> None:
    assert run("index", "status", "--index", index).out.splitlines()[-1].endswith("up to date")
    (docs / "new.txt").write_text("New.")
    (docs / "letters.md").unlink()
    state = run("index", "status", "--index", index).out.splitlines()[-1]
    assert state.split(maxsplit=1)[1] == (
        f"1 to add, 1 to remove: lmstack index update --index {index}"
    )


def test_verify_of_a_damaged_index_is_an_error_with_the_document(run: Run, index: str) -> None:
    with sqlite3.connect(Path(index) / "index.sqlite") as database:
        database.execute("UPDATE texts SET text = 'Letters are kept for one year.'")
    ran = run("index", "verify", "--index", index)
    assert ran.code == 1
    assert "letters.md" in ran.err
    assert "--rebuild" in ran.err.splitlines()[1]
    assert run("index", "verify", "--index", index, "--json").json["ok"] is False


def test_search_prints_the_promised_fields_and_offsets_of_the_file(
    run: Run, docs: Path, index: str
) -> None:
    hits = run("search", "how long are letters kept", "--index", index, "-k", "1", "--json").json
    assert [set(hit) for hit in hits] == [{"rank", "score", "path", "start", "end", "text", "page"}]
    text = Path(hits[0]["path"]).read_text()
    assert text[hits[0]["start"] : hits[0]["end"]] == hits[0]["text"]
    assert hits[0]["path"] == os.path.join("docs", "letters.md")


def test_paths_open_from_wherever_the_command_runs(
    run: Run, docs: Path, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(docs)
    [hit] = run("search", "letters", "--index", f"../{index}", "-k", "1", "--json").json
    assert Path(hit["path"]).read_text()[hit["start"] : hit["end"]] == hit["text"]


def test_search_of_a_folder_keeps_its_index_in_the_home_folder(
    run: Run, docs: Path, home: Path, embedder: HashEmbedder
) -> None:
    assert run("search", "letters", "--docs", "docs", "--json").code == 0
    assert wiring.index_of(docs).parent == home / "indexes"
    assert (wiring.index_of(docs) / "index.sqlite").exists()
    assert sorted(docs.iterdir()) == [docs / "letters.md", docs / "ports.txt"]


def test_search_of_a_folder_follows_its_changes(
    run: Run, docs: Path, embedder: HashEmbedder
) -> None:
    run("search", "letters", "--docs", "docs")
    (docs / "new.md").write_text("Zebras are striped.")
    [hit] = run("search", "zebras", "--docs", "docs", "-k", "1", "--json").json
    assert hit["path"] == os.path.join("docs", "new.md")


def test_a_folder_reached_through_a_link_has_the_same_index(docs: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(docs)
    assert wiring.index_of(link) == wiring.index_of(docs)


def test_searching_by_words_needs_no_model(
    run: Run, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "embedder", None)
    ran = run("search", "burnt", "--index", index, "--mode", "lexical", "--json")
    assert [hit["path"] for hit in ran.json] == [os.path.join("docs", "letters.md")]


def test_a_file_that_cannot_be_read_is_reported_and_the_rest_goes_on(
    run: Run, docs: Path, embedder: HashEmbedder
) -> None:
    (docs / "broken.txt").write_bytes(b"\xff\xfe\x00\x01" * 9)
    ran = run("index", "add", "--index", "my.idx", "docs")
    assert ran.code == 0
    assert "2 added" in ran.out
    assert "left out: docs/broken.txt" in ran.err


def test_hostile_text_is_shown_and_cannot_move_the_cursor(
    run: Run, docs: Path, embedder: HashEmbedder
) -> None:
    (docs / "evil.txt").write_text("zebra \x1b[2J\x1b]0;owned\x07 stripes")
    ran = run("search", "zebra stripes", "--docs", "docs")
    assert "zebra" in ran.out
    assert "\x1b" not in ran.out
    assert "\x07" not in ran.out


def test_neither_docs_nor_index_is_a_usage_error(run: Run) -> None:
    ran = run("search", "x")
    assert ran.code == 2
    assert "neither --docs nor --index" in ran.err
    ran = run("search", "two words", "-k", "3")
    assert ran.err.splitlines()[1] == "try:   lmstack search 'two words' -k 3 --docs DIR"


def test_a_filter_that_lets_nothing_through_is_named(run: Run, docs: Path, index: str) -> None:
    ran = run("search", "ports", "--index", index, "--where", "modified > 2090")
    assert "nothing was found in the documents that --where lets through" in ran.err


def test_a_missing_folder_is_named(run: Run, embedder: HashEmbedder) -> None:
    ran = run("search", "x", "--docs", "no/such/folder")
    assert ran.code == 1
    assert "no/such/folder" in ran.err


def test_a_missing_index_names_the_command_that_makes_one(run: Run, docs: Path) -> None:
    ran = run("index", "status", "--index", "none.idx")
    assert ran.code == 1
    assert "lmstack index add --index none.idx" in ran.err
    assert not Path("none.idx").exists()


def test_a_locked_index_is_an_error_and_not_a_wait(
    run: Run, docs: Path, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(documents, "LOCK_TIMEOUT_S", 0.05)
    (docs / "new.txt").write_text("New.")
    [lock] = [path for path in Path(index).iterdir() if "lock" in path.name]
    with lock.open("a+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ran = run("index", "update", "--index", index)
    assert ran.code == 1
    assert "lock" in ran.err
    assert "Traceback" not in ran.err


def test_another_embedder_is_refused_and_rebuild_takes_it(
    run: Run, docs: Path, index: str, monkeypatch: pytest.MonkeyPatch, embedder: HashEmbedder
) -> None:
    other = type(embedder)("other")
    monkeypatch.setattr(wiring, "embedder", lambda name: other)
    ran = run("search", "letters", "--index", index)
    assert ran.code == 1
    assert "--rebuild" in ran.err
    assert run("index", "update", "--index", index, "--rebuild").code == 0
    assert run("search", "letters", "--index", index, "--json").json


def test_something_else_in_place_of_an_index_is_an_error(
    run: Run, docs: Path, embedder: HashEmbedder
) -> None:
    Path("my.idx").mkdir()
    (Path("my.idx") / "index.sqlite").write_bytes(b"not a database" * 100)
    for command in (("status",), ("verify",), ("update",), ("add", "docs")):
        ran = run("index", command[0], "--index", "my.idx", *command[1:])
        assert ran.code == 1, command
        assert ran.err.startswith("error: "), command


def test_ctrl_c_while_indexing_says_what_is_kept_and_how_to_go_on(
    run: Run, docs: Path, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(embedder, "embed", interrupt)
    ran = run("index", "add", "--index", "my.idx", "docs", "--label", "hr", "--rebuild")
    assert ran.code == 130
    assert "kept" in ran.err
    assert "go on:   lmstack index add --index my.idx docs --label hr\n" in ran.err


def test_progress_in_a_pipe_is_plain_lines_on_stderr_only(
    run: Run, docs: Path, embedder: HashEmbedder
) -> None:
    ran = run("index", "add", "--index", "my.idx", "docs")
    assert ran.err.splitlines()[-1].startswith("Indexing: 2 files in ")
    assert "\r" not in ran.err
    assert len(ran.out.splitlines()) == 1


def test_quiet_leaves_the_result_alone(run: Run, docs: Path, embedder: HashEmbedder) -> None:
    ran = run("index", "add", "--index", "my.idx", "docs", "--quiet", "--json")
    assert ran.err == ""
    assert json.loads(ran.out)["added"] == 2


def test_choice_of_chunker_is_kept_and_the_rest_of_it_stays(
    run: Run, docs: Path, index: str
) -> None:
    again = ("index", "add", "--index", index, "docs", "--json")
    assert run(*again, "--chunker", "fixed", "--chunk-tokens", "20").json["changed"] == 2
    assert run(*again).json["changed"] == 0
    assert run(*again, "--chunk-tokens", "20").json["changed"] == 0
    assert run(*again, "--chunk-overlap", "5").json["changed"] == 2
    assert run("index", "verify", "--index", index).code == 0


def test_overlap_that_the_chunker_has_not_is_refused(run: Run, docs: Path, index: str) -> None:
    ran = run("index", "add", "--index", index, "docs", "--chunk-overlap", "5")
    assert ran.code == 1
    assert "overlap is 5" in ran.err


def test_report_prints_and_draws(run: Run, index: str, tmp_path: Path) -> None:
    found = run("index", "report", "--index", index, "--json").json
    assert (found["documents"], found["truncated"], found["wrong_counts"]) == (2, 0, 0)
    assert {row["format"] for row in found["formats"]} == {"markdown", "text"}
    ran = run("index", "report", "--index", index, "-o", str(tmp_path / "p.svg"))
    assert "cut by the embedder   0 (limit" in ran.out
    drawn = (tmp_path / "p.svg").read_text()
    assert "tokens of a passage, prefix included" in drawn
    assert "Passages of my.idx" in drawn


def test_patterns_are_kept_until_others_are_given(
    run: Run, docs: Path, embedder: HashEmbedder
) -> None:
    add = ("index", "add", "--index", "my.idx", "docs", "--json")
    assert run(*add, "--exclude", "letters.*").json["added"] == 1
    assert "not letters.*" in run("index", "status", "--index", "my.idx").out
    (docs / "letters.md").write_text("Changed letters.")
    assert run("index", "update", "--index", "my.idx", "--json").json["added"] == 0
    assert run(*add).json["added"] == 0
    assert run(*add, "--no-gitignore").json["added"] == 1
    assert run(*add, "--include", "*.txt").json["removed"] == 1


def test_a_pattern_that_cannot_be_read_is_an_error(
    run: Run, docs: Path, embedder: HashEmbedder
) -> None:
    ran = run("index", "add", "--index", "my.idx", "docs", "--exclude", "!")
    assert ran.code == 1
    assert ".gitignore" in ran.err


def test_problems_are_told_once_as_they_come(run: Run, docs: Path, embedder: HashEmbedder) -> None:
    (docs / "bad.txt").write_bytes(b"\xff")
    ran = run("index", "add", "--index", "my.idx", "docs")
    assert ran.err.count("left out: docs/bad.txt") == 1


def test_an_index_that_follows_a_folder_has_its_changes(
    run: Run, docs: Path, index: str, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, ...]] = []

    def tell(out: object, result: Any, *_: object) -> None:
        told.append(result.plan.add)
        if len(told) == 1:  # the update before the watching
            (docs / "new.txt").write_text("New words.")
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(index_command, "_print_result", tell)
    ran = run("index", "update", "--index", index, "--watch")
    assert told == [(), ("docs/new.txt",)]
    assert ran.code == 130
    assert "Watching docs" in ran.err


def test_the_end_goes_by_content_and_not_by_files() -> None:
    done = UpdateProgress(9, 10, 100, 0, "a.md", 9.0, bytes_done=100_000, bytes_total=1_000_000)
    assert told(done) == ("9 of 10 files, 1.0 files/s, 11.1 kB/s, 11 passages/s, 1 min 09 s left")


def test_a_long_first_file_shows_its_passages() -> None:
    done = UpdateProgress(0, 2, 120, 0, "a.html", 10.0, bytes_done=0, bytes_total=2_000_000)
    assert told(done) == "0 of 2 files, 12 passages/s"


def test_duplicates_are_shown_in_groups(run: Run, docs: Path, embedder: HashEmbedder) -> None:
    (docs / "copy.md").write_bytes((docs / "letters.md").read_bytes())
    run("index", "add", "--index", "my.idx", "docs")
    told = run("index", "duplicates", "--index", "my.idx").out
    assert "the same text" in told
    assert told.splitlines()[-1] == "1 documents repeat another one, in 1 groups"
    (group,) = run("index", "duplicates", "--index", "my.idx", "--json").json["groups"]
    assert {document["path"] for document in group["documents"]} == {
        "docs/copy.md",
        "docs/letters.md",
    }


def test_index_may_be_a_database(run: Run, docs: Path, embedder: HashEmbedder) -> None:
    """Every command that names an index takes the address of one."""
    with postgres_server() as base:
        address = f"{base}#team"
        assert run("index", "add", "--index", address, "docs").code == 0
        hits = run("search", "port server", "--index", address, "--json", "--no-rerank").json
        assert hits[0]["path"] == "docs/ports.txt"
        report = run("index", "report", "--index", address, "-o", "passages.svg", "--json")
        assert report.json["index"] == address
        assert Path("passages.svg").stat().st_size
        for command in (
            *(["verify"], ["status"], ["duplicates"], ["update"], ["show", "docs/ports.txt"]),
            *(["move", "--to", "chroma:rows"], ["move", "--to", f"{base}#rows"]),
            *(["label", "docs", "--set", "hr"], ["verify"], ["remove", "docs/ports.txt"]),
        ):
            ran = run("index", *command, "--index", address)
            assert (ran.code, ran.err.count("error")) == (0, 0), (command, ran.err)
        assert run("embed", "--index", address, "--json").code == 0
        assert "beside an index in a folder" in run("feedback", "list", "--index", address).err
    ran = run("index", "status", "--index", address)
    assert ran.code == 1
    assert "cannot be reached" in ran.err
    assert not [path.name for path in Path().iterdir() if "postgres" in path.name]


@pytest.mark.parametrize(
    "command", [["add", "docs"], ["update"], ["status"], ["move", "--to", "none"], ["report"]]
)
@pytest.mark.parametrize("place", ["faiss:my.idx", "chroma+http://h/x", "mysql://h/d"])
def test_an_address_that_names_no_index_makes_no_folder(
    run: Run, docs: Path, embedder: HashEmbedder, command: list[str], place: str
) -> None:
    ran = run("index", *command, "--index", place)
    assert ran.code == 1
    assert f"error: '{place}' names no index" in ran.err
    assert [path.name for path in Path().iterdir()] == ["docs"]


def test_show_prints_the_text_exactly_and_labels_are_kept(run: Run, docs: Path, index: str) -> None:
    text = (docs / "letters.md").read_text()
    assert run("index", "show", "--index", index, "docs/letters.md", "--text").out == text
    assert run("index", "label", "--index", index, "docs/letters.md", "--set", "hr,board").code == 0
    shown = run("index", "show", "--index", index, "docs/letters.md", "--json").json
    assert shown["labels"] == ["board", "hr"]
    assert run("index", "label", "--index", index, "docs", "--clear", "--json").json["changed"] == 0
    status = run("index", "status", "--index", index, "--json").json
    assert status["labels"] == {"docs/letters.md": ["board", "hr"]}
    assert status["fields"]["format"] == 2


@pytest.mark.parametrize("options", [[], ["--set", "hr", "--clear"], ["--set", "h r"]])
def test_label_needs_one_thing_to_do(run: Run, docs: Path, index: str, options: list[str]) -> None:
    assert run("index", "label", "--index", index, "docs", *options).code != 0


def test_update_with_another_embedder_changes_to_it(
    run: Run, docs: Path, index: str, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = type(embedder)()
    other.info = ModelInfo("other", "sha256:" + "0" * 64)
    models = {"other": other, None: embedder, embedder.info.name: embedder}
    monkeypatch.setattr(wiring, "embedder", models.__getitem__)
    assert run("index", "update", "--index", index, "--embedder", "other").code == 0
    status = run("index", "status", "--index", index, "--json").json
    assert (status["embedder"], status["documents"]) == ("other", 2)
    # Who names no model gets the one that the index was made with.
    assert run("search", "port server", "--index", index, "--no-rerank").code == 0


def test_form_of_vectors_is_chosen_once(run: Run, docs: Path, embedder: HashEmbedder) -> None:
    add = ("index", "add", "--index", "my.idx", "docs")
    assert run(*add, "--vectors", "int8").code == 0
    assert run(*add).code == 0
    assert run("search", "port", "--index", "my.idx", "--json").json[0]["path"] == "docs/ports.txt"
    refused = run(*add, "--vectors", "binary")
    assert refused.code == 1
    assert "keeps its vectors as int8, not binary" in refused.err
    assert run(*add, "--vectors", "binary", "--rebuild").code == 0
    assert run("index", "verify", "--index", "my.idx").code == 0


def test_remote_embedder_is_said_before_texts_are_read(
    run: Run, docs: Path, embedder: HashEmbedder
) -> None:
    ran = run("index", "add", "--index", "my.idx", "docs", "--embedder", "openai:m")
    assert "texts are sent to openai" in ran.err
