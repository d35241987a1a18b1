"""What the supervisor of a worker counts, and what it tells the kernel."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lmstack.agents.sandbox.inside import quotas
from lmstack.agents.sandbox.inside.confinement import Setup
from lmstack.agents.sandbox.inside.folder import DEEPEST
from lmstack.agents.sandbox.inside.quotas import FileQuota, Quota, answer, quota_of
from lmstack.agents.sandbox.inside.system_calls import ARCHITECTURES, CHECKED, CREATING, FOLLOWED

BLOCK = 4096
COLUMN = ARCHITECTURES[platform.machine()][0]


def setup(
    folder: Path, files: int = 10, disk_bytes: int = 20 * BLOCK, size: int = 1 << 40
) -> Setup:
    return Setup("n", {"RLIMIT_FSIZE": size}, "box", str(folder), "", files, disk_bytes)


def number(name: str) -> int:
    found = {**FOLLOWED, **CHECKED, **CREATING}[name][COLUMN]
    assert found is not None
    return found


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Any]:
    """A process with files: 0 has lost its name, 1 is a pipe, 2 is a file that it may write to."""
    folder = tmp_path / "held"
    folder.mkdir()
    with (folder / "lost").open("w+b") as lost, (folder / "kept").open("w+b") as kept:
        lost.write(bytes(BLOCK + 1))
        lost.flush()
        (folder / "lost").unlink()
        process = subprocess.Popen(
            ["sleep", "600"], stdin=lost, stdout=subprocess.PIPE, stderr=kept
        )
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize(
    ("size", "blocks", "most"),
    [
        (0, 0, 0),
        (1, 0, BLOCK),
        (BLOCK, 0, BLOCK),
        (BLOCK + 1, 8, 2 * BLOCK),
        (1, 16, 2 * BLOCK),
    ],
)
def test_a_file_takes_its_blocks_or_what_its_holes_may_take(
    size: int, blocks: int, most: int
) -> None:
    found: Any = SimpleNamespace(st_size=size, st_blocks=blocks)
    assert quotas._size(found) == most


def test_all_that_is_in_a_folder_is_counted_as_deep_as_is_looked(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "x").write_bytes(bytes(BLOCK + 1))
    (tmp_path / ".y").write_bytes(b"1")
    (tmp_path / "z").symlink_to(inner / "x")
    folders = [tmp_path / "a", inner]
    taken = sum(quotas._size(each.lstat()) for each in [*folders, tmp_path / "z"])
    assert quotas._counted(str(tmp_path)) == (5, 3 * BLOCK + taken)
    deep = tmp_path / "deep"
    for _ in range(DEEPEST - 1):
        deep /= "d"
    deep.mkdir(parents=True)
    found = quotas._counted(str(tmp_path))
    assert found is not None
    assert found[0] == 5 + DEEPEST
    (deep / "d").mkdir()
    assert quotas._counted(str(tmp_path)) is None


def test_files_without_a_name_count_as_long_as_they_are_held(tmp_path: Path, held: Any) -> None:
    quota = Quota(setup(tmp_path))
    assert quota._removed() == (0, 0)
    quota.pid = held.pid
    assert quota._removed() == (1, 2 * BLOCK)
    there = quotas._counted(str(tmp_path))
    assert there is not None
    assert quota._counted_anew() == (there[0] + 1, there[1] + 2 * BLOCK)


def test_what_cannot_be_told_is_not_counted(
    tmp_path: Path, held: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = Quota(setup(tmp_path))
    quota.pid = held.pid
    with monkeypatch.context() as patch:
        patch.setattr(quotas, "_counted", lambda _: None)
        assert quota._counted_anew() is None
    with monkeypatch.context() as patch:
        patch.setattr(quota, "_removed", lambda: None)
        assert quota._counted_anew() is None
    quota.pid = 1 << 30
    assert quota._counted_anew() is None
    maps = tmp_path / "maps"
    maps.write_bytes(b"7f00 r-xp /lib/x\n7f01 r--s /home/y (deleted)  \n")
    opened = open
    monkeypatch.setattr("builtins.open", lambda path, mode: opened(maps, mode))
    assert quota._removed() is None


def test_what_is_a_file_and_what_may_be_written_to_is_seen(tmp_path: Path, held: Any) -> None:
    quota = Quota(setup(tmp_path))
    quota.pid = held.pid
    assert [quota._is_regular(fd) for fd in (0, 1, 2, 99)] == [True, False, True, True]
    assert [quota._is_read_only(fd) for fd in (0, 1, 2, 99)] == [False] * 4
    with (tmp_path / "x").open("wb"), (tmp_path / "x").open("rb") as file:
        quota.pid = os.getpid()
        assert quota._is_read_only(file.fileno())


@pytest.mark.parametrize(
    ("name", "argument"), [("write", 2), ("pwrite64", 2), ("ftruncate", 1), ("openat", None)]
)
def test_each_call_is_counted_by_what_it_may_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, argument: int | None
) -> None:
    quota = Quota(setup(tmp_path, size=2 * BLOCK))
    seen: list[Any] = []
    monkeypatch.setattr(quota, "_is_regular", lambda fd: seen.append(fd) or fd == 3)
    monkeypatch.setattr(quota, "_spent", lambda files, size: seen.append((files, size)) or 7)
    arguments = [(1 << 32) + 3, 1 << 50, 1 << 50, 0, 0, 0]
    if argument is None:
        assert quota.refusal(number(name), arguments) == 7
        assert seen == [(1, BLOCK)]
        return
    for size, spent in ((0, 2), (1, 2), (BLOCK, 3), (1 << 50, 4)):
        arguments[argument] = size
        assert quota.refusal(number(name), arguments) == 7
        assert seen == [3, (0, spent * BLOCK)]
        seen.clear()
    arguments[0] = 4
    assert quota.refusal(number(name), arguments) == 0
    assert seen == [4]


def test_a_mapping_is_of_what_can_only_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = Quota(setup(tmp_path))
    monkeypatch.setattr(quota, "_is_read_only", lambda fd: fd == 5)
    for fd, error in ((5, 0), ((1 << 32) + 5, 0), (6, errno.EACCES)):
        assert quota.refusal(number("mmap"), [0, 0, 0, 0, fd, 0]) == error


def test_an_estimate_at_the_limit_is_counted_anew_and_then_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = Quota(setup(tmp_path, files=10, disk_bytes=20 * BLOCK))
    counted: list[Any] = [(8, 18 * BLOCK)]
    asked = []
    monkeypatch.setattr(quota, "_counted_anew", lambda: asked.append(1) or counted[0])
    assert quota._spent(1, BLOCK) == 0, "the first question counts"
    assert len(asked) == 1
    assert quota._spent(1, BLOCK) == 0, "just the limit"
    assert len(asked) == 1
    counted[0] = None
    assert quota._spent(1, 0) == errno.EDQUOT
    assert quota._spent(0, 1) == errno.EDQUOT
    assert quota._spent(0, 0) == 0
    counted[0] = (10, 0)
    assert quota._spent(1, 0) == errno.EDQUOT
    counted[0], quota._bytes = (0, 20 * BLOCK), 20 * BLOCK
    assert quota._spent(0, 1) == errno.EDQUOT
    counted[0] = (0, 0)
    assert quota.spend(3, BLOCK + 1)
    assert (quota._files, quota._bytes) == (3, 3 * BLOCK)
    counted[0] = (3, 3 * BLOCK)
    assert not quota.spend(8, 1)
    assert quota.spend(7, 0)


def test_a_file_system_of_its_own_knows_how_many_files_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = quota_of(setup(tmp_path, files=3, disk_bytes=0))
    assert type(own) is FileQuota
    assert isinstance(quota_of(setup(tmp_path)), Quota)
    for used, error in ((0, 0), (2, 0), (3, errno.EDQUOT), (4, errno.EDQUOT)):
        found = SimpleNamespace(f_files=100, f_ffree=100 - used - 1)
        monkeypatch.setattr(os, "statvfs", lambda path, f=found: f if path == str(tmp_path) else 0)
        assert own.refusal(0, []) == error


@pytest.mark.parametrize(("error", "response"), [(0, (7, 0, 0, 1)), (122, (7, 0, -122, 0))])
def test_an_answer_is_of_the_question_and_lets_the_call_go_on_or_fail(
    monkeypatch: pytest.MonkeyPatch, error: int, response: tuple[int, ...]
) -> None:
    sent: list[Any] = []
    asked = quotas._NOTIFICATION.pack(7, 1, 0, 44, 0, 0, *range(6))

    def ioctl(listener: int, request: int, data: bytes) -> bytes:
        if request == 0xC0502100:
            assert data == bytes(80)
            return asked
        assert request == 0xC0182101
        sent.append((listener, quotas._RESPONSE.unpack(data)))
        raise OSError(errno.ENOENT, "it has ended")

    seen: list[Any] = []
    quota: Any = SimpleNamespace(refusal=lambda call, given: seen.append((call, given)) or error)
    monkeypatch.setattr(quotas.fcntl, "ioctl", ioctl)
    answer(9, quota)
    assert seen == [(44, [0, 1, 2, 3, 4, 5])]
    assert sent == [(9, response)]

    def gone(*_: Any) -> bytes:
        raise OSError(errno.ENOENT, "it has ended")

    monkeypatch.setattr(quotas.fcntl, "ioctl", gone)
    answer(9, quota)
    assert len(seen) == 1
