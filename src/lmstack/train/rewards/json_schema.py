"""JSON by a schema: 1 where the answer is JSON that the row's schema allows, else 0.

The answer is JSON and nothing else, or one block of Markdown code that is (``fenced``). JSON is
RFC 8259's, strictly: no NaN, no name twice in an object, no half surrogate pairs; at most 100
levels deep. The schema is of any draft that the library jsonschema-rs knows; references that lead
out of it are refused, never fetched, and its patterns run in linear time, so they have no
lookaround. The schema says what is checked: one that an empty object satisfies is satisfied by it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lmstack.core import InputError, allowed, shown
from lmstack.core.json_text import parse_json
from lmstack.core.schemas import json_validator
from lmstack.train.rewards.reward import RewardFunction
from lmstack.train.rollouts.protocol import RolloutSample

__all__ = ["JsonSchema", "parsed_json"]

_FENCED = re.compile(r"```(?:json)?[ \t]*\r?\n(.*?)\r?\n?```", re.S | re.I)


@dataclass(frozen=True)
class JsonSchema(RewardFunction):
    """``fenced``: the JSON may stand in a block of Markdown code, with text around it. ``parsed``:
    for JSON that the schema does not allow, so that there is something to climb."""

    name: ClassVar[str] = "json-schema"
    columns: ClassVar[Mapping[str, str]] = {"schema": "a JSON Schema, as an object or its text"}

    fenced: bool = allowed(True, bool)
    parsed: float = allowed(0.0, float, 0, 1)

    def check_row(self, row: Mapping[str, Any]) -> None:
        super().check_row(row)
        _validator(_schema_text(row))

    def score(self, samples: Sequence[RolloutSample]) -> list[float]:
        return [self._score(sample) for sample in samples]

    def _score(self, sample: RolloutSample) -> float:
        validator = _validator(_schema_text(sample.row))
        try:
            value = parsed_json(sample.text, fenced=self.fenced)
            return 1.0 if validator.is_valid(value) else self.parsed
        except ValueError:
            return 0.0


def parsed_json(text: str, *, fenced: bool = True) -> Any:
    """The value that an answer is, as the module's docstring has it; `ValueError` where it is
    none."""
    blocks = _FENCED.findall(text) if fenced else []
    if len(blocks) > 1:
        raise ValueError("several blocks of code")
    return parse_json(blocks[0] if blocks else text)


def _schema_text(row: Mapping[str, Any]) -> str:
    schema = row["schema"]
    return schema if isinstance(schema, str) else json.dumps(schema)


def _validator(text: str) -> Any:
    try:
        return json_validator(text)
    except ValueError as error:
        raise InputError(
            f"schema is no JSON Schema that can be used: {error} in {shown(text)}",
            hint="without references that lead out of it, and without lookaround in patterns",
            param="schema",
        ) from error
