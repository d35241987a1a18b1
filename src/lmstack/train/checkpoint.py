"""Checkpoints: everything that a run needs to go on as if it had never stopped.

    RUN/recipe.json                      the recipe, resolved
    RUN/metrics.jsonl                    a line a step or evaluation
    RUN/checkpoints/step-00000120/
        weights.safetensors              what is trained
        optimizer.safetensors            what the optimizers remember
        average.safetensors              the moving average, where there is one
        state.json                       step, best, and what the data and the recipe were

A checkpoint appears in one rename, whole. It holds whole tensors, whatever the number of processes
that wrote it. Random numbers follow from seed and step, so there is no generator to save.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lmstack.core import FormatError, NotFoundError
from lmstack.core.files import store_error

__all__ = ["Checkpoints"]

Tensors = Mapping[str, Tensor]
_STATE = "state.json"


class Checkpoints:
    """Those of one run in ``folder``; ``keep`` of them, and the best."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder / "checkpoints", keep

    def steps(self) -> list[int]:
        """The steps at which there is one, in order."""
        found = self._folder.glob("step-*") if self._folder.is_dir() else ()
        return sorted(int(path.name.removeprefix("step-")) for path in found)

    def path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"

    def save(self, step: int, parts: Mapping[str, Tensors], state: Mapping[str, Any]) -> Path:
        """Write ``parts`` (file to tensors) and ``state``, then forget older ones."""
        target = self.path(step)
        partial = target.with_name(f".{target.name}.part")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for name, tensors in parts.items():
                whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
                _written(partial / f"{name}.safetensors", whole)
            with (partial / _STATE).open("w", encoding="utf-8") as file:
                json.dump({"step": step, **state}, file)
                file.flush()
                os.fsync(file.fileno())
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise store_error(error, target, "writing the checkpoint") from error
        self._prune(int(state["best_step"]) if state.get("best_step") is not None else None)
        return target

    def state(self, step: int) -> dict[str, Any]:
        """What `save` was given, of the checkpoint at ``step``."""
        path = self.path(step) / _STATE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotFoundError(f"there is no checkpoint {self.path(step)}") from None
        except (OSError, ValueError) as error:
            raise self._damaged(path, error) from error
        if not isinstance(values, dict):
            raise self._damaged(path, "it is not an object")
        return values

    def tensors(self, step: int, name: str) -> dict[str, Tensor]:
        """One of the parts of the checkpoint at ``step``."""
        path = self.path(step) / f"{name}.safetensors"
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise self._damaged(path, error) from error

    def _prune(self, best: int | None) -> None:
        for step in self.steps()[: -self._keep]:
            if step != best:
                shutil.rmtree(self.path(step), ignore_errors=True)

    def _damaged(self, path: Path, reason: object) -> FormatError:
        return FormatError(
            f"{path} cannot be read: {reason}",
            hint=f"delete {path.parent} to go on from the checkpoint before it",
        )


def _written(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        save_file(tensors or {"none": torch.zeros(0)}, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    with path.open("rb+") as file:
        os.fsync(file.fileno())
