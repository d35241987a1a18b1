"""`lmstack ask`: the JSON contract, the text people read, what is closest, remote models."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.word_reranker import CALIBRATION, WordReranker

from lmstack.app import cli, wiring
from lmstack.app.cli import output
from lmstack.app.wiring import retrieval
from lmstack.core import Embedder, ScriptedModel
from lmstack.rag import FORMATS, NOTHING, Answerer, Index, TextDelta, UpdateResult
from lmstack.rag.answer import confidence
from lmstack.rag.catalogue.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder, Run

QUESTION = "How long are letters kept?"


class Clock:
    """A clock that only moves when told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, embedder: HashEmbedder) -> ScriptedModel:
    """Plays the part of every language model. Answers are quoted, so nobody asks it."""
    fake = ScriptedModel(name="tiny")
    monkeypatch.setattr(wiring, "lazy_generator", lambda *_, **__: fake)
    monkeypatch.setattr(wiring, "require_models", lambda *_: None)
    return fake


@pytest.fixture
def reranked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plays the part of the reranker: a passage that holds the question is certain to answer."""
    monkeypatch.setattr(retrieval, "_has_answer_reranker", lambda note: True)
    monkeypatch.setattr(retrieval, "_reranker", WordReranker)
    monkeypatch.setitem(confidence._KNOWN, "words", CALIBRATION)


def test_json_has_exactly_the_promised_fields(run: Run, docs: Path, model: ScriptedModel) -> None:
    ran = run("ask", QUESTION, "--docs", "docs", "--json")
    assert ran.code == 0
    answer = ran.json
    assert set(answer) == {
        "answer",
        "outcome",
        "task",
        "unread",
        "unsupported",
        "confidence",
        "supported",
        "citations",
        "conflicts",
        "quotes",
        "model",
        "usage",
        "timings",
        "waited",
    }
    assert set(answer["waited"]) == {"first_word_s", "indexing_s"}
    assert answer["model"] == {"name": "tiny", "digest": "sha256:" + "0" * 64}
    assert (answer["outcome"], answer["confidence"]) == ("answer", None)
    fields = {"id", "path", "start", "end", "quote", "focus", "section", "page"}
    assert answer["citations"]
    assert all(set(citation) == fields for citation in answer["citations"])
    assert f"[{answer['citations'][0]['id']}]" in answer["answer"]


def test_each_quote_is_the_span_of_the_file_that_opens_from_here(
    run: Run, docs: Path, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, given in ((docs.parent, "docs"), (docs, ".")):
        monkeypatch.chdir(folder)
        citations = run("ask", QUESTION, "--docs", given, "--json").json["citations"]
        assert citations
        for cited in citations:
            text = Path(cited["path"]).read_bytes().decode()
            assert text[cited["start"] : cited["end"]] == cited["quote"]
            assert text[slice(*cited["focus"])] in cited["quote"]
        first = citations[0]
        text = Path(first["path"]).read_bytes().decode()
        assert text[slice(*first["focus"])] == "Letters are kept for ten years."
        assert first["section"] == ["Letters"]


def test_people_see_the_answer_then_file_lines_and_quote_then_the_figures(
    run: Run, docs: Path, model: ScriptedModel
) -> None:
    ran = run("ask", QUESTION, "--docs", "docs")
    lines = ran.out.splitlines()
    assert lines[0] == "Answer"
    assert lines[1].startswith("  Letters are kept for ten years.")
    place = os.path.join("docs", "letters.md")
    assert f'[1] {place}:3   "Letters are kept for ten years."' in lines
    assert lines[-1].startswith("tiny@0000000 · ")
    assert "passages cited" in lines[-1]
    assert "\x1b" not in ran.out


def test_what_is_said_of_the_first_word_is_what_was_waited_since_enter(
    run: Run, docs: Path, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(cli, "time", clock)
    monkeypatch.setattr(output, "time", clock)
    answered, updated = Answerer.stream, Index.update

    async def late(*arguments: Any) -> AsyncIterator[Any]:
        clock.now += 2.0  # finding passages, and a model that thinks
        async for event in answered(*arguments):
            yield event
            if isinstance(event, TextDelta):
                clock.now += 50.0  # the rest of the answer is no part of it

    def slow_update(index: Index, *arguments: Any, **options: Any) -> UpdateResult:
        clock.now += 7.0
        return updated(index, *arguments, **options)

    def slow_check(*_: Any) -> None:
        clock.now += 0.1

    monkeypatch.setattr(Index, "update", slow_update)
    monkeypatch.setattr(Answerer, "stream", late)
    monkeypatch.setattr(wiring, "require_models", slow_check)
    line = run("ask", QUESTION, "--docs", "docs").out.splitlines()[-1]
    assert "· 9.1 s to first word (7.0 s indexing) ·" in line
    waited = run("ask", QUESTION, "--docs", "docs", "--json").json["waited"]
    assert waited == {"first_word_s": pytest.approx(9.1), "indexing_s": pytest.approx(7.0)}


def test_the_wait_begins_when_the_process_does() -> None:
    script = (
        "import time; time.sleep(0.3); import lmstack.app.cli as clock;"
        "print(time.monotonic() - clock.process_start())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert float(done.stdout) >= 0.3


def test_what_is_closest_is_shown_as_such_with_why_and_is_no_error(
    run: Run, docs: Path, model: ScriptedModel, reranked: None
) -> None:
    asked = ("ask", "Which harbour has the ferry server?", "--docs", "docs")
    ran = run(*asked)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == "Closest in your documents, and it may not answer"
    assert any(line.startswith(f"[1] {os.path.join('docs', 'ports.txt')}:1") for line in lines)
    assert any(line.startswith(f"[2] {os.path.join('docs', 'letters.md')}:3") for line in lines)
    (reason,) = [n for n, line in enumerate(lines) if "less than" in line]
    assert lines[reason - 1] == lines[reason + 1] == ""
    assert lines[reason + 2].startswith("[1] ")
    answer = run(*asked, "--json").json
    assert answer["outcome"] == "closest"
    assert 0.1 < answer["confidence"] < 0.2
    assert answer["supported"] is False
    assert len(answer["citations"]) == 2


def test_nothing_is_said_to_be_found_where_nothing_is_near(
    run: Run, docs: Path, model: ScriptedModel, reranked: None
) -> None:
    ran = run("ask", "zyzzyva qwertz", "--docs", "docs")
    assert ran.code == 0
    assert ran.out.startswith(f"No answer\n  {NOTHING}\n")
    answer = run("ask", "zyzzyva qwertz", "--docs", "docs", "--json").json
    assert (answer["outcome"], answer["citations"]) == ("nothing", [])


def test_an_answer_that_is_certain_has_no_reason_below_it(
    run: Run, docs: Path, model: ScriptedModel, reranked: None
) -> None:
    asked = ("ask", "Are letters kept for ten years?", "--docs", "docs")
    ran = run(*asked)
    assert ran.out.startswith("Answer\n  Letters are kept for ten years.")
    assert "less than" not in ran.out
    answer = run(*asked, "--json").json
    assert answer["outcome"] == "answer"
    assert answer["confidence"] > 0.9


def test_code_is_printed_in_its_lines(
    run: Run, docs: Path, model: ScriptedModel, reranked: None
) -> None:
    (docs / "lamps.md").write_text("# Light a lamp\n\n```\nif dark:\n    lamp --light\n```\n")
    ran = run("ask", "light a lamp", "--docs", "docs")
    assert ran.out.startswith("Answer\n  if dark:\n      lamp --light\n\n  [1]\n")


def test_an_older_edition_that_says_otherwise_is_named_below(
    run: Run, docs: Path, model: ScriptedModel, reranked: None
) -> None:
    for day, fee in (("3 March 2019", 40), ("9 June 2023", 55)):
        (docs / f"fees-{fee}.md").write_text(
            f"# Fees\n\nIn force from {day}.\n\nThe yearly fee for members is €{fee}.\n",
            encoding="utf-8",
        )
    ran = run("ask", "What is the yearly fee for members?", "--docs", "docs")
    assert "€55" in ran.out.partition("[1]")[0]
    (line,) = [line for line in ran.out.splitlines() if "says otherwise" in line]
    place = os.path.join("docs", "fees-40.md")
    assert line == (
        f"  [1] An older edition (2019-03-03) says otherwise: {place}:5"
        '   "The yearly fee for members is €40."'
    )


@pytest.mark.parametrize("command", ["ask", "search"])
def test_a_folder_without_a_document_is_an_error_that_says_what_is_read(
    run: Run, tmp_path: Path, model: ScriptedModel, command: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    empty = run(command, QUESTION, "--docs", str(folder))
    assert (empty.code, empty.out) == (1, "")
    assert "is empty\n" in empty.err
    assert ", ".join(ending for ending in FORMATS if FORMATS[ending] != "code") in empty.err
    (folder / "photo.png").write_bytes(b"x")
    photos = run(command, QUESTION, "--docs", str(folder))
    assert photos.code == 1
    assert "has no file that can be read: 1 file of another kind (.png)" in photos.err


def test_a_document_that_is_not_there_is_an_error_that_names_those_that_are(
    run: Run, docs: Path, model: ScriptedModel
) -> None:
    ran = run("ask", QUESTION, "--docs", "docs", "--document", "docs/leters.md")
    assert ran.code == 1
    assert "did you mean 'docs/letters.md'? there are: docs/letters.md, docs/ports.txt" in ran.err
    assert run("ask", QUESTION, "--docs", "docs", "--document", "docs").code == 0


def test_the_index_is_kept_and_updated_not_rebuilt(
    run: Run, docs: Path, model: ScriptedModel, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("ask", QUESTION, "--docs", "docs")
    embedded: list[str] = []
    plain = embedder.embed

    def embed(texts: list[str], kind: str = "passage") -> object:
        embedded.extend(texts)
        return plain(texts, kind)  # type: ignore[arg-type]

    monkeypatch.setattr(embedder, "embed", embed)
    (docs / "new.md").write_text("Parcels are kept for one month.\n")
    answer = run("ask", "Are parcels kept for one month?", "--docs", "docs", "--json").json
    assert any("Parcels" in text for text in embedded)
    assert answer["citations"][0]["path"] == os.path.join("docs", "new.md")


def test_an_index_of_ones_own_can_be_asked(run: Run, docs: Path, model: ScriptedModel) -> None:
    run("index", "add", "--index", "my.idx", "docs")
    answer = run("ask", QUESTION, "--index", "my.idx", "--json").json
    assert answer["citations"][0]["path"] == os.path.join("docs", "letters.md")


def test_explain_shows_ranks_and_that_no_model_was_asked(
    run: Run, docs: Path, model: ScriptedModel
) -> None:
    ran = run("ask", QUESTION, "--docs", "docs", "--explain")
    assert "BY MEANING" in ran.out
    explained = run("ask", QUESTION, "--docs", "docs", "--explain", "--json").json
    assert explained["passages"][0]["ranks"]
    assert explained["prompts"] == []
    assert not model.requests


def test_what_was_found_stands_above_what_is_written_and_explain_says_what_was_left_out(
    run: Run, docs: Path, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch, reranked: None
) -> None:
    said = "Letters are kept for ten years. Paris has 400 bridges."
    monkeypatch.setattr(wiring, "lazy_generator", lambda *_, **__: ScriptedModel([said]))
    out = run("ask", QUESTION, "--docs", "docs", "--write", "--explain").out
    found, answer, source, written = map(out.index, ("Found\n", "Answer\n", "[1] ", "Written\n"))
    assert found < answer < source < written
    assert "letters.md:" in out[found:answer]
    assert "Paris" not in out[answer:written]
    assert "Paris has 400 bridges. (left out: no passage has 400" in out[written:]
    explained = run("ask", QUESTION, "--docs", "docs", "--write", "--explain", "--json").json
    assert [each["text"] for each in explained["sentences"]] == [said[:31]]
    assert [each["text"] for each in explained["dropped"]] == [said[32:]]
    assert explained["quotes"][0]["path"].endswith("letters.md")
    # It is asked once for a text; what it is asked about sentences is no prompt to write.
    assert len(explained["prompts"]) == 1


def test_hostile_document_text_cannot_repaint_the_terminal(
    run: Run, docs: Path, model: ScriptedModel
) -> None:
    (docs / "letters.md").write_text("Letters are kept \x1b[2J\x1b]0;x\x07for ten years.\n")
    ran = run("ask", QUESTION, "--docs", "docs", "--explain")
    assert ran.code == 0
    assert "\x1b" not in ran.out + ran.err
    assert "\x07" not in ran.out + ran.err


def test_k_bounds_the_passages(run: Run, docs: Path, model: ScriptedModel) -> None:
    explained = run("ask", QUESTION, "--docs", "docs", "-k", "1", "--explain", "--json").json
    assert len(explained["passages"]) == 1
    assert run("ask", QUESTION, "--docs", "docs", "-k", "0").code == 2


def test_ctrl_c_says_how_to_ask_again(
    run: Run, docs: Path, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> ScriptedModel:
        raise KeyboardInterrupt

    monkeypatch.setattr(wiring, "lazy_generator", interrupt)
    ran = run("ask", QUESTION, "--docs", "docs", "-k", "3", "--rebuild", "--explain")
    assert ran.code == 130
    assert f"go on:   lmstack ask '{QUESTION}' --docs docs -k 3 --explain" in ran.err


def test_an_empty_question_is_an_error(run: Run, docs: Path, model: ScriptedModel) -> None:
    ran = run("ask", "  ", "--docs", "docs")
    assert ran.code == 2
    assert ran.err.startswith("error: ")


def test_a_missing_model_is_found_before_the_folder_is_indexed(
    run: Run, docs: Path, home: Path
) -> None:
    ran = run("ask", QUESTION, "--docs", "docs")
    assert ran.code == 1
    assert ran.err.splitlines() == [
        "error: 3 models are not in the store: qwen2.5-coder-1.5b-instruct, all-minilm-l6-v2,"
        " ms-marco-minilm-l12",
        "try:   lmstack pull",
    ]
    assert not (home / "indexes").exists()


def test_a_remote_model_is_announced_and_a_local_one_is_not(
    run: Run, docs: Path, model: ScriptedModel
) -> None:
    remote = run("ask", QUESTION, "--docs", "docs", "--model", "openai:gpt-x")
    assert "are sent to openai" in remote.err
    assert "sent" not in run("ask", QUESTION, "--docs", "docs").err


@pytest.mark.parametrize("name", ["openai:", ":x", "opnai:gpt", "anthropic"])
def test_only_a_provider_by_name_is_remote(name: str) -> None:
    assert not wiring.is_remote(name)


def test_a_remote_model_without_a_key_names_the_variable(
    run: Run, docs: Path, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    ran = run("ask", QUESTION, "--docs", "docs", "--model", "openai:gpt-x")
    assert ran.code == 1
    assert "OPENAI_API_KEY" in ran.err


def test_an_index_is_opened_once(
    run: Run, docs: Path, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    true = SqliteDatabase.__init__

    def counted(self: SqliteDatabase, place: Path, **given: Any) -> None:
        opened.append(place)
        true(self, place, **given)

    monkeypatch.setattr(SqliteDatabase, "__init__", counted)
    for _ in range(2):  # a new one, and one that is there
        opened.clear()
        assert run("search", "letters", "--docs", "docs").code == 0
        assert len(opened) == 1
