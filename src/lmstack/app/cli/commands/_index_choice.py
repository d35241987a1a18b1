"""Which index a command means: the one that is kept for ``--docs``, or that of ``--index``."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from lmstack.app import wiring
from lmstack.app.cli.commands._options import Place, one_source
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.formats import printable
from lmstack.core import NotFoundError, shown

__all__ = ["ChosenIndex", "chosen_index"]


@dataclass(frozen=True)
class ChosenIndex:
    """``place``: the folder or the database that holds it. ``option``: what names it on a command
    line, quoted for a shell. ``docs``: the folder that it is kept for, absolute; None for an index
    of one's own."""

    place: Place
    option: str
    docs: Path | None = None

    @property
    def name(self) -> str:
        """What people call it: a folder's name, or a whole address."""
        named = self.docs or self.place
        return printable(named.name if isinstance(named, Path) else named, one_line=True)

    def paths(self, given: list[Path] | None, command: str) -> list[Path]:
        """The paths to work on: those ``given``, or the folder of ``--docs``."""
        if not given and self.docs is None:
            raise CommandLineError(
                f"{command} needs PATH, or the folder in --docs",
                hint=f"{command} --docs DIR",
                param="paths",
            )
        for path in given or ():
            if self.docs is not None and not _is_in(path, self.docs):
                raise CommandLineError(
                    f"{shown(str(path))} is not in the folder of --docs",
                    hint=f"{command} --docs DIR DIR/FILE",
                    param="paths",
                )
        return given or [self.docs] if self.docs is not None else list(given or ())


def chosen_index(
    docs: Path | None, index: Place | None, command: str, *, create: bool = False
) -> ChosenIndex:
    """The index that exactly one of ``--docs`` and ``--index`` names. Without ``create`` that of a
    folder must have been made."""
    one_source(docs, index, command)
    if docs is None:
        return ChosenIndex(index, f"--index {shlex.quote(str(index))}")
    folder = wiring.existing_folder(docs)
    place, option = wiring.index_of(folder), f"--docs {shlex.quote(str(docs))}"
    if not create and not place.exists():
        raise NotFoundError(
            f"{shown(str(docs))} has no index yet", hint=f"lmstack index add {option}", param="docs"
        )
    return ChosenIndex(place, option, folder)


def _is_in(path: Path, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(folder)
