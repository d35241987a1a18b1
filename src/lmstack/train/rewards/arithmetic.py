"""The exact final answer to a problem: 1 where it is that of the row, else 0.

The final answer of a text is, in this order:

1. what its last ``\\boxed{...}`` holds;
2. the number after its last ``####`` (GSM8K);
3. its last number, unless ``marked`` is set.

A number is written in the digits 0 to 9, with a sign, thousands between commas, decimals or a
fraction: -3, 1,234.50, 3/4. Numbers are compared as fractions, so 0.5, .50 and 1/2 are the same;
there is no tolerance and no exponent. Units and words around it do not count. An answer that gives
several in turn is read by its last, so hedging gains nothing; one of more than 100 digits is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from lmstack.core import InputError, allowed, shown
from lmstack.train.rewards.reward import RewardFunction
from lmstack.train.rollouts.protocol import RolloutSample

__all__ = ["Arithmetic", "final_number", "number_of"]

_MAX_DIGITS = 100
# A minus after a digit or a bracket subtracts: in "7-3" the last number is 3.
_NUMBER = re.compile(
    r"(?:(?<![0-9)\]])[-\u2212])?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)?(?:\.[0-9]+)?"
    r"(?:(?<=[0-9])/[0-9]+)?"
)
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_HASHES = "####"


@dataclass(frozen=True)
class Arithmetic(RewardFunction):
    """``marked``: only a boxed number or one after ``####`` counts."""

    name: ClassVar[str] = "arithmetic"
    columns: ClassVar[Mapping[str, str]] = {"answer": "the number, such as 12, -1.5 or 3/4"}

    marked: bool = allowed(False, bool)

    def check_row(self, row: Mapping[str, Any]) -> None:
        super().check_row(row)
        _expected(row)

    def score(self, samples: Sequence[RolloutSample]) -> list[float]:
        return [
            float(final_number(sample.text, marked=self.marked) == _expected(sample.row))
            for sample in samples
        ]


def final_number(text: str, *, marked: bool = False) -> Fraction | None:
    """The final answer that ``text`` gives, as the module's docstring defines it."""
    boxed = _BOXED.findall(text)
    if boxed:
        return _last_number(boxed[-1])
    _, hashes, after = text.rpartition(_HASHES)
    if hashes:
        return _first_number(after)
    return None if marked else _last_number(text)


def number_of(text: str) -> Fraction | None:
    """The number that ``text`` is, and nothing else."""
    stripped = text.strip()
    return _fraction(stripped) if stripped and _NUMBER.fullmatch(stripped) else None


def _numbers(text: str) -> list[str]:
    found = (match.group() for match in _NUMBER.finditer(text))
    return [each for each in found if any(map(str.isdigit, each))]


def _last_number(text: str) -> Fraction | None:
    found = _numbers(text)
    return _fraction(found[-1]) if found else None


def _first_number(text: str) -> Fraction | None:
    found = _numbers(text)
    return _fraction(found[0]) if found else None


def _fraction(text: str) -> Fraction | None:
    text = text.replace(",", "").replace("\u2212", "-")
    if sum(map(str.isdigit, text)) > _MAX_DIGITS:
        return None
    try:
        return Fraction(text)
    except ZeroDivisionError:
        pass
    except ValueError:  # 1.5/2, which is two numbers at most
        pass
    return None


def _expected(row: Mapping[str, Any]) -> Fraction:
    value = row["answer"]
    text = repr(value) if isinstance(value, int | float) else value
    number = number_of(text) if isinstance(text, str) and not isinstance(value, bool) else None
    if number is None:
        raise InputError(
            f"answer is {shown(value)}, not a number",
            hint="write it in digits, such as 12, -1.5 or 3/4",
            param="answer",
        )
    return number
