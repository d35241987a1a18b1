"""Files that people add on the page: which names and sizes are taken, and how they come to disk.

    uploads/            of the owner, or of anyone where there are no keys
    uploads/for-hr+it/  of keys with the labels hr and it: those labels hold for all in it

A file is written under a hidden name, which indexing passes over, and gets its own name when it
is whole; a name that is taken is never written over. The folders are held open while a file is
written, so that nobody can put a link in their place. Fails closed: what is not plainly fine is
refused. Who may ask at all, and the HTTP of it, are `page.receive`'s business.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import threading
import time
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lmstack.app.server.access import Access
from lmstack.core import Config, InputError, OverloadedError, StoreError, check_range, shown
from lmstack.rag import FORMATS, LoadConfig
from lmstack.serve.http.errors import HttpError

__all__ = ["FOLDER", "Incoming", "UploadConfig", "Uploads", "check_name"]

FOLDER = "uploads"
MAX_NAME_BYTES = 200
MAX_LABEL_BYTES = 200
STALE_S = 86_400.0
RETRY_S = 5.0
_HIDDEN = ".upload-"
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LINES = frozenset({"Zl", "Zp"})
_NAMES_IN = sys.getfilesystemencoding()
# What other systems forbid in names, or take for devices.
_FORBIDDEN = frozenset('<>:"/\\|?*')
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{n}{i}" for n in ("com", "lpt") for i in range(1, 10))]
)


@dataclass(frozen=True)
class UploadConfig(Config):
    """``max_total_bytes`` and ``max_files`` are of all uploads together, ``min_free_bytes`` is
    left on the disk. ``max_open`` files are taken at a time, ``max_open_each`` of one client."""

    max_total_bytes: int = 2_000_000_000
    max_files: int = 10_000
    min_free_bytes: int = 500_000_000
    max_open: int = 8
    max_open_each: int = 2

    def __post_init__(self) -> None:
        check_range("max_total_bytes", self.max_total_bytes, 1, 2**50)
        check_range("max_files", self.max_files, 1, 1_000_000)
        check_range("min_free_bytes", self.min_free_bytes, 0, 2**50)
        check_range("max_open", self.max_open, 1, 1000)
        check_range("max_open_each", self.max_open_each, 1, 1000)


def check_name(given: str, encoding: str = _NAMES_IN) -> str:
    """The name under which an upload called ``given`` is kept; `InputError` if it cannot be one.
    Nothing in it is mended in silence but the composition of accents (NFC). ``encoding``: of the
    names of files on this system."""
    name = unicodedata.normalize("NFC", given)
    stem, ending = os.path.splitext(name)
    odd = [
        c for c in name if unicodedata.category(c)[0] == "C" or unicodedata.category(c) in _LINES
    ]
    if not name.strip() or odd or name != name.strip():
        raise _bad_name(given, "is empty, or holds characters that cannot be seen")
    if _FORBIDDEN & set(name):
        raise _bad_name(given, 'is a path, or holds one of < > : " | ? *')
    if name[0] in ".-~" or name[-1] == ".":
        raise _bad_name(given, "begins or ends with a character that hides it or misleads")
    if stem.split(".")[0].strip().lower() in _DEVICES:
        raise _bad_name(given, "is the name of a device on some systems")
    if len(name.encode("utf-8")) > MAX_NAME_BYTES:
        raise _bad_name(given, f"is longer than {MAX_NAME_BYTES} bytes")
    try:
        name.encode(encoding)
    except UnicodeEncodeError as error:
        raise _bad_name(given, f"cannot be written in {encoding}, the server's locale") from error
    if ending.lower() not in FORMATS:
        raise InputError(
            f"{shown(name)}: files that end in {shown(ending)} are not read",
            hint="PDF, Word, Markdown, HTML, text, mail, tables, notebooks and source code are",
            param="name",
        )
    return name


def _bad_name(name: str, what: str) -> InputError:
    return InputError(
        f"the name {shown(name)} {what}", hint="rename the file and add it again", param="name"
    )


class Uploads:
    """Thread-safe. Nothing is taken before `prepare`."""

    def __init__(
        self,
        folder: Path,
        access: Access,
        load: LoadConfig | None = None,
        config: UploadConfig | None = None,
    ) -> None:
        self.root = Path(folder) / FOLDER
        self.max_file_bytes = (load or LoadConfig()).max_file_bytes
        self.config = config or UploadConfig()
        self._access = access
        self._lock = threading.Lock()
        self._open: dict[int, Incoming] = {}
        self._ready = False

    def prepare(self) -> dict[Path, frozenset[str]]:
        """Make the folders, without what an earlier run left half written. The labels that must
        hold for each before anything is taken: see `ready`."""
        found = {}
        for labels in [frozenset[str](), *self._access.label_sets()]:
            place = self._place(labels)
            folder = _open_folder(place, self.root)
            try:
                _clean(folder)
            finally:
                os.close(folder)
            if labels:
                found[place] = labels
        return found

    def ready(self) -> None:
        """The labels hold: take files from now on."""
        self._ready = True

    @property
    def is_ready(self) -> bool:
        return self._ready

    def folder_of(self, client: str) -> Path | None:
        """Where files of ``client`` go; None if it may not add any. A key without labels may
        not: what it added, everybody would be answered from."""
        labels = self._access.labels_of(client)
        if labels is None:
            return self.root
        return self._place(labels) if labels else None

    def begin(self, client: str, given: str, size: int | None) -> Incoming:
        """Room for a file of ``size`` bytes (None: it is not known); `close` it in any case."""
        place, name = self._place_for(client), check_name(given)
        if size is not None and size > self.max_file_bytes:
            raise too_large(self.max_file_bytes)
        reserved = self.max_file_bytes if size is None else size
        with self._lock:
            self._check_turn(client)
            folder = _open_folder(place, self.root)
            try:
                self._check_room(folder, reserved)
                self._check_free(folder, place, name)
                incoming = Incoming(self, client, place, name, folder, reserved)
            except BaseException:
                os.close(folder)
                raise
            self._open[id(incoming)] = incoming
            return incoming

    def ended(self, incoming: Incoming) -> None:
        with self._lock:
            self._open.pop(id(incoming), None)

    def _place(self, labels: frozenset[str]) -> Path:
        if not labels:
            return self.root
        name = "+".join(sorted(labels))
        if len(name) > MAX_LABEL_BYTES:
            name = hashlib.sha256(name.encode()).hexdigest()[:32]
        return self.root / f"for-{name}"

    def _place_for(self, client: str) -> Path:
        place = self.folder_of(client)
        if place is None:
            raise HttpError(
                403,
                "no_labels",
                "this key holds no access labels, and what it added everybody would see",
                hint="give the key labels in the file of --keys, or use the owner's key",
            )
        if not self._ready:
            raise HttpError(
                503,
                "starting",
                "the folder for uploads is still being prepared",
                hint="try again in a few seconds",
            )
        return place

    def _check_turn(self, client: str) -> None:
        own = sum(other.client == client for other in self._open.values())
        if len(self._open) >= self.config.max_open or own >= self.config.max_open_each:
            raise OverloadedError(
                "too many files are being added at the same time",
                hint="add them one after the other",
                retry_after_s=RETRY_S,
            )

    def _check_room(self, folder: int, size: int) -> None:
        used, count = _usage(self.root)
        coming = sum(other.reserved for other in self._open.values()) + size
        if count + len(self._open) + 1 > self.config.max_files:
            raise _full("it holds as many files as it may")
        if used + coming > self.config.max_total_bytes:
            raise _full("it would hold more bytes than it may")
        disk = os.fstatvfs(folder)
        if disk.f_bavail * disk.f_frsize - coming < self.config.min_free_bytes:
            raise _full("the disk is nearly full")

    def _check_free(self, folder: int, place: Path, name: str) -> None:
        """Names that differ in case only are one name on some systems."""
        wanted = name.casefold()
        there = [unicodedata.normalize("NFC", other) for other in os.listdir(folder)]
        there += [other.name for other in self._open.values() if other.place == place]
        taken = [other for other in there if other.casefold() == wanted]
        if taken:
            raise _taken(taken[0])


class Incoming:
    """One file on its way in. `finish` gives it its name; `close` in any case."""

    def __init__(
        self, uploads: Uploads, client: str, place: Path, name: str, folder: int, reserved: int
    ) -> None:
        self.client, self.place, self.name, self.reserved = client, place, name, reserved
        self.size = 0
        self._uploads = uploads
        self._folder = folder
        self._hash = hashlib.sha256()
        self._hidden = f"{_HIDDEN}{secrets.token_hex(12)}"
        try:
            self._file = os.open(self._hidden, _OPEN_FILE, 0o600, dir_fd=folder)
        except OSError as error:
            raise _not_written(error) from None
        # A cancelled request may close the file while a thread still writes: a number that was
        # closed may be another file's by then.
        self._mutex = threading.Lock()
        self._closed = False

    @property
    def path(self) -> Path:
        return self.place / self.name

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """The next bytes; refused past what there is room for."""
        with self._mutex:
            if not self._closed:
                self._write(data)

    def _write(self, data: bytes) -> None:
        if self.size + len(data) > self.reserved:
            raise too_large(self.reserved)
        self._hash.update(data)
        self.size += len(data)
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            raise _not_written(error) from None

    def complete(self, size: int | None) -> None:
        """Check that all ``size`` bytes came and are on disk."""
        if not self.size or (size is not None and size != self.size):
            what = "is empty" if not self.size else f"broke off after {self.size} bytes"
            raise InputError(f"{shown(self.name)} {what}", hint="add it again", param="name")
        with self._mutex:
            try:
                if not self._closed:
                    os.fsync(self._file)
            except OSError as error:
                raise _not_written(error) from None

    def finish(self) -> None:
        """Show the file under its name, if nothing has that name."""
        with self._mutex:
            if not self._closed:
                self._finish()

    def _finish(self) -> None:
        try:
            os.link(self._hidden, self.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            with suppress(OSError):  # it is there, whatever a power cut does to its name
                os.fsync(self._folder)
        except FileExistsError:
            raise _taken(self.name) from None
        except OSError as error:
            raise _not_written(error) from None

    def close(self) -> None:
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            with suppress(OSError):
                os.unlink(self._hidden, dir_fd=self._folder)
            os.close(self._file)
            os.close(self._folder)
        self._uploads.ended(self)


def _open_folder(place: Path, root: Path) -> int:
    """A descriptor of ``place``, which is ``root`` or in it, made if need be; no link is
    followed."""
    try:
        with suppress(FileExistsError):
            os.mkdir(root)
        folder = os.open(root, _OPEN_FOLDER)
        if place == root:
            return folder
        try:
            with suppress(FileExistsError):
                os.mkdir(place.name, dir_fd=folder)
            return os.open(place.name, _OPEN_FOLDER, dir_fd=folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StoreError(
            f"{shown(str(place))} cannot be written to: {error.strerror}",
            hint="it must be a folder, not a link, that this server may write to",
        ) from None


def _clean(folder: int) -> None:
    """Remove what was half written a day ago or earlier: nobody is still writing that."""
    for name in os.listdir(folder):
        if name.startswith(_HIDDEN):
            with suppress(OSError):
                if time.time() - os.stat(name, dir_fd=folder).st_mtime > STALE_S:
                    os.unlink(name, dir_fd=folder)


def _usage(root: Path) -> tuple[int, int]:
    """Bytes and files of all uploads; what is being written counts by what is reserved."""
    used = count = 0
    waiting = [os.fspath(root)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif not entry.name.startswith(_HIDDEN):
                    with suppress(FileNotFoundError):
                        used += entry.stat(follow_symlinks=False).st_size
                        count += 1
    return used, count


def too_large(limit: int) -> HttpError:
    return HttpError(
        413,
        "file_too_large",
        f"the file is larger than {limit / 1e6:.1f} MB",
        hint="split it, or copy it into the folder on the server",
        headers={"Connection": "close"},
    )


def _taken(name: str) -> HttpError:
    return HttpError(
        409,
        "file_exists",
        f"there is a file {shown(name)} already, and it is not written over",
        hint="rename the file and add it again",
        param="name",
    )


def _full(why: str) -> HttpError:
    """Without figures: they would count files that the caller may not see."""
    return HttpError(
        507,
        "uploads_full",
        f"there is no room for this file in the folder {FOLDER}: {why}",
        hint="whoever runs the server can make room",
    )


def _not_written(error: OSError) -> StoreError:
    return StoreError(
        f"the file could not be written: {error.strerror}", hint="try again, or free space"
    )
