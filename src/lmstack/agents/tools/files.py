"""Files under roots that the user chose: read one, list a folder.

Covers paths that cannot leave their root: each part is opened from the folder before it, and
neither ``..`` nor a symbolic link is followed, so that nothing can be swapped in between a check
and its use. Only regular files are read, in windows of bounded size; hidden files (``.env``,
``.git``) only where they are allowed. What files hold was written by others. Needs a system that
opens files relative to folders (Linux, macOS); does not cover hard links.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import itertools
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lmstack.agents.tools.function import FunctionTool
from lmstack.agents.tools.results import one_line, plain
from lmstack.agents.tools.tool import ToolContext
from lmstack.core import GuardError, InputError, NotFoundError, UnsupportedError, shown

__all__ = ["Roots", "file_tools"]

WINDOW_BYTES = 16_000
MAX_ENTRIES = 200
# Of a folder tree that is listed no more is walked through.
MAX_VISITED = 20_000
MAX_DEPTH = 32
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
# Not to wait for the other end of a FIFO, nor to be given a terminal.
_FILE = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
)
_SYSTEM = ("/dev", "/proc", "/sys")
_KINDS = (
    (stat.S_ISLNK, "a symbolic link, and links are not followed"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True)
class Roots:
    """``folders`` by the names that paths begin with: ``notes/a.md``. A single folder may have the
    name "", and its paths none. ``hidden``: whether names that begin with a dot may be opened."""

    folders: Mapping[str, Path]
    hidden: bool = False

    def __post_init__(self) -> None:
        if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
            raise UnsupportedError("this system cannot open files relative to a folder")
        if not self.folders or ("" in self.folders and len(self.folders) > 1):
            raise InputError("several roots need a name each, and one at least is needed")
        for name, folder in self.folders.items():
            if "/" in name or name.startswith("."):
                raise InputError(f"a root has the name {shown(name)}", hint="use a plain word")
            _check_root(folder)
        resolved = {name: Path(folder).resolve() for name, folder in self.folders.items()}
        object.__setattr__(self, "folders", resolved)

    @classmethod
    def of(
        cls, roots: Mapping[str, Path] | Sequence[Path] | Path | str, *, hidden: bool = False
    ) -> Roots:
        """From folders by name, a single folder, or several that are called as they are."""
        if isinstance(roots, Mapping):
            return cls(roots, hidden)
        if isinstance(roots, Path | str):
            return cls({"": Path(roots)}, hidden)
        named = {Path(root).resolve().name: Path(root) for root in roots}
        if len(named) < len(roots):
            raise InputError("two roots have the same name", hint="give a mapping of names to them")
        return cls(named if len(named) > 1 else {"": Path(roots[0])}, hidden)

    def parts(self, path: str) -> tuple[str, list[str]]:
        """The root's name and the names below it; `InputError` where ``path`` leaves its root."""
        parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
        if path.startswith(("/", "~")) or "\0" in path:
            raise InputError(f"{shown(path)} is not a path under a root", hint=self._hint())
        if ".." in parts:
            raise InputError(f"{shown(path)} leaves its folder", hint="use a path without ..")
        root = ""
        if "" not in self.folders and parts:
            root = parts.pop(0)
            if root not in self.folders:
                raise NotFoundError(f"there is no root {shown(root)}", hint=self._hint())
        hidden = next((part for part in parts if part.startswith(".")), None)
        if hidden is not None and not self.hidden:
            raise InputError(f"{shown(hidden)} is hidden, and hidden files may not be opened")
        return root, parts

    def granted(self, root: str, parts: Sequence[str], rights: Collection[str] | None) -> bool:
        """Whether the rights of a run name the root, by its name or its path, or a folder that
        the path is in. None: they name all."""
        if rights is None or root in rights:
            return True
        place = self.folders[root].joinpath(*parts)
        return any(place.is_relative_to(Path(each).resolve()) for each in rights if "/" in each)

    def check(self, path: str, context: ToolContext) -> tuple[str, list[str]]:
        """`parts` of ``path``; `GuardError` where the rights of the run do not name it."""
        root, parts = self.parts(path)
        if root in self.folders and not self.granted(root, parts, context.roots):
            raise GuardError(
                f"the rights of this run do not name {shown(path)}",
                hint=f"they name {', '.join(sorted(context.roots or ())) or 'none'}",
            )
        return root, parts

    @contextlib.contextmanager
    def opened(self, root: str, parts: Sequence[str], *, folder: bool) -> Iterator[int]:
        """A descriptor of the folder or the regular file that ``parts`` lead to."""
        path = "/".join(filter(None, (root, *parts)))
        with contextlib.ExitStack() as stack:
            here = os.open(self.folders[root], _FOLDER)
            stack.callback(os.close, here)
            for part in parts if folder else parts[:-1]:
                here = _open(part, _FOLDER, here, path)
                stack.callback(os.close, here)
            if not folder:
                if not parts:
                    raise InputError("that is a folder", hint="list it, and read a file in it")
                _check_kind(parts[-1], here, path)
                here = _open(parts[-1], _FILE, here, path)
                stack.callback(os.close, here)
                if not stat.S_ISREG(os.fstat(here).st_mode):
                    raise InputError(f"{shown(path)} is not a regular file")
            yield here

    def _hint(self) -> str:
        if "" in self.folders:
            return "give a path relative to the folder, such as notes/a.md"
        return f"paths begin with {', '.join(self.folders)}"


def file_tools(
    roots: Roots | Mapping[str, Path] | Sequence[Path] | Path | str,
) -> tuple[FunctionTool, FunctionTool]:
    """The tools ``read_file`` and ``list_files`` under ``roots``."""
    place = roots if isinstance(roots, Roots) else Roots.of(roots)

    def read_file(path: str, context: ToolContext, offset: Annotated[int, Field(ge=0)] = 0) -> str:
        """Read a text file. A long file comes in parts.

        Args:
            path: The path of the file, as list_files shows it.
            offset: The byte to begin at; the end of a part names where the next one begins.
        """
        root, parts = place.check(path, context)
        with place.opened(root, parts, folder=False) as file:
            return _window(file, path, offset)

    def list_files(
        context: ToolContext, path: str = "", pattern: str = "*", recursive: bool = False
    ) -> str:
        """List the files and folders in a folder.

        Args:
            path: The path of the folder; empty for the top.
            pattern: Only names that fit it, such as "*.md".
            recursive: Whether to list the folders in it too.
        """
        root, parts = place.check(path, context)
        if root not in place.folders:
            names = [each for each in place.folders if place.granted(each, (), context.roots)]
            return "\n".join(f"{name}/" for name in names) or "[nothing there]"
        with place.opened(root, parts, folder=True) as folder:
            return _listing(folder, [root, *parts], pattern, recursive, place.hidden)

    read = FunctionTool.of(read_file, is_untrusted=True, max_chars=2 * WINDOW_BYTES)
    return read, FunctionTool.of(list_files, is_untrusted=True)


def _check_root(folder: Path) -> None:
    resolved = Path(folder).resolve()
    if not resolved.is_dir():
        raise NotFoundError(f"the root {shown(str(folder))} is not a folder")
    if resolved == Path("/") or any(resolved.is_relative_to(s) for s in _SYSTEM):
        raise InputError(
            f"the root {shown(str(folder))} holds the system's own files",
            hint="name the folder that the agent needs",
        )


def _open(name: str, flags: int, folder: int, path: str) -> int:
    try:
        return os.open(name, flags | getattr(os, "O_CLOEXEC", 0), dir_fd=folder)
    except FileNotFoundError:
        raise NotFoundError(
            f"{shown(path)} does not exist", hint="list the folder to see what does"
        ) from None
    except OSError as error:
        _check_kind(name, folder, path)
        if error.errno == errno.ENOTDIR:
            raise InputError(f"{shown(path)} is a file, or goes through one") from None
        raise InputError(f"{shown(path)} cannot be opened: {error.strerror}") from None


def _check_kind(name: str, folder: int, path: str) -> None:
    """`InputError` unless ``name`` is a file or a folder. A device is not even opened."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        raise NotFoundError(
            f"{shown(path)} does not exist", hint="list the folder to see what does"
        ) from None
    except OSError as error:
        raise InputError(f"{shown(path)} cannot be opened: {error.strerror}") from None
    for is_kind, words in _KINDS:
        if is_kind(mode):
            raise InputError(f"{shown(path)} is {words}")


def _window(file: int, path: str, offset: int) -> str:
    """A part of a text file from ``offset`` on, with whole characters, and where it goes on."""
    if stat.S_ISDIR(os.fstat(file).st_mode):
        raise InputError(f"{shown(path)} is a folder", hint="list it, and read a file in it")
    size = os.fstat(file).st_size
    data = os.pread(file, WINDOW_BYTES, offset) if offset < size else b""
    if not data:
        return f"[{path} ends at byte {size}]" if size else f"[{path} is empty]"
    text, end = _decoded(data, path, size, is_first=offset == 0)
    if offset == 0 and offset + end >= size:
        return text
    more = f"; go on with offset {offset + end}" if offset + end < size else ", the end"
    return f"{text}\n[bytes {offset} to {offset + end} of {size}{more}]"


def _decoded(data: bytes, path: str, size: int, *, is_first: bool) -> tuple[str, int]:
    """The text of ``data`` and how many bytes of it were used: neither a character that began
    before it nor one that is not all there."""
    starts = (n for n in range(min(4, len(data))) if data[n] & 0xC0 != 0x80)
    start = 0 if is_first else next(starts, 0)
    try:
        return plain(data[start:].decode()), len(data)
    except UnicodeDecodeError as error:
        cut = start + error.start
        if len(data) - cut < 4 and error.reason == "unexpected end of data" and cut > start:
            return plain(data[start:cut].decode()), cut
        kind = "is binary" if b"\0" in data else "is not UTF-8 text"
        raise InputError(f"{shown(path)} {kind}, with {size:,} bytes") from None


def _listing(folder: int, parts: list[str], pattern: str, recursive: bool, hidden: bool) -> str:
    lines: list[str] = []
    visited = 0
    for path, entry in _walk(folder, "/".join(filter(None, parts)), recursive, hidden):
        visited += 1
        if visited > MAX_VISITED:
            lines.append(f"[more than {MAX_VISITED:,} entries: list a folder further down]")
            break
        if not fnmatch.fnmatch(entry.name, pattern):
            continue
        if len(lines) == MAX_ENTRIES:
            lines.append(f"[more than {MAX_ENTRIES} entries: give a pattern]")
            break
        lines.append(f"{one_line(path)}{_suffix(entry)}")
    return "\n".join(lines) or "[nothing there]"


def _walk(
    folder: int, path: str, recursive: bool, hidden: bool, depth: int = 0
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Entries by name, the contents of a folder after it. Links are shown and not followed."""
    with os.scandir(folder) as entries:
        found = sorted(
            (
                each
                for each in itertools.islice(entries, MAX_VISITED + 1)
                if hidden or each.name[0] != "."
            ),
            key=lambda entry: entry.name,
        )
        for entry in found:
            below = f"{path}/{entry.name}" if path else entry.name
            yield below, entry
            if recursive and depth < MAX_DEPTH and entry.is_dir(follow_symlinks=False):
                try:
                    inner = os.open(entry.name, _FOLDER, dir_fd=folder)
                except OSError:
                    continue  # removed, replaced by a link, or not ours to read
                try:
                    yield from _walk(inner, below, recursive, hidden, depth + 1)
                finally:
                    os.close(inner)


def _suffix(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return " (link)"
    # One that a link takes the place of meanwhile is not followed.
    if entry.is_dir(follow_symlinks=False):
        return "/"
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return ""
    return f" ({status.st_size:,} bytes)" if stat.S_ISREG(status.st_mode) else " (special)"
