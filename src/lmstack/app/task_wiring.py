"""Which class plays which part in tasks: for `lmstack run`, and for what `lmstack up` serves
beside answers. Like `wiring`, imports what it wires when it is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lmstack.core import InputError

if TYPE_CHECKING:
    from lmstack.serve.tasks import LocalTasks

__all__ = ["open_task", "require", "task_model", "task_models"]


def task_model(task: str, model: str | None) -> tuple[str, str]:
    """The task's own name, and the model to run it with where none is given."""
    from lmstack.serve.tasks import DEFAULT_MODELS, task_name

    name, _ = task_name(task)
    chosen = model or DEFAULT_MODELS.get(name)
    if chosen is None:
        raise InputError(
            f"lmstack knows no model of its own for {name}",
            hint=f"lmstack run {task} --model NAME",
            param="model",
        )
    return name, chosen


@contextmanager
def open_task(task: str, model: str, options: dict[str, Any]) -> Iterator[Any]:
    """A task with its model loaded, freed at the end."""
    from lmstack.serve.tasks import task as make

    made = make(task, model, **options)
    try:
        yield made
    finally:
        made.close()


def require(names: Sequence[str]) -> None:
    """Models to serve beside answers are here and do more than generate, before anything
    loads."""
    if not names:
        return
    from lmstack.registry import Store

    store = Store()
    for name in names:
        folder = store.resolve(name)
        if folder.kind in ("generate", "seq2seq"):
            raise InputError(
                f"{folder.name} is a model of the kind {folder.kind}, which answers",
                hint=f"--model {folder.name}",
                param="also",
            )


def task_models(names: Sequence[str]) -> dict[str, LocalTasks]:
    """Loaded, under the names they are served as."""
    if not names:
        return {}
    from lmstack.serve.tasks import LocalTasks

    found = [LocalTasks.load(name) for name in names]
    return {each.info.name: each for each in found}
