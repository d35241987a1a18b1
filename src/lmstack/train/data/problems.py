"""Problems of arithmetic to learn from a reward, split by problem.

Each problem is there once, 3 + 5 and 5 + 3 being one, and falls on the same side of the split
whatever else is drawn: the side follows from a hash of the problem.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lmstack.core import Config, InputError, allowed, check_text, shown
from lmstack.train.data.copies import place_of

__all__ = ["OPERATIONS", "ProblemConfig", "problems"]

OPERATIONS = ("+", "-", "*", "/")
_COMMUTES = ("+", "*")
Problem = tuple[str, int, int]


@dataclass(frozen=True)
class ProblemConfig(Config):
    """``operations``: some of + - * /; what is divided comes out whole. ``digits``: of the largest
    numbers, of what is divided those of the divisor and the result. ``count``: problems.
    ``held_out``: the share to test with. ``form``: the prompt, with ``{problem}`` in it."""

    operations: tuple[str, ...] = allowed(("+", "-"), str, 0, len(OPERATIONS))
    digits: int = allowed(2, int, 1, 6)
    count: int = allowed(2000, int, 1, 10_000_000)
    held_out: float = allowed(0.2, float, 0, 1)
    form: str = "What is {problem}?"
    seed: int = allowed(0, int, 0, (1 << 63) - 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for operation in self.operations:
            if operation not in OPERATIONS:
                raise InputError(
                    f"there is no operation {shown(operation)}",
                    hint=f"one of {' '.join(OPERATIONS)}",
                    param="operations",
                )
        if not self.operations or len(set(self.operations)) < len(self.operations):
            raise InputError(
                f"operations is {shown(self.operations)}",
                hint=f"each of {' '.join(OPERATIONS)} once at most",
                param="operations",
            )
        check_text("form", self.form)
        if "{problem}" not in self.form:
            raise InputError(
                f"form is {shown(self.form)}, without {{problem}}",
                hint="What is {problem}?",
                param="form",
            )

    @property
    def there_are(self) -> int:
        """How many problems there are."""
        numbers = 10**self.digits
        pairs = {True: numbers * (numbers + 1) // 2, False: numbers * numbers}
        return sum(
            numbers * (numbers - 1) if o == "/" else pairs[o in _COMMUTES] for o in self.operations
        )


def problems(config: ProblemConfig) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows ``prompt`` and ``answer`` to train and to test with, each in an order that follows from
    the seed."""
    if config.count > config.there_are:
        raise InputError(
            f"count is {config.count:,}, and there are {config.there_are:,} problems",
            hint="fewer of them, more digits or more operations",
            param="count",
        )
    rng = random.Random(config.seed)
    chosen = _chosen(config, rng)
    train: list[dict[str, Any]] = []
    held: list[dict[str, Any]] = []
    for problem in chosen:
        side = held if place_of(repr(problem)) < config.held_out else train
        side.append(_row(problem, config, rng))
    return train, held


def _chosen(config: ProblemConfig, rng: random.Random) -> list[Problem]:
    if 2 * config.count >= config.there_are:
        return rng.sample(list(_all(config)), config.count)
    found: dict[Problem, None] = {}
    numbers = 10**config.digits
    while len(found) < config.count:
        operation = rng.choice(config.operations)
        first, second = rng.randrange(numbers), rng.randrange(numbers)
        if operation == "/":
            second = second or 1
        found[_canonical(operation, first, second)] = None
    return list(found)


def _all(config: ProblemConfig) -> Iterator[Problem]:
    numbers = range(10**config.digits)
    for operation in config.operations:
        for first, second in itertools.product(numbers, numbers):
            if operation == "/" and not second:
                continue
            if operation not in _COMMUTES or first <= second:
                yield operation, first, second


def _canonical(operation: str, first: int, second: int) -> Problem:
    if operation in _COMMUTES and first > second:
        first, second = second, first
    return operation, first, second


def _row(problem: Problem, config: ProblemConfig, rng: random.Random) -> dict[str, Any]:
    operation, first, second = problem
    if operation in _COMMUTES and rng.random() < 0.5:
        first, second = second, first
    answer = {
        "+": first + second,
        "-": first - second,
        "*": first * second,
        "/": first,
    }[operation]
    if operation == "/":  # what comes out is the first number
        first = first * second
    text = f"{first} {operation} {second}"
    return {"prompt": config.form.replace("{problem}", text), "answer": answer}
