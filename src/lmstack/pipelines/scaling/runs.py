"""What runs ended with, as points for a scaling law: from run folders, or from a table.

A run is one point, its end: a learning rate that falls over the run makes the losses on the way
higher than those of a shorter run (Hoffmann et al., 2022, appendix B). Does not cover the fit.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmstack.core import FormatError, InputError, NotFoundError, shown
from lmstack.core.files import store_error
from lmstack.pipelines.scaling.fit import Observations

__all__ = ["RunEnd", "observations", "read_runs"]

METRICS, FACTS = "metrics.jsonl", "run.json"
_COLUMNS = {
    "size": ("n", "size", "parameters", "params"),
    "data": ("d", "data", "tokens"),
    "loss": ("l", "loss", "validation_loss"),
}
_LAST_SHARE = 0.1


@dataclass(frozen=True)
class RunEnd:
    """``size``: parameters. ``data``: tokens seen. ``loss``: nats a token. ``held_out``: whether
    the loss is of held-out text, or the mean of the last tenth of the training steps."""

    source: str
    size: float
    data: float
    loss: float
    held_out: bool = True


def read_runs(paths: Sequence[Path | str]) -> list[RunEnd]:
    """The ends of the runs in ``paths``: folders of runs, folders of such folders, their
    metrics.jsonl, or CSV tables with columns N, D and loss."""
    found: list[RunEnd] = []
    for path in map(Path, paths):
        if path.suffix.lower() == ".csv":
            found += _table(path)
        elif path.is_file() or (path / METRICS).is_file():
            found.append(_run(path if path.is_file() else path / METRICS))
        else:
            inside = sorted(path.glob(f"*/{METRICS}")) if path.is_dir() else []
            if not inside:
                raise NotFoundError(
                    f"there is no run at {shown(str(path))}",
                    hint=f"give folders with a {METRICS}, or a .csv with the columns N, D, loss",
                    param="runs",
                )
            found += [_run(file) for file in inside]
    return found


def observations(runs: Sequence[RunEnd]) -> Observations:
    """``runs`` as arrays; `InputError` where they cannot determine a law."""
    columns = ([getattr(run, name) for run in runs] for name in ("size", "data", "loss"))
    return Observations(*(np.array(column) for column in columns))


def _run(metrics: Path) -> RunEnd:
    facts_path = metrics.parent / FACTS
    if not facts_path.is_file():
        raise NotFoundError(
            f"{metrics.parent} has no {FACTS}, which says how large the model is",
            hint="give the figures of such runs as a .csv with the columns N, D, loss",
            param="runs",
        )
    tokens, held, steps = 0.0, None, []
    for line in _lines(metrics):
        tokens = float(line.get("tokens", tokens))
        if line.get("step") == 0:
            continue  # of the weights that the run began with
        if "validation_loss" in line:
            held = float(line["validation_loss"])
        elif "loss" in line:
            steps.append(float(line["loss"]))
    if held is None and not steps:
        raise FormatError(f"{metrics} holds no loss", hint="train a step at least")
    if held is None:
        last = steps[-max(int(_LAST_SHARE * len(steps)), 1) :]
    try:
        size = float(json.loads(facts_path.read_bytes())["parameters"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{facts_path} does not say how large the model is: {error}") from error
    loss = held if held is not None else sum(last) / len(last)
    return RunEnd(str(metrics.parent), size, tokens, loss, held is not None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {shown(str(path))}", param="runs") from None
    except OSError as error:
        raise store_error(error, path, "reading") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8 text (byte {error.start})") from error


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(_text(path).splitlines(), start=1):
        try:
            values = json.loads(line)
        except ValueError as error:
            raise FormatError(f"{path}:{number} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise FormatError(f"{path}:{number} is {shown(values)}, not an object")
        yield values


def _table(path: Path) -> Iterator[RunEnd]:
    rows = csv.DictReader(_text(path).splitlines())
    names = {str(name).strip().lower(): name for name in rows.fieldnames or ()}
    chosen = {}
    for what, known in _COLUMNS.items():
        found = next((names[name] for name in known if name in names), None)
        if found is None:
            raise InputError(
                f"{path} has the columns {shown(', '.join(names))}, none for the {what}",
                hint="name the columns N, D and loss: parameters, tokens, nats a token",
                param="runs",
            )
        chosen[what] = found
    for number, row in enumerate(rows, start=2):
        place = f"{path}:{number}"
        size, data, loss = (_number(row[name], place, name) for name in chosen.values())
        yield RunEnd(place, size, data, loss)


def _number(text: str | None, place: str, column: str) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise FormatError(f"{place}: {column} is {shown(text)}, not a number") from None
