"""Names and hashes of a model's files, and the memory of hashes: one list for one set of files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.core import FormatError, IntegrityError, StoreError
from lmstack.registry import FileFacts, content_digest
from lmstack.registry import card as cards
from lmstack.registry.card import Card, FileHashes, ModelFolder, file_hash
from lmstack.registry.describe import Origin, make_card

SHA = "a" * 64
CONTROLS = [
    "\n",
    "\r",
    "\0",
    "\t",
    "\x7f",
    "\x85",
    "\u2028",
    "\u200b",
    "\u202e",
    "\ufeff",
    "\ud800",
]


def facts(sha256: str = SHA) -> FileFacts:
    return FileFacts(sha256=sha256, size=1)


@pytest.mark.parametrize("character", CONTROLS, ids=ascii)
def test_a_name_with_a_character_that_cannot_be_seen_has_no_digest(character: str) -> None:
    with pytest.raises(FormatError, match="the name"):
        content_digest({f"a{character}b": facts()})


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "a/./b", "../a", "a/../b", "a\\b", "c:a"],
)
def test_a_name_that_has_another_spelling_or_leads_out_has_no_digest(name: str) -> None:
    with pytest.raises(FormatError, match="the name"):
        content_digest({name: facts()})


@pytest.mark.parametrize("name", ["a", "1_Pooling/config.json", "größe (2).json", ".a", "a..b"])
def test_names_of_files_have_one(name: str) -> None:
    assert content_digest({name: facts()}).startswith("sha256:")


@pytest.mark.parametrize("sha256", ["", "a" * 63, "A" * 64, "a" * 65, f"{SHA}\n", f"{SHA}  x"])
def test_a_hash_that_is_none_has_no_digest(sha256: str) -> None:
    with pytest.raises(FormatError, match="hash"):
        content_digest({"a": facts(sha256)})


@given(st.dictionaries(st.text(max_size=9), st.sampled_from([SHA, "b" * 64]), max_size=3))
def test_the_list_of_a_digest_is_read_in_one_way(files: dict[str, str]) -> None:
    try:
        content_digest({name: facts(sha256) for name, sha256 in files.items()})
    except FormatError:
        return
    lines = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    assert {line[66:]: line[:64] for line in lines.split("\n")[:-1]} == files


def test_a_folder_with_such_a_name_has_no_card(tmp_path: Path, tiny_folder: Path) -> None:
    (tiny_folder / "READ\nME").write_text("x")
    with pytest.raises(FormatError, match=r"READ\\nME"):
        make_card("tiny", tiny_folder, Origin("here"))


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of before the time in which a change might not show."""
    monkeypatch.setattr(cards, "_SETTLED_S", -1.0)
    path = tmp_path / "file"
    path.write_text("content")
    return path


@pytest.fixture
def memory(tmp_path: Path) -> FileHashes:
    return FileHashes(tmp_path / "home")


def kept(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "home" / "hashes.json").read_text())
    return found


def never(*_: object) -> Any:
    raise AssertionError("hashed again")


def test_a_hash_is_computed_once_for_a_state_of_a_file(
    file: Path, memory: FileHashes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = file_hash(file)
    assert memory.sha256(file) == expected
    with monkeypatch.context() as patch:
        patch.setattr(cards.hashlib, "file_digest", never)
        assert FileHashes(tmp_path / "home").sha256(file) == expected
    times = file.stat()
    file.write_text("another")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert memory.sha256(file) == file_hash(file) != expected
    assert len(kept(tmp_path)["hashes"]) == 2


def test_a_file_that_was_changed_a_moment_ago_is_not_remembered(
    file: Path, memory: FileHashes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = file.stat().st_ctime
    monkeypatch.setattr(cards, "_SETTLED_S", 2.0)
    for later, is_kept in ((0.0, False), (1.9, False), (-60.0, False), (2.1, True)):
        monkeypatch.setattr(cards.time, "time", lambda later=later: now + later)
        assert memory.sha256(file) == file_hash(file)
        assert (tmp_path / "home" / "hashes.json").exists() == is_kept


def test_a_file_that_changes_while_it_is_hashed_is_an_error(
    file: Path, memory: FileHashes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = cards.hashlib.file_digest

    def slow(opened: Any, how: str) -> Any:
        found = digest(opened, how)
        file.write_text("longer than it was")
        return found

    monkeypatch.setattr(cards.hashlib, "file_digest", slow)
    with pytest.raises(IntegrityError, match="changed while"):
        memory.sha256(file)
    assert not (tmp_path / "home" / "hashes.json").exists()


def test_a_memory_without_its_key_is_not_believed(
    file: Path, memory: FileHashes, tmp_path: Path
) -> None:
    expected = memory.sha256(file)
    path = tmp_path / "home" / "hashes.json"
    whole = kept(tmp_path)
    wrong = dict.fromkeys(whole["hashes"], SHA)
    for content in (
        wrong,
        {"hashes": wrong, "hmac": whole["hmac"]},
        {"hashes": wrong, "hmac": ""},
        {"hashes": wrong},
        {"hashes": [1], "hmac": "x"},
        [],
        {"hashes": list(wrong), "hmac": whole["hmac"]},
    ):
        path.write_text(json.dumps(content))
        assert memory.sha256(file) == expected
        assert kept(tmp_path) == whole
    [key] = (tmp_path / "home").glob("cache-*.key")
    path.write_text(json.dumps(whole))
    key.unlink()
    assert memory.sha256(file) == expected
    assert kept(tmp_path)["hmac"] != whole["hmac"]


def test_the_oldest_hashes_are_forgotten(
    tmp_path: Path, file: Path, memory: FileHashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "_MOST_HASHES", 2)
    for name in "cab":
        (tmp_path / name).write_text(name)
        memory.sha256(tmp_path / name)
    names = [Path(key.partition(":")[0]).name for key in kept(tmp_path)["hashes"]]
    assert sorted(names) == ["a", "b"]


def test_a_file_that_is_not_there_is_a_store_error(memory: FileHashes, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"nothing at '{tmp_path}/none'"):
        memory.sha256(tmp_path / "none")


def test_a_file_that_cannot_be_read_is_named_with_what_the_disk_says(
    memory: FileHashes, file: Path, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match=f"^reading {tmp_path} failed: Is a directory"):
        file_hash(tmp_path)
    with pytest.raises(StoreError, match=f"^reading {tmp_path} failed: Is a directory"):
        memory.sha256(tmp_path)
    below = {"file/x": facts()}
    folder = ModelFolder(tmp_path, Card("m", "embed", content_digest(below), "", "", below, ""))
    with pytest.raises(StoreError, match=f"^reading {file}/x failed: Not a directory"):
        folder.check_sizes()


def test_a_card_may_leave_out_all_that_is_not_needed(tmp_path: Path) -> None:
    files = {"a": facts()}
    digest = content_digest(files)
    found = Card.from_json(
        {"name": "m", "kind": "embed", "digest": digest, "files": files}, tmp_path
    )
    assert found == Card("m", "embed", digest, "", "", files, "")
    for kind, other in (("singer", digest), ("embed", "sha256:" + SHA)):
        with pytest.raises(IntegrityError, match="does not fit its own digest"):
            Card.from_json({"name": "m", "kind": kind, "digest": other, "files": files}, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"files": None}, "'NoneType' object has no"),
        ({"name": None}, "name is None"),
        ({"digest": 3}, "digest is 3"),
        ({"lineage": 3}, "lineage is 3"),
        ({"parameters": "many"}, "invalid literal"),
        ({"notes": 3}, "'int' object is not iterable"),
    ],
)
def test_a_field_of_a_card_that_is_damaged_is_named(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    files = {"a": facts()}
    whole = {"name": "m", "kind": "embed", "digest": content_digest(files), "files": files}
    with pytest.raises(FormatError, match=f"card is not a model card: {said}"):
        Card.from_json({**whole, **change}, tmp_path / "card")
    with pytest.raises(FormatError, match="card is not a model card: it has no 'kind'"):
        Card.from_json({k: v for k, v in whole.items() if k != "kind"}, tmp_path / "card")


def test_the_hash_of_a_file_is_that_of_git_where_it_is_as_long(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"hello\n")
    assert file_hash(path, "0" * 40) == "ce013625030ba8dba906f756967f9e9ca394464a"
    sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert [file_hash(path, "0" * size) for size in (0, 39, 64)] == [sha256] * 3


def test_a_file_of_a_model_that_is_one_file_is_held_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"x")
    (tmp_path / "other.gguf").write_bytes(b"y")
    files = {"m.gguf": FileFacts(sha256=file_hash(path), size=1)}
    found = ModelFolder(path, Card("m", "embed", content_digest(files), "", "", files, ""))
    assert (found.gguf, found.file("m.gguf"), found.card.size) == (path, path, 1)
    with found.held() as held:
        assert held.path.read_bytes() == b"x"
        assert held.path.name == "m.gguf"
        held.verify()
    path.write_bytes(b"z")
    with pytest.raises(IntegrityError, match=f"{path} has changed: sha256 "):
        found.verify()
    path.write_bytes(b"long")
    with pytest.raises(IntegrityError, match=f"{path} has 4 bytes instead of 1"), found.held():
        pass
    inside = ModelFolder(tmp_path, Card("m", "embed", "", "", "", {"b.gguf": facts(), **files}, ""))
    assert inside.gguf == tmp_path / "b.gguf"
    assert inside.card.size == 2
