"""An index as what is evaluated: what it says of itself, and what its digest is of."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.app.conftest import HashEmbedder

from lmstack.core import InputError, Message, ScriptedModel, StoreError
from lmstack.evals.evaluated_index import EvaluatedIndex, IndexSettings, index_subject
from lmstack.evals.task import Subject
from lmstack.rag import Index

if TYPE_CHECKING:
    from collections.abc import Iterator

QUESTION = (Message("user", "How long are letters kept?"),)


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small folder of documents, below the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "letters.md").write_text(
        "# Letters\n\nLetters are kept for ten years.\n\nThen they are burnt.\n"
    )
    (folder / "ports.txt").write_text("The server listens on port 8000 unless told otherwise.\n")
    return folder


@pytest.fixture
def index(docs: Path, tmp_path: Path) -> Iterator[Index]:
    (docs / "more").mkdir()
    (docs / "more" / "ports.txt").write_text("Port 22 is for maintenance.\n")
    with Index.open(tmp_path / "index", HashEmbedder()) as found:
        found.update([docs])
        yield found


def made(index: Index, digest: str = "sha256:1", **settings: Any) -> Subject:
    model = Subject("tiny", digest, ScriptedModel())
    return index_subject(IndexSettings.from_mapping(settings), index, model, None)


def asked(subject: Subject) -> EvaluatedIndex:
    assert isinstance(subject.index, EvaluatedIndex)
    return subject.index


def test_facts_say_what_was_found_and_what_the_sources_have(index: Index, docs: Path) -> None:
    output = asyncio.run(asked(made(index)).answer(QUESTION))
    assert output.facts["abstained"] is False
    assert output.facts["passages"][0]["source"] == "letters.md"
    text = (docs / "letters.md").read_text()
    assert output.facts["citations"]
    for each in output.facts["citations"]:
        assert f"[{each['id']}]" in output.text
        assert each["quote"] == each["text"]
    first = output.facts["citations"][0]
    assert text[first["start"] : first["end"]] == first["quote"]


def test_sources_are_named_by_their_paths_under_their_folder(
    index: Index, docs: Path, tmp_path: Path
) -> None:
    found = asked(made(index))
    assert found.sources == {"letters.md", "ports.txt", "more/ports.txt"}
    assert asyncio.run(found.spans("more/ports.txt", r"\d+")) == [(5, 7)]
    assert asyncio.run(found.spans("gone.md", r"\d+")) == []
    other = tmp_path / "other"
    other.mkdir()
    (other / "letters.md").write_text("Letters of others.\n")
    index.update([other])
    assert {"docs/letters.md", "other/letters.md"} <= asked(made(index)).sources


def test_a_digest_is_of_all_that_decides_an_answer(index: Index, docs: Path) -> None:
    before = made(index)
    assert made(index).digest == before.digest
    others = [
        made(index, "sha256:2"),
        made(index, answers={"max_quote_chars": 100}),
        made(index, answers={"strategy": "write"}),
        made(index, answers={"strategy": "write"}, instructions="Be brief."),
    ]
    (docs / "letters.md").write_text("Letters are kept for nine years.\n")
    index.update()
    others.append(made(index))
    assert len({each.digest for each in (before, *others)}) == 6


def test_an_index_that_changes_meanwhile_is_not_evaluated(index: Index, docs: Path) -> None:
    found = asked(made(index))
    (docs / "letters.md").unlink()
    (docs / "new.md").write_text("Letters are kept for nine years.\n")
    index.update()
    with pytest.raises(StoreError, match="changed while it was evaluated"):
        asyncio.run(found.answer(QUESTION))


def test_settings_that_cannot_be_are_refused(index: Index) -> None:
    with pytest.raises(InputError, match="answers are quoted"):
        made(index, instructions="Be brief.")
    with pytest.raises(InputError, match="has the path"):
        IndexSettings(docs="a", path="b")
    with pytest.raises(InputError, match="answers is 'write'"):
        IndexSettings.from_mapping({"answers": "write"})
    with pytest.raises(InputError, match="the last turn is no question"):
        asyncio.run(asked(made(index)).answer((Message("assistant", "Yes."),)))
