"""Data sets of Hugging Face as files: ``hf:NAME[@REVISION][:CONFIG][#SPLIT]``.

    hf:trl-lib/Capybara            its split train
    hf:org/name@v2:german#test     a revision, a configuration and a split
    hf:folder#train[:1000]         of a folder in their layout, or one of `Dataset.save_to_disk`

A split is fetched whole through the library datasets and written as Parquet below
``$LMSTACK_HOME/datasets``; from there on it is a file like any other: hashed, streamed, refused
where it changed. The file's name has the commit that was fetched, so lineage has it, and what was
fetched once is not fetched again. Code in data sets is never run. Not covered: what its columns
mean (`formats`), and streaming from the Hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lmstack.core import InputError, LmstackError, NotFoundError, RemoteError, require, shown
from lmstack.core.files import replaced_file
from lmstack.registry.home import home

__all__ = ["hub_file", "is_hub_name"]

_PREFIX = "hf:"
_NAME = re.compile(
    rf"{_PREFIX}(?P<name>[^@:#]+)(?:@(?P<revision>[^@:#]+))?(?::(?P<config>[^#]+))?(?:#(?P<split>.+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHORT = 300


@dataclass(frozen=True)
class _Wanted:
    text: str
    name: str
    revision: str | None
    config: str | None
    split: str

    @property
    def folder(self) -> Path | None:
        """Where it lies, if it is no name of the Hub's."""
        path = Path(self.name).expanduser()
        return path if path.is_dir() else None


def is_hub_name(text: str) -> bool:
    return text.startswith(_PREFIX)


def hub_file(text: str) -> Path:
    """The Parquet file with the rows of the data set ``text``. `LmstackError` where it cannot be
    had: the extra datasets is not installed, there is no such data set, configuration or split."""
    wanted = _parsed(text)
    datasets = require("datasets", "datasets")
    with _in_words(wanted):
        if wanted.folder is not None:
            found = _of_folder(datasets, wanted, wanted.folder)
            # Which follows from its files, as the commit does.
            target = _place(wanted, wanted.folder.resolve().name, found._fingerprint)
        else:
            commit = _commit(wanted)
            target = _place(wanted, wanted.name, commit)
        if not target.is_file():
            if wanted.folder is None:
                found = datasets.load_dataset(
                    wanted.name, wanted.config, split=wanted.split, revision=commit
                )
            with replaced_file(target) as partial:
                found.to_parquet(str(partial))
    return target


def _parsed(text: str) -> _Wanted:
    found = _NAME.fullmatch(text)
    if found is None:
        raise InputError(
            f"{shown(text)} names no data set",
            hint="hf:NAME[@REVISION][:CONFIG][#SPLIT], such as hf:trl-lib/Capybara#train",
            param="data",
        )
    wanted = _Wanted(text, **{**found.groupdict(), "split": found["split"] or "train"})
    if wanted.revision and wanted.folder is not None:
        raise InputError(
            f"{wanted.name} is a folder, which has no revision {shown(wanted.revision)}",
            hint=f"{_PREFIX}{wanted.name}",
            param="data",
        )
    return wanted


def _commit(wanted: _Wanted) -> str:
    """The full one that the revision is now, asked for unless it is one."""
    if wanted.revision and _COMMIT.fullmatch(wanted.revision):
        return wanted.revision
    hub = require("huggingface_hub", "datasets")
    return str(hub.HfApi().dataset_info(wanted.name, revision=wanted.revision).sha)


def _of_folder(datasets: Any, wanted: _Wanted, folder: Path) -> Any:
    """A `datasets.Dataset`."""
    if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        found = datasets.load_from_disk(str(folder))
        if not isinstance(found, datasets.DatasetDict):
            return found
        if wanted.split not in found:
            raise ValueError(f"it has the splits {', '.join(found)}, and no {wanted.split}")
        return found[wanted.split]
    return datasets.load_dataset(str(folder), wanted.config, split=wanted.split)


def _place(wanted: _Wanted, name: str, state: str) -> Path:
    parts = (f"{name.replace('/', '--')}@{state}", wanted.config, wanted.split)
    file = "--".join(quote(part, safe="@") for part in parts if part) + ".parquet"
    return home() / "datasets" / file


@contextmanager
def _in_words(wanted: _Wanted) -> Iterator[None]:
    """What goes wrong in the libraries, which have many errors of their own."""
    try:
        yield
    except LmstackError:
        raise
    except Exception as error:
        raise _problem(wanted, error) from error


def _problem(wanted: _Wanted, error: Exception) -> LmstackError:
    kind, text = type(error).__name__, " ".join(str(error).split())[:_SHORT]
    if "NotFound" in kind:
        return NotFoundError(
            f"there is no data set {shown(wanted.text)}, or none that you may read: {text}",
            hint="look at its name and revision; `hf auth login` for one that is private or gated",
            param="data",
        )
    if isinstance(error, OSError) or type(error).__module__.startswith("httpx"):
        return RemoteError(
            f"the data set {shown(wanted.text)} could not be fetched: {kind}: {text}",
            hint="once fetched, it is found without the network by its commit: hf:NAME@COMMIT",
        )
    return InputError(
        f"the data set {shown(wanted.text)} cannot be read: {text}",
        hint="hf:NAME:CONFIG#SPLIT names a configuration and a split",
        param="data",
    )
