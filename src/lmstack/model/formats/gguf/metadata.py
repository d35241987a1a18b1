"""Metadata of GGUF files: to the fields of our config, and back.

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
from lmstack.model.families.family import each_layer, layer_kinds, layers_of
from lmstack.model.fields import Fields
from lmstack.model.formats.gguf.architectures import ARCHITECTURES, Architecture, architecture_of
from lmstack.model.formats.layouts import stored_names
from lmstack.model.kinds import LayerKind
from lmstack.model.positions import RopeSpec

__all__ = ["FACTORS", "Factors", "by_tables", "gguf_writings", "read_metadata"]

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
# Layers of the 27B models of Gemma 2 and 3, whose scale is not that of their heads.
_GEMMA_27B = {"gemma2": 46, "gemma3": 62}


class _Keys:
    """Metadata under the prefix of an architecture."""

    def __init__(self, fields: Fields, arch: Architecture) -> None:
        self.fields, self.arch, self.source = fields, arch.name, fields.source

    def has(self, key: str) -> bool:
        return self.fields.get(f"{self.arch}.{key}") is not None

    def get(self, key: str) -> Any:
        return self.fields.get(f"{self.arch}.{key}")

    def count(self, key: str, default: int | None = None) -> int:
        return self.fields.count(f"{self.arch}.{key}", default)

    def number(self, key: str, default: float | None = None) -> float:
        return _shortest(self.fields.number(f"{self.arch}.{key}", default))


def _shortest(value: float) -> float:
    """The decimal meant by a float32: 1e-5 is stored as 9.99999974e-06."""
    with np.errstate(over="ignore"):
        return float(str(np.float32(value)))


def read_metadata(
    metadata: Mapping[str, Any],
    tensors: Collection[str] = (),
    source: str = "GGUF file",
    factors: Factors | None = None,
) -> dict[str, Any]:
    """The fields of a `TransformerConfig`. ``tensors``: the names that the file holds; without
    them the output layer is taken to be its own and biases to be absent."""
    arch = architecture_of(metadata, source)
    fields = Fields(metadata, source)
    keys = _Keys(fields, arch)
    width, heads = keys.count("embedding_length"), keys.count("attention.head_count")
    head_dim = keys.count("attention.key_length", width // heads if heads else 0)
    layers = keys.count("block_count")
    rms = arch.fixed.get("norm", "rms") in ("rms", "rms1p")
    eps = keys.number("attention.layer_norm_rms_epsilon" if rms else "attention.layer_norm_epsilon")
    if not 0 <= eps < 1:
        raise FormatError(f"{source}: norm epsilon is {eps}")
    _refuse_unknown(keys, arch, head_dim)
    values = {
        "vocab_size": _vocab_size(fields, keys),
        "hidden_size": width,
        "intermediate_size": keys.count("feed_forward_length"),
        "num_layers": layers,
        "num_heads": heads,
        "num_kv_heads": keys.count("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_positions": keys.count("context_length"),
        "norm_eps": eps,
        "num_experts": keys.count("expert_count", 0),
        "experts_per_token": keys.count("expert_used_count", 2),
        "tie_embeddings": bool(tensors) and "output.weight" not in tensors,
    }
    if not values["num_experts"]:
        del values["experts_per_token"]
    values |= _biases(arch, tensors)
    values |= arch.fixed
    values |= _special(keys, arch, tensors, values)
    if "kinds" not in values:
        values |= _layers(keys, arch, values, factors or {})
    return values


def _refuse_unknown(keys: _Keys, arch: Architecture, head_dim: int) -> None:
    plain = {"attention.value_length": head_dim}
    if arch.name in ("llama", "smollm3"):
        # Their rows are paired over the whole head.
        plain["rope.dimension_count"] = head_dim
    if arch.name != "llama":
        plain["expert_count"] = 0
    if not arch.windows:
        plain["attention.sliding_window"] = 0
    for key, value in plain.items():
        if keys.count(key, value) != value:
            raise UnsupportedError(
                f"{keys.source}: {arch.name}.{key} = {keys.get(key)} is not implemented"
            )


def _vocab_size(fields: Fields, keys: _Keys) -> int:
    tokens = fields.get("tokenizer.ggml.tokens")
    if not keys.has("vocab_size") and isinstance(tokens, list):
        return len(tokens)
    return keys.count("vocab_size")


def _biases(arch: Architecture, tensors: Collection[str]) -> dict[str, bool]:
    places = {"qkv_bias": "attention.qkv", "out_bias": "attention.out", "mlp_bias": "mlp.down"}
    return {
        name: stored_names(f"blocks.0.{place}.bias", arch.tensors)[0] in tensors
        for name, place in places.items()
    }


def _special(
    keys: _Keys, arch: Architecture, tensors: Collection[str], values: dict[str, Any]
) -> dict[str, Any]:
    """What single architectures have beside the common facts."""
    found: dict[str, Any] = {
        ours: keys.number(key) for key, ours in arch.optional.items() if keys.has(key)
    }
    if arch.name == "gemma2":
        found = {"attention_softcap": 50.0, "logit_softcap": 30.0} | found
    if arch.name in _GEMMA_27B:
        found["embedding_scale"] = values["hidden_size"] ** 0.5
        if values["num_layers"] == _GEMMA_27B[arch.name]:
            found["attention_scale"] = (values["hidden_size"] / values["num_heads"]) ** -0.5
    if arch.name == "gptneox":
        found["parallel"] = keys.fields.flag("gptneox.use_parallel_residual", True)
    if arch.name == "mpt":
        if tensors and "blk.0.attn_norm.bias" not in tensors:
            found["norm"] = "ln_nobias"
        if not found.get("alibi_max"):
            raise UnsupportedError(f"{keys.source}: an MPT without ALiBi")
    if arch.name == "bert":
        found["token_types"] = keys.fields.count("tokenizer.ggml.token_type_count", 2)
    return found


def _layers(
    keys: _Keys, arch: Architecture, values: Mapping[str, Any], factors: Factors
) -> dict[str, Any]:
    """The fields ``kinds`` and ``pattern``."""
    rope = _rope(keys, values, factors)
    count = values["num_layers"]
    if arch.name == "smollm3":
        every = each_layer(keys.fields, count)
        return layer_kinds([LayerKind(rope if (i + 1) % 4 else None) for i in every])
    window = 0
    if arch.windows:
        window = keys.count("attention.sliding_window", 4096 if arch.name == "gemma2" else 0)
    if not window:
        return layer_kinds([LayerKind(rope)])
    local = rope
    if arch.name == "gemma3":
        local = RopeSpec(theta=keys.number("rope.freq_base_swa", 10000.0))
    slides = _slides(keys, arch.interval, count)
    return layer_kinds([LayerKind(local, window) if s else LayerKind(rope) for s in slides])


def _slides(keys: _Keys, interval: int, count: int) -> list[bool]:
    pattern = keys.get("attention.sliding_window_pattern")
    if isinstance(pattern, list):
        if len(pattern) < count:
            raise FormatError(f"{keys.source}: a window pattern of {len(pattern)} layers")
        return [bool(slide) for slide in pattern[:count]]
    every = keys.count("attention.sliding_window_pattern", interval)
    return [every < 1 or (i + 1) % every != 0 for i in each_layer(keys.fields, count)]


def _rope(keys: _Keys, values: Mapping[str, Any], factors: Factors) -> RopeSpec:
    head_dim = values["head_dim"]
    rotated = keys.count("rope.dimension_count", head_dim)
    if not 0 < rotated <= head_dim:
        raise FormatError(f"{keys.source}: {rotated} channels of {head_dim} rotate")
    base: dict[str, Any] = {
        "theta": keys.number("rope.freq_base", 10000.0),
        "fraction": rotated / head_dim,
    }
    kind = keys.fields.text(f"{keys.arch}.rope.scaling.type", "linear")
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
    keys: _Keys, base: dict[str, Any], values: Mapping[str, Any], factors: Factors
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


def gguf_writings(
    config: Mapping[str, Any],
) -> Iterator[tuple[Architecture, dict[str, Any], dict[str, tuple[float, ...]]]]:
    """Each architecture that might hold a config of these fields: its metadata, and tables of
    divisors. Whether it says all of ``config`` shows when it is read back."""
    rope = next((k.rope for k in reversed(config["kinds"]) if k.rope is not None), None)
    more: dict[str, Any] = {}
    tables: dict[str, tuple[float, ...]] = {}
    if rope is not None:
        more, tables = _written_rope(config, rope)
    for arch in ARCHITECTURES:
        fits = all(_says(config, name, value) for name, value in arch.fixed.items())
        if not fits or not arch.takes(config) or not set(tables) <= set(arch.factors):
            continue
        metadata = _written(config, arch) | _written_windows(config, arch) | more
        prefixed = {
            key if key.startswith("tokenizer.") else f"{arch.name}.{key}": value
            for key, value in metadata.items()
        }
        yield arch, {"general.architecture": arch.name} | prefixed, tables


def _says(config: Mapping[str, Any], name: str, value: Any) -> bool:
    """Whether the config agrees with what an architecture fixes, as far as the name tells."""
    if name == "norm" and value == "ln":
        return config[name] in ("ln", "ln_nobias")
    return bool(config[name] == value)


def _written(config: Mapping[str, Any], arch: Architecture) -> dict[str, Any]:
    rms = config["norm"] in ("rms", "rms1p")
    values: dict[str, Any] = {
        "vocab_size": config["vocab_size"],
        "context_length": config["max_positions"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_heads"],
        "attention.head_count_kv": config["num_kv_heads"],
        "attention.key_length": config["head_dim"],
        "attention.value_length": config["head_dim"],
        f"attention.layer_norm_{'rms_' if rms else ''}epsilon": float(config["norm_eps"]),
    }
    if config["num_experts"]:
        values["expert_count"] = config["num_experts"]
        values["expert_used_count"] = config["experts_per_token"]
    values |= {
        key: float(config[ours]) for key, ours in arch.optional.items() if config[ours] is not None
    }
    if arch.name == "gptneox":
        values["use_parallel_residual"] = config["parallel"]
    if arch.name == "bert":
        values["attention.causal"] = False
        values["tokenizer.ggml.token_type_count"] = config["token_types"]
    return values


def _written_windows(config: Mapping[str, Any], arch: Architecture) -> dict[str, Any]:
    layers = layers_of(config)
    windows = [layer.window for layer in layers if layer.window is not None]
    if arch.name == "phi3":
        # llama.cpp reads the key for this architecture and computes without the window, so a
        # file that needs one is not written. It must be there all the same.
        return {"attention.sliding_window": 0}
    if not arch.windows or not windows:
        return {}
    values: dict[str, Any] = {"attention.sliding_window": windows[0]}
    if arch.interval:
        values["attention.sliding_window_pattern"] = [layer.window is not None for layer in layers]
    local = next(layer.rope for layer in layers if layer.window is not None)
    if arch.name == "gemma3" and local is not None:
        values["rope.freq_base_swa"] = local.theta
    return values


def _written_rope(
    config: Mapping[str, Any], rope: RopeSpec
) -> tuple[dict[str, Any], dict[str, tuple[float, ...]]]:
    rotated = rope.rotary_dim(config["head_dim"])
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
