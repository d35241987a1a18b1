"""A folder that a hostile program filled: nothing in it leads out of it or blocks who reads it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.agents.sandbox.inside.folder import (
    DEEPEST,
    FolderError,
    emptied,
    listed,
    raw,
    read,
    shown,
    write,
)

names = st.binary(min_size=1, max_size=40).filter(lambda n: b"\0" not in n and b"/" not in n)


@given(names)
def test_every_name_is_printable_and_is_read_back(name: bytes) -> None:
    assert shown(name).isprintable()
    assert raw(shown(name)) == name


@given(st.text())
def test_text_that_names_nothing_is_refused_or_names_the_same_again(text: str) -> None:
    try:
        found = raw(text)
    except FolderError:
        return
    assert raw(shown(found)) == found


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "folder").mkdir()
    return str(tmp_path / "folder")


def paths(folder: str) -> list[str]:
    return [each.path for each in listed(folder, 100)[0]]


def test_regular_files_are_listed_sorted_with_their_sizes(folder: str) -> None:
    for path, data in (("b", b"12"), ("a/c", b"123"), (".hidden", b""), (".x/y", b"")):
        write(folder, path, data)
    os.symlink("../secret", f"{folder}/link")
    os.symlink("..", f"{folder}/up")
    os.mkfifo(f"{folder}/pipe")
    found, more = listed(folder, 100)
    assert [(each.path, each.size) for each in found] == [("a/c", 3), ("b", 2)]
    assert (more, len(listed(folder, 1)[0]), listed(folder, 1)[1]) == (0, 1, 1)


def test_what_is_no_regular_file_is_not_read(folder: str) -> None:
    os.symlink("../secret", f"{folder}/link")
    os.symlink("..", f"{folder}/up")
    os.symlink("/dev/zero", f"{folder}/zero")
    os.mkfifo(f"{folder}/pipe")
    os.mkdir(f"{folder}/inner")
    for path in ("link", "up/secret", "zero", "pipe", "inner", "none", "inner/none"):
        with pytest.raises(FolderError):
            read(folder, path, 100)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "", ".", "a/../../secret", "a//b"])
def test_no_path_leads_out(folder: str, path: str) -> None:
    with pytest.raises(FolderError):
        read(folder, path, 100)
    with pytest.raises(FolderError):
        write(folder, path, b"x")


def test_a_file_is_read_within_its_bound(folder: str) -> None:
    write(folder, "x", bytes(100))
    assert read(folder, "x", 100) == bytes(100)
    with pytest.raises(FolderError, match="100 bytes, more than 99"):
        read(folder, "x", 99)


def test_a_file_takes_the_place_of_a_link_and_not_what_it_leads_to(folder: str) -> None:
    os.symlink("../secret", f"{folder}/x")
    write(folder, "x", b"mine")
    assert read(folder, "x", 100) == b"mine"
    assert Path(folder, "../secret").read_text() == "secret"
    os.symlink("..", f"{folder}/up")
    with pytest.raises(FolderError):
        write(folder, "up/secret", b"mine")


def test_a_name_that_is_swapped_while_it_is_read_never_leads_out(folder: str) -> None:
    """A file, a link to the secret, a folder and a FIFO take turns under one name."""
    going = True

    def swap() -> None:
        while going:
            for make in (
                lambda new: Path(new).write_text("mine"),
                lambda new: os.symlink("../secret", new),
                lambda new: os.mkfifo(new),
            ):
                make(f"{folder}/new")
                os.replace(f"{folder}/new", f"{folder}/x")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        found = set()
        for _ in range(500):
            try:
                found.add(read(folder, "x", 100))
            except FolderError as error:
                found.add(type(error).__name__.encode())
            listed(folder, 10)
    finally:
        going = False
        thread.join()
    assert found <= {b"mine", b"", b"FolderError"}
    assert b"FolderError" in found


def test_a_folder_is_emptied_however_deep_and_shut_it_is(folder: str) -> None:
    place = os.open(folder, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("x" * 100, dir_fd=place)
        inner = os.open("x" * 100, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(os.open("file", os.O_CREAT, dir_fd=place))
    os.close(place)
    os.symlink("../secret", f"{folder}/link")
    os.symlink("..", f"{folder}/up")
    os.mkfifo(f"{folder}/pipe")
    os.mkdir(f"{folder}/shut")
    os.mkdir(f"{folder}/shut/inner")
    os.chmod(f"{folder}/shut", 0)
    assert len(paths(folder)) == 0
    emptied(folder)
    assert os.listdir(folder) == []
    assert Path(folder, "../secret").read_text() == "secret"


def test_files_deeper_than_is_looked_are_not_listed(folder: str) -> None:
    write(folder, "/".join(["d"] * DEEPEST + ["in"]), b"")
    write(folder, "/".join(["d"] * (DEEPEST + 1) + ["out"]), b"")
    assert [path.rpartition("/")[2] for path in paths(folder)] == ["in"]


def test_half_a_character_is_a_path_like_any_other(folder: str) -> None:
    assert raw("\ud800") == b"\xed\xa0\x80"
    assert shown(b"\xed\xa0\x80") == "\\xed\\xa0\\x80"
    write(folder, shown(b"a\\\xff\n"), b"x")
    assert os.listdir(os.fsencode(folder)) == [b"a\\\xff\n"]
    assert paths(folder) == ["a\\\\\\xff\\x0a"]


def test_a_file_that_is_read_in_pieces_is_put_together_and_one_that_grows_is_refused(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "x", b"0123456789")
    whole, asked = os.read, []

    def read_some(file: int, size: int) -> bytes:
        asked.append(size)
        return whole(file, min(size, 4))

    monkeypatch.setattr(os, "read", read_some)
    assert read(folder, "x", 10) == b"0123456789"
    assert asked == [11, 7, 3, 1]
    asked.clear()
    assert read(folder, "x", 1 << 30) == b"0123456789"
    assert asked == [1 << 20] * 4
    monkeypatch.setattr(os, "fstat", lambda _: os.stat(__file__).__class__((0o100600,) + (0,) * 9))
    with pytest.raises(FolderError, match="x has more than 9 bytes"):
        read(folder, "x", 9)


def test_what_is_made_is_its_owners_alone_and_whole(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.write
    monkeypatch.setattr(os, "write", lambda file, data: whole(file, data[:3]))
    before = os.umask(0)
    try:
        write(folder, "a/b/c", b"0123456789")
    finally:
        os.umask(before)
    assert Path(folder, "a/b/c").read_bytes() == b"0123456789"
    modes = [Path(folder, name).stat().st_mode & 0o777 for name in ("a", "a/b", "a/b/c")]
    assert modes == [0o700, 0o700, 0o600]


def test_no_descriptor_is_left_open_whatever_goes_wrong(folder: str) -> None:
    write(folder, "a/b", b"123")
    os.mkfifo(f"{folder}/pipe")
    before = os.listdir("/proc/self/fd")
    listed(folder, 10)
    read(folder, "a/b", 3)
    for act in (
        lambda: read(folder, "a/b", 2),
        lambda: read(folder, "a/none", 2),
        lambda: read(folder, "none/b", 2),
        lambda: read(folder, "pipe", 2),
        lambda: write(folder, "a/b/c", b""),
    ):
        with pytest.raises(FolderError):
            act()
    with pytest.raises(OSError, match="Is a directory"):
        write(folder, "a", b"")
    emptied(folder)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_folder_is_emptied_where_the_names_that_it_gives_are_taken(folder: str) -> None:
    for name in ("\x010", "\x012", "a/\x010", "a/b/c", "a/d"):
        write(folder, shown(name.encode()), b"")
    os.symlink("none", f"{folder}/\x011")
    emptied(folder)
    assert os.listdir(folder) == []


def test_each_change_of_a_file_is_another_version(folder: str) -> None:
    def version() -> tuple[int, int]:
        [found] = listed(folder, 10)[0]
        return found.version

    write(folder, "x", b"1")
    seen = {version()}
    os.utime(f"{folder}/x", ns=(1, 2))
    seen.add(version())
    assert version()[0] == 2
    Path(folder, "y").touch()
    os.utime(f"{folder}/y", ns=(1, 2))
    os.replace(f"{folder}/y", f"{folder}/x")
    seen.add(version())
    assert len(seen) == 3


def test_a_link_in_the_place_of_the_folder_is_not_followed(folder: str) -> None:
    write(folder, "a/b", b"123")
    os.symlink(folder, f"{folder}-link")
    os.symlink("a", f"{folder}/link")
    for act in (
        lambda place: listed(place, 10),
        lambda place: read(place, "a/b", 9),
        lambda place: write(place, "a/c", b""),
        emptied,
    ):
        with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
            act(f"{folder}-link")
        with pytest.raises(OSError, match=r"Not a directory"):
            act(f"{folder}/a/b")
    for act in (
        lambda: read(folder, "link/b", 9),
        lambda: write(folder, "link/c", b""),
        lambda: read(folder, "a/b/c", 9),
    ):
        with pytest.raises(FolderError, match=r"(link|b): Not a directory"):
            act()
    assert paths(folder) == ["a/b"]
