"""The metrics of a run sent to trackio or Weights & Biases, through their libraries.

    track: trackio             into the project lmstack
    track: wandb/my-project

They get the recipe, and what `metrics.jsonl` gets, as ``train/loss`` and ``validation/loss`` by
step. ``tracking.json`` in the run's folder has the name that the run has with them, so a run that
resumes goes on there. How they are reached, and by whom, their own settings say
(``WANDB_MODE=offline``, ``TRACKIO_DIR``). A run that cannot begin with them does not begin; one
that loses them on the way goes on without. Not covered: TensorBoard, which is files (`metrics`).
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lmstack.core import InputError, nearest, require, shown
from lmstack.core.files import write_atomic

__all__ = ["TRACKERS", "Tracker", "tracker_named"]

TRACKERS = ("trackio", "wandb")
_PROJECT, _FILE = "lmstack", "tracking.json"


def tracker_named(text: str) -> tuple[str, str]:
    """The library and the project that ``text`` names; `InputError` where it names none."""
    library, slash, project = text.partition("/")
    if library not in TRACKERS or (slash and not project):
        guess = nearest(library, TRACKERS)
        raise InputError(
            f"track is {shown(text)}, not {' or '.join(TRACKERS)}",
            hint=f"did you mean {guess!r}?" if guess else "track: trackio, or track: wandb/PROJECT",
            param="track",
        )
    return library, project or _PROJECT


class Tracker:
    """The run in ``folder`` as ``track`` has it, with ``settings``. ``resume``: it goes on.
    ``note``: told once where values no longer arrive. `ExtraMissingError` without the library;
    `InputError` where it refuses to begin."""

    def __init__(
        self,
        track: str,
        folder: Path,
        settings: Mapping[str, Any],
        *,
        resume: bool = False,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.library, project = tracker_named(track)
        self._note = note
        self._module = require(self.library, self.library)
        known = _known(folder, self.library, project) if resume else None
        given: dict[str, Any] = {
            "project": project,
            "name": folder.name,
            "config": dict(settings),
            "resume": "allow" if known else "never",
        }
        if self.library == "wandb":
            folder.mkdir(parents=True, exist_ok=True)  # it would write somewhere else
            given |= {"dir": str(folder), "id": known}
        elif known:
            given["name"] = known  # by which it knows a run
        try:
            with _quietly():
                self._run: Any = self._module.init(**given)
        except Exception as error:
            raise InputError(
                f"{self.library} did not begin: {type(error).__name__}: {shown(str(error), 200)}",
                hint="WANDB_MODE=offline keeps the values on this machine"
                if self.library == "wandb"
                else "track: null does without",
                param="track",
            ) from error
        name = self._run.id if self.library == "wandb" else self._run.name
        facts = {"library": self.library, "project": project, "run": name}
        write_atomic(folder / _FILE, (json.dumps(facts) + "\n").encode())

    def add(self, values: Mapping[str, Any]) -> None:
        """A line of metrics, with its ``step``."""
        found = {_tag(k): v for k, v in values.items() if k != "step" and _is_finite(v)}
        self._asked(lambda run: run.log(found, step=values["step"]))

    def close(self) -> None:
        """Send what is left."""
        # Not `run.finish`: trackio would finish the run again, in words, when the process ends.
        self._asked(lambda _: self._module.finish())
        self._run = None

    def _asked(self, what: Callable[[Any], object]) -> None:
        if self._run is None:
            return
        try:
            with _quietly():
                what(self._run)
        except Exception as error:
            self._run = None
            self._note(
                f"{self.library} takes no more values ({type(error).__name__}: "
                f"{shown(str(error), 200)}); the run goes on, and metrics.jsonl has them"
            )


def _known(folder: Path, library: str, project: str) -> str | None:
    """The name that the run has with ``library``, if it began there."""
    try:
        facts = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        is_same = (facts["library"], facts["project"]) == (library, project)
        return str(facts["run"]) if is_same else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _tag(name: str) -> str:
    group = "validation" if name.startswith("validation_") else "train"
    return f"{group}/{name.removeprefix('validation_')}"


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _quietly() -> contextlib.AbstractContextManager[Any]:
    """What they print is no result of a command."""
    return contextlib.redirect_stdout(sys.stderr)
