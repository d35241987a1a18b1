"""Logs of other programs by their files: which program wrote one, and what it holds.

A log of inspect_ai is one file with one task. lm-evaluation-harness writes a file of results for
all tasks of a run, and beside it a file of samples for each, named by its task and the same time.
Not covered: what is in them (`inspect_ai`, `lm_eval`).
"""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, InputError, NotFoundError
from lmstack.evals.dataset import Dataset
from lmstack.evals.logs.inspect_ai import from_inspect, read_inspect_log, write_inspect_log
from lmstack.evals.logs.lm_eval import from_lm_eval, read_samples, write_lm_eval_log
from lmstack.evals.logs.log_json import read_json, read_text
from lmstack.evals.results import TaskResult, file_stem

__all__ = ["PROGRAMS", "read_logs", "write_log"]

PROGRAMS = ("inspect", "lm-eval")


def read_logs(path: str | Path, tasks: Sequence[str] = ()) -> list[TaskResult]:
    """What the log ``path`` holds: of the harness the file of results, whose samples are beside it.
    ``tasks``: only these of it. `FormatError` for what neither program wrote."""
    file = Path(path)
    if file.suffix == ".eval":
        return [read_inspect_log(file)]  # says what to do with it
    found = read_json(read_text(file), str(file))
    if isinstance(found, dict) and "eval" in found:
        return _wanted([from_inspect(found)], tasks)
    if not isinstance(found, dict) or not isinstance(found.get("results"), dict):
        raise FormatError(
            f"{file} is a log neither of inspect_ai nor of lm-evaluation-harness",
            hint="give a JSON log of inspect, or results_TIME.json of the harness",
        )
    samples = _samples_beside(file, found["results"])
    if missing := [each for each in tasks if each not in samples]:
        raise _is_missing(missing[0], samples)
    return [
        from_lm_eval(found, read_samples(place), task)
        for task, place in samples.items()
        if not tasks or task in tasks
    ]


def _samples_beside(file: Path, results: Mapping[str, Any]) -> dict[str, Path]:
    """Files of samples by their task. Groups of tasks have none."""
    stamp = file.stem.removeprefix("results_")
    there = {each.name: each for each in file.parent.glob(f"samples_*_{glob.escape(stamp)}.jsonl")}
    found = {}
    for task in results:
        for name in (task, file_stem(task)):
            if place := there.get(f"samples_{name}_{stamp}.jsonl"):
                found[task] = place
    if not found:
        raise NotFoundError(
            f"there are no samples beside {file}, samples_TASK_{stamp}.jsonl",
            hint="have the harness log samples, and keep its files together",
        )
    return found


def _wanted(found: list[TaskResult], tasks: Sequence[str]) -> list[TaskResult]:
    known = {each.task: each for each in found}
    for task in tasks:
        if task not in known:
            raise _is_missing(task, known)
    return found


def _is_missing(task: str, known: Mapping[str, Any]) -> InputError:
    return InputError(
        f"the log has no samples of {task}", hint=f"it has {', '.join(known)}", param="task"
    )


def write_log(
    result: TaskResult, folder: str | Path, program: str, dataset: Dataset | None = None
) -> list[Path]:
    """``program``: one of `PROGRAMS`. ``dataset``: for the questions and right answers in a log of
    inspect_ai. Returns the files, named as the program names them."""
    if program == "lm-eval":
        return list(write_lm_eval_log(result, folder))
    stamp = result.date.replace(":", "-").replace("Z", "+00-00")
    digest = result.digest.removeprefix("sha256:")[:8]
    path = Path(folder) / f"{stamp}_{result.file_stem}_{digest}.json"
    write_inspect_log(result, path, dataset)
    return [path]
