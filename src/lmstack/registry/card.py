"""A model on disk: its folder, its card, its content digest, and the hashes of its files.

Covers reading, writing and checking ``card.json`` and the digest over the files. Does not cover
where files come from (`wheels`, `hub`) or what they mean to a model (`load`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import hmac
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

from lmstack.core import (
    FormatError,
    InputError,
    IntegrityError,
    StoreError,
    shown,
)
from lmstack.core.files import store_error, write_atomic
from lmstack.core.json_text import canonical_json
from lmstack.registry.held import file_state, held_files
from lmstack.registry.lineage import Training
from lmstack.registry.sampling_defaults import SamplingDefaults
from lmstack.registry.signing import cache_key
from lmstack.text.files import json_file

__all__ = [
    "CARD",
    "KINDS",
    "Card",
    "FileFacts",
    "FileHashes",
    "Kind",
    "ModelFolder",
    "content_digest",
    "file_hash",
]

CARD = "card.json"
Kind = Literal[
    "generate", "seq2seq", "embed", "late-interaction", "rerank", "classify", "token-classify",
    "fill-mask", "question-answering", "reward", "adapter",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
_SHA1_DIGITS = 40
_MOST_HASHES = 500
# The hash of a file that was changed so lately is not kept: another change might look like this
# one, where the clock of the disk has steps of two seconds.
_SETTLED_S = 2.0
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class FileFacts(TypedDict):
    sha256: str
    size: int


@dataclass(frozen=True)
class Card:
    """What is known about a model. ``kind``: what it is for. ``licence`` and ``lineage`` are
    what the source states, never a guess; ``digest`` is ``sha256:`` over the sorted (file name,
    sha256) pairs. ``evaluation``: what was measured of these weights. ``sampling``: what holds
    where a request does not say how to sample, before what the model's files say. ``training``: of
    a model that lmstack trained, with its base and all before it."""

    name: str
    kind: Kind
    digest: str
    licence: str
    source: str
    files: Mapping[str, FileFacts]
    created: str
    lineage: str = ""
    architecture: str = ""
    parameters: int = 0
    notes: tuple[str, ...] = field(default=())
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    training: Training | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(facts["size"] for facts in self.files.values())

    def to_json(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        values["notes"] = list(self.notes)
        values["sampling"] = self.sampling.stated()
        del values["training"]
        return values if self.training is None else values | {"training": self.training.to_json()}

    @classmethod
    def from_json(cls, values: Any, path: Path) -> Card:
        """Checks every field, so that a damaged card is an error here and nowhere else."""
        try:
            files = {
                str(name): FileFacts(sha256=str(facts["sha256"]), size=int(facts["size"]))
                for name, facts in values["files"].items()
            }
            texts = {
                key: _text(values.get(key, ""), key)
                for key in ("licence", "source", "created", "lineage", "architecture")
            }
            training = values.get("training")
            card = cls(
                name=_text(values["name"], "name"),
                kind=values["kind"],
                digest=_text(values["digest"], "digest"),
                files=files,
                parameters=int(values.get("parameters", 0)),
                notes=tuple(str(note) for note in values.get("notes", ())),
                evaluation=dict(values.get("evaluation", {})),
                sampling=SamplingDefaults.from_mapping(values.get("sampling", {})),
                training=None if training is None else Training.from_json(training),
                **texts,
            )
        except InputError as error:
            raise FormatError(
                f"{path}: {error.message}", hint="correct sampling in this file, or take it out"
            ) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(
                f"{path} is not a model card: {_reason(error)}",
                hint=f"delete the folder {path.parent} and pull the model again",
            ) from error
        if card.kind not in KINDS or card.digest != content_digest(files):
            raise IntegrityError(
                f"{path} does not fit its own digest ({shown(card.digest)}, kind {card.kind!r})",
                hint=f"delete the folder {path.parent} and pull the model again",
            )
        return card


@dataclass(frozen=True)
class ModelFolder:
    """``path``: a folder, or a ``.gguf`` file used where it is."""

    path: Path
    card: Card

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def digest(self) -> str:
        return self.card.digest

    @property
    def kind(self) -> Kind:
        return self.card.kind

    @property
    def gguf(self) -> Path | None:
        """The GGUF file, if the weights are in one."""
        if self.path.suffix == ".gguf" and self.path.is_file():
            return self.path
        names = sorted(name for name in self.card.files if name.endswith(".gguf"))
        return self.path / names[0] if names else None

    def file(self, name: str) -> Path:
        """Path of one of the card's files."""
        return self.path if self.path.is_file() else self.path / name

    @classmethod
    def read(cls, path: Path) -> ModelFolder:
        """A folder with a card; sizes are checked, bytes are not (that is `verify`)."""
        card_path = path / CARD
        values = json_file(card_path, f"delete the folder {path} and pull the model again")
        folder = cls(path, Card.from_json(values, card_path))
        folder.check_sizes()
        return folder

    def check_sizes(self) -> None:
        """Raise `IntegrityError` where a file is missing or has another size."""
        for name, facts in self.card.files.items():
            try:
                size = self.file(name).stat().st_size
            except FileNotFoundError:
                raise self._damaged(f"{self.file(name)} is missing") from None
            except OSError as error:
                raise store_error(error, self.file(name), "reading") from error
            if size != facts["size"]:
                raise self._damaged(
                    f"{self.file(name)} has {size} bytes instead of {facts['size']}"
                )

    @contextmanager
    def held(self) -> Iterator[ModelFolder]:
        """This one with the files of its card alone, each the one that it is now (`held_files`):
        what is verified in the block is what is loaded in it."""
        self.check_sizes()
        if self.path.is_file():
            with held_files(self.path.parent, [self.path.name]) as place:
                yield replace(self, path=place / self.path.name)
        else:
            with held_files(self.path, self.card.files) as place:
                yield replace(self, path=place)

    def verify(self, sha256: Callable[[Path], str] | None = None) -> None:
        """Hash every file again; a changed byte is an `IntegrityError` that names the file.
        ``sha256``: how, for one who remembers hashes."""
        self.check_sizes()
        for name, facts in self.card.files.items():
            found = (sha256 or file_hash)(self.file(name))
            if found != facts["sha256"]:
                raise self._damaged(
                    f"{self.file(name)} has changed: sha256 {found[:16]}… instead of "
                    f"{facts['sha256'][:16]}…"
                )

    def _damaged(self, message: str) -> IntegrityError:
        return IntegrityError(
            message, hint=f"lmstack model rm {self.name}, then lmstack pull {self.name}"
        )


def content_digest(files: Mapping[str, FileFacts]) -> str:
    """``sha256:`` and 64 hex digits over the lines ``<sha256>  <name>`` in order of name.
    `FormatError` for names and hashes with which other files could have the same lines."""
    for name, facts in files.items():
        _check_name(name)
        if not _SHA256.match(facts["sha256"]):
            raise FormatError(f"the hash of {shown(name)} is {shown(facts['sha256'])}")
    lines = "".join(f"{files[name]['sha256']}  {name}\n" for name in sorted(files))
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def file_hash(path: Path, like: str = "") -> str:
    """Hex SHA-256 of a file's bytes; where ``like`` is a SHA-1, that of git's blob."""
    try:
        with path.open("rb") as handle:
            if len(like) != _SHA1_DIGITS:
                return hashlib.file_digest(handle, "sha256").hexdigest()
            blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
            return hashlib.file_digest(handle, lambda: blob).hexdigest()
    except OSError as error:
        raise store_error(error, path, "reading") from error


class FileHashes:
    """The memory in ``$LMSTACK_HOME/hashes.json``, of files by their `file_state`. It is believed
    where it was written with the key of this user's caches (`cache_key`)."""

    def __init__(self, root: Path) -> None:
        self._root, self._path = root, root / "hashes.json"

    def sha256(self, path: Path) -> str:
        """Hex SHA-256 of the bytes of ``path``. `IntegrityError` where it changes meanwhile."""
        try:
            with path.open("rb") as file:
                start, before = time.time(), os.fstat(file.fileno())
                key = ":".join(map(str, (path.resolve(), *file_state(before))))
                secret = cache_key(self._root)
                known = {} if secret is None else self._read(secret)
                if key in known:
                    return known[key]
                found = hashlib.file_digest(file, "sha256").hexdigest()
                if file_state(os.fstat(file.fileno())) != file_state(before):
                    raise IntegrityError(f"{path} was changed while it was read", hint="try again")
        except OSError as error:
            raise store_error(error, path, "reading") from error
        if secret is not None and start - before.st_ctime > _SETTLED_S:
            self._write({**known, key: found}, secret)
        return found

    def _read(self, secret: bytes) -> dict[str, str]:
        try:
            values = json.loads(self._path.read_text(encoding="utf-8"))
            kept, mac = values["hashes"], str(values["hmac"])
            if hmac.compare_digest(mac.encode(), _mac(kept, secret).encode()):
                return {str(key): str(value) for key, value in kept.items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            pass
        return {}

    def _write(self, known: dict[str, str], secret: bytes) -> None:
        kept = dict(list(known.items())[-_MOST_HASHES:])
        with contextlib.suppress(StoreError):  # a memory that cannot be kept only costs time
            text = json.dumps({"hashes": kept, "hmac": _mac(kept, secret)})
            write_atomic(self._path, text.encode())


def _mac(hashes: dict[str, str], secret: bytes) -> str:
    return hmac.new(secret, b"hashes 1\n" + canonical_json(hashes).encode(), "sha256").hexdigest()


def _reason(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def _check_name(name: str) -> None:
    """`FormatError` unless ``name`` is of a file in a folder, spelled in the one way there is. No
    control or format characters: a line break would make two files one line of the digest's list,
    and what cannot be seen would hide a file in it."""
    parts = name.split("/")
    if not name.isprintable() or any(c in name for c in ":\\") or {"", ".", ".."} & {*parts}:
        raise FormatError(
            f"the model has a file with the name {shown(name)}",
            hint="give it a name of letters, digits, dots and dashes, or take it away",
        )


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{key} is {shown(value)}")
    return value
