"""A constitution: the principles that answers are criticized, revised and compared by.

    title: For a shop's assistant
    principles:
      - name: honest
        critique: Name what in your last answer may not be true.
        revision: Rewrite your last answer so that it says only what is true.
        preference: Which answer is more honest?
        weight: 2

Which principle an item gets follows from the seed and the item's key, so adding a principle leaves
most draws as they were. Does not cover how a model is asked (`requests`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmstack.core import Config, InputError, allowed, check_text, shown
from lmstack.train.settings_file import read_settings

__all__ = ["SHIPPED", "Constitution", "Principle", "read_constitution"]

SHIPPED = Path(__file__).with_name("principles.yaml")
_TEXTS = ("name", "critique", "revision", "preference")
_LONGEST_NAME = 60


@dataclass(frozen=True)
class Principle(Config):
    """``critique``: asks for what is wrong with the last answer; ``revision``: asks for a better
    one; ``preference``: asks which of two answers is better. ``weight``: how often it is drawn in
    proportion to others."""

    name: str
    critique: str
    revision: str
    preference: str
    weight: float = allowed(1.0, float, 0, 1e6, above=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in _TEXTS:
            text = getattr(self, field)
            check_text(field, text)
            if not text.strip():
                raise InputError(f"{field} is empty", hint=f"write what {field} asks", param=field)
            object.__setattr__(self, field, text.strip())
        if len(self.name) > _LONGEST_NAME or "\n" in self.name:
            raise InputError(
                f"the name {shown(self.name)} is longer than {_LONGEST_NAME} characters or a line",
                hint="a word or two",
                param="name",
            )


@dataclass(frozen=True)
class Constitution(Config):
    principles: tuple[Principle, ...]
    title: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text("title", self.title)
        if not self.principles:
            raise InputError("there are no principles", hint="write one", param="principles")
        names = [principle.name for principle in self.principles]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(
                f"the principle {shown(twice)} stands twice",
                hint="give each a name of its own",
                param="principles",
            )

    @property
    def digest(self) -> str:
        """SHA-256 of every text, weight and name."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def drawn(self, count: int, seed: int, *place: str | int) -> tuple[Principle, ...]:
        """``count`` different principles, fewer where there are not so many, for the item at
        ``place``: those with the largest u^(1/weight), u uniform by hash of seed, place and name
        (Efraimidis and Spirakis 2006), which draws them by weight without replacement."""

        def rank(principle: Principle) -> float:
            text = json.dumps([seed, *place, principle.name])
            number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
            return math.log((number + 0.5) / 2**64) / principle.weight

        return tuple(sorted(self.principles, key=rank, reverse=True)[:count])


def read_constitution(path: Path | str | None = None) -> Constitution:
    """The constitution in the YAML file ``path``; unless given, the one that ships. An unknown key
    is an `InputError` that names the nearest."""
    file = SHIPPED if path is None else Path(path)
    values = read_settings(file, what="file of principles")
    listed = values.get("principles", [])
    if isinstance(listed, str) or not isinstance(listed, Sequence):
        raise InputError(
            f"{file}: principles is {shown(listed)}, not a list",
            hint="principles: and a list, each with name, critique, revision and preference",
            param="principles",
        )
    principles = tuple(_principle(file, number, each) for number, each in enumerate(listed, 1))
    try:
        return Constitution.from_mapping({**values, "principles": principles})
    except InputError as error:
        raise InputError(f"{file}: {error.message}", hint=error.hint, param=error.param) from error


def _principle(file: Path, number: int, values: Any) -> Principle:
    try:
        return Principle.from_mapping(values)
    except InputError as error:
        name = values.get("name") if isinstance(values, Mapping) else None
        called = f"principle {number}" + (f" ({name})" if isinstance(name, str) else "")
        raise InputError(
            f"{file}: {called}: {error.message}", hint=error.hint, param=error.param
        ) from error
