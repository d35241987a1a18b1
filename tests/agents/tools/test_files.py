"""Reading and listing under roots: what is there, and no way out."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.agents.tools import Roots, ToolContext, file_tools, files
from lmstack.agents.tools.files import WINDOW_BYTES
from lmstack.core import InputError, NotFoundError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with files, beside one that nobody may read."""
    root = tmp_path / "root"
    (root / "notes" / "deep").mkdir(parents=True)
    (root / "a.md").write_text("Alpha\n")
    (root / "notes" / "b.md").write_text("Beta\n")
    (root / "notes" / "deep" / "c.txt").write_text("Gamma\n")
    (root / ".env").write_text("KEY=secret\n")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("secret\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("secret\n")
    return root


async def call(
    root: Any, name: str, rights: frozenset[str] | None = None, **arguments: Any
) -> tuple[bool, str]:
    tools = {each.tool.name: each for each in file_tools(root)}
    result = await tools[name].call(arguments, ToolContext(roots=rights))
    return result.is_error, result.text


async def test_a_file_is_read_whole(root: Path) -> None:
    assert await call(root, "read_file", path="notes/b.md") == (False, "Beta\n")
    assert await call(root, "read_file", path="./notes//deep/c.txt") == (False, "Gamma\n")
    is_error, text = await call(root, "read_file", path="notes/z.md")
    assert (is_error, "notes/z.md" in text and "does not exist" in text) == (True, True)


async def test_a_folder_is_listed_with_sizes_and_without_hidden_names(root: Path) -> None:
    (root / "link").symlink_to(root / "a.md")
    assert await call(root, "list_files") == (False, "a.md (6 bytes)\nlink (link)\nnotes/")
    _, recursive = await call(root, "list_files", pattern="*.md", recursive=True)
    assert recursive == "a.md (6 bytes)\nnotes/b.md (5 bytes)"
    _, below = await call(root, "list_files", path="notes", recursive=True)
    assert below == "notes/b.md (5 bytes)\nnotes/deep/\nnotes/deep/c.txt (6 bytes)"


async def test_hidden_names_further_down_are_not_listed_either(root: Path) -> None:
    (root / "notes" / ".hidden").write_text("x")
    (root / "notes" / "deep" / ".git").mkdir()
    (root / "notes" / "deep" / ".git" / "config").write_text("x")
    _, listed = await call(root, "list_files", recursive=True)
    assert "notes/deep/c.txt" in listed
    assert "hidden" not in listed
    assert "git" not in listed
    shown = Roots.of(root, hidden=True)
    _, listed = await call(shown, "list_files", recursive=True)
    assert "notes/.hidden" in listed
    assert "notes/deep/.git/config" in listed


async def test_several_roots_have_names(root: Path, tmp_path: Path) -> None:
    roots = {"mine": root, "theirs": tmp_path / "outside"}
    assert await call(roots, "list_files") == (False, "mine/\ntheirs/")
    assert await call(roots, "list_files", path="theirs") == (False, "theirs/secret.txt (7 bytes)")
    assert await call(roots, "read_file", path="mine/a.md") == (False, "Alpha\n")
    is_error, text = await call(roots, "read_file", path="a.md")
    assert is_error
    assert "paths begin with mine, theirs" in text
    assert (await call(roots, "read_file", path="mine/../theirs/secret.txt"))[0]


def links(root: Path) -> None:
    outside = root.parent / "outside"
    (root / "file_link").symlink_to(outside / "secret.txt")
    (root / "folder_link").symlink_to(outside)
    (root / "up").symlink_to("..")
    (root / "loop").symlink_to("loop")
    (root / "notes" / "proc").symlink_to("/proc")


@pytest.mark.parametrize(
    "path",
    [
        "../outside/secret.txt",
        "notes/../../outside/secret.txt",
        "notes/../a.md",
        "..",
        "..\\outside\\secret.txt",
        "/etc/passwd",
        "//etc/passwd",
        "~/secret",
        "a.md\0.txt",
        "file_link",
        "folder_link/secret.txt",
        "up/outside/secret.txt",
        "loop",
        "notes/proc/self/environ",
        ".env",
        ".git/config",
        "notes",
        "",
        ".",
        "a.md/b",
        "no_such.txt",
        "x" * 300,
        "x/" * 3000 + "y",
        "%2e%2e/outside/secret.txt",
        "\ud800",
    ],
)
async def test_no_path_leads_out_or_to_what_is_hidden(root: Path, path: str) -> None:
    links(root)
    is_error, text = await call(root, "read_file", path=path)
    assert is_error, text
    assert "secret\n" not in text
    assert len(text) < 600
    is_error, text = await call(root, "list_files", path=path, recursive=True)
    assert "secret.txt" not in text or is_error


async def test_an_absolute_path_into_the_root_is_refused_like_any_other(root: Path) -> None:
    for path in (str(root / "a.md"), "~/a.md", "a\0.md"):
        is_error, text = await call(root, "read_file", path=path)
        assert is_error
        assert "is not a path under a root" in text
        assert "give a path relative to the folder, such as notes/a.md" in text
    two = {"one": root, "two": root}
    assert "paths begin with one, two" in (await call(two, "read_file", path="/a.md"))[1]
    assert "paths begin with one, two" in (await call(two, "read_file", path="three/a.md"))[1]


async def test_hidden_files_are_read_where_they_are_allowed(root: Path) -> None:
    allowed = Roots.of(root, hidden=True)
    assert await call(allowed, "read_file", path=".env") == (False, "KEY=secret\n")
    assert ".git/" in (await call(allowed, "list_files"))[1]


async def test_special_files_are_named_and_do_not_hang(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
        for name, words in (("fifo", "is a FIFO"), ("socket", "is a socket")):
            is_error, text = await call(root, "read_file", path=name)
            assert is_error
            assert words in text
    _, listing = await call(root, "list_files")
    assert "fifo (special)" in listing


async def test_a_file_swapped_for_a_link_between_calls_is_not_followed(root: Path) -> None:
    """A folder is replaced by a link to the outside, and back, while it is read again and again."""
    stop = threading.Event()
    folder, spare = root / "swapped", root / "spare"
    folder.mkdir()
    (folder / "secret.txt").write_text("harmless\n")

    def swap() -> None:
        while not stop.is_set():
            folder.rename(spare)
            folder.symlink_to(root.parent / "outside")
            folder.unlink()
            spare.rename(folder)

    thread = threading.Thread(target=swap)
    thread.start()
    seen: list[str] = []
    try:
        while len(seen) < 80 or "harmless\n" not in seen:
            seen.append((await call(root, "read_file", path="swapped/secret.txt"))[1])
            assert len(seen) < 10_000
    finally:
        stop.set()
        thread.join()
    assert "secret\n" not in seen


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x89PNG\r\n\0\0", "is binary, with 8 bytes"),
        ("für".encode("latin-1"), "is not UTF-8 text, with 3 bytes"),
        (b"\x80\x80abc", "is not UTF-8 text"),
    ],
)
async def test_what_is_not_text_is_named(root: Path, data: bytes, words: str) -> None:
    (root / "data").write_bytes(data)
    is_error, text = await call(root, "read_file", path="data")
    assert is_error
    assert words in text


async def test_an_empty_file_and_an_offset_behind_the_end_are_said_so(root: Path) -> None:
    (root / "empty").touch()
    assert await call(root, "read_file", path="empty") == (False, "[empty is empty]")
    behind = await call(root, "read_file", path="a.md", offset=99)
    assert await call(root, "read_file", path="a.md", offset=10**30) == behind
    assert behind == (False, "[a.md ends at byte 6]")
    assert (await call(root, "read_file", path="a.md", offset=-1))[0]


@settings(max_examples=30)
@given(st.integers(0, 5), st.integers(0, 3))
def test_the_parts_of_a_long_file_put_together_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, shift: int, width: int
) -> None:
    root = tmp_path_factory.mktemp("parts")
    text = "x" * shift + "aé€😀"[width] * (2 * WINDOW_BYTES // 3)
    (root / "long.txt").write_text(text)

    async def read() -> str:
        found, offset = "", 0
        while True:
            is_error, part = await call(root, "read_file", path="long.txt", offset=offset)
            assert not is_error, part
            body, marker, note = part.rpartition("\n[bytes ")
            if not marker:
                return part
            found += body
            if "go on with offset " not in note:
                return found
            offset = int(note.rpartition("go on with offset ")[2].rstrip("]"))

    assert asyncio.run(read()) == text


async def test_a_part_says_where_it_is_and_whether_it_is_the_last(root: Path) -> None:
    size = WINDOW_BYTES
    (root / "long.txt").write_text("x" * size)
    assert await call(root, "read_file", path="long.txt") == (False, "x" * size)
    (root / "long.txt").write_text("x" * (size + 1))
    _, first = await call(root, "read_file", path="long.txt")
    assert first.endswith(f"x\n[bytes 0 to {size} of {size + 1}; go on with offset {size}]")
    last = await call(root, "read_file", path="long.txt", offset=size)
    assert last == (False, f"x\n[bytes {size} to {size + 1} of {size + 1}, the end]")
    (root / "tail.txt").write_text("abc")
    tail = await call(root, "read_file", path="tail.txt", offset=1)
    assert tail == (False, "bc\n[bytes 1 to 3 of 3, the end]")


async def test_a_tree_is_listed_as_deep_as_it_may_be(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_DEPTH", 2)
    (root / "tree" / "b" / "c" / "d").mkdir(parents=True)
    (root / "tree" / "b" / "a.txt").write_text("x")
    _, listed = await call(root, "list_files", path="tree", recursive=True)
    assert listed.split("\n") == ["tree/b/", "tree/b/a.txt (1 bytes)", "tree/b/c/", "tree/b/c/d/"]
    (root / "tree" / "b" / "c" / "d" / "e").touch()
    assert (await call(root, "list_files", path="tree", recursive=True))[1] == listed


async def test_names_of_files_cannot_forge_lines_of_a_listing(root: Path) -> None:
    (root / "x\nnotes (6 bytes)\x1b[2J").touch()
    os.mkdir(os.fsencode(root) + b"/\xff")
    _, listing = await call(root, "list_files")
    assert "x notes (6 bytes)[2J (0 bytes)" in listing.split("\n")
    assert "?/" in listing.split("\n")


async def test_a_long_listing_is_cut_with_a_hint(root: Path) -> None:
    for number in range(300):
        (root / f"n{number}").touch()
    for number in range(200):
        (root / f"m{number}.m").touch()
    _, whole = await call(root, "list_files", pattern="*.m")
    assert (whole.count("\n"), "more than" in whole) == (199, False)
    _, listing = await call(root, "list_files")
    assert listing.count("\n") == 200
    assert listing.endswith("[more than 200 entries: give a pattern]")


@pytest.mark.parametrize(("most", "is_cut"), [(5, True), (6, False)])
async def test_a_tree_is_walked_through_up_to_its_most_entries(
    root: Path, monkeypatch: pytest.MonkeyPatch, most: int, is_cut: bool
) -> None:
    for number in range(6):
        (root / "notes" / "deep" / f"{number}.txt").write_text("x")
    (root / "notes" / "deep" / "c.txt").unlink()
    monkeypatch.setattr(files, "MAX_VISITED", most)
    _, listed = await call(root, "list_files", path="notes/deep")
    assert ("[more than" in listed) is is_cut


async def test_an_empty_folder_says_so(root: Path) -> None:
    assert await call(root, "list_files", pattern="*.pdf") == (False, "[nothing there]")


async def test_the_rights_of_a_run_narrow_the_roots(root: Path, tmp_path: Path) -> None:
    roots = {"mine": root, "theirs": tmp_path / "outside"}

    async def reads(path: str, *rights: str) -> bool:
        return not (await call(roots, "read_file", frozenset(rights), path=path))[0]

    assert await reads("mine/a.md", "mine")
    assert await reads("mine/a.md", str(root))
    assert await reads("mine/notes/b.md", str(root / "notes"))
    assert await reads("mine/a.md", str(tmp_path))
    assert not await reads("mine/a.md", str(root / "notes"))
    assert not await reads("mine/a.md", "theirs")
    assert not await reads("mine/a.md", str(tmp_path / "roo"))
    assert not await reads("mine/a.md")
    listed = await call(roots, "list_files", frozenset({"theirs"}))
    assert listed == (False, "theirs/")
    is_error, text = await call(roots, "list_files", frozenset({"theirs"}), path="mine")
    assert is_error
    assert "the rights of this run do not name 'mine' (they name theirs)" in text


@pytest.mark.parametrize("folder", ["/", "/proc", "/sys/kernel", "/dev"])
def test_a_root_of_the_system_is_refused(folder: str) -> None:
    with pytest.raises(InputError, match="the system's own files"):
        file_tools(folder)


def test_roots_that_are_no_folders_or_have_no_name_are_refused(root: Path) -> None:
    with pytest.raises(NotFoundError, match="is not a folder"):
        file_tools(root / "a.md")
    with pytest.raises(InputError):
        file_tools({})
    with pytest.raises(InputError):
        file_tools({"": root, "b": root})
    with pytest.raises(InputError):
        file_tools({"a/b": root})
    with pytest.raises(InputError, match="same name"):
        file_tools([root, root])


def test_what_files_hold_is_untrusted(root: Path) -> None:
    assert all(each.is_untrusted and not each.is_dangerous for each in file_tools(root))


async def test_no_descriptor_is_left_open(root: Path) -> None:
    links(root)
    before = len(os.listdir("/proc/self/fd"))
    for path in ("notes/deep/c.txt", "up/x", "no", "notes", "../x", "file_link"):
        await call(root, "read_file", path=path)
        await call(root, "list_files", path=path, recursive=True)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_folders_are_given_by_name_alone_or_several(tmp_path: Path) -> None:
    one, two = tmp_path / "a", tmp_path / "b"
    one.mkdir()
    two.mkdir()
    ways: list[tuple[Any, dict[str, Path]]] = [
        (one, {"": one}),
        (str(one), {"": one}),
        ([one], {"": one}),
        ([one, two], {"a": one, "b": two}),
        ({"x": two}, {"x": two}),
    ]
    for roots, folders in ways:
        assert Roots.of(roots).folders == folders
        assert not Roots.of(roots).hidden
        assert Roots.of(roots, hidden=True).hidden
    with pytest.raises(InputError, match="two roots have the same name"):
        Roots.of([one, tmp_path / "b" / ".." / "a"])


def test_a_file_that_becomes_a_link_while_it_is_listed_is_not_followed(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.write_bytes(b"12345")
    inside.mkdir()
    (inside / "a.txt").write_bytes(b"1")
    with os.scandir(inside) as entries:
        [entry] = entries
    (inside / "a.txt").unlink()
    (inside / "a.txt").symlink_to(outside)
    assert files._suffix(entry) == " (special)"
