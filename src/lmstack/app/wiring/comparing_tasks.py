"""One model after the other on the same tasks, for a comparison sample by sample.

Not covered: comparing (`lmstack.evals.task_comparison`), and answers without a task (`comparing`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lmstack.app import wiring
from lmstack.app.wiring.subjects import subject
from lmstack.evals.results import TaskResult
from lmstack.evals.run import Progress, run_sync
from lmstack.evals.task import Task
from lmstack.evals.task_data import output_store

__all__ = ["checked", "side_of"]


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
    on_progress: Callable[[str, Progress], None],
    *,
    adapter: str | None = None,
    limit: int | None = None,
    at_once: int = 16,
) -> list[TaskResult]:
    """The result of each task. ``on_progress``: told the task's name after each sample."""
    found = []
    with output_store() as store, subject(model, weights, adapter) as opened:
        for task in tasks:

            def told(progress: Progress, name: str = task.name) -> None:
                on_progress(name, progress)

            found.append(
                run_sync(task, opened, store, concurrency=at_once, limit=limit, on_progress=told)
            )
    return found
