"""What is said of a run before its first step."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lmstack.train.outlook import Outlook

ENOUGH = Outlook(
    **{"examples": 1200, "held_out": 20, "rows": 110, "is_packed": True, "max_length": 64},
    **{"asked_length": 64, "batch": 16, "updates": 20, "precision": "bfloat16", "holds_out": True},
)


def test_all_of_it_is_in_one_line() -> None:
    assert ENOUGH.sentence() == (
        "1,200 examples to train on in 110 packed rows of 64 tokens, 20 held out;"
        " 20 updates, of 16 rows a step; products in bfloat16"
    )
    one = dataclasses.replace(ENOUGH, examples=1, updates=1, batch=1, held_out=0, is_packed=False)
    assert one.sentence() == (
        "1 example to train on, none held out; 1 update, of 1 row a step; products in bfloat16"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"updates": 19}, "a run of 19 updates learns little"),
        ({"held_out": 19}, "19 examples to validate with"),
        ({"held_out": 1}, "1 example to validate with"),
        ({"held_out": 0}, "no example fell to the validation"),
        ({"held_out": 0, "holds_out": False}, None),
        ({"asked_length": 65}, "max_length is 65 and the model has 64 positions"),
    ],
)
def test_what_is_below_the_bound_is_warned_of_and_what_is_at_it_is_not(
    change: dict[str, Any], said: str | None
) -> None:
    found = dataclasses.replace(ENOUGH, **change).warnings()
    assert len(found) == (said is not None)
    assert all(warning.startswith(str(said)) for warning in found)
    outlook = dataclasses.replace(ENOUGH, **change)
    assert outlook.to_json() == {**vars(outlook), "warnings": found}
