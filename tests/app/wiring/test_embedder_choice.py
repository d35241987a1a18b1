"""The embedder of a new index follows the language of its documents, unless one is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.app.conftest import HashEmbedder, Run

from lmstack.app import wiring
from lmstack.app.wiring import retrieval
from lmstack.app.wiring.retrieval import DEFAULT_EMBEDDER, MULTILINGUAL, embedder_for

GERMAN = "Briefe werden zehn Jahre lang aufbewahrt und danach verbrannt, so wie es Vorschrift ist."


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the models that are in the store."""
    names = {DEFAULT_EMBEDDER, MULTILINGUAL}
    found = retrieval._folder
    monkeypatch.setattr(
        retrieval, "_folder", lambda name: object() if name in names else found(name)
    )
    return names


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Names of the embedders that commands asked for; each is a model of its own."""
    names: list[str | None] = []

    def embedder(name: str | None) -> HashEmbedder:
        names.append(name)
        return HashEmbedder(name or DEFAULT_EMBEDDER)

    monkeypatch.setattr(wiring, "embedder", embedder)
    monkeypatch.setattr(wiring, "name_for_index", lambda given, _: given)
    monkeypatch.setattr(wiring, "shaped_name", lambda name, _: name)
    return names


@pytest.fixture
def german(docs: Path) -> Path:
    for path in docs.iterdir():
        path.write_text(GERMAN)
    return docs


def test_english_folder_gets_the_default_and_hears_nothing(docs: Path, here: set[str]) -> None:
    notes: list[str] = []
    assert embedder_for([docs], notes.append) == DEFAULT_EMBEDDER
    assert not notes


def test_other_folder_gets_the_multilingual_one(german: Path, here: set[str]) -> None:
    notes: list[str] = []
    assert embedder_for([german], notes.append) == MULTILINGUAL
    [note] = notes
    assert "(but in de)" in note


def test_without_that_model_the_default_is_used_and_how_to_get_it_said(
    german: Path, here: set[str], home: Path
) -> None:
    here.discard(MULTILINGUAL)
    notes: list[str] = []
    assert embedder_for([german], notes.append) == DEFAULT_EMBEDDER
    [note] = notes
    assert f"lmstack pull {MULTILINGUAL}" in note


@pytest.mark.parametrize(
    "command",
    [
        ("index", "add", "docs", "--index", "new.idx"),
        ("index", "add", "--docs", "docs"),
        ("search", "Briefe", "--docs", "docs"),
    ],
)
def test_commands_choose_for_a_new_index_and_it_remembers(
    run: Run, german: Path, here: set[str], used: list[str | None], command: tuple[str, ...]
) -> None:
    first = run(*command)
    assert first.code == 0, first.err
    assert used == [MULTILINGUAL]
    assert MULTILINGUAL in first.err
    for path in german.iterdir():
        path.write_text("The letters are kept for ten years, and then they are burnt by the clerk.")
    second = run(*command)
    assert second.code == 0, second.err
    assert used == [MULTILINGUAL] * 2
    assert "using" not in second.err


def test_named_embedder_is_used_whatever_the_language(
    run: Run, german: Path, here: set[str], used: list[str | None]
) -> None:
    named = ("--embedder", DEFAULT_EMBEDDER)
    ran = run("index", "add", "docs", "--index", "new.idx", *named)
    assert (ran.code, used) == (0, [DEFAULT_EMBEDDER])
    again = run("index", "add", "docs", "--index", "new.idx", "--rebuild")
    assert (again.code, used[1:]) == (0, [MULTILINGUAL])
