"""What `lmstack up` serves: a folder of documents, models alone, or what an alias stands for."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from lmstack.app import wiring
from lmstack.app.cli.failure import CommandLineError
from lmstack.release import releases

__all__ = ["Served", "served", "served_folder"]


@dataclass(frozen=True)
class Served:
    """``docs``: the folder of documents, None where models are served alone. ``is_fixed``: as its
    index was when the release of ``model``, an alias, was evaluated; the folder itself may be gone.
    """

    docs: Path | None
    model: str | None
    is_fixed: bool = False

    @property
    def folder(self) -> Path:
        """``docs``, which is there, or an empty folder in its place."""
        if self.docs is None:
            return wiring.no_documents()
        return self.docs if self.is_fixed else wiring.existing_folder(self.docs)

    @property
    def title(self) -> str:
        """For people."""
        if self.docs is None:
            return "models, and no documents,"
        return f"{self.docs} as it was evaluated" if self.is_fixed else str(self.docs)


def served(
    folder: Path | None,
    docs: Path | None,
    model: str | None,
    *,
    has_adapters: bool,
    **changes: object,
) -> Served:
    """An alias in the place of the folder is a model, with the documents of its release where it
    has some; beside a folder of that name it is an error. ``changes``: options that would make
    others of those."""
    if folder is not None and docs is None and model is None:
        name = str(folder)
        if releases.alias_named(name) is not None:
            if folder.exists():
                raise CommandLineError(
                    f"{name} is an alias, and there is a {'folder' if folder.is_dir() else 'file'}"
                    f" {name} here, too",
                    hint=f"{shlex.join(['lmstack', 'up', '--model', name])} serves the alias,"
                    f" {shlex.join(['lmstack', 'up', '--docs', name])} the folder",
                    param="docs",
                )
            folder, model = None, name
    found = served_folder(folder, docs, names_models=has_adapters or bool(model))
    release = releases.with_documents(model)
    if release is None:
        return Served(found, model)
    from lmstack.release.released_documents import check_kept, check_options

    check_options(model, release, docs=found, **changes)
    check_kept(release)
    return Served(Path(release.docs), model, is_fixed=True)


def served_folder(folder: Path | None, docs: Path | None, *, names_models: bool) -> Path | None:
    """The folder to serve, given as DIR or with --docs; None where models are served alone."""
    if folder is not None and docs is not None:
        raise CommandLineError("DIR and --docs are both given", hint="leave one out", param="docs")
    found = folder or docs
    if found is None and not names_models:
        raise CommandLineError(
            "lmstack up needs DIR, the folder of documents",
            hint="lmstack up DIR, or lmstack up --model NAME for a model without documents",
            param="docs",
        )
    return found
