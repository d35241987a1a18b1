"""How much a run may use: turns of the model, tokens, money and seconds.

What a turn can use at most is reserved before the model is asked, and what it did use is settled
by its step. A turn is only asked for with tools if what it can use leaves enough for a last one
without them, so that a run whose budget ends can still answer with what it has.

The tokens of a prompt are not known before it is asked: they are taken to be the last prompt's
plus at most one for each byte that was added, which holds for every byte-level vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeVar

from lmstack.core import Config, Price, Usage, allowed

__all__ = ["LAST_SHARE", "Allowance", "Budget", "Part", "Spent"]

N = TypeVar("N", int, float)
Part = Literal["steps", "tokens", "money", "seconds"]

# The share of the seconds that is kept for the last turn.
LAST_SHARE = 0.2
# Tokens: the fewest that are worth asking for, and what a last turn should have.
LEAST_OUTPUT, LAST_OUTPUT = 16, 64
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used, agents below included. ``steps``: turns of a model."""

    steps: int = 0
    usage: Usage = field(default_factory=Usage)
    money: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.steps + other.steps, self.usage + other.usage, self.money + other.money)


@dataclass(frozen=True, slots=True)
class Allowance:
    """``hit``: the part of the budget that does not allow the turn; None: it may be asked for,
    with at most ``max_tokens`` (None: the model's own limit)."""

    max_tokens: int | None = None
    hit: Part | None = None


@dataclass(frozen=True)
class Budget(Config):
    """None is no limit. ``steps``: turns of the model, the last of them without tools.
    ``tokens``: of prompts and outputs. ``money``: in the currency of the agent's `Price`.
    ``seconds``: while models and tools work; waiting for a person does not count. A fifth of the
    seconds is kept for a last turn without tools. Agents below use their caller's budget."""

    steps: int = allowed(20, int, 1, 10_000)
    tokens: int | None = allowed(None, int, 1, 2**53)
    money: float | None = allowed(None, float, 0, 1e12, above=True)
    seconds: float | None = allowed(None, float, 0, 1e9, above=True)

    def share(self, part: float, spent: Spent, clock_s: float) -> Budget | None:
        """A budget of ``part`` of what is left; None where a part of it would be nothing."""
        steps = int((self.steps - spent.steps) * part)
        tokens = self.tokens and int((self.tokens - spent.usage.total_tokens) * part)
        money = self.money and (self.money - spent.money) * part
        seconds = self.seconds and (self.seconds * (1 - LAST_SHARE) - clock_s) * part
        if steps < 1 or any(x is not None and x <= 0 for x in (tokens, money, seconds)):
            return None
        return Budget(steps=steps, tokens=tokens, money=money, seconds=seconds)

    def within(self, outer: Budget) -> Budget:
        """The smaller of the two, part by part."""
        return Budget(
            steps=min(self.steps, outer.steps),
            tokens=_least(self.tokens, outer.tokens),
            money=_least(self.money, outer.money),
            seconds=_least(self.seconds, outer.seconds),
        )

    def seconds_left(self, clock_s: float, *, is_last: bool) -> float | None:
        """Until a turn, or a tool, is stopped."""
        if self.seconds is None:
            return None
        return self.seconds * (1.0 if is_last else 1 - LAST_SHARE) - clock_s

    def allow(
        self,
        spent: Spent,
        price: Price | None,
        prompt_tokens: int,
        clock_s: float,
        *,
        most: int | None,
        is_last: bool,
    ) -> Allowance:
        """Whether a turn may be asked for. ``prompt_tokens``: at most so many. ``most``: the
        output tokens that it wants, None for as many as it gets."""
        if self.steps - spent.steps < (1 if is_last else 2):
            return Allowance(hit="steps")
        left_s = self.seconds_left(clock_s, is_last=is_last)
        if left_s is not None and left_s <= 0:
            return Allowance(hit="seconds")
        limits: list[tuple[Part, float, float, float]] = []
        if self.tokens is not None:
            limits.append(("tokens", self.tokens - spent.usage.total_tokens, 1.0, 1.0))
        if self.money is not None and price is not None:
            rates = (price.input / MILLION, price.output / MILLION)
            limits.append(("money", self.money - spent.money, *rates))
        for part, left, read, written in limits:
            output = _output(left, prompt_tokens, read, written, is_last=is_last)
            if output < min(LEAST_OUTPUT, most or LEAST_OUTPUT):
                return Allowance(hit=part)
            most = most if output == float("inf") else min(most or 2**31, int(output))
        return Allowance(max_tokens=most)


def _output(left: float, prompt: int, read: float, written: float, *, is_last: bool) -> float:
    """Output tokens that ``left`` pays for. With tools, what is written is read again by a last
    turn, which reads the prompt again too."""
    free = left - prompt * read
    if not is_last:
        free -= prompt * read + LAST_OUTPUT * written
    rate = written if is_last else written + read
    if rate == 0:
        return float("inf") if free >= 0 else 0.0
    return min(free / rate, 2.0**31)


def _least(one: N | None, other: N | None) -> N | None:
    given = [each for each in (one, other) if each is not None]
    return min(given) if given else None
