"""The key of what this user keeps in the home: a file of his that nobody else reads, or none."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from lmstack.registry import signing
from lmstack.registry.signing import cache_key


def key_file(root: Path) -> Path:
    [found] = root.glob("cache-*.key")
    return found


def test_a_key_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    made = cache_key(tmp_path / "home")
    assert made is not None
    assert len(made) == 32
    assert cache_key(tmp_path / "home") == made
    assert cache_key(tmp_path / "other") != made
    path = key_file(tmp_path / "home")
    assert path.name == f"cache-{os.geteuid()}.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made not in path.read_bytes()  # digits, not bytes that a text might be


def test_a_system_without_users_has_one_with_the_number_nought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "geteuid")
    cache_key(tmp_path)
    assert key_file(tmp_path).name == "cache-0.key"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o601])
def test_a_key_that_others_can_read_or_write_is_replaced(
    tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    known = cache_key(tmp_path)
    assert not caplog.records
    key_file(tmp_path).chmod(mode)
    made = cache_key(tmp_path)
    assert made not in (None, known)
    assert stat.S_IMODE(key_file(tmp_path).stat().st_mode) == 0o600
    assert "is replaced" in caplog.text


def test_a_key_that_another_user_put_there_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = cache_key(tmp_path)
    path = key_file(tmp_path)
    victim = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: victim)
    path.rename(path.with_name(f"cache-{victim}.key"))
    # In this test nobody can make a file of the other user's.
    assert cache_key(tmp_path) is None
    assert path.with_name(f"cache-{victim}.key").read_bytes().find(planted.hex().encode()) == -1


def test_another_file_of_the_user_moved_there_is_no_key(tmp_path: Path) -> None:
    known = cache_key(tmp_path)
    path = key_file(tmp_path)
    for content in (b"x" * 64 + b"\n", b"", path.read_bytes() + b"more", path.read_bytes()[:-2]):
        path.write_bytes(content)
        assert cache_key(tmp_path) not in (None, known)


def test_a_link_is_no_key(tmp_path: Path) -> None:
    known = cache_key(tmp_path)
    path = key_file(tmp_path)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache_key(tmp_path) not in (None, known)
    assert not path.is_symlink()
    assert (tmp_path / "elsewhere").exists()


def test_a_home_that_cannot_be_written_has_none(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file in the way")
    assert cache_key(tmp_path / "home") is None


def test_a_key_that_another_process_made_meanwhile_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While this one waited for the lock: two keys would be two sets of caches."""
    locked, made = signing.locked, []

    def late(lock: Path) -> object:
        monkeypatch.setattr(signing, "locked", locked)
        assert lock == tmp_path / "locks" / f"cache-{os.geteuid()}.key.lock"
        made.append(cache_key(tmp_path))
        return locked(lock)

    monkeypatch.setattr(signing, "locked", late)
    assert cache_key(tmp_path) == made[0]
    assert cache_key(tmp_path) == made[0]
