"""Keys of config.json and of GGUF metadata that say one field each, read and written alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lmstack.core import FormatError, UnsupportedError, check_range, shown
from lmstack.model.fields import Fields

__all__ = [
    "SIZES",
    "ConfigKey",
    "Settings",
    "activation_name",
    "nullable_number",
    "read_activation",
    "read_settings",
    "refuse",
    "write_settings",
]

_ACTIVATIONS: dict[str, str] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "tanh": "tanh",
}
# The last of several names is the one that is written, but silu has its own.
_ACTIVATION_NAMES = {ours: name for name, ours in _ACTIVATIONS.items()} | {"silu": "silu"}


@dataclass(frozen=True)
class ConfigKey:
    """A key of a file that says one field of ours, read and written by this one entry.

    ``names``: that of today, then those that older files use. ``default``: where a
    file has none of them; None: it must have one, or the field stays None if it is ``optional``.
    ``nullable``: a number that ``null`` switches off. ``divisor``: one that divides what our
    field multiplies. ``least``: what a count must be."""

    kind: Literal["count", "number", "flag", "activation", "nullable", "optional", "divisor"]
    names: tuple[str, ...]
    default: Any = None
    least: int | None = None

    def read(self, fields: Fields) -> Any:
        key = next((key for key in self.names if fields.get(key) is not None), self.names[0])
        if self.kind == "activation":
            return read_activation(fields, self.default, key)
        if self.kind == "nullable":
            return nullable_number(fields, key, self.default)
        if self.kind == "optional":
            return None if fields.get(key) is None else fields.count(key)
        if self.kind == "divisor":
            value = fields.number(key, self.default)
            check_range(key, value, 0, math.inf, low_open=True)
            return 1 / value
        value = getattr(fields, self.kind)(key, self.default)
        if self.least is not None and value < self.least:
            raise FormatError(f"{fields.source}: {key} is {value}, below {self.least}")
        return value

    def write(self, value: Any) -> dict[str, Any]:
        if self.kind == "activation":
            value = activation_name(value)
        elif self.kind == "divisor":
            value = float(f"{1 / value:.12g}")  # 1 / (1 / 49) is not quite 49
        elif self.kind in ("number", "nullable") and value is not None:
            value = float(value)
        return {self.names[0]: value}

    @classmethod
    def count(cls, *names: str, default: int | None = None, least: int | None = None) -> ConfigKey:
        return cls("count", names, default, least)

    @classmethod
    def number(cls, *names: str, default: float | None = None) -> ConfigKey:
        return cls("number", names, default)

    @classmethod
    def flag(cls, name: str, default: bool) -> ConfigKey:
        return cls("flag", (name,), default)

    @classmethod
    def activation(cls, name: str, default: str) -> ConfigKey:
        return cls("activation", (name,), default)

    @classmethod
    def nullable(cls, name: str, default: float | None = None) -> ConfigKey:
        return cls("nullable", (name,), default)

    @classmethod
    def divisor(cls, name: str, default: float) -> ConfigKey:
        return cls("divisor", (name,), default)

    @classmethod
    def optional(cls, *names: str) -> ConfigKey:
        return cls("optional", names)


# Field of ours to the key that says it.
Settings = Mapping[str, ConfigKey]


def read_settings(settings: Settings, fields: Fields) -> dict[str, Any]:
    return {name: key.read(fields) for name, key in settings.items()}


def write_settings(settings: Settings, config: object) -> dict[str, Any]:
    """The inverse of `read_settings`, of an object with these fields."""
    written: dict[str, Any] = {}
    for name, key in settings.items():
        written |= key.write(getattr(config, name))
    return written


SIZES: Settings = {
    "vocab_size": ConfigKey.count("vocab_size"),
    "hidden_size": ConfigKey.count("hidden_size"),
    "intermediate_size": ConfigKey.count("intermediate_size"),
    "num_layers": ConfigKey.count("num_hidden_layers"),
    "num_heads": ConfigKey.count("num_attention_heads"),
}


def read_activation(fields: Fields, default: str, key: str = "hidden_act") -> str:
    name = fields.text(key, default)
    if name not in _ACTIVATIONS:
        raise UnsupportedError(
            f"{fields.source}: activation {shown(name)} is not implemented",
            hint=f"implemented: {', '.join(_ACTIVATIONS)}",
        )
    return _ACTIVATIONS[name]


def activation_name(ours: str) -> str:
    """The inverse of `read_activation`."""
    return _ACTIVATION_NAMES[ours]


def nullable_number(fields: Fields, key: str, default: float | None) -> float | None:
    """A number that ``null`` switches off; ``default`` where the key is absent."""
    value = fields.get(key) if key in fields else default
    return None if value is None else Fields({key: value}, fields.source).number(key)


def refuse(fields: Fields, **plain: Any) -> None:
    """Settings that no field of ours expresses must be absent or have their ``plain`` value."""
    for key, value in plain.items():
        seen = fields.get(key)
        if seen is not None and seen != value:
            raise UnsupportedError(f"{fields.source}: {key} is {shown(seen)}, not {shown(value)}")
