"""Models that already lie on this disk: which files they are, and copying them.

Covers folders and single GGUF files outside the store. Does not cover the store itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from lmstack.core import FormatError, NotFoundError
from lmstack.registry.home import store_error
from lmstack.registry.known import KNOWN
from lmstack.registry.selection import CONVERT, PICKLES, select

__all__ = ["content", "copy_files", "existing"]

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
    if path.is_file() and path.suffix != ".gguf":
        raise FormatError(
            f"{path} is no model: a file must be .gguf",
            hint=CONVERT if path.suffix in PICKLES else "give the folder that holds the model",
        )
    return path


def content(path: Path) -> list[str]:
    """The files that make up the model at ``path``."""
    if path.is_file():
        return [path.name]
    try:
        found = [f.relative_to(path).as_posix() for f in path.glob("*") if f.is_file()]
        found += [f.relative_to(path).as_posix() for f in path.glob("*/*") if f.is_file()]
    except OSError as error:
        raise store_error(error, path, "reading") from error
    return sorted(name for name in set(select(found, _root_part(found), str(path)).files))


def _root_part(names: list[str]) -> str:
    """A folder on disk is a model by itself, whatever lies in folders below it."""
    here = [n for n in names if "/" not in n]
    return "." if any(n.endswith((".safetensors", ".gguf")) for n in here) else ""


def copy_files(path: Path, staged: Path, progress: Progress | None) -> None:
    """Copy the files of the model at ``path`` into ``staged``."""
    base = path.parent if path.is_file() else path
    for name in content(path):
        source, target = base / name, staged / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            size = source.stat().st_size
            if progress is not None:
                progress(name, 0, size)
            shutil.copyfile(source, target)
        except OSError as error:
            raise store_error(error, target, "writing") from error
        if progress is not None:
            progress(name, size, size)
