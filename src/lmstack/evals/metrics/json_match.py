"""Answers that are JSON: of a schema, and equal to the value that is right.

`JsonMatch` is the scorer ``json`` of task files; `json_matches` is what `lmstack prompt test` asks
of each answer, too. An answer may stand in a block of code or have text around it, as
`prompting.Form` reads it. Not covered: holding a model to a form while it writes (`solvers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from lmstack.core import InputError, shown
from lmstack.core.json_text import parse_json
from lmstack.evals.metrics.scoring import ConfiguredScorer, share
from lmstack.evals.task import Metric, ModelOutput, Sample
from lmstack.prompting import AnswerForm, NotOfFormError, form_of

__all__ = ["JsonMatch", "json_matches", "same_json"]


@dataclass(frozen=True)
class JsonMatch(ConfiguredScorer):
    """``json_match``: the answer is JSON of ``schema``, and equal to one of the targets where the
    sample has some. ``json_valid``: it is JSON of ``schema``, whatever it says."""

    name: ClassVar[str] = "json"
    schema: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.schema, Mapping | None):
            raise InputError(
                f"schema is {shown(self.schema)}, not a JSON Schema",
                hint="schema: {type: object, properties: {...}}",
                param="schema",
            )
        _ = self._form  # says now what is wrong with it

    @cached_property
    def _form(self) -> AnswerForm[Any]:
        return form_of(dict(self.schema or {}))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return share("json_match"), share("json_valid")

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        valid = json_matches(output.text, None, self._form)
        targets = [_target(sample, each) for each in sample.targets]
        right = valid and (
            not targets or any(json_matches(output.text, each, self._form) for each in targets)
        )
        return {"json_match": float(right), "json_valid": float(valid)}


def json_matches(answer: Any, output: str | None, form: AnswerForm[Any] | None = None) -> bool:
    """Whether ``answer``, a value or text, is JSON of ``form``, and equal to the JSON ``output``
    where there is one."""
    if isinstance(answer, str):
        try:
            answer = (form or form_of({})).read(answer)
        except NotOfFormError:
            return False
    return output is None or same_json(answer, parse_json(output))


def same_json(one: Any, other: Any) -> bool:
    """Whether two JSON values are; true is not 1, but 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other)


def _target(sample: Sample, target: str) -> str:
    try:
        parse_json(target)
    except ValueError as error:
        raise InputError(
            f"sample {sample.id} has the target {shown(target)}, which is not JSON: {error}",
            hint="write it as JSON, or use another scorer",
            param="targets",
        ) from error
    return target
