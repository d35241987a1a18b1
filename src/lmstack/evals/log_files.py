"""Results from and to the logs of inspect_ai, by their files.

Not covered: what is in a log (`lmstack.evals.inspect_logs`) and what is printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmstack.core import InputError, LmstackError
from lmstack.evals.benchmarks import BENCHMARKS
from lmstack.evals.dataset import Dataset
from lmstack.evals.inspect_logs import read_inspect_log, write_inspect_log
from lmstack.evals.results import TaskResult
from lmstack.evals.task_data import dataset_named, kept, made, task_named

__all__ = ["exported", "imported"]


def imported(logs: Sequence[Path], folder: Path) -> list[TaskResult]:
    """The results in ``logs``, kept in ``folder`` as `lmstack eval run --output` keeps them.
    Nothing is written where one of the logs cannot be read."""
    found = [read_inspect_log(log) for log in logs]
    names = [result.file_stem for result in found]
    for result in found:
        if names.count(result.file_stem) > 1:
            raise InputError(
                f"two of the logs are of {result.task}, and a folder holds one result of a task",
                hint="import them one at a time, each into a folder of its own",
                param="logs",
            )
    kept(found, folder)
    return found


def exported(result: TaskResult, folder: Path, task: str | None) -> tuple[Path, bool]:
    """The file that was written, and whether it holds the questions. ``task``: whose questions
    they are; None: of the benchmark that the result is of, if its data are here."""
    dataset = _questions(result, task)
    return write_inspect_log(result, made(folder), dataset), dataset is not None


def _questions(result: TaskResult, task: str | None) -> Dataset | None:
    """`InputError` where those of ``task`` are others than those that were asked."""
    if task is None and result.task not in BENCHMARKS:
        return None
    try:
        found = task_named(result.task, {}).dataset if task is None else dataset_named(task)
    except LmstackError:
        if task is not None:
            raise
        return None
    if found.digest == result.dataset_digest:
        return found
    if task is None:
        return None
    raise InputError(
        f"the questions of {task} are {found.digest[:19]}, and {result.task} was asked"
        f" {result.dataset_digest[:19]}",
        hint="give the task as it was when it was run",
        param="task",
    )
