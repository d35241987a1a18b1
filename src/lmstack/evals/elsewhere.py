"""A run whose samples are answered by other processes, and kept and scored by this one.

    answered(...)         in another process: outputs of some samples, or why there are none
    run_elsewhere(...)    here: what the store lacks is asked for elsewhere, each output is kept the
                          moment it is back, and then all is scored as `run` does

So a run that was killed goes on from the same store, with or without other processes, and its
result is that of a run here: the same keys, the same outputs, the same reasons for failures. Not
covered: how work gets to other processes (`lmstack.evals.evaluation_ray`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmstack.core import InputError
from lmstack.evals.dataset import Dataset, Sample
from lmstack.evals.output_store import OutputKeys, OutputStore
from lmstack.evals.results import TaskResult
from lmstack.evals.run import CONCURRENCY, EvaluationProgress, Patience, run_sync, samples_of
from lmstack.evals.task import ModelOutput, Solver, Subject, Task

__all__ = ["Elsewhere", "PlacedOutput", "answered", "run_elsewhere", "unscored"]


@dataclass(frozen=True)
class PlacedOutput:
    """To the sample at ``place`` of the data set: its output, or else the reason that it
    ``failed``."""

    place: int
    output: ModelOutput | None
    failed: str = ""


# Answers to the samples at these places of the task's data set, in any order.
Elsewhere = Callable[[Task, Sequence[int]], Iterator[PlacedOutput]]


@dataclass(frozen=True)
class _Unscored:
    """Outputs are scored where they are kept."""

    @property
    def protocol(self) -> Mapping[str, Any]:
        return {}

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:  # noqa: ARG002
        return {}


@dataclass(frozen=True)
class _Gathered:
    """``solver``, whose outputs are in the store, or why there are none in ``failed``, by id."""

    solver: Solver
    failed: Mapping[str, str]

    @property
    def protocol(self) -> Mapping[str, Any]:
        return self.solver.protocol

    async def __call__(self, sample: Sample, subject: Subject) -> ModelOutput:  # noqa: ARG002
        raise InputError(self.failed.get(sample.id, "no answer came back"))


def unscored(task: Task) -> Task:
    """``task`` without its scorer, which may hold a model, or a judge of code."""
    return replace(task, scorer=_Unscored(), metrics=())


def answered(
    task: Task,
    subject: Subject,
    places: Sequence[int],
    *,
    concurrency: int = CONCURRENCY,
    patience: Patience | None = None,
) -> list[PlacedOutput]:
    """By ``subject``, in the order of ``places``. What stops a run (`run`) is raised."""
    samples = [task.dataset.samples[place] for place in places]
    part = replace(
        unscored(task), dataset=Dataset(task.dataset.name, tuple(samples), task.dataset.source)
    )
    keys = OutputKeys(task, subject)
    with (
        tempfile.TemporaryDirectory(prefix="lmstack-evaluation-") as folder,
        OutputStore(Path(folder) / "outputs.db", fsync=False) as store,
    ):
        result = run_sync(part, subject, store, concurrency=concurrency, patience=patience)
        kept = store.outputs([keys.output(sample) for sample in samples])
    rows = zip(places, samples, result.samples, strict=True)
    return [PlacedOutput(place, kept.get(keys.output(s)), row.failed) for place, s, row in rows]


def run_elsewhere(
    task: Task,
    subject: Subject,
    store: OutputStore,
    elsewhere: Elsewhere,
    *,
    concurrency: int = CONCURRENCY,
    limit: int | None = None,
    patience: Patience | None = None,
    on_progress: Callable[[EvaluationProgress], None] = lambda _: None,
) -> TaskResult:
    """As `run_sync`. ``subject``: its name and digest; its faces are elsewhere."""
    samples, keys = samples_of(task, limit), OutputKeys(task, subject)
    names = [keys.output(sample) for sample in samples]
    kept = store.outputs(names)
    left = [place for place, name in enumerate(names) if name not in kept]
    found = EvaluationProgress(len(samples), done=len(kept), cached=len(kept))
    began, failed = time.monotonic(), dict[str, str]()
    for answer in elsewhere(task, left) if left else ():
        if answer.output is None:
            failed[samples[answer.place].id] = answer.failed
        else:
            store.keep_output(names[answer.place], answer.output)
        found = replace(
            found, done=found.done + 1, failed=len(failed), seconds=time.monotonic() - began
        )
        on_progress(found)
    gathered = replace(task, solver=_Gathered(task.solver, failed))
    result = run_sync(
        gathered, subject, store, concurrency=concurrency, limit=limit, patience=patience
    )
    return replace(result, seconds=time.monotonic() - began)
