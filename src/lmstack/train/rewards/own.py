"""A reward of one's own: a function in a Python file that the recipe names.

    rewards: [{file: my_reward.py, function: score, settings: {most: 3}, weight: 0.5}]

The function is given the answers (`RolloutSample`) and returns a number for each, in their order.
The file is trusted code: it runs in the process that trains, with the rights of whoever started it
and outside of any sandbox. Not covered: rewards that come with the package, and what a judge,
another model, is asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from lmstack.core import InputError, LmstackError, NotFoundError, check_text, nearest, shown
from lmstack.core.files import store_error
from lmstack.core.own_code import error_in, module_of
from lmstack.train.rewards.reward import Checks, RewardFunction
from lmstack.train.rollouts.protocol import RolloutSample

__all__ = ["OwnReward"]


@dataclass(frozen=True)
class OwnReward(RewardFunction):
    """``file``: Python, named from the working folder. ``function``: which of its functions, whose
    name its metrics have. ``settings``: keyword arguments that it is given beside the answers."""

    name: ClassVar[str] = "own"

    file: str
    function: str = "score"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text("file", self.file)
        check_text("function", self.function)
        object.__setattr__(self, "name", self.function)
        settings = self.settings
        if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
            raise InputError(
                f"settings is {shown(settings)}, not settings by name",
                hint="settings: {most: 3}, where the function takes most",
                param="settings",
            )

    def ready(self) -> None:
        _ = self._function

    def lent(self, checks: Checks) -> Self:
        del checks
        self.ready()
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the file as it was loaded."""
        return hashlib.sha256(self._source).hexdigest()

    def score(self, samples: Sequence[RolloutSample]) -> list[float]:
        try:
            found = self._function(list(samples), **self.settings)
        except LmstackError:
            raise
        except Exception as error:
            raise InputError(
                f"{self.function} of {self.file} failed: {error_in(self.file, error)}",
                hint="it has to score every answer: no text of one may be an error",
                param="rewards",
            ) from error
        return [self._number(value) for value in self._values(found)]

    def _values(self, found: Any) -> list[Any]:
        try:
            if not isinstance(found, str | bytes | Mapping):
                return list(found)
        except TypeError:  # nothing, or one number
            pass
        raise InputError(
            f"{self.function} of {self.file} returned {shown(found)}, not a list of numbers",
            hint="return one number for each answer, in their order",
            param="rewards",
        )

    def _number(self, value: Any) -> float:
        try:
            if not isinstance(value, str | bytes):
                return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
        raise InputError(
            f"{self.function} of {self.file} returned {shown(value)} for an answer, not a number",
            hint="return a finite number for each answer",
            param="rewards",
        )

    @cached_property
    def _source(self) -> bytes:
        path = Path(self.file)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise NotFoundError(
                f"there is no reward file {path}",
                hint="file: is named from the folder that the program is started in",
                param="rewards",
            ) from None
        except OSError as error:
            raise store_error(error, path, "reading") from error

    @cached_property
    def _function(self) -> Callable[..., Any]:
        source = self._source
        try:
            module = module_of(source, self.file)
        except (Exception, SystemExit) as error:
            raise InputError(
                f"the reward file {self.file} cannot be run: {error_in(self.file, error)}",
                hint=f"python {self.file} says more",
                param="rewards",
            ) from error
        if callable(found := getattr(module, self.function, None)):
            return found  # type: ignore[no-any-return]
        names = [name for name, value in vars(module).items() if callable(value)]
        guess = nearest(self.function, [name for name in names if not name.startswith("_")])
        raise InputError(
            f"{self.file} has no function {shown(self.function)}",
            hint=f"did you mean {guess!r}?" if guess else "function: names one of the file's",
            param="rewards",
        )
