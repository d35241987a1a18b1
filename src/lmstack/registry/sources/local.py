"""Models that already lie on this disk: which files they are, and copying them.

Covers folders and single GGUF files outside the store. Does not cover the store itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from lmstack.core import FormatError, NotFoundError
from lmstack.core.files import replaced_file, store_error
from lmstack.registry.selection import CONVERT, PICKLES, select
from lmstack.registry.sources.known import KNOWN

__all__ = ["Progress", "content", "copy_files", "existing", "is_exported", "weights"]

Progress = Callable[[str, int, int | None], None]


def existing(path: Path) -> Path:
    """``path``, if something is there that may be a model."""
    try:
        exists = path.exists()
    except (OSError, ValueError):
        exists = False
    if not exists:
        raise NotFoundError(
            f"{path} does not exist",
            hint=f"give a model folder, a .gguf file, or one of: {', '.join(KNOWN)}",
        )
    if path.is_file() and path.suffix not in (".gguf", ".onnx"):
        raise FormatError(
            f"{path} is not a model: a file must be .gguf or .onnx",
            hint=CONVERT if path.suffix in PICKLES else "give the folder that holds the model",
        )
    return path


def is_exported(path: Path) -> bool:
    """Whether the model at ``path`` is ONNX, which must be pulled before it can be used."""
    return any(name.endswith(".onnx") for name in _chosen(path)[1])


def content(path: Path) -> list[str]:
    """The files that make up the model at ``path``."""
    return sorted(set(_chosen(path)[1]))


def weights(path: Path) -> list[Path]:
    """The ONNX files of an export."""
    base, chosen = _chosen(path)
    return sorted((base / n for n in chosen if n.endswith(".onnx")), key=lambda p: p.name)


def _chosen(path: Path) -> tuple[Path, dict[str, str]]:
    """A folder, and files in it -> files of the model."""
    if path.is_file() and path.suffix != ".onnx":
        return path.parent, {path.name: path.name}
    base, part = path, ""
    if path.is_file():
        base = path.resolve().parent
        base = base.parent if base.name == "onnx" else base
        part = path.resolve().relative_to(base).as_posix()
    try:
        found = [f.relative_to(base).as_posix() for f in base.glob("*") if f.is_file()]
        found += [f.relative_to(base).as_posix() for f in base.glob("*/*") if f.is_file()]
    except OSError as error:
        raise store_error(error, base, "reading") from error
    if part:  # this file was asked for, whatever else lies there
        found = [n for n in found if not n.endswith((".safetensors", ".gguf"))]
    return base, select(found, part or _root_part(found), str(path)).files


def _root_part(names: list[str]) -> str:
    """A folder on disk is a model by itself, whatever lies in folders below it."""
    here = [n for n in names if "/" not in n]
    return "." if any(n.endswith((".safetensors", ".gguf")) for n in here) else ""


def copy_files(path: Path, staged: Path, progress: Progress | None) -> None:
    """Copy the files of the model at ``path`` into ``staged``."""
    base, chosen = _chosen(path)
    for name, kept in chosen.items():
        source = base / name
        with replaced_file(staged / kept, synced=False) as partial:
            size = source.stat().st_size
            if progress is not None:
                progress(name, 0, size)
            shutil.copyfile(source, partial)
        if progress is not None:
            progress(name, size, size)
