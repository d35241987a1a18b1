"""A run: its steps, what can be read from them, and both as JSON, both ways.

Covers one run with those of the agents below it, in memory and as it is stored, sent and read
again. A step is an object whose ``type`` says which. What is read is checked, since a file may come
from anywhere. Does not cover running.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lmstack.agents.approval import ApprovalRequest
from lmstack.agents.arguments import problems
from lmstack.agents.budget import Spent
from lmstack.agents.judging import NeedsApproval, judge
from lmstack.agents.progress import RunProgress
from lmstack.agents.protocols import transcript
from lmstack.agents.spec import AgentSpec
from lmstack.agents.steps import (
    ApprovalStep,
    BegunStep,
    End,
    EndStep,
    ModelStep,
    NoticeStep,
    ResumeStep,
    Step,
    TaskStep,
    ToolStep,
)
from lmstack.core import FormatError, LmstackError, Message, SamplingParams, Usage, shown
from lmstack.core.json_text import parse_json

__all__ = [
    "TYPES",
    "Run",
    "run_from_json",
    "run_to_json",
    "spec_from_json",
    "spec_to_json",
    "step_from_json",
    "step_to_json",
    "type_of",
]

FORMAT = 1
TYPES: Mapping[str, Any] = {
    "task": TaskStep,
    "model": ModelStep,
    "begun": BegunStep,
    "tool": ToolStep,
    "approval": ApprovalStep,
    "notice": NoticeStep,
    "resume": ResumeStep,
    "end": EndStep,
}
_NAMES = {each: name for name, each in TYPES.items()}


def type_of(step: Step) -> str:
    return _NAMES[type(step)]


def step_to_json(step: Step) -> dict[str, Any]:
    """JSON values; bytes of pictures in base64."""
    values = asdict(step)
    for picture in values.get("pictures", ()):
        picture["data"] = base64.b64encode(picture["data"]).decode("ascii")
    plain: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
    return {"type": type_of(step), **plain}


def step_from_json(values: Any) -> Step:
    """`FormatError` where ``values`` are not those of a step."""
    name = values.get("type") if isinstance(values, dict) else None
    if not isinstance(name, str) or name not in TYPES:
        raise FormatError(
            f"a step of a run is {shown(values)}",
            hint=f"a step has a type: {', '.join(TYPES)}",
        )
    inner = {key: value for key, value in values.items() if key != "type"}
    if name == "tool":
        inner["pictures"] = [_picture(each) for each in inner.get("pictures", ())]
    step: Step = _checked(TYPES[name], inner, f"a step of the type {name}")
    return step


def spec_to_json(spec: AgentSpec) -> dict[str, Any]:
    """JSON values; of the sampling parameters those that are not the defaults."""
    values = asdict(spec)
    sampling, usual = spec.sampling, SamplingParams()
    values["sampling"] = {
        each.name: getattr(sampling, each.name)
        for each in fields(sampling)
        if getattr(sampling, each.name) != getattr(usual, each.name)
    }
    plain: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False, default=sorted))
    return plain


def spec_from_json(values: Any) -> AgentSpec:
    """`FormatError` where ``values`` are not those of an agent."""
    spec: AgentSpec = _checked(AgentSpec, values, "an agent")
    return spec


def _checked(kind: Any, values: Any, name: str) -> Any:
    known = {each.name for each in fields(kind)}
    for key in values if isinstance(values, dict) else ():
        if key not in known:
            raise FormatError(f"{name} has {shown(key)}, which this version does not know")
    try:
        return _adapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = "/".join(map(str, first["loc"]))
        raise FormatError(f"{name} is not as it should be: {place}: {first['msg']}") from None
    except LmstackError as error:
        raise FormatError(f"{name} is not as it should be: {error.message}") from error


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _picture(values: Any) -> Any:
    try:
        return {**values, "data": base64.b64decode(values["data"], validate=True)}
    except (TypeError, KeyError, binascii.Error) as error:
        raise FormatError(f"a picture in a step is {shown(values)}, not base64") from error


@dataclass(frozen=True)
class Run:
    """``spec``: the agent as it was when the run began. ``children``: runs of agents below, by
    the id of the call that asked them. ``parent``: the id of the run whose call this one is."""

    id: str
    spec: AgentSpec
    steps: tuple[Step, ...]
    children: Mapping[str, Run] = field(default_factory=dict, hash=False)
    parent: str | None = None

    @property
    def task(self) -> str:
        """What it was asked to do, at last."""
        tasks = [step for step in self.steps if isinstance(step, TaskStep)]
        return tasks[-1].text if tasks else ""

    @property
    def last_end(self) -> EndStep | None:
        """None while it runs, and where its process was killed."""
        return self.steps[-1] if self.steps and isinstance(self.steps[-1], EndStep) else None

    @property
    def end(self) -> End | None:
        return self.last_end.end if self.last_end else None

    @property
    def answer(self) -> str:
        return self.last_end.answer if self.last_end else ""

    @property
    def reason(self) -> str:
        """Why it ended as it did; empty for a plain answer."""
        return self.last_end.reason if self.last_end else ""

    @property
    def can_resume(self) -> bool:
        return self.last_end is None or self.last_end.can_resume

    @property
    def result(self) -> Any:
        """The value of an answer that follows the agent's result schema; None for any other."""
        schema = self.spec.result
        if schema is None:
            return None
        try:
            value = parse_json(self.answer)
        except ValueError:
            return None
        return None if problems(schema, value) else value

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation, as the model would be shown it next."""
        return transcript(self.spec, self._progress)

    @property
    def spent(self) -> Spent:
        """By all tasks of the run, agents below included."""
        total = Spent()
        price = self.spec.price
        for step in self.steps:
            if isinstance(step, ModelStep):
                total += Spent(1, step.usage, price.of(step.usage) if price else 0.0)
            elif isinstance(step, ToolStep):
                total += step.spent
        return total

    @property
    def usage(self) -> Usage:
        return self.spent.usage

    @property
    def cost(self) -> float | None:
        """In the currency of the agent's price; None where no price is known."""
        return None if self.spec.price is None else self.spent.money

    @property
    def seconds(self) -> float:
        """For which models and tools worked."""
        return self.steps[-1].clock_s if self.steps else 0.0

    @property
    def untrusted_read(self) -> tuple[str, ...]:
        """What the run has read that others wrote: tools and their calls, documents."""
        return tuple(o.name for o in self._progress.origins(self.spec) if o.is_untrusted)

    @property
    def pending(self) -> tuple[ApprovalRequest, ...]:
        """The calls that wait for a person, those of agents below included."""
        found = [request for child in self.children.values() for request in child.pending]
        progress = self._progress
        if progress.turn is not None:
            for call in progress.turn.pending:
                judged = judge(self.spec, progress, progress.turn, call)
                if isinstance(judged, NeedsApproval):
                    found.append(replace(judged.request, run_id=self.id, agent=self.spec.name))
        return tuple(found)

    def walk(self) -> Iterator[Run]:
        """This run and all below."""
        yield self
        for child in self.children.values():
            yield from child.walk()

    @property
    def _progress(self) -> RunProgress:
        return RunProgress.of(self.steps, self.spec.price)


def run_to_json(run: Run) -> dict[str, Any]:
    """JSON values of a run and all below: for pages, files and other programs."""
    return {
        "format": FORMAT,
        "id": run.id,
        "parent": run.parent,
        "agent": spec_to_json(run.spec),
        "end": run.end,
        "answer": run.answer,
        "reason": run.reason,
        "result": run.result,
        "steps": [step_to_json(step) for step in run.steps],
        "children": {call_id: run_to_json(child) for call_id, child in run.children.items()},
    }


def run_from_json(values: Any) -> Run:
    """What `run_to_json` wrote; `FormatError` for anything else. What is derived is derived again,
    not read."""
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else values
        raise FormatError(
            f"the format of a run is {shown(found)}; this lmstack reads {FORMAT}",
            hint="update lmstack if a later version wrote it",
        )
    steps, children = values.get("steps"), values.get("children", {})
    id_, parent = values.get("id"), values.get("parent")
    if not (isinstance(id_, str) and isinstance(steps, list) and isinstance(children, dict)):
        raise FormatError("a run has an id, steps and children, and this one has not")
    if not (parent is None or isinstance(parent, str)):
        raise FormatError(f"the parent of a run is {shown(parent)}, not an id")
    return Run(
        id_,
        spec_from_json(values.get("agent")),
        tuple(step_from_json(step) for step in steps),
        {call_id: run_from_json(child) for call_id, child in children.items()},
        parent,
    )
