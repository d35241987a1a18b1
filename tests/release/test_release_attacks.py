"""What a released alias answers is what was signed, whatever is done to the files of the home by
one who can write there and has not the key of the user. One test for each kind of attack."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.app.tiny_releases import TinyRelease, move_to, tiny_releases

from lmstack.core import FormatError, IntegrityError
from lmstack.model.formats.mapped.file import read_mapped, write_mapped
from lmstack.model.formats.mapped.header import QUANTIZED_FILE
from lmstack.registry import FileFacts, ModelFolder, Store
from lmstack.registry.card import file_hash
from lmstack.registry.weight_cache import cached_file, stamp_of
from lmstack.release import releases
from lmstack.serve import LocalModel

PROMPT = "the cat"


@pytest.fixture
def two(home: Path, tmp_path: Path) -> list[TinyRelease]:
    return tiny_releases(tmp_path, "ab", {PROMPT: 12})


def answer(model: LocalModel) -> str:
    return model.generate(PROMPT, max_tokens=12, temperature=0, ignore_eos=True)


def held_in_int8(tiny: TinyRelease) -> TinyRelease:
    """As it is in int8, with what it answers; leaves it in the weight cache."""
    with LocalModel.load(tiny.folder, weights="int8") as model:
        release = replace(tiny.release, weights="int8", digest=model.info.digest or "")
        return TinyRelease(release, {PROMPT: answer(model)})


def asked() -> str:
    """What prod answers."""
    release = releases.released("prod")
    assert release is not None
    with releases.opened(release) as model:
        assert model.info.digest == release.model_digest
        return answer(model)


def kept(tiny: TinyRelease) -> Path:
    store = Store()
    return cached_file(store.root, store.resolve(tiny.folder).digest, "int8")


def overwritten(path: Path, content: bytes) -> None:
    """The same file with other bytes, as a program that has it open for writing leaves it."""
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()


def test_weights_of_another_model_with_the_stamp_of_this_one_are_not_served(
    two: list[TinyRelease],
) -> None:
    one, other = map(held_in_int8, two)
    move_to(one)
    config, weights = read_mapped(kept(other), {})
    stamp = stamp_of(Store().resolve(one.folder), "int8")
    for key in (b"", b"a key that the attacker made"):
        write_mapped(kept(one), config, weights, stamp, key)
        assert asked() == one.texts[PROMPT] != other.texts[PROMPT]


def test_what_this_user_kept_of_another_model_is_not_served_in_its_place(
    two: list[TinyRelease],
) -> None:
    one, other = map(held_in_int8, two)
    move_to(one)
    shutil.copyfile(kept(other), kept(one))
    assert asked() == one.texts[PROMPT]


def test_a_cache_changed_under_a_running_model_changes_no_answer(two: list[TinyRelease]) -> None:
    one, other = map(held_in_int8, two)
    move_to(one)
    release = releases.released("prod")
    assert release is not None
    foreign = kept(other).read_bytes()
    with releases.opened(release) as model:
        assert len(foreign) == kept(one).stat().st_size
        overwritten(kept(one), foreign)
        assert answer(model) == one.texts[PROMPT]
    assert asked() == one.texts[PROMPT]


def test_a_quantized_folder_changed_under_a_running_model_changes_no_answer(
    two: list[TinyRelease], tmp_path: Path
) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for tiny, folder in zip(two, folders, strict=True):
        with LocalModel.load(tiny.folder, weights="int8") as model:
            model.loaded.save_quantized(folder)
    with LocalModel.load(folders[0]) as model:
        before = answer(model)
        overwritten(folders[0] / QUANTIZED_FILE, (folders[1] / QUANTIZED_FILE).read_bytes())
        assert answer(model) == before
    with LocalModel.load(folders[0]) as model:
        assert answer(model) != before


@contextmanager
def after_hashing(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> Iterator[None]:
    """``change`` happens between the hash of a model's files and what is read of them."""
    verify = ModelFolder.verify

    def verified(folder: ModelFolder, *how: Callable[[Path], str]) -> None:
        verify(folder, *how)
        change()

    with monkeypatch.context() as patch:
        patch.setattr(ModelFolder, "verify", verified)
        yield


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_files_renamed_between_their_hash_and_their_use_are_not_served(
    two: list[TinyRelease], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    one, other = two if form == "float32" else map(held_in_int8, two)
    kept(one).unlink(missing_ok=True)
    move_to(one)
    release, moved = releases.released("prod"), one.folder.with_name("moved")
    assert release is not None

    def swap() -> None:
        if not moved.exists():
            one.folder.rename(moved)
            shutil.copytree(other.folder, one.folder)

    monkeypatch.setattr(releases, "folder_of", lambda _: Store().resolve(one.folder))
    with after_hashing(monkeypatch, swap):
        found = releases.opened(release)
    with found as model:
        assert moved.exists()
        assert answer(model) == one.texts[PROMPT] != other.texts[PROMPT]


@pytest.mark.parametrize("name", ["model.safetensors", "chat_template.jinja"])
def test_a_file_changed_in_place_between_its_hash_and_its_use_is_an_error(
    two: list[TinyRelease], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    one, other = two
    content = (other.folder / name).read_bytes().replace(b"user", b"usar")
    with (
        after_hashing(monkeypatch, lambda: overwritten(one.folder / name, content)),
        pytest.raises(IntegrityError, match=f"{one.folder / name} was changed while it was read"),
    ):
        LocalModel.load(one.folder)


def listing(folder: ModelFolder, files: dict[str, FileFacts]) -> ModelFolder:
    """``folder`` with a card that lists ``files``, whose digest it has."""
    lines = "".join(f"{files[name]['sha256']}  {name}\n" for name in sorted(files))
    digest = f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    card = json.loads((folder.path / "card.json").read_text()) | {"files": files, "digest": digest}
    (folder.path / "card.json").write_text(json.dumps(card))
    return replace(folder, card=replace(folder.card, files=files, digest=digest))


def test_a_file_that_the_card_does_not_name_is_not_read_and_that_is_said(
    two: list[TinyRelease], caplog: pytest.LogCaptureFixture
) -> None:
    """The digest does not cover it."""
    folder = Store().pull(two[0].folder)
    files = dict(folder.card.files)
    del files["chat_template.jinja"]
    listing(folder, files)
    with LocalModel.load(folder.name) as model:
        assert model.template is None
    assert "holds 'chat_template.jinja', which is not of the model" in caplog.text


def test_a_line_break_in_the_name_of_a_file_does_not_keep_the_digest(
    two: list[TinyRelease],
) -> None:
    """Two lines of the digest's list that are one file: a model without its template."""
    folder = Store().pull(two[0].folder)
    readme = folder.path / "README.md"
    readme.write_text("a model")
    files = dict(folder.card.files)
    files["README.md"] = FileFacts(sha256=file_hash(readme), size=readme.stat().st_size)
    folder = listing(folder, files)
    move_to(TinyRelease(replace(two[0].release, model=folder.name, digest=folder.digest), {}))
    assert releases.released("prod") is not None

    both = f"README.md\n{files.pop('chat_template.jinja')['sha256']}  chat_template.jinja"
    (folder.path / "chat_template.jinja").unlink()
    place = folder.path / both
    readme.rename(place)
    files[both] = files.pop("README.md")
    assert listing(folder, files).digest == folder.digest
    with pytest.raises(FormatError, match=r"name 'README.md\\n"):
        releases.released("prod")


def test_an_edited_memory_of_hashes_does_not_pass_for_other_bytes(
    two: list[TinyRelease], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    monkeypatch.setattr("lmstack.registry.card._SETTLED_S", -1.0)
    move_to(one)
    assert asked() == one.texts[PROMPT]
    path = Store().root / "hashes.json"
    known = json.loads(path.read_text())
    hashes = known["hashes"]
    overwritten(one.folder / "model.safetensors", (other.folder / "model.safetensors").read_bytes())
    sha256 = next(value for key, value in hashes.items() if "tiny-a/model.safetensors" in key)
    with pytest.raises(IntegrityError):
        releases.released("prod")  # notes the new state of the file with its true hash
    known = json.loads(path.read_text())
    edited = {
        key: sha256 if "tiny-a/model.safetensors" in key else value
        for key, value in known["hashes"].items()
    }
    assert edited != known["hashes"]
    for content in (edited, {"hashes": edited, "hmac": known["hmac"]}):
        path.write_text(json.dumps(content))
        with pytest.raises(IntegrityError, match="is now"):
            releases.released("prod")
