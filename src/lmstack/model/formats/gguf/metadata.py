"""Metadata of GGUF files: to a `TransformerConfig`, and back.

Floats are 32 bits wide there; what is read is the shortest decimal that is stored so. Divisors of
rotary frequencies are tensors, which `Factors` carries. What a file asks for and no field
expresses is refused by name. Not covered: the vocabulary, which is the text module's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.model.config import LayerKind, TransformerConfig, blamed_on
from lmstack.model.families.family import layer_kinds, with_derived
from lmstack.model.families.settings import ConfigKey, Settings
from lmstack.model.fields import Fields
from lmstack.model.formats.gguf.architectures import ARCHITECTURES, Architecture, architecture_of
from lmstack.model.formats.layouts import stored_names
from lmstack.model.positions import RopeSpec

__all__ = ["FACTORS", "Factors", "by_tables", "config_from_metadata", "metadata_of"]

# Names of tensors that hold divisors of rotary frequencies, one for each pair of channels.
FACTORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
Factors = Mapping[str, tuple[float, ...]]
# The first length of a longrope whose divisors never change.
_EVERY_LENGTH = 1 << 30
_NONE = ("none", "linear")
# The one table of divisors that has a name of its own: LLaMA 3.1 and later.
_LLAMA3: dict[str, Any] = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_positions": 8192,
}
_SIZES: Settings = {
    "hidden_size": ConfigKey.count("embedding_length"),
    "intermediate_size": ConfigKey.count("feed_forward_length"),
    "num_layers": ConfigKey.count("block_count"),
    "num_heads": ConfigKey.count("attention.head_count"),
    "num_kv_heads": ConfigKey.optional("attention.head_count_kv"),
    "head_dim": ConfigKey.optional("attention.key_length"),
    "max_positions": ConfigKey.count("context_length"),
}
_MIXTURE: Settings = {
    "num_experts": ConfigKey.count("expert_count", default=0),
    "experts_per_token": ConfigKey.count("expert_used_count", default=2),
}


class _Metadata(Fields):
    """Metadata of one architecture, without its name before the keys."""

    def __init__(self, metadata: Mapping[str, Any], arch: Architecture, source: str) -> None:
        start = f"{arch.name}."
        super().__init__({k.removeprefix(start): v for k, v in metadata.items()}, source)

    def number(self, key: str, default: float | None = None) -> float:
        return _shortest(super().number(key, default))


def _shortest(value: float) -> float:
    """The decimal meant by a float32: 1e-5 is stored as 9.99999974e-06."""
    with np.errstate(over="ignore"):
        return float(str(np.float32(value)))


def _settings(arch: Architecture) -> Settings:
    """The keys that say one field each."""
    rms = "rms_" if arch.fixed.get("norm", "rms") in ("rms", "rms1p") else ""
    eps = {"norm_eps": ConfigKey.number(f"attention.layer_norm_{rms}epsilon")}
    return {**_SIZES, **eps, **(_MIXTURE if arch.experts else {}), **arch.settings}


def config_from_metadata(
    metadata: Mapping[str, Any],
    tensors: Collection[str] = (),
    source: str = "GGUF file",
    factors: Factors | None = None,
) -> TransformerConfig:
    """From the metadata of a GGUF file. The names in ``tensors`` tell what metadata leaves out:
    biases, and whether there is an output layer apart from the embeddings; without them it is
    taken to be its own, and biases to be absent. ``factors``: the tables of rotary divisors that
    a file keeps among its tensors."""
    with blamed_on(source):
        return TransformerConfig(**_values(metadata, tensors, source, factors or {}))


def _values(
    metadata: Mapping[str, Any], tensors: Collection[str], source: str, factors: Factors
) -> dict[str, Any]:
    arch = architecture_of(metadata, source)
    keys = _Metadata(metadata, arch, source)
    values: dict[str, Any] = {"tie_embeddings": bool(tensors) and "output.weight" not in tensors}
    values |= _biases(arch, tensors) | dict(arch.fixed)
    values |= {name: setting.read(keys) for name, setting in _settings(arch).items()}
    values["vocab_size"] = _vocab_size(keys)
    if not values.get("num_experts"):
        values.pop("experts_per_token", None)
    with_derived(values)
    _refuse_unknown(keys, arch, values["head_dim"])
    if arch.bare_norms and tensors and "blk.0.attn_norm.bias" not in tensors:
        values["norm"] = "ln_nobias"
    if arch.scaled:
        values["embedding_scale"] = values["hidden_size"] ** 0.5
        if values["num_layers"] == arch.scaled_layers:
            values["attention_scale"] = (values["hidden_size"] / values["num_heads"]) ** -0.5
    if "kinds" not in values:
        values |= layer_kinds(_layers(keys, arch, values, factors))
    return values


def _refuse_unknown(keys: _Metadata, arch: Architecture, head_dim: int) -> None:
    plain = {"attention.value_length": head_dim}
    if arch.is_paired:
        plain["rope.dimension_count"] = head_dim
    if not arch.experts:
        plain["expert_count"] = 0
    if arch.windows == "none":
        plain["attention.sliding_window"] = 0
    for key, value in plain.items():
        if keys.count(key, value) != value:
            raise UnsupportedError(
                f"{keys.source}: {arch.name}.{key} = {keys.get(key)} is not implemented"
            )


def _vocab_size(keys: _Metadata) -> int:
    tokens = keys.get("tokenizer.ggml.tokens")
    if keys.get("vocab_size") is None and isinstance(tokens, list):
        return len(tokens)
    return keys.count("vocab_size")


def _biases(arch: Architecture, tensors: Collection[str]) -> dict[str, bool]:
    places = {"qkv_bias": "attention.qkv", "out_bias": "attention.out", "mlp_bias": "mlp.down"}
    return {
        name: stored_names(f"blocks.0.{place}.bias", arch.tensors)[0] in tensors
        for name, place in places.items()
    }


def _layers(
    keys: _Metadata, arch: Architecture, values: Mapping[str, Any], factors: Factors
) -> list[LayerKind]:
    """The kinds of the layers one by one, or of all."""
    rope, count = _rope(keys, values, factors), values["num_layers"]
    if arch.unrotated:
        return [LayerKind(rope if (i + 1) % arch.unrotated else None) for i in range(count)]
    window = keys.count("attention.sliding_window", arch.window) if arch.windows != "none" else 0
    if not window:
        return [LayerKind(rope)]
    local = rope
    if arch.local_theta is not None:
        local = RopeSpec(theta=keys.number("rope.freq_base_swa", arch.local_theta))
    slides = _slides(keys, arch.interval, count)
    return [LayerKind(local, window) if slide else LayerKind(rope) for slide in slides]


def _slides(keys: _Metadata, interval: int, count: int) -> list[bool]:
    pattern = keys.get("attention.sliding_window_pattern")
    if isinstance(pattern, list):
        if len(pattern) < count:
            raise FormatError(f"{keys.source}: a window pattern of {len(pattern)} layers")
        return [bool(slide) for slide in pattern[:count]]
    every = keys.count("attention.sliding_window_pattern", interval)
    return [every < 1 or (i + 1) % every != 0 for i in range(count)]


def _rope(keys: _Metadata, values: Mapping[str, Any], factors: Factors) -> RopeSpec:
    head_dim = values["head_dim"]
    rotated = keys.count("rope.dimension_count", head_dim)
    if not 0 < rotated <= head_dim:
        raise FormatError(f"{keys.source}: {rotated} channels of {head_dim} rotate")
    base: dict[str, Any] = {
        "theta": keys.number("rope.freq_base", 10000.0),
        "fraction": rotated / head_dim,
    }
    kind = keys.text("rope.scaling.type", "linear")
    if "rope_freqs.weight" in factors:
        return _by_table(base, factors["rope_freqs.weight"], rotated)
    if "rope_factors_short.weight" in factors:
        return _longrope(keys, base, values, factors)
    if kind in _NONE:
        factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 1.0))
        stretched = kind == "linear" and factor not in (0.0, 1.0)
        return RopeSpec(**base, scaling="linear", factor=factor) if stretched else RopeSpec(**base)
    if kind != "yarn":
        raise UnsupportedError(f"{keys.source}: rope scaling {shown(kind)} is not implemented")
    return RopeSpec(
        **base,
        scaling="yarn",
        factor=keys.number("rope.scaling.factor"),
        original_positions=keys.count(
            "rope.scaling.original_context_length", values["max_positions"]
        ),
        beta_fast=keys.number("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=keys.number("rope.scaling.yarn_beta_slow", 1.0),
    )


def _longrope(
    keys: _Metadata, base: dict[str, Any], values: Mapping[str, Any], factors: Factors
) -> RopeSpec:
    longest = values["max_positions"]
    original = keys.count("rope.scaling.original_context_length", longest)
    spec = RopeSpec(
        **base,
        scaling="longrope",
        factor=longest / original if original > 0 else 0.0,
        original_positions=original,
        short_factors=factors["rope_factors_short.weight"],
        long_factors=factors.get("rope_factors_long.weight", ()),
    )
    stored = keys.number("rope.scaling.attn_factor", spec.magnitude)
    near = math.isclose(stored, spec.magnitude, rel_tol=1e-6)
    return spec if near else spec.replace(attention_factor=stored)


def _by_table(base: dict[str, Any], table: tuple[float, ...], rotated: int) -> RopeSpec:
    """Divisors for every length: those of llama3, recognised, or a longrope that never changes."""
    named = RopeSpec(**base, scaling="llama3", factor=round(max(table), 4), **_LLAMA3)
    if torch.allclose(_divisors(named, rotated), torch.tensor(table), rtol=1e-5):
        return named
    return _tabled(base, table)


def _tabled(base: Mapping[str, Any], table: tuple[float, ...]) -> RopeSpec:
    fixed: dict[str, Any] = dict(base)
    return RopeSpec(
        **fixed,
        scaling="longrope",
        original_positions=_EVERY_LENGTH,
        short_factors=table,
        long_factors=table,
        attention_factor=1.0,
    )


def by_tables(given: tuple[LayerKind, ...], head_dim: int) -> tuple[LayerKind, ...]:
    """The same kinds, the rotations of llama3 as the tables that files hold of them."""
    kinds = []
    for kind in given:
        rope = kind.rope
        if rope is not None and rope.scaling == "llama3":
            table = tuple(_divisors(rope, rope.rotary_dim(head_dim)).tolist())
            rope = _tabled({"theta": rope.theta, "fraction": rope.fraction}, table)
        kinds.append(LayerKind(rope, kind.window))
    return tuple(kinds)


def _divisors(spec: RopeSpec, rotated: int) -> torch.Tensor:
    """How much slower each pair of channels turns than without scaling."""
    plain = RopeSpec(theta=spec.theta).inverse_frequencies(rotated)
    return plain / spec.replace(fraction=1.0).inverse_frequencies(rotated)


def metadata_of(
    config: TransformerConfig,
) -> Iterator[tuple[Architecture, dict[str, Any], dict[str, tuple[float, ...]]]]:
    """Each architecture that might hold ``config``: its metadata, and tables of divisors. Whether
    it says all of ``config`` shows when it is read back."""
    rope = next((k.rope for k in reversed(config.kinds) if k.rope is not None), None)
    more: dict[str, Any] = {}
    tables: dict[str, tuple[float, ...]] = {}
    if rope is not None:
        more, tables = _written_rope(config, rope)
    for arch in ARCHITECTURES:
        if arch.takes(config) and set(tables) <= set(arch.factors):
            metadata = _written(config, arch) | _written_windows(config, arch) | more
            prefixed = {
                key if key.startswith("tokenizer.") else f"{arch.name}.{key}": value
                for key, value in metadata.items()
            }
            yield arch, {"general.architecture": arch.name} | prefixed, tables


def _written(config: TransformerConfig, arch: Architecture) -> dict[str, Any]:
    written: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "attention.value_length": config.head_dim,
    }
    for name, setting in _settings(arch).items():
        if name not in _MIXTURE or config.num_experts:
            written |= setting.write(getattr(config, name))
    return {key: value for key, value in written.items() if value is not None}


def _written_windows(config: TransformerConfig, arch: Architecture) -> dict[str, Any]:
    sliding = [layer for layer in config.layers if layer.window is not None]
    if arch.windows == "read":
        # llama.cpp reads the key for this architecture and computes without the window, so a
        # file that needs one is not written. It must be there all the same.
        return {"attention.sliding_window": 0}
    if arch.windows == "none" or not sliding:
        return {}
    values: dict[str, Any] = {"attention.sliding_window": sliding[0].window}
    if arch.interval:
        slides = [layer.window is not None for layer in config.layers]
        values["attention.sliding_window_pattern"] = slides
    local = sliding[0].rope
    if arch.local_theta is not None and local is not None:
        values["rope.freq_base_swa"] = local.theta
    return values


def _written_rope(
    config: TransformerConfig, rope: RopeSpec
) -> tuple[dict[str, Any], dict[str, tuple[float, ...]]]:
    rotated = rope.rotary_dim(config.head_dim)
    values: dict[str, Any] = {
        "rope.dimension_count": rotated,
        "rope.freq_base": float(rope.theta),
    }
    if rope.scaling in ("linear", "yarn"):
        values["rope.scaling.type"] = rope.scaling
        values["rope.scaling.factor"] = float(rope.factor)
    if rope.scaling == "yarn":
        values["rope.scaling.original_context_length"] = rope.original_positions
        values["rope.scaling.yarn_beta_fast"] = float(rope.beta_fast)
        values["rope.scaling.yarn_beta_slow"] = float(rope.beta_slow)
    if rope.scaling == "llama3":
        return values, {"rope_freqs.weight": tuple(_divisors(rope, rotated).tolist())}
    if rope.scaling != "longrope":
        return values, {}
    if rope.original_positions == _EVERY_LENGTH:
        return values, {"rope_freqs.weight": rope.short_factors}
    values["rope.scaling.original_context_length"] = rope.original_positions
    values["rope.scaling.attn_factor"] = float(rope.magnitude)
    return values, {
        "rope_factors_long.weight": rope.long_factors,
        "rope_factors_short.weight": rope.short_factors,
    }
