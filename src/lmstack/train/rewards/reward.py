"""What a reward is: a frozen config that gives each answer a number, and what it may be lent.

A reward is one file here, entered in `lmstack.train.rewards.REWARDS`. Its fields are the settings
of a recipe's ``rewards`` section. It reads the answer and the columns of the prompt's row. Not
covered: how several are put together (`weighted`).
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from lmstack.core import Config, InputError
from lmstack.train.rollouts.protocol import RolloutSample

__all__ = ["Checks", "Cited", "CitedClaim", "CodeCheck", "RewardFunction", "RewardVerdict"]


class RewardVerdict(Protocol):
    @property
    def passed(self) -> bool: ...


class CodeCheck(Protocol):
    """Runs other people's code, in a sandbox."""

    def judge(self, jobs: Sequence[tuple[str, str, str | None]]) -> Sequence[RewardVerdict]:
        """Whether each (code, tests, entry point) passes. `InputError` where tests are at fault,
        `LmstackError` where nothing can be run here."""
        ...


@dataclass(frozen=True)
class CitedClaim:
    """A sentence of an answer. ``numbers``: the sources that it cites, from 1, those that there
    are alone. ``supported``: what it cites bears it out."""

    text: str
    numbers: tuple[int, ...]
    supported: bool


class Cited(Protocol):
    """Reads answers with citations as `[1]`, and checks them."""

    def claims(self, answer: str, sources: Sequence[str]) -> Sequence[CitedClaim]:
        """The sentences of ``answer``, each checked against the sources that it cites."""
        ...


@dataclass(frozen=True)
class Checks:
    """What a program lends rewards, which cannot import it: how to get the sandbox and the check of
    citations, called by the rewards that need them. None: those are refused."""

    code: Callable[[], CodeCheck] | None = None
    citations: Callable[[], Cited] | None = None


@dataclass(frozen=True)
class RewardFunction(Config, abc.ABC):
    """``name``: in recipes and metrics. ``columns``: those of a row that it reads, with what each
    holds; a name in brackets may be missing."""

    name: ClassVar[str]
    columns: ClassVar[Mapping[str, str]] = {}

    def ready(self) -> None:
        """`LmstackError` where it cannot be had here; asked before data is read. What `lent` gives
        is not looked at."""

    def lent(self, checks: Checks) -> Self:
        """With what it needs of ``checks``; `LmstackError` where that is not to be had here."""
        del checks
        return self

    def check_row(self, row: Mapping[str, Any]) -> None:
        """`InputError` where ``row`` has not the columns that are needed, or not as they should
        be."""
        for column, about in self.columns.items():
            if not column.startswith("[") and row.get(column) is None:
                raise InputError(
                    f"the reward {self.name} reads the column {column!r}, and the row has"
                    f" {', '.join(map(repr, row)) or 'none'}",
                    hint=f"{column}: {about}",
                    param=column,
                )

    @abc.abstractmethod
    def score(self, samples: Sequence[RolloutSample]) -> list[float]:
        """A finite number for each sample, higher is better. It follows from the sample alone,
        takes time in proportion to its text, and no text of an answer is an error."""
