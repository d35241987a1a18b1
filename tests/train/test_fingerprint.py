"""Whether a data file is the one that was hashed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from tests.errors import about

from lmstack.core import InputError, StoreError
from lmstack.train.data.fingerprint import (
    check_same_files,
    check_unchanged,
    data_files,
    fingerprint,
)


def test_a_file_that_is_rewritten_in_place_a_moment_later_is_another(tmp_path: Path) -> None:
    """Of the same size, at the same place on the disk, within the same second."""
    path = tmp_path / "rows.jsonl"
    path.write_text("one")
    os.utime(path, ns=(10**18, 10**18))
    files = data_files([path])
    check_unchanged(files)
    with path.open("r+") as file:
        file.write("two")
    os.utime(path, ns=(10**18, 10**18 + 1_000_000))
    with pytest.raises(
        InputError, match=r"rows\.jsonl changed while it was read", check=about("data")
    ):
        check_unchanged(files)


@pytest.mark.parametrize("change", ["longer", "replaced", "gone"])
def test_any_other_change_is_noticed_too(tmp_path: Path, change: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("one")
    os.utime(path, ns=(10**18, 10**18))
    files = data_files([path])
    if change == "longer":
        path.write_text("three")
    else:
        (tmp_path / "other").write_text("one")  # while the first is there, so of another inode
        path.unlink()
        if change == "replaced":
            (tmp_path / "other").rename(path)
    if change != "gone":
        os.utime(path, ns=(10**18, 10**18))
    with pytest.raises(InputError, match="changed while it was read", check=about("data")):
        check_unchanged(files)
    with pytest.raises(StoreError, match=f"reading {tmp_path} failed"):
        data_files([tmp_path])


def test_what_a_run_resumes_with_is_the_same_files_in_the_same_order(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    for path in paths:
        path.write_text(path.name)
    now = data_files(paths)
    before = [file.to_json() for file in now]
    hashes = [hashlib.sha256(path.name.encode()).hexdigest() for path in paths]
    assert before == [
        {"path": str(path), "bytes": 7, "sha256": found}
        for path, found in zip(paths, hashes, strict=True)
    ]
    assert fingerprint(now) == hashlib.sha256("".join(hashes).encode()).hexdigest()
    check_same_files(before, now)
    check_same_files([{**file, "path": f"moved/{n}"} for n, file in enumerate(before)], now)
    with pytest.raises(
        InputError, match="the data files are in another order", check=about("data")
    ):
        check_same_files(before, now[::-1])
    with pytest.raises(
        InputError, match=r"b\.jsonl was among the data when the run began", check=about("data")
    ):
        check_same_files(before, now[:1])
    with pytest.raises(
        InputError, match=r"b\.jsonl was not among the data when the run began", check=about("data")
    ):
        check_same_files(before[:1], now)


def test_a_file_out_of_reach_is_not_said_to_have_changed(tmp_path: Path) -> None:
    path = tmp_path / "data" / "rows.jsonl"
    path.parent.mkdir()
    path.write_text("one")
    files = data_files([path])
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("a file where the folder was")
    with pytest.raises(StoreError, match=r"reading .*rows\.jsonl failed"):
        check_unchanged(files)
