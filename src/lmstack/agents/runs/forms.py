"""Steps and specs as JSON, both ways: what is stored, sent and read again.

A step is an object whose ``type`` says which. What is read is checked, since a file may come from
anywhere.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lmstack.agents.spec import AgentSpec
from lmstack.agents.steps import (
    ApprovalStep,
    BegunStep,
    EndStep,
    ModelStep,
    NoticeStep,
    ResumeStep,
    Step,
    TaskStep,
    ToolStep,
)
from lmstack.core import FormatError, LmstackError, SamplingParams, shown

__all__ = [
    "FORMAT",
    "TYPES",
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
