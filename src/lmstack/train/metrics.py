"""The metrics of a run: a line of JSON a step or evaluation, and the same for TensorBoard.

    {"step": 3, "epoch": 0, "loss": 2.1, "lr": 0.0001, "gradient": 0.7, "tokens": 9000, ...}
    {"step": 3, "validation_loss": 2.2, "validation_accuracy": 0.5}

A value that is not a number in JSON (infinity, NaN) is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmstack.core import require
from lmstack.core.files import store_error, write_atomic
from lmstack.train.tracking import Tracker

__all__ = ["MetricsLog", "read_metrics"]


class MetricsLog:
    """Appends to ``path``; a run that resumes goes on in the same file. ``tensorboard``: writes
    the same values as event files into a folder beside it, which ``tensorboard --logdir`` shows;
    needs the extra of that name."""

    # Gets them too, and is closed with it: begun when a run does, after all that may refuse it.
    tracker: Tracker | None = None

    def __init__(self, path: Path, *, tensorboard: bool = False) -> None:
        self._path, self._events = path, path.with_name("tensorboard")
        self._writer: Any = None
        if tensorboard:
            require("tensorboard", "tensorboard")
        self._has_events = tensorboard

    def add(self, values: Mapping[str, Any]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({k: _finite(v) for k, v in values.items()}) + "\n")
        except OSError as error:
            raise store_error(error, self._path, "writing") from error

        if self._has_events:
            self._add_events(values)
        if self.tracker is not None:
            self.tracker.add(values)

    def close(self) -> None:
        if self.tracker is not None:
            self.tracker.close()

    def cut(self, step: int) -> None:
        """Forget the lines of steps after ``step``, which will be gone through again; at 0 that of
        the evaluation before them too."""
        kept = [values for values in read_metrics(self._path) if step and values["step"] <= step]
        text = "".join(json.dumps(values) + "\n" for values in kept)
        write_atomic(self._path, text.encode())

    def _add_events(self, values: Mapping[str, Any]) -> None:
        step = values["step"]
        try:
            if self._writer is None:
                from torch.utils.tensorboard import SummaryWriter

                # Events of later steps, of a run that was stopped, are hidden.
                self._writer = SummaryWriter(str(self._events), purge_step=step)
            for name, value in values.items():
                if name != "step":
                    group = "validation" if name.startswith("validation_") else "train"
                    tag = f"{group}/{name.removeprefix('validation_')}"
                    self._writer.add_scalar(tag, value, step)
            self._writer.flush()
        except OSError as error:
            raise store_error(error, self._events, "writing") from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; one that was cut off when its process was killed is left
    out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise store_error(error, path, "reading") from error
    found = []
    for line in lines:
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict) and isinstance(values.get("step"), int):
            found.append(values)
    return found


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
