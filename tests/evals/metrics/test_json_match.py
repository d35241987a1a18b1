"""The scorer of JSON: of the schema, and equal to what is right; the same for task files and
`lmstack prompt test`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.errors import about
from tests.evals.metrics.outputs import wrote

from lmstack.core import InputError
from lmstack.evals.metrics import make_scorer
from lmstack.evals.prompt_scoring import score
from lmstack.evals.task import Sample

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


async def scored(answer: str, *targets: str, schema: Any = None) -> tuple[float, float]:
    scorer = make_scorer({"name": "json"} | ({} if schema is None else {"schema": schema}))
    found = await scorer(Sample("1", "?", targets=targets), wrote(answer))
    return found["json_match"], found["json_valid"]


@pytest.mark.parametrize(
    ("answer", "target", "right"),
    [
        ('{"n": 1, "m": [2]}', '{"m": [2.0], "n": 1}', True),
        ('```json\n{"n": 1}\n```', '{"n": 1}', True),
        ('{"n": true}', '{"n": 1}', False),
        ('{"n": 1, "m": 2}', '{"n": 1}', False),
        ("[1, 2]", "[2, 1]", False),
        ("n is 1", '{"n": 1}', False),
    ],
)
async def test_a_task_and_a_prompt_judge_an_answer_alike(
    answer: str, target: str, right: bool
) -> None:
    assert (await scored(answer, target))[0] == right
    assert score("json", answer, target) is right


async def test_one_of_several_targets_is_enough_and_none_asks_for_the_schema_alone() -> None:
    assert await scored('{"n": 2}', '{"n": 1}', '{"n": 2}') == (1.0, 1.0)
    assert await scored('{"n": 3}', '{"n": 1}', '{"n": 2}') == (0.0, 1.0)
    assert await scored('{"n": 3}', schema=SCHEMA) == (1.0, 1.0)
    assert await scored('{"n": "3"}', schema=SCHEMA) == (0.0, 0.0)
    assert await scored('{"n": "3"}', '{"n": "3"}', schema=SCHEMA) == (0.0, 0.0)


async def test_what_cannot_be_a_target_or_a_schema_is_said() -> None:
    with pytest.raises(
        InputError, match="sample 1 has the target 'yes', which is not JSON", check=about("targets")
    ):
        await scored('{"n": 3}', "yes")
    with pytest.raises(InputError, match="schema is 'x', not a JSON Schema", check=about("schema")):
        make_scorer({"name": "json", "schema": "x"})
    with pytest.raises(InputError, match="maximun", check=about("response_format")):
        make_scorer({"name": "json", "schema": {"type": "integer", "maximun": 3}})
    assert json.dumps(dict(make_scorer({"name": "json", "schema": SCHEMA}).protocol))
