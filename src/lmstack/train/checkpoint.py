"""Checkpoints: everything that a run needs to go on as if it had never stopped.

    RUN/recipe.json                      the recipe, resolved
    RUN/metrics.jsonl                    a line a step or evaluation
    RUN/checkpoints/step-00000120/
        weights.safetensors              what is trained
        optimizer.safetensors            what the optimizers remember
        average.safetensors              the moving average, where there is one
        state.json                       step, best, the recipe, digests of the files

A checkpoint appears in one rename, whole, and is read only if its files have the digests that they
were written with. It holds whole tensors, whatever the number of processes that wrote it. Random
numbers follow from seed and step, so there is no generator to save.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lmstack.core import FormatError, NotFoundError
from lmstack.core.files import store_error

__all__ = ["Checkpoints"]

Tensors = Mapping[str, Tensor]
_STATE, _FILES = "state.json", "files"
_NOTHING = "none"  # stands in a part without tensors: optimizers before their first step
_NAME = re.compile(r"step-(\d{8,})")


class Checkpoints:
    """Those of one run in ``folder``; ``keep`` of them, and the best."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder / "checkpoints", keep

    def steps(self) -> list[int]:
        """The steps at which there is one, in order."""
        found = self._folder.iterdir() if self._folder.is_dir() else ()
        names = (_NAME.fullmatch(path.name) for path in found)
        return sorted(int(name[1]) for name in names if name)

    def path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"

    def save(
        self, step: int, parts: Iterable[tuple[str, Tensors]], state: Mapping[str, Any]
    ) -> Path:
        """Write ``parts`` (names of files, and their tensors; one is held at a time) and
        ``state``, then forget older checkpoints. `StoreError` leaves those as they were."""
        target = self.path(step)
        partial = target.with_name(f".{target.name}.part")
        try:
            for left in self._folder.glob(".step-*.part"):  # of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            partial.mkdir(parents=True)
            files = {}
            for name, tensors in parts:
                path = partial / f"{name}.safetensors"
                _write(path, tensors)
                files[path.name] = _digest(path)
            with (partial / _STATE).open("w", encoding="utf-8") as file:
                json.dump({"step": step, **state, _FILES: files}, file)
                file.flush()
                os.fsync(file.fileno())
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
            _sync(self._folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise store_error(error, target, "writing the checkpoint") from error
        best = state.get("best_step")
        for old in self.steps()[: -self._keep]:
            if old != best:
                shutil.rmtree(self.path(old), ignore_errors=True)
        return target

    def newest(self, note: Callable[[str], None]) -> int | None:
        """The last step whose checkpoint is whole, with that of its best; None where there is
        none at all. Damaged ones after it are told to ``note`` and removed.

        `FormatError`: there are some, and all are damaged."""
        damaged: dict[int, str] = {}
        for step in reversed(self.steps()):
            reason = self._damage(step) or self._damage_of_best(step)
            if reason is None:
                for other, why in damaged.items():
                    note(f"the checkpoint {self.path(other)} is passed over: {why}")
                    shutil.rmtree(self.path(other), ignore_errors=True)
                return step
            damaged[step] = reason
        if not damaged:
            return None
        last = max(damaged)
        raise FormatError(
            f"no checkpoint in {self._folder} is whole; the last: {damaged[last]}",
            hint="run=FOLDER starts a run of its own",
        )

    def state(self, step: int) -> dict[str, Any]:
        """What `save` was given, of the checkpoint at ``step``."""
        path = self.path(step) / _STATE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotFoundError(f"there is no checkpoint {self.path(step)}") from None
        except (OSError, ValueError) as error:
            raise self._damaged(path, error) from error
        if not isinstance(values, dict) or not isinstance(values.get(_FILES), dict):
            raise self._damaged(path, "it is not the state of a run")
        return {key: value for key, value in values.items() if key != _FILES}

    def has(self, step: int, name: str) -> bool:
        """Whether the checkpoint at ``step`` has the part ``name``."""
        return (self.path(step) / f"{name}.safetensors").exists()

    def tensors(self, step: int, name: str) -> Iterator[tuple[str, Tensor]]:
        """One of the parts of the checkpoint at ``step``, tensor by tensor."""
        path = self.path(step) / f"{name}.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 - no mapping
                    if key != _NOTHING:
                        yield key, file.get_tensor(key)
        except (OSError, SafetensorError) as error:
            raise self._damaged(path, error) from error

    def _damage(self, step: int) -> str | None:
        """What is wrong with the files of the checkpoint at ``step``."""
        path = self.path(step) / _STATE
        try:
            self.state(step)
            digests = json.loads(path.read_text(encoding="utf-8"))[_FILES]
            for name, digest in digests.items():
                if _digest(self.path(step) / name) != digest:
                    return f"{name} is not what was written"
        except (FormatError, NotFoundError) as error:
            return error.message
        except OSError as error:
            return f"{error.strerror}: {error.filename}"
        return None

    def _damage_of_best(self, step: int) -> str | None:
        best = self.state(step).get("best_step")
        if best in (None, step):
            return None
        reason = self._damage(int(best))
        return None if reason is None else f"that of its best step {best} is damaged: {reason}"

    def _damaged(self, path: Path, reason: object) -> FormatError:
        return FormatError(
            f"{path} cannot be read: {reason}",
            hint="--resume goes on from the last checkpoint that is whole",
        )


def _write(path: Path, tensors: Tensors) -> None:
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        save_file(whole or {_NOTHING: torch.zeros(0)}, path)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else 0, str(error)) from error
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """The rename itself survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
