"""Rotary positions as config.json writes them: both spellings, every scaling.

Read are ``rope_parameters`` (transformers 5) and ``rope_theta`` with ``rope_scaling`` (before);
written is the first. Lengths and factors that files leave out follow transformers' defaults.
"""

from __future__ import annotations

import math
from typing import Any

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.model.fields import Fields
from lmstack.model.positions import RopeSpec

__all__ = ["read_rope", "rope_from", "write_rope"]

_LENGTH = "original_max_position_embeddings"
# What each scaling needs, by its key.
_FACTOR = {"factor": "factor"}
_WRITTEN: dict[str, dict[str, str]] = {
    "default": {},
    "linear": _FACTOR,
    "dynamic": _FACTOR,
    "yarn": _FACTOR
    | {_LENGTH: "original_positions", "truncate": "truncate"}
    | {"beta_fast": "beta_fast", "beta_slow": "beta_slow"},
    "llama3": _FACTOR
    | {_LENGTH: "original_positions"}
    | {"low_freq_factor": "low_freq_factor", "high_freq_factor": "high_freq_factor"},
    "longrope": _FACTOR
    | {_LENGTH: "original_positions"}
    | {"short_factor": "short_factors", "long_factor": "long_factors"},
}


def read_rope(fields: Fields, theta: float = 10000.0, *, fraction: float = 1.0) -> RopeSpec:
    """Both spellings: ``rope_parameters`` (transformers 5), ``rope_theta`` + ``rope_scaling``.
    ``theta`` and ``fraction``: those of the family where the file names none."""
    rope = fields.nested("rope_parameters") or fields.nested("rope_scaling") or Fields({}, "rope")
    return rope_from(
        rope,
        fields,
        theta=fields.number("rope_theta", theta),
        fraction=fields.number("partial_rotary_factor", fraction),
    )


def rope_from(rope: Fields, fields: Fields, *, theta: float, fraction: float = 1.0) -> RopeSpec:
    """From one object of parameters; ``fields`` are those of the whole config."""
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "su":
        kind = "longrope"
    if not isinstance(kind, str) or kind not in _WRITTEN:
        raise UnsupportedError(
            f"{fields.source}: rope scaling {shown(kind)} is not implemented",
            hint=f"implemented: {', '.join(_WRITTEN)}",
        )
    values: dict[str, Any] = {
        "theta": rope.number("rope_theta", theta),
        "fraction": rope.number("partial_rotary_factor", fraction),
        "scaling": kind,
    }
    if kind == "default":
        return RopeSpec(**values)
    longest = fields.count("max_position_embeddings")
    if kind == "dynamic":
        values["original_positions"] = longest
    elif kind != "linear":
        inner = rope.count(_LENGTH, longest)
        values["original_positions"] = fields.count(_LENGTH, inner)
    # Models that name both lengths mean their ratio.
    ratio = longest / values["original_positions"] if kind in ("yarn", "longrope") else None
    values["factor"] = rope.number("factor", ratio)
    return RopeSpec(**values | _more(kind, rope))


def _more(kind: str, rope: Fields) -> dict[str, Any]:
    if kind == "llama3":
        return {
            "low_freq_factor": rope.number("low_freq_factor"),
            "high_freq_factor": rope.number("high_freq_factor"),
        }
    values: dict[str, Any] = {}
    if kind in ("yarn", "longrope") and rope.get("attention_factor") is not None:
        values["attention_factor"] = rope.number("attention_factor")
    if kind == "longrope":
        return values | {
            "short_factors": _factors(rope, "short_factor"),
            "long_factors": _factors(rope, "long_factor"),
        }
    if kind == "yarn":
        values |= {
            "beta_fast": rope.number("beta_fast", 32.0),
            "beta_slow": rope.number("beta_slow", 1.0),
            "truncate": rope.flag("truncate", True),
        }
        scales = rope.number("mscale", 0.0), rope.number("mscale_all_dim", 0.0)
        if all(scales) and "attention_factor" not in values:
            top, bottom = (_yarn_scale(rope.number("factor"), scale) for scale in scales)
            values["attention_factor"] = top / bottom
    return values


def _yarn_scale(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def _factors(rope: Fields, key: str) -> tuple[float, ...]:
    values = rope.get(key)
    if not isinstance(values, list) or not values:
        raise FormatError(f"{rope.source}: {key} is {shown(values)}, not a list of numbers")
    return tuple(Fields({key: value}, rope.source).number(key) for value in values)


def write_rope(rope: RopeSpec) -> dict[str, Any]:
    """The object of ``rope_parameters``."""
    written: dict[str, Any] = {"rope_type": rope.scaling, "rope_theta": rope.theta}
    if rope.fraction != 1.0:
        written["partial_rotary_factor"] = rope.fraction
    for key, name in _WRITTEN[rope.scaling].items():
        value = getattr(rope, name)
        written[key] = list(value) if isinstance(value, tuple) else value
    if rope.attention_factor is not None:
        written["attention_factor"] = rope.attention_factor
    return written
