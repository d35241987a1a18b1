"""Settings of a report: those of `lmstack eval answers`, and of a recipe's ``report`` section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmstack.core import Config, InputError, shown
from lmstack.core.config import allowed

__all__ = ["ReportConfig"]


@dataclass(frozen=True)
class ReportConfig(Config):
    """``prompts``: files; of a recipe, unless given, its validation's, else its data's. ``most``:
    of them. ``samples``, ``max_tokens``, ``temperature``: of the answers. ``rewards``: as in a
    recipe's objective. ``judge``: a model that says which of two answers is better. ``benign``:
    files of requests that should not be refused. ``text``: a file of held-out text."""

    prompts: tuple[str, ...] = ()
    most: int = allowed(64, int, 2, 100_000)
    samples: int = allowed(2, int, 1, 16)
    max_tokens: int = allowed(128, int, 1, 1 << 20)
    temperature: float = allowed(1.0, float, 0, 2)
    rewards: Any = ()
    judge: str | None = None
    benign: tuple[str, ...] = ()
    text: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("prompts", "benign"):
            given = getattr(self, name)
            files = (given,) if isinstance(given, str) else given
            if not isinstance(files, list | tuple) or not all(isinstance(f, str) for f in files):
                raise InputError(
                    f"{name} is {shown(given)}, not files", hint=f"{name}: [a.jsonl]", param=name
                )
            object.__setattr__(self, name, tuple(files))
        for name in ("judge", "text"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise InputError(
                    f"{name} is {shown(value)}, not text", hint=f'{name}: "{value}"', param=name
                )

    @classmethod
    def of_recipe(cls, given: Any) -> ReportConfig:
        """A recipe's ``report`` section; `InputError` with ``report:`` before what is wrong."""
        if not isinstance(given, Mapping):
            raise InputError(
                f"report is {shown(given)}, not settings by name",
                hint="report: {samples: 4, judge: MODEL}; or report: false for none",
                param="report",
            )
        try:
            return cls.from_mapping(given)
        except InputError as error:
            raise InputError(f"report: {error.message}", hint=error.hint, param=error.param) from (
                error
            )
