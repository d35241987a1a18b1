"""What `lmstack eval run` evaluates where that is more than a model: an index, or an agent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app.cli import indexing
from lmstack.app.cli.output import Output
from lmstack.app.formats import printable
from lmstack.core import InputError

if TYPE_CHECKING:
    from lmstack.evals.evaluated_agent import AgentSettings
    from lmstack.evals.evaluated_index import IndexSettings
    from lmstack.evals.task import Subject, Task
    from lmstack.evals.task_forms import AskedTask
    from lmstack.rag import Index

__all__ = ["Planned", "evaluated", "opened_index", "planned"]


@dataclass(frozen=True)
class Planned:
    """A task and what it is run on: the model alone, or with an index or as an agent."""

    task: Task
    of_index: IndexSettings | None = None
    of_agent: AgentSettings | None = None


def planned(asked: AskedTask, index: Any | None, *, is_spread: bool = False) -> Planned:
    """``index``: of ``--index``, in the place of that of the task file. ``is_spread``: over a
    cluster, which asks models alone. `InputError` where what the file says cannot be."""
    from lmstack.evals.evaluated_agent import AgentSettings
    from lmstack.evals.evaluated_index import IndexSettings
    from lmstack.evals.system_tasks import system_in

    file, task = Path(asked.name), asked.task
    system = system_in(file) if file.suffix in (".yaml", ".yml") else None
    given = None if index is None else str(index)
    if system is None:
        if given is not None:
            raise InputError(
                f"--index is given, and {task.name} asks no index",
                hint="leave it out, or say in the task file that the task is for an index",
                param="index",
            )
        return Planned(task)
    if is_spread:
        raise InputError(
            f"{task.name} asks an index or an agent, which a cluster does not run",
            hint="leave --ray out for this task",
            param="ray",
        )
    kind, settings = system
    if kind == "agent":
        agent = AgentSettings.from_mapping(settings)
        agent = agent.replace(
            files=tuple(_beside(each, file) for each in agent.files),
            docs="" if given else _beside(agent.docs, file),
            index=given or _beside(agent.index, file),
        )
        return Planned(task, of_agent=agent)
    of_index = IndexSettings.from_mapping(settings)
    docs, path = (
        ("", given) if given else (_beside(of_index.docs, file), _beside(of_index.path, file))
    )
    if not docs and not path:
        raise InputError(
            f"nothing says which index {task.name} is to ask",
            hint="--index FOLDER, or index: {docs: FOLDER} in the task file",
            param="index",
        )
    return Planned(task, of_index=of_index.replace(docs=docs, path=path))


def _beside(given: str, file: Path) -> str:
    """A path of a task file is relative to it; an address is not."""
    return given if not given or "://" in given else str(file.parent / given)


@contextmanager
def evaluated(out: Output, plan: Planned, model: Subject) -> Iterator[Subject]:
    """What the task is run on, opened until the block ends."""
    from lmstack.app.wiring import retrieval
    from lmstack.app.wiring.agents import index_tools, pins_path
    from lmstack.evals.evaluated_agent import agent_subject
    from lmstack.evals.evaluated_index import EvaluatedIndex, index_subject, unchanged

    if plan.of_index is not None:
        with opened_index(out, plan.of_index.docs, plan.of_index.path) as index:
            reranker = retrieval.answer_reranker(out.note, plan.of_index.reader)
            subject = index_subject(plan.of_index, index, model, reranker)
            assert isinstance(subject.index, EvaluatedIndex)
            _say_what_is_missing(out, plan.task, subject.index.sources)
            with unchanged(index, subject.index.content):
                yield subject
    elif plan.of_agent is None:
        yield model
    elif plan.of_agent.docs or plan.of_agent.index:
        with opened_index(out, plan.of_agent.docs, plan.of_agent.index) as index:
            content = index.content_digest()
            with unchanged(index, content):
                tools = index_tools(index, out.note)
                yield agent_subject(plan.of_agent, model, tools, content, pins=pins_path())
    else:
        yield agent_subject(plan.of_agent, model, pins=pins_path())


@contextmanager
def opened_index(out: Output, docs: str, path: str = "") -> Iterator[Index]:
    """The index of the folder ``docs``, brought up to date, or the one at ``path`` as it is."""
    from lmstack.rag.stores.address import index_place

    place = index_place(path) if path else None
    before = out.interrupted
    with indexing.open_source(out, Path(docs) if docs else None, place, None) as found:
        out.interrupted = before  # from here on answers are what is kept
        yield found


def _say_what_is_missing(out: Output, task: Task, known: frozenset[str]) -> None:
    """Sources that questions name and the index does not have: a stale index, or a wrong name."""
    from lmstack.evals.metrics import CitedGold

    named = {source for each in task.dataset.samples for source in CitedGold.of(each).sources}
    missing = sorted(named - known)
    if missing:
        first = printable(missing[0], one_line=True)
        out.note(
            f"warning: {len(missing)} of {len(named)} documents that the questions of"
            f" {task.name} name are not in the index, such as {first}"
        )
