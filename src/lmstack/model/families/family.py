"""What a family of models is, and the small readers that several of them share.

A `Family` is data and two small functions between plain mappings: fields of `TransformerConfig`
on our side, a config.json on theirs. What families say of rotary positions is in `rope`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import Table
from lmstack.model.kinds import LayerKind

__all__ = [
    "ACTIVATION_NAMES",
    "LM",
    "NONE",
    "SEQUENCE",
    "SPAN",
    "TOKEN",
    "Family",
    "any_count",
    "each_layer",
    "layer_kinds",
    "layers_of",
    "nullable_number",
    "read_activation",
    "refuse",
    "renamed",
]

_ACTIVATIONS: dict[str, str] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "tanh": "tanh",
}
ACTIVATION_NAMES = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_tanh": "gelu_new",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "tanh": "tanh",
}
_MOST_LAYERS = 1 << 16
# What the architectures of decoders set.
LM: Mapping[str, Any] = {"head": "lm"}
NONE: Mapping[str, Any] = {"head": "none"}
SEQUENCE: Mapping[str, Any] = {"head": "sequence", "pooling": "last", "classifier_bias": False}
TOKEN: Mapping[str, Any] = {"head": "token"}
SPAN: Mapping[str, Any] = {"head": "span"}


@dataclass(frozen=True)
class Family:
    """``heads``: architecture name to the config fields that it sets; the first one is assumed
    where a file names none.

    ``tensors``: where our tensors are in a file, in the language of `layouts`, or what gives
    that for the fields of a config; ``alternatives``: other entries, used where a file has
    their names. ``prefix`` stands before all names but those of heads in files of models with
    a head. ``ignored``: ends of names that carry no weights of ours. ``renames``: pattern and
    replacement, for each name of an older checkpoint. ``spellings``: a key of config.json, and
    the value of it under which files have other names, with the renames to those.
    ``optional_head``: tensors of the head may be missing. ``always_tied``: the output layer is
    the embedding table unless the file holds one, whatever its config says. ``decoder_start``:
    the token that begins an encoder-decoder's output where no file names one.
    """

    model_type: str
    heads: Mapping[str, Mapping[str, Any]]
    prefix: str
    tensors: Table | Callable[[Mapping[str, Any]], Table]
    ignored: tuple[str, ...]
    read: Callable[[Fields], dict[str, Any]]
    write: Callable[[Mapping[str, Any]], dict[str, Any]]
    optional_head: bool = False
    always_tied: bool = False
    decoder_start: int | None = None
    alternatives: Table = field(default_factory=dict)
    renames: tuple[tuple[str, str], ...] = ()
    spellings: Mapping[str, tuple[object, tuple[tuple[str, str], ...]]] = field(
        default_factory=dict
    )

    def table(self, config: Mapping[str, Any]) -> Table:
        """The table of ``tensors`` for a config of these fields."""
        return self.tensors(config) if callable(self.tensors) else self.tensors

    def spelled(self, name: str, config_json: Mapping[str, Any]) -> str:
        """``name`` as files with this config.json have it."""
        for key, (value, renames) in self.spellings.items():
            if config_json.get(key) == value:
                name = renamed(name, renames)
        return name


def renamed(name: str, renames: tuple[tuple[str, str], ...]) -> str:
    """``name`` after each pattern and replacement in turn."""
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def read_activation(fields: Fields, default: str, key: str = "hidden_act") -> str:
    name = fields.text(key, default)
    if name not in _ACTIVATIONS:
        raise UnsupportedError(
            f"{fields.source}: activation {shown(name)} is not implemented",
            hint=f"implemented: {', '.join(_ACTIVATIONS)}",
        )
    return _ACTIVATIONS[name]


def any_count(fields: Fields, *keys: str, default: int | None = None) -> int:
    """The first of ``keys`` that the file has; older files use other names."""
    found = next((key for key in keys if fields.get(key) is not None), keys[0])
    return fields.count(found, default)


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


def each_layer(fields: Fields, count: int) -> range:
    """The numbers of ``count`` layers, where a list of them will be made: a file that lies about
    them must not cost memory."""
    if count > _MOST_LAYERS:
        raise FormatError(f"{fields.source}: {count} layers", hint="the file is damaged")
    return range(count)


def layer_kinds(layers: Sequence[LayerKind]) -> dict[str, Any]:
    """The fields ``kinds`` and ``pattern`` of layers given one by one."""
    kinds = tuple(dict.fromkeys(layers))
    pattern = tuple(map(kinds.index, layers)) if len(kinds) > 1 else ()
    return {"kinds": kinds, "pattern": pattern}


def layers_of(config: Mapping[str, Any]) -> list[LayerKind]:
    """The inverse of `layer_kinds`."""
    return [config["kinds"][i] for i in config["pattern"] or (0,) * config["num_layers"]]
