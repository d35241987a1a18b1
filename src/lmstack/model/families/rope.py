"""Rotary positions as config.json writes them: both spellings, every scaling.

Read are ``rope_parameters`` (transformers 5) and ``rope_theta`` with ``rope_scaling`` (before);
written is the first. Lengths and factors that files leave out follow transformers' defaults.
"""

from __future__ import annotations

import math
from typing import Any

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.model.families.settings import ConfigKey, Settings, read_settings, write_settings
from lmstack.model.fields import Fields
from lmstack.model.positions import RopeSpec

__all__ = ["read_rope", "rope_from", "write_rope"]

_LENGTH = "original_max_position_embeddings"
# What each scaling says of itself; the length and factors that files leave out are in `rope_from`.
_SETTINGS: dict[str, Settings] = {
    "default": {},
    "linear": {"factor": ConfigKey.number("factor")},
    "dynamic": {"factor": ConfigKey.number("factor")},
    "yarn": {
        "factor": ConfigKey.number("factor"),
        "original_positions": ConfigKey.count(_LENGTH),
        "beta_fast": ConfigKey.number("beta_fast", default=32.0),
        "beta_slow": ConfigKey.number("beta_slow", default=1.0),
        "truncate": ConfigKey.flag("truncate", True),
        "attention_factor": ConfigKey.nullable("attention_factor"),
    },
    "llama3": {
        "factor": ConfigKey.number("factor"),
        "original_positions": ConfigKey.count(_LENGTH),
        "low_freq_factor": ConfigKey.number("low_freq_factor"),
        "high_freq_factor": ConfigKey.number("high_freq_factor"),
    },
    "longrope": {
        "factor": ConfigKey.number("factor"),
        "original_positions": ConfigKey.count(_LENGTH),
        "attention_factor": ConfigKey.nullable("attention_factor"),
    },
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
    if not isinstance(kind, str) or kind not in _SETTINGS:
        raise UnsupportedError(
            f"{fields.source}: rope scaling {shown(kind)} is not implemented",
            hint=f"implemented: {', '.join(_SETTINGS)}",
        )
    values: dict[str, Any] = {
        "theta": rope.number("rope_theta", theta),
        "fraction": rope.number("partial_rotary_factor", fraction),
        "scaling": kind,
    }
    if kind == "default":
        return RopeSpec(**values)
    longest = fields.count("max_position_embeddings")
    original = fields.count(_LENGTH, rope.count(_LENGTH, longest))
    given = rope.with_defaults({_LENGTH: original})
    if kind in ("yarn", "longrope"):
        # Models that name both lengths mean their ratio.
        given = given.with_defaults({"factor": longest / original if original else 0.0})
    values |= read_settings(_SETTINGS[kind], given)
    if kind == "dynamic":
        values["original_positions"] = longest
    if kind == "longrope":
        values["short_factors"] = _factors(rope, "short_factor")
        values["long_factors"] = _factors(rope, "long_factor")
    scales = [rope.number(key, 0.0) for key in ("mscale", "mscale_all_dim")]
    if kind == "yarn" and all(scales) and values["attention_factor"] is None:
        top, bottom = (_yarn_scale(values["factor"], scale) for scale in scales)
        values["attention_factor"] = top / bottom
    return RopeSpec(**values)


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
    written |= write_settings(_SETTINGS[rope.scaling], rope)
    if rope.scaling == "longrope":
        written["short_factor"] = list(rope.short_factors)
        written["long_factor"] = list(rope.long_factors)
    return {key: value for key, value in written.items() if value is not None}
