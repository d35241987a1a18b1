"""Problems of arithmetic: right answers, none twice, and a split by problem."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about
from tests.train.rewards.drawn import drawn

from lmstack.core import InputError
from lmstack.train.data.problems import OPERATIONS, ProblemConfig, problems
from lmstack.train.rewards import reward_named

FORM = "{problem}"
SIGNS = st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=4, unique=True).map(tuple)


def canonical(row: dict[str, Any]) -> tuple[Any, ...]:
    first, sign, second = row["prompt"].split(" ")
    numbers = [int(first), int(second)]
    return sign, *(sorted(numbers) if sign in "+*" else numbers)


@given(SIGNS, st.integers(1, 60), st.integers(0, 99))
def test_answers_are_right_and_no_problem_is_there_twice(
    operations: tuple[str, ...], count: int, seed: int
) -> None:
    config = ProblemConfig(operations, 1, min(count, 55), 0.3, FORM, seed)
    train, held = problems(config)
    rows = train + held
    assert len({canonical(row) for row in rows}) == len(rows) == config.count
    for row in rows:
        first, sign, second = row["prompt"].split(" ")
        a, b = Fraction(first), Fraction(second)
        wanted = {"+": a + b, "-": a - b, "*": a * b, "/": a / (b or 1)}[sign]
        assert row["answer"] == wanted
        reward = reward_named("arithmetic", {})
        assert reward.score([drawn(str(row["answer"]), **row)]) == [1.0]


def test_a_problem_is_on_one_side_whatever_else_is_drawn() -> None:
    def sides(count: int, seed: int) -> tuple[set[Any], set[Any]]:
        found = problems(ProblemConfig(("+", "*"), 2, count, 0.25, FORM, seed))
        return tuple({canonical(row) for row in rows} for rows in found)  # type: ignore[return-value]

    draws = [sides(3000, 0), sides(3000, 1), sides(9000, 2)]
    train, held = (set().union(*(draw[side] for draw in draws)) for side in (0, 1))
    assert not train & held
    assert 0.22 < len(held) / len(train | held) < 0.28


def test_all_there_are_can_be_had_and_no_more() -> None:
    config = ProblemConfig(("+", "-", "/"), 1, 55 + 100 + 90, 0.0)
    train, held = problems(config)
    assert config.there_are == len(train) == 245
    assert not held
    with pytest.raises(InputError, match="there are 245 problems", check=about("count")):
        problems(config.replace(count=246))


def test_the_same_seed_gives_the_same_problems() -> None:
    config = ProblemConfig(count=50)
    assert problems(config) == problems(config) != problems(config.replace(seed=1))
    assert all(
        re.fullmatch(r"What is \d+ [-+] \d+\?", row["prompt"]) for row in problems(config)[0]
    )


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"operations": ["x"]}, "no operation 'x'"),
        ({"operations": []}, "operations is"),
        ({"operations": ["+", "+"]}, "operations is"),
        ({"form": "What?"}, "without {problem}"),
        ({"form": "{problem}\ud800"}, "form"),
        ({"digits": 7}, "digits is 7"),
        ({"held_out": 2}, "held_out is 2"),
    ],
)
def test_settings_that_make_no_problems_are_refused(settings: Any, error: str) -> None:
    with pytest.raises(
        InputError, match=error, check=about("digits", "form", "held_out", "operations")
    ):
        ProblemConfig.from_mapping(settings)
