"""The journal of what a command is writing to its ``--output``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmstack.core import InputError, ModelInfo
from lmstack.train.data.journal import Journal

__all__ = ["OutputJournal", "short_name"]


def short_name(model: ModelInfo) -> str:
    """``name@3f2a91c``; of a remote model the name alone."""
    digest = model.digest.removeprefix("sha256:")[:7] if model.digest else ""
    return f"{model.name}@{digest}" if digest else model.name


class OutputJournal(Journal):
    """``settings``: what decides the items. `InputError` where the file is there already."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        hint = "give those again, another --output, or delete it"
        super().__init__(path, settings, hint=hint, param="output")
        if path.exists() and not self.unfinished.exists():
            raise InputError(
                f"{path} is there already", hint="another --output, or delete it", param="output"
            )
