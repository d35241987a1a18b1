"""The store where names, folders and disks are not as they should be, and what it writes where."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import stat
import struct
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.errors import about
from tests.registry.releases import verdict

from lmstack.core import InputError, IntegrityError, NotFoundError, StoreError
from lmstack.registry import Store, card
from lmstack.registry import store as stores
from lmstack.registry.aliases import Aliases
from lmstack.registry.card import CARD
from lmstack.registry.describe import Origin
from lmstack.registry.sources.known import KNOWN

EMPTY_GGUF = struct.pack("<4sIQQ", b"GGUF", 3, 0, 0)


@pytest.fixture
def pulled(store, model_folder):
    return store.pull(model_folder)


@pytest.fixture
def fill(model_files):
    def fill(staged: Path) -> Origin:
        for name, data in model_files.items():
            (staged / name).write_bytes(data)
        return Origin("made here")

    return fill


def test_what_changes_an_entry_holds_the_one_lock_of_its_name(
    store, model_folder, fill, monkeypatch
):
    held = []

    @contextmanager
    def locked(path):
        held.append(path)
        yield

    monkeypatch.setattr(stores, "locked", locked)
    model = store.pull(model_folder)
    store.update_evaluation(model, lambda found: {"a": 1})
    store.remove("my-model")
    store.add("my-model", fill)
    assert held == [store.root / "locks" / "my-model.lock"] * 4


def test_a_model_that_another_process_brought_meanwhile_is_taken(store, model_folder, monkeypatch):
    other, locked = Store(store.root), stores.locked

    def late(path):
        monkeypatch.setattr(stores, "locked", locked)
        other.pull(model_folder)
        monkeypatch.setattr(Store, "_bring", None)
        return locked(path)

    monkeypatch.setattr(stores, "locked", late)
    assert store.pull(model_folder).name == "my-model"


def test_a_name_is_a_folder_here_unless_the_store_has_it_or_a_digest_is_stated(
    store, pulled, model_folder, monkeypatch
):
    monkeypatch.chdir(model_folder.parent)
    here = model_folder.rename(model_folder.parent / "here")
    assert store.resolve("here").path == Path("here")
    with pytest.raises(NotFoundError, match="there is no model 'here@abcdef'"):
        store.resolve("here@abcdef")
    with pytest.raises(NotFoundError):
        store.pull("here")
    here.rename(here.parent / "my-model")
    assert store.resolve("my-model").path == pulled.path


def test_an_adapter_is_found_in_the_store_and_here_like_a_model(
    store, pulled, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for folder in (store.folder / "tuned", tmp_path / "here", tmp_path / "my-model"):
        folder.mkdir()
        (folder / "adapter_config.json").write_text("{}")
    assert store.adapter("tuned") == store.folder / "tuned"
    assert store.adapter("here") == Path("here")
    assert store.adapter("./here") == Path("here")
    assert store.adapter("tuned@abcdef") == store.folder / "tuned"
    for ref in ("my-model", "here@abcdef", "none", "./none", "./" + 300 * "x"):
        assert store.adapter(ref) is None


def test_a_file_where_the_home_should_be_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        StoreError, match=rf"^reading {tmp_path}/file failed: Not a directory"
    ) as caught:
        Store(tmp_path / "file").resolve("mine")
    assert "a file is in the way" in caught.value.hint


@pytest.mark.parametrize(
    ("ref", "hint"),
    [
        ("smollm2-135m-instruct@abcdef", "lmstack pull smollm2-135m-instruct@abcdef"),
        ("pypi:a==1", "lmstack pull pypi:a==1"),
        ("hf:a/b", "lmstack pull hf:a/b"),
        ("my-modle", "did you mean my-model?"),
        ("my-modle@abcdef", "did you mean my-model?"),
        ("q", "known: " + ", ".join(sorted([*KNOWN, "my-model"]))),
    ],
)
def test_a_model_that_is_not_here_is_told_how_it_comes(store, pulled, ref, hint):
    with pytest.raises(NotFoundError) as caught:
        store.resolve(ref)
    assert caught.value.hint == hint


def test_models_that_cannot_be_used_say_where_they_are_and_why(store, pulled):
    (store.folder / "bad").mkdir()
    weights = pulled.path / "model.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    assert [model.name for model in store.models()] == ["my-model"]
    [bad] = store.broken()
    assert (bad.name, bad.path) == ("bad", store.folder / "bad")
    whole, broken = store.checked()
    assert whole == []
    assert [(each.name, each.path) for each in broken] == [
        ("bad", bad.path),
        ("my-model", pulled.path),
    ]
    assert isinstance(broken[1].error, IntegrityError)
    assert "model.safetensors has changed" in broken[1].error.message


def test_a_survey_remembers_hashes(store, pulled, monkeypatch):
    monkeypatch.setattr(card, "_SETTLED_S", -1.0)
    assert store.checked() == ([pulled], [])
    monkeypatch.setattr(card.hashlib, "file_digest", None)
    assert store.checked() == ([pulled], [])


def test_a_file_in_place_is_a_model_of_that_file_alone(store, tmp_path):
    path = tmp_path / "Tiny Model.gguf"
    path.write_bytes(EMPTY_GGUF)
    (tmp_path / CARD).write_text("{}")
    found = store.resolve(path)
    assert (found.path, found.name, found.kind) == (path, "tiny-model", "generate")
    assert {name: facts["size"] for name, facts in found.card.files.items()} == {
        path.name: len(EMPTY_GGUF)
    }
    assert (found.card.created, found.card.source) == ("", str(path))


def test_a_model_made_here_is_listed_when_it_is_whole_and_not_before(store, fill):
    seen = []

    def watched(staged):
        seen.append(staged)
        assert list(staged.iterdir()) == []
        assert (store.models(), store.broken()) == ([], [])
        assert (store.root / "downloads").is_dir()
        return fill(staged)

    made = store.add("mine", watched)
    assert (made.name, made.path, made.card.source) == ("mine", store.folder / "mine", "made here")
    assert seen[0].parent == store.folder
    assert re.fullmatch(r"\.mine-.{8}", seen[0].name)
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o755
    assert [path.name for path in store.folder.iterdir()] == ["mine"]


def test_what_cannot_be_made_leaves_nothing_and_is_told_by_its_place(store, fill, tmp_path):
    def fails(staged):
        fill(staged)
        raise OSError(errno.ENOSPC, "as the disk says")

    for ref, place in (("mine", store.folder / "mine"), (tmp_path / "x" / "y", tmp_path / "x/y")):
        with pytest.raises(StoreError, match=f"^writing {place} failed: as the disk says"):
            store.add(ref, fails)
        assert list(place.parent.iterdir()) == []
    (tmp_path / "home" / "models").rmdir()
    (tmp_path / "home" / "models").touch()
    with pytest.raises(StoreError, match=f"^writing {store.folder} failed: "):
        store.add("mine", fill)


def test_a_new_model_takes_no_place_but_an_empty_folder_or_an_adapter_of_the_store(
    store, pulled, fill, tmp_path
):
    with pytest.raises(InputError, match="my-model is there already"):
        store.add("my-model", fill)
    outside = tmp_path / "outside"
    outside.touch()
    with pytest.raises(InputError, match="is there already"):
        store.add(outside, fill)
    outside.unlink()
    outside.mkdir()
    assert store.add(outside, fill).path == outside
    for folder in (outside, pulled.path):
        (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="is there already"):
        store.add(outside, fill)
    assert store.add("my-model", fill).card.source == "made here"
    assert [path.name for path in store.folder.iterdir()] == ["my-model"]


def test_the_name_of_an_alias_is_none_for_a_model_of_the_store(store, fill, tmp_path):
    Aliases(store.root).record(verdict("a", alias="mine"))
    with pytest.raises(InputError, match="mine is the name of an alias", check=about("name")):
        store.add("mine", fill)
    assert store.add(tmp_path / "mine", fill).name == "mine"


def test_a_folder_here_keeps_what_the_pull_of_its_copy_left_out(store, pulled):
    """A card is no file of the model, and its own notes come first."""
    changed = dataclasses.replace(pulled.card, name="x", notes=("one",), lineage="of mine")
    stores._write_card(pulled.path, changed)
    (pulled.path.rename(pulled.path.parent.parent / "copied"))
    found = store.pull(store.root / "copied")
    assert (found.name, found.card.notes, found.card.lineage) == ("copied", ("one",), "of mine")
    assert sorted(found.card.files) == ["config.json", "model.safetensors"]


def test_a_model_that_cannot_be_deleted_is_named(store, pulled, monkeypatch):
    def fails(*_):
        raise OSError(errno.EACCES, "as the disk says")

    monkeypatch.setattr(os, "replace", fails)
    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(StoreError, match=f"^deleting {pulled.path} failed: as the disk says"):
        store.remove("my-model")


def test_what_is_removed_goes_out_of_sight_before_it_is_deleted(store, pulled, monkeypatch):
    seen = []
    delete = stores.shutil.rmtree

    def watched(path, **how):
        if path.name.startswith(".removed-"):
            seen.append((path.parent, [each.name for each in path.iterdir()], store.broken()))
        delete(path, **how)

    monkeypatch.setattr(stores.shutil, "rmtree", watched)
    store.remove("my-model")
    assert seen == [(store.folder, ["my-model"], [])]
    assert list(store.folder.iterdir()) == []


def test_an_entry_of_a_package_or_a_repository_fits_its_own_reference_alone(store, pulled):
    for name, source, other in (
        ("a-1", "pypi:a==1", "pypi:A==1"),
        ("o--n", "hf:o/n@abc", "hf:O/n"),
    ):
        stores._write_card(pulled.path, dataclasses.replace(pulled.card, name=name, source=source))
        pulled.path.rename(store.folder / name)
        assert store.resolve(source.partition("@")[0]).name == name
        with pytest.raises(InputError, match=f"{name} in the store comes from {source}"):
            store.resolve(other)
        (store.folder / name).rename(pulled.path)
