"""How a model came to be: its base, the data, the recipe, the code, and what it reached.

Kept whole in the card of a trained model (and beside an adapter), the history of its base included,
so that a folder that is copied to another machine still knows all of it. Does not cover who writes
it (`lmstack.train.run`) and how it is shown.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from lmstack.core import shown

__all__ = ["Ancestor", "DataFacts", "Training"]

# Trainings on top of each other: more than anyone makes, fewer than the interpreter's stack holds.
_DEEPEST = 64


class DataFacts(TypedDict):
    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Ancestor:
    """A model that another was made from. ``stated``: what its source says of where it comes
    from. ``training``: where it was trained by lmstack itself."""

    name: str
    digest: str
    source: str = ""
    licence: str = ""
    stated: str = ""
    training: Training | None = None

    def to_json(self) -> dict[str, Any]:
        training = None if self.training is None else self.training.to_json()
        return {**dataclasses.asdict(self), "training": training}


@dataclass(frozen=True)
class Training:
    """``objective`` is also in ``recipe``, which holds every setting. ``base``: None for fresh
    weights; ``models``: digests of the others that it learned from, a teacher or a reward model,
    by what they were to it. ``fingerprint``: of the content of all ``data`` files. ``code``: the
    version of lmstack, and the git commit of its source where there is one. ``metrics``: what the
    weights that were kept reached. ``finished``: when, in UTC; ``seconds``: since the run was last
    started."""

    objective: str
    base: Ancestor | None
    recipe: Mapping[str, Any]
    fingerprint: str
    data: tuple[DataFacts, ...]
    code: str
    metrics: Mapping[str, float]
    steps: int
    tokens: int
    trainable: int
    finished: str
    seconds: float
    models: Mapping[str, str] = field(default_factory=dict)

    @property
    def recipe_sha256(self) -> str:
        """Of the settings, whatever their order."""
        text = json.dumps(self.recipe, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def ancestors(self) -> Iterator[Ancestor]:
        """The base, the base of the base, and so on."""
        base = self.base
        while base is not None:
            yield base
            base = base.training.base if base.training is not None else None

    def to_json(self) -> dict[str, Any]:
        base = None if self.base is None else self.base.to_json()
        values = {**dataclasses.asdict(self), "base": base, "data": list(self.data)}
        return {**values, "recipe_sha256": self.recipe_sha256}

    @classmethod
    def from_json(cls, values: Any, depth: int = 0) -> Training:
        """Checks every field: `KeyError`, `TypeError` or `ValueError` where one is damaged."""
        if not isinstance(values, Mapping):
            raise TypeError(f"the training is {shown(values)}, not an object")
        if depth > _DEEPEST:
            raise ValueError(f"the lineage has more than {_DEEPEST} trainings")
        base = values["base"]
        training = cls(
            objective=_text(values, "objective"),
            base=None if base is None else _ancestor(base, depth),
            recipe=_object(values, "recipe"),
            fingerprint=_text(values, "fingerprint"),
            data=tuple(
                DataFacts(
                    name=_text(file, "name"),
                    size=_whole(file, "size"),
                    sha256=_text(file, "sha256"),
                )
                for file in values["data"]
            ),
            code=_text(values, "code"),
            metrics={name: _number(values["metrics"], name) for name in _object(values, "metrics")},
            steps=_whole(values, "steps"),
            tokens=_whole(values, "tokens"),
            trainable=_whole(values, "trainable"),
            finished=_text(values, "finished"),
            seconds=_number(values, "seconds"),
            models=_digests(values),
        )
        if training.recipe_sha256 != _text(values, "recipe_sha256"):
            raise ValueError("the recipe is not the one that its recipe_sha256 says")
        return training


def _ancestor(values: Any, depth: int) -> Ancestor:
    if not isinstance(values, Mapping):
        raise TypeError(f"the base is {shown(values)}, not an object")
    training = values.get("training")
    return Ancestor(
        name=_text(values, "name"),
        digest=_text(values, "digest"),
        source=_text(values, "source"),
        licence=_text(values, "licence"),
        stated=_text(values, "stated"),
        training=None if training is None else Training.from_json(training, depth + 1),
    )


def _digests(values: Mapping[str, Any]) -> dict[str, str]:
    """None in lineages that were written before they had any."""
    found = _object(values, "models") if "models" in values else {}
    return {name: _text(found, name) for name in found}


def _object(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = values[key]
    if not isinstance(found, dict):
        raise TypeError(f"{key} is {shown(found)}, not an object")
    return found


def _text(values: Any, key: str) -> str:
    found = values[key]
    if not isinstance(found, str):
        raise TypeError(f"{key} is {shown(found)}, not text")
    return found


def _whole(values: Any, key: str) -> int:
    found = values[key]
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise ValueError(f"{key} is {shown(found)}, not a count")
    return found


def _number(values: Any, key: str) -> float:
    found = values[key]
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise TypeError(f"{key} is {shown(found)}, not a number")
    return float(found)
