"""An index keeps to the form of weights that made its vectors, and a new one gets the fast form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lmstack.app import wiring
from lmstack.app.wiring.retrieval import embedder_named, name_for_index, shaped_name
from lmstack.core import InputError
from lmstack.rag import Index
from lmstack.registry import ModelFolder
from lmstack.registry.weight_cache import embedding_form
from lmstack.serve import LocalEmbedder

if TYPE_CHECKING:
    from tests.app.conftest import Run

pytestmark = pytest.mark.weights
NAME = "all-minilm-l6-v2"


@pytest.fixture
def store(home: Path, furnish: Callable[[Path], None], minilm: ModelFolder) -> None:
    furnish(home)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "letters"
    made.mkdir()
    (made / "one.txt").write_text("Letters are kept for ten years.")
    (made / "two.txt").write_text("The lighthouse has seventeen keepers.")
    return made


def made_with(run: Run, place: Path) -> str:
    ran = run("index", "status", "--index", str(place), "--json")
    assert ran.code == 0, ran.err
    return str(ran.json["embedder_weights"])


def test_new_index_gets_the_form_that_search_was_measured_in(
    run: Run, store: None, folder: Path, tmp_path: Path, minilm: ModelFolder
) -> None:
    place = tmp_path / "new.idx"
    assert run("index", "add", str(folder), "--index", str(place)).code == 0
    assert made_with(run, place) == "int8"
    with Index.open(place, LocalEmbedder.load(minilm)) as index:
        assert index.status(check=False).embedder_digest == f"{minilm.digest}+int8"


@pytest.mark.parametrize("named", [(), pytest.param(("--embedder", NAME), marks=pytest.mark.long)])
def test_older_index_goes_on_in_float32(
    run: Run,
    store: None,
    folder: Path,
    tmp_path: Path,
    minilm: ModelFolder,
    named: tuple[str, ...],
) -> None:
    place, whole = tmp_path / "old.idx", tmp_path / "whole.idx"
    floats = LocalEmbedder.load(minilm, weights="float32")
    with Index.open(place, floats) as index, Index.open(whole, floats) as at_once:
        index.add([folder / "one.txt"])
        at_once.add([folder])
        expected = at_once.stored_passages()[1]
    ran = run("index", "add", str(folder), "--index", str(place), *named)
    assert ran.code == 0, ran.err
    assert made_with(run, place).startswith("as in the model's files (float32")
    with Index.open(place, create=False) as index:
        vectors = index.stored_passages()[1]
    assert (vectors * expected).sum(axis=1).min() > 0.99999
    ran = run("search", "How long are letters kept?", "--index", str(place), *named)
    assert ran.code == 0, ran.err
    assert "ten years" in ran.out


def test_index_changes_its_form_when_told_to_and_not_before(
    run: Run, store: None, folder: Path, tmp_path: Path
) -> None:
    place = tmp_path / "changed.idx"
    floats = f"{NAME},weights=float32"
    assert run("index", "add", str(folder), "--index", str(place), "--embedder", floats).code == 0
    assert run("index", "update", "--index", str(place), "--embedder", NAME).code == 0
    assert made_with(run, place).startswith("as in")
    integers = f"{NAME},weights=int8"
    ran = run("search", "letters", "--index", str(place), "--embedder", integers)
    assert ran.code == 1
    assert "was made with" in ran.err
    assert f"--embedder {integers}" in ran.err
    assert run("index", "update", "--index", str(place), "--embedder", integers).code == 0
    assert made_with(run, place) == "int8"


def test_vectors_of_the_command_line_are_those_of_a_new_index(
    run: Run, store: None, minilm: ModelFolder
) -> None:
    assert run("embed", "a", "--json").json["digest"] == f"{minilm.digest}+int8"
    floats = run("embed", "a", "--json", "--embedder", f"{NAME},weights=float32")
    assert floats.json["digest"] == minilm.digest


def test_name_of_an_index_says_the_weights_that_the_plain_name_does_not(
    store: None, minilm: ModelFolder
) -> None:
    assert shaped_name(NAME, minilm.digest) == f"{NAME},weights=float32"
    assert shaped_name(NAME, f"{minilm.digest}+int8+64d") == f"{NAME},dimensions=64,weights=int8"
    assert name_for_index(NAME, minilm.digest) == f"{NAME},weights=float32"
    assert name_for_index(f"{NAME},weights=q4", minilm.digest) == f"{NAME},weights=q4"
    assert name_for_index(NAME, "sha256:of-another-model") == NAME
    for name in (f"{NAME},dimensions=64,weights=int8", f"{NAME},weights=int8,dimensions=64"):
        assert embedder_named(name).info.digest == f"{minilm.digest}+int8+64d"


def test_form_belongs_to_the_measured_weights_and_not_to_their_name(minilm: ModelFolder) -> None:
    assert embedding_form(minilm) == "int8"
    other = dataclasses.replace(minilm.card, source="hf:somebody/else")
    assert embedding_form(dataclasses.replace(minilm, card=other)) is None


def test_lazy_embedder_has_the_name_of_the_loaded_one(store: None) -> None:
    for name in (NAME, f"{NAME},weights=float32", f"{NAME},weights=int8"):
        lazy = embedder_named(name)
        assert lazy.info.digest == wiring.loaded(lazy).info.digest


@pytest.mark.parametrize(
    ("name", "said"),
    [(f"{NAME},weights=int7", "int7"), ("openai:text-embedding-3-small,weights=int8", "machine")],
)
def test_weights_that_cannot_be_are_refused(store: None, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        embedder_named(name)
