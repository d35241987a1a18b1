"""Files that are replaced whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lmstack.core import StoreError
from lmstack.core.files import replaced_file, store_error, write_atomic


def test_the_folder_is_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b" / "file", b"one")
    write_atomic(tmp_path / "a" / "b" / "file", b"two")
    assert [p.read_bytes() for p in (tmp_path / "a" / "b").iterdir()] == [b"two"]


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path: Path, raised: BaseException) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half() -> None:
        with replaced_file(path) as partial:
            partial.write_bytes(b"ne")
            raise raised

    with pytest.raises(StoreError if isinstance(raised, OSError) else KeyboardInterrupt):
        write_half()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_the_bytes_are_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append((tmp_path / "file").exists()))
    write_atomic(tmp_path / "file", b"x")
    assert seen == [False]
    with replaced_file(tmp_path / "file", synced=False) as partial:
        partial.write_bytes(b"y")
    assert seen == [False]


def test_a_file_where_a_folder_should_be_says_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"writing .*file/inner failed") as caught:
        write_atomic(tmp_path / "file" / "inner", b"x")
    assert "in the way" in str(caught.value.hint)


def test_a_long_path_where_nothing_is_is_named_to_its_end() -> None:
    path = Path("/", *["folder"] * 30, "weights.bin")
    error = store_error(FileNotFoundError(errno.ENOENT, "no"), path, "reading")
    assert error.message == f"there is nothing at '{path}'"


def test_an_error_without_a_number_still_says_what_to_do() -> None:
    error = store_error(OSError("odd"), Path("x"), "reading")
    assert error.message == "reading x failed: odd"
    assert "check the disk" in str(error.hint)
