"""What a family of models is, and the readers that several of them share.

A `Family` is data and two small functions between plain mappings: fields of `TransformerConfig`
on our side, a config.json on theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmstack.core import UnsupportedError, shown
from lmstack.model.fields import Fields
from lmstack.model.layouts import Table
from lmstack.model.positions import RopeSpec

__all__ = ["ACTIVATION_NAMES", "Family", "read_activation", "read_rope", "write_rope"]

_ACTIVATIONS: dict[str, str] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
ACTIVATION_NAMES = {"silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}


@dataclass(frozen=True)
class Family:
    """``heads``: architecture name to the config fields that it sets; the first one is assumed
    where a file names none.

    ``tensors``: where our tensors are in a file, in the language of `layouts`, or what gives
    that for the fields of a config; ``alternatives``: other entries, used where a file has
    their names. ``prefix`` stands before all names but those of heads in files of models with
    a head. ``ignored``: ends of names that carry no weights of ours. ``renames``: pattern and
    replacement, for each name of an older checkpoint. ``optional_head``: tensors of the head
    may be missing.
    """

    model_type: str
    heads: Mapping[str, Mapping[str, Any]]
    prefix: str
    tensors: Table | Callable[[Mapping[str, Any]], Table]
    ignored: tuple[str, ...]
    read: Callable[[Fields], dict[str, Any]]
    write: Callable[[Mapping[str, Any]], dict[str, Any]]
    optional_head: bool = False
    alternatives: Table = field(default_factory=dict)
    renames: tuple[tuple[str, str], ...] = ()

    def table(self, config: Mapping[str, Any]) -> Table:
        """The table of ``tensors`` for a config of these fields."""
        return self.tensors(config) if callable(self.tensors) else self.tensors


def read_activation(fields: Fields, default: str, key: str = "hidden_act") -> str:
    name = fields.text(key, default)
    if name not in _ACTIVATIONS:
        raise UnsupportedError(
            f"{fields.source}: activation {shown(name)} is not implemented",
            hint=f"implemented: {', '.join(_ACTIVATIONS)}",
        )
    return _ACTIVATIONS[name]


def read_rope(fields: Fields, theta: float = 10000.0) -> RopeSpec:
    """Both spellings: ``rope_parameters`` (transformers 5), ``rope_theta`` + ``rope_scaling``.
    ``theta``: that of the family where the file names none."""
    rope = fields.nested("rope_parameters") or fields.nested("rope_scaling") or Fields({}, "rope")
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind not in ("default", "linear", "llama3"):
        raise UnsupportedError(
            f"{fields.source}: rope scaling {shown(kind)} is not implemented",
            hint="implemented: default, linear, llama3",
        )
    for source in (rope, fields):
        if source.number("partial_rotary_factor", 1.0) != 1.0:
            raise UnsupportedError(f"{fields.source}: partial rotary embeddings")
    theta = rope.number("rope_theta", fields.number("rope_theta", theta))
    if kind == "default":
        return RopeSpec(theta=theta)
    factor = rope.number("factor")
    if kind == "linear":
        return RopeSpec(theta=theta, scaling="linear", factor=factor)
    return RopeSpec(
        theta=theta,
        scaling="llama3",
        factor=factor,
        low_freq_factor=rope.number("low_freq_factor"),
        high_freq_factor=rope.number("high_freq_factor"),
        original_positions=rope.count("original_max_position_embeddings"),
    )


def write_rope(rope: RopeSpec) -> dict[str, Any]:
    parameters: dict[str, Any] = {"rope_type": rope.scaling, "rope_theta": rope.theta}
    if rope.scaling != "default":
        parameters["factor"] = rope.factor
    if rope.scaling == "llama3":
        parameters["low_freq_factor"] = rope.low_freq_factor
        parameters["high_freq_factor"] = rope.high_freq_factor
        parameters["original_max_position_embeddings"] = rope.original_positions
    return parameters
