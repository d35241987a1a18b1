"""Models opened, as they are served, as what is evaluated; one after the other on the same tasks,
for a comparison sample by sample. Not covered: comparing (`lmstack.evals.task_comparison`), and
answers without a task (`comparing`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from lmstack.app import wiring
from lmstack.core import ChatModel, close_model
from lmstack.evals.results import TaskResult
from lmstack.evals.run import EvaluationProgress, run_sync
from lmstack.evals.task import Subject, Task
from lmstack.evals.task_data import output_store

__all__ = ["checked", "opened", "side_of", "subject"]


@contextmanager
def subject(
    model: str | None, weights: str | None = None, adapter: str | None = None
) -> Iterator[Subject]:
    """The model, with its adapter, opened as it is served, as what is evaluated."""
    from lmstack.serve import LocalModel

    with opened(model, weights, adapter) as chat:
        info = chat.info
        digest = info.digest or f"name:{info.name}"
        likelihood = chat if isinstance(chat, LocalModel) else None
        yield Subject(info.name, digest, chat, likelihood)


@contextmanager
def opened(
    model: str | None, weights: str | None = None, adapter: str | None = None
) -> Iterator[ChatModel]:
    """A language model until the block ends."""
    if adapter is None:
        found = wiring.generator(model, weights)
    else:
        found = wiring.generator(model, weights, adapter=adapter)
    try:
        yield found
    finally:
        close_model(found)


def checked(models: Sequence[str], adapter: str | None = None) -> None:
    """An error now, where one of ``models`` is not here, and not after the first has run.
    ``adapter``: of the last."""
    if adapter is not None:
        wiring.require_adapter(models[-1], adapter)
    for name in models:
        if not wiring.is_remote(name):
            wiring.generator_folder(name)


def side_of(
    model: str,
    weights: str | None,
    tasks: Sequence[Task],
    on_progress: Callable[[str, EvaluationProgress], None],
    *,
    adapter: str | None = None,
    limit: int | None = None,
    at_once: int = 16,
) -> list[TaskResult]:
    """The result of each task. ``on_progress``: told the task's name after each sample."""
    found = []
    with output_store() as store, subject(model, weights, adapter) as opened:
        for task in tasks:

            def told(progress: EvaluationProgress, name: str = task.name) -> None:
                on_progress(name, progress)

            found.append(
                run_sync(task, opened, store, concurrency=at_once, limit=limit, on_progress=told)
            )
    return found
