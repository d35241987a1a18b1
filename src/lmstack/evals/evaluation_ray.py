"""An evaluation answered by processes of a Ray cluster, with Ray Data as indexing does it.

    this process: task, store, scores  -- solver, samples -->  copies of the model
                                       <------ outputs ------

What the store lacks is asked for elsewhere, each output is kept the moment it is back, and then all
is scored as `run` does. So a run that was killed goes on from the same store, with or without other
processes, and its result is that of a run here: the same keys, the same outputs, the same reasons
for failures. Samples travel, so that only the model has to be on every machine, under the same name
and with the same digest. Needs the extra ``ray``, which moves data between machines with pickle:
use a cluster that only you can reach.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from lmstack import core
from lmstack.core import EngineError, InputError, IntegrityError, LmstackError, require
from lmstack.evals.json_forms import output_from_json, output_to_json
from lmstack.evals.output_store import OutputKeys, OutputStore
from lmstack.evals.results import TaskResult
from lmstack.evals.run import CONCURRENCY, EvaluationProgress, Patience, run_sync, samples_of
from lmstack.evals.task import Dataset, ModelOutput, Sample, Solver, Subject, Task
from lmstack.rag.ingest.bulk import joined_ray

__all__ = [
    "Elsewhere",
    "EvaluationCluster",
    "EvaluationWorker",
    "PlacedOutput",
    "answered",
    "evaluation_cluster",
    "run_elsewhere",
    "unscored",
]

OpenSubject = Callable[[], AbstractContextManager[Subject]]
_LOTS_EACH = 4  # of samples, so that a slow one does not hold up the end
_MOST_IN_A_LOT = 64


class EvaluationCluster:
    """``open_subject``: the model, opened in each of ``copies`` processes. ``subject``: its name
    and digest, as one of them has it."""

    def __init__(self, ray: Any, open_subject: OpenSubject, copies: int) -> None:
        self._ray, self._open, self._copies = ray, open_subject, copies
        has = int(ray.cluster_resources().get("CPU", 0))
        if copies > has:
            raise InputError(
                f"{copies} copies of the model need {copies} processors, and the Ray cluster has"
                f" {has}",
                hint=f"--ray-copies {max(has, 1)}",
                param="copies",
            )
        facts = json.loads(self._got(ray.remote(_identity).remote(open_subject)))
        _raise_if_error(facts)
        self.subject = Subject(facts["name"], facts["digest"])
        self.has_template = bool(facts["has_template"])

    def run(self, task: Task, subject: Subject, store: OutputStore, **options: Any) -> TaskResult:
        """As `lmstack.evals.run.run_sync`."""
        asking = {"concurrency": CONCURRENCY, "patience": None}
        asking = {name: options.get(name, usual) for name, usual in asking.items()}

        def elsewhere(task: Task, places: Sequence[int]) -> Iterator[PlacedOutput]:
            return self._answers(task, subject.digest, places, asking)

        return run_elsewhere(task, subject, store, elsewhere, **options)

    def _answers(
        self, task: Task, digest: str, places: Sequence[int], asking: Mapping[str, Any]
    ) -> Iterator[PlacedOutput]:
        data = require("ray.data", "ray")
        data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # progress is ours to print
        lot = min(_MOST_IN_A_LOT, -(-len(places) // (self._copies * _LOTS_EACH)))
        done = data.from_items([{"place": place} for place in places]).map_batches(
            EvaluationWorker,
            fn_constructor_args=(unscored(task), self._open, digest, asking),
            batch_size=lot,
            concurrency=self._copies,
            num_cpus=1,
        )
        try:
            for row in done.iter_rows():
                yield _answer(json.loads(row["answer"]))
        except self._ray.exceptions.RayError as error:
            _raise_lost(error)

    def _got(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            _raise_lost(error)


@contextmanager
def evaluation_cluster(
    address: str, open_subject: OpenSubject, copies: int
) -> Iterator[EvaluationCluster]:
    """In the cluster at ``address``, or ``local`` for one that begins here and ends with the
    block."""
    ray, started = joined_ray("" if address == "local" else address)
    try:
        yield EvaluationCluster(ray, open_subject, copies)
    finally:
        if started:
            ray.shutdown()


class EvaluationWorker:
    """In a process of a Ray cluster: places of samples in, answers out, in JSON. ``asking``:
    options of `answered`."""

    def __init__(
        self, task: Task, open_subject: OpenSubject, digest: str, asking: Mapping[str, Any]
    ) -> None:
        self._task, self._digest, self._asking = task, digest, asking
        self._open, self._stack = open_subject, ExitStack()
        self._subject: Subject | None = None

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        places = [int(place) for place in batch["place"]]
        try:
            found = answered(self._task, self._opened(), places, **self._asking)
        except LmstackError as error:
            return {"answer": [json.dumps(_error_to_json(error))]}
        return {"answer": [json.dumps(_to_json(each)) for each in found]}

    def close(self) -> None:
        """Give the model back; a process of Ray that ends takes it along."""
        self._stack.close()

    def _opened(self) -> Subject:
        if self._subject is None:
            found = self._stack.enter_context(self._open())
            if found.digest != self._digest:
                raise IntegrityError(
                    f"{found.name} on the machine {os.uname().nodename} is {found.digest}, not"
                    f" {self._digest}",
                    hint="pull the same model on every machine",
                )
            self._subject = found
        return self._subject


def _identity(open_subject: OpenSubject) -> str:
    """In a process of the cluster."""
    try:
        with open_subject() as found:
            template = getattr(found.chat, "template", "elsewhere")
            facts = {"name": found.name, "digest": found.digest}
            return json.dumps({**facts, "has_template": template is not None})
    except LmstackError as error:
        return json.dumps(_error_to_json(error))


def _to_json(answer: PlacedOutput) -> dict[str, Any]:
    output = None if answer.output is None else output_to_json(answer.output)
    return {"place": answer.place, "output": output, "failed": answer.failed}


def _answer(row: Mapping[str, Any]) -> PlacedOutput:
    _raise_if_error(row)
    output = None if row["output"] is None else output_from_json(row["output"])
    return PlacedOutput(int(row["place"]), output, str(row["failed"]))


def _error_to_json(error: LmstackError) -> dict[str, Any]:
    return {
        "error": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "param": error.param,
    }


def _raise_if_error(row: Mapping[str, Any]) -> None:
    """What stopped another process stops this one, as the same error."""
    if "error" not in row:
        return
    kind = getattr(core, row["error"], EngineError)
    if not (isinstance(kind, type) and issubclass(kind, LmstackError)):
        kind = EngineError
    raise kind(row["message"], hint=row["hint"], param=row["param"])


def _raise_lost(error: Exception) -> NoReturn:
    raise EngineError(
        f"a process that answers has ended: {str(error).splitlines()[0]}",
        hint="its memory may not have sufficed; what came back is kept: run again",
    ) from error


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
