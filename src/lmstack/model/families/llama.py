"""LLaMA and its kin: RMSNorm, RoPE, grouped queries, a gated MLP and the same names of tensors.

Covered: LLaMA (1 to 3, SmolLM2), Mistral, Mixtral, Qwen2, Qwen3, Phi-3, SmolLM3, OLMo2. What
sets one apart is a few fields and entries of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.model.families.family import (
    ACTIVATION_NAMES,
    LM,
    NONE,
    SEQUENCE,
    TOKEN,
    Family,
    each_layer,
    layer_kinds,
    layers_of,
    read_activation,
)
from lmstack.model.families.rope import read_rope, write_rope
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import Entry
from lmstack.model.kinds import LayerKind
from lmstack.model.positions import RopeSpec

__all__ = ["LLAMA_FAMILIES", "LLAMA_TENSORS", "layer_types", "read_decoder", "write_decoder"]

_LAYER = "model.layers.{i}"
LLAMA_TENSORS: dict[str, Entry] = {
    "embed": "model.embed_tokens",
    "blocks.{i}.attention_norm": f"{_LAYER}.input_layernorm",
    "blocks.{i}.attention.qkv": (
        f"{_LAYER}.self_attn.q_proj",
        f"{_LAYER}.self_attn.k_proj",
        f"{_LAYER}.self_attn.v_proj",
    ),
    "blocks.{i}.attention.out": f"{_LAYER}.self_attn.o_proj",
    "blocks.{i}.mlp_norm": f"{_LAYER}.post_attention_layernorm",
    "blocks.{i}.mlp.up": (f"{_LAYER}.mlp.gate_proj", f"{_LAYER}.mlp.up_proj"),
    "blocks.{i}.mlp.down": f"{_LAYER}.mlp.down_proj",
    "final_norm": "model.norm",
    "head": "lm_head",
    "classifier": "score",
}
_QK_NORM: dict[str, Entry] = {
    "blocks.{i}.attention.q_norm": f"{_LAYER}.self_attn.q_norm",
    "blocks.{i}.attention.k_norm": f"{_LAYER}.self_attn.k_norm",
}
_OLMO2_NORMS: dict[str, Entry] = {
    "blocks.{i}.attention_norm": f"{_LAYER}.post_attention_layernorm",
    "blocks.{i}.mlp_norm": f"{_LAYER}.post_feedforward_layernorm",
}
_PHI3_FUSED: dict[str, Entry] = {
    "blocks.{i}.attention.qkv": f"{_LAYER}.self_attn.qkv_proj",
    "blocks.{i}.mlp.up": f"{_LAYER}.mlp.gate_up_proj",
}
_MOE = f"{_LAYER}.block_sparse_moe"
_MIXTRAL_EXPERTS: dict[str, Entry] = {
    "blocks.{i}.mlp.router": f"{_MOE}.gate",
    "blocks.{i}.mlp.up.weight": (
        f"{_MOE}.experts.{{e}}.w1.weight",
        f"{_MOE}.experts.{{e}}.w3.weight",
    ),
    "blocks.{i}.mlp.down.weight": f"{_MOE}.experts.{{e}}.w2.weight",
}
# As transformers 5 names them inside, and in files when told to.
_MIXTRAL_FUSED: dict[str, Entry] = {
    "blocks.{i}.mlp.router": f"{_LAYER}.mlp.gate",
    "blocks.{i}.mlp.up.weight": f"{_LAYER}.mlp.experts.gate_up_proj",
    "blocks.{i}.mlp.down.weight": f"{_LAYER}.mlp.experts.down_proj",
}


def read_decoder(
    fields: Fields, theta: float = 10000.0, eps: float = 1e-6, *, partial: bool = False
) -> dict[str, Any]:
    """What LLaMA and its kin share; ``theta`` and ``eps`` where the file names none.
    ``partial``: the family may rotate a part of each head."""
    width, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    rope = read_rope(fields, theta)
    if rope.fraction != 1.0 and not partial:
        raise UnsupportedError(f"{fields.source}: partial rotary embeddings")
    return {
        "vocab_size": fields.count("vocab_size"),
        "hidden_size": width,
        "intermediate_size": fields.count("intermediate_size"),
        "num_layers": fields.count("num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": fields.count("num_key_value_heads", heads),
        "head_dim": fields.count("head_dim", width // heads if heads else 0),
        "max_positions": fields.count("max_position_embeddings"),
        "norm_eps": fields.number("rms_norm_eps", eps),
        "kinds": (LayerKind(rope),),
        "activation": read_activation(fields, "silu"),
        "tie_embeddings": fields.flag("tie_word_embeddings", False),
    }


def layer_types(fields: Fields, count: int) -> list[bool] | None:
    """Whether each layer slides, where the file says so layer by layer."""
    types = fields.get("layer_types")
    if types is None:
        return None
    known = ("sliding_attention", "full_attention")
    if not isinstance(types, list) or len(types) != count or not all(t in known for t in types):
        raise FormatError(f"{fields.source}: layer_types is {shown(types)} for {count} layers")
    return [kind == "sliding_attention" for kind in types]


def _windowed(values: dict[str, Any], window: int | None) -> dict[str, Any]:
    """``window`` on every layer."""
    return values | {"kinds": tuple(LayerKind(k.rope, window) for k in values["kinds"])}


def _window(fields: Fields) -> int | None:
    return None if fields.get("sliding_window") is None else fields.count("sliding_window")


def _read_llama(fields: Fields) -> dict[str, Any]:
    bias = fields.flag("attention_bias", False)
    mlp_bias = fields.flag("mlp_bias", False)
    return read_decoder(fields) | {"qkv_bias": bias, "out_bias": bias, "mlp_bias": mlp_bias}


def _read_mistral(fields: Fields) -> dict[str, Any]:
    # An absent key means transformers' default of 4096; null switches the window off.
    window = _window(fields) if "sliding_window" in fields else 4096
    return _windowed(read_decoder(fields), window)


def _read_mixtral(fields: Fields) -> dict[str, Any]:
    values = _windowed(read_decoder(fields, theta=1e6, eps=1e-5), _window(fields))
    experts = fields.count("num_local_experts", 8)
    if experts < 1:
        raise FormatError(f"{fields.source}: num_local_experts is {experts}, less than one")
    return values | {
        "num_experts": experts,
        "experts_per_token": fields.count("num_experts_per_tok", 2),
    }


def _qwen_layers(fields: Fields, values: dict[str, Any]) -> dict[str, Any]:
    """A window, where it is switched on, from layer ``max_window_layers`` on."""
    count = values["num_layers"]
    window = None
    if fields.flag("use_sliding_window", False):
        window = _window(fields) if "sliding_window" in fields else 4096
    first = fields.count("max_window_layers", 28)
    slides = layer_types(fields, count) or [i >= first for i in each_layer(fields, count)]
    (kind,) = values["kinds"]
    return layer_kinds([LayerKind(kind.rope, window if slide else None) for slide in slides])


def _read_qwen2(fields: Fields) -> dict[str, Any]:
    values = read_decoder(fields)
    return values | {"qkv_bias": True} | _qwen_layers(fields, values)


def _read_qwen3(fields: Fields) -> dict[str, Any]:
    values = read_decoder(fields) | {"head_dim": fields.count("head_dim", 128)}
    bias = fields.flag("attention_bias", False)
    values |= {"qk_norm": "head", "qkv_bias": bias, "out_bias": bias}
    return values | _qwen_layers(fields, values)


def _read_phi3(fields: Fields) -> dict[str, Any]:
    return _windowed(read_decoder(fields, eps=1e-5, partial=True), _window(fields))


def _read_smollm3(fields: Fields) -> dict[str, Any]:
    values = read_decoder(fields, theta=2e6)
    count = values["num_layers"]
    interval = fields.count("no_rope_layer_interval", 4) or 1
    rotates = fields.get("no_rope_layers")
    if rotates is None:
        rotates = [(i + 1) % interval != 0 for i in each_layer(fields, count)]
    if not isinstance(rotates, list) or len(rotates) != count or set(rotates) - {0, 1}:
        raise FormatError(f"{fields.source}: no_rope_layers is {shown(rotates)}")
    window = _window(fields) if fields.flag("use_sliding_window", False) else None
    slides = layer_types(fields, count) or [not turn for turn in rotates]
    (kind,) = values["kinds"]
    layers = [
        LayerKind(kind.rope if turn else None, window if slide else None)
        for turn, slide in zip(rotates, slides, strict=True)
    ]
    bias, mlp_bias = fields.flag("attention_bias", False), fields.flag("mlp_bias", False)
    return (
        values
        | {"qkv_bias": bias, "out_bias": bias, "mlp_bias": mlp_bias}
        | {"tie_embeddings": fields.flag("tie_word_embeddings", True)}
        | layer_kinds(layers)
    )


def _read_olmo2(fields: Fields) -> dict[str, Any]:
    bias = fields.flag("attention_bias", False)
    values = read_decoder(fields, eps=1e-5)
    return values | {
        "norm_place": "post_only",
        "qk_norm": "full",
        "qkv_bias": bias,
        "out_bias": bias,
    }


def write_decoder(config: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `read_decoder`."""
    ropes = [kind.rope for kind in config["kinds"] if kind.rope is not None]
    return {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["intermediate_size"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "num_key_value_heads": config["num_kv_heads"],
        "head_dim": config["head_dim"],
        "max_position_embeddings": config["max_positions"],
        "rms_norm_eps": config["norm_eps"],
        "rope_parameters": write_rope(ropes[0] if ropes else RopeSpec()),
        "hidden_act": ACTIVATION_NAMES[config["activation"]],
        "tie_word_embeddings": config["tie_embeddings"],
    }


def _write_llama(config: Mapping[str, Any]) -> dict[str, Any]:
    return write_decoder(config) | {
        "attention_bias": config["out_bias"],
        "mlp_bias": config["mlp_bias"],
    }


def _write_mistral(config: Mapping[str, Any]) -> dict[str, Any]:
    return write_decoder(config) | {"sliding_window": config["kinds"][0].window}


def _write_mixtral(config: Mapping[str, Any]) -> dict[str, Any]:
    return _write_mistral(config) | {
        "num_local_experts": config["num_experts"],
        "num_experts_per_tok": config["experts_per_token"],
    }


def _write_slides(config: Mapping[str, Any]) -> dict[str, Any]:
    windows = [layer.window for layer in layers_of(config)]
    found = [window for window in windows if window is not None]
    return {
        "use_sliding_window": bool(found),
        "sliding_window": found[0] if found else None,
        "layer_types": ["full_attention" if w is None else "sliding_attention" for w in windows],
    }


def _write_qwen2(config: Mapping[str, Any]) -> dict[str, Any]:
    return write_decoder(config) | _write_slides(config)


def _write_qwen3(config: Mapping[str, Any]) -> dict[str, Any]:
    return _write_qwen2(config) | {"attention_bias": config["out_bias"]}


def _write_phi3(config: Mapping[str, Any]) -> dict[str, Any]:
    written = _write_mistral(config)
    (rope, *_) = [kind.rope for kind in config["kinds"] if kind.rope is not None] or [RopeSpec()]
    if rope.scaling != "default":
        # Phi-3's own place for it, which goes before the one in rope_parameters.
        written["original_max_position_embeddings"] = rope.original_positions
    return written


def _write_smollm3(config: Mapping[str, Any]) -> dict[str, Any]:
    rotates = [int(layer.rope is not None) for layer in layers_of(config)]
    return _write_llama(config) | _write_slides(config) | {"no_rope_layers": rotates}


def _write_olmo2(config: Mapping[str, Any]) -> dict[str, Any]:
    return write_decoder(config) | {"attention_bias": config["out_bias"]}


def _kin(
    model_type: str,
    stem: str,
    read: Callable[[Fields], dict[str, Any]],
    write: Callable[[Mapping[str, Any]], dict[str, Any]],
    tensors: Mapping[str, Entry] | None = None,
    alternatives: Mapping[str, Entry] | None = None,
) -> Family:
    """``tensors``: where the family departs from the table of LLaMA."""
    return Family(
        model_type=model_type,
        heads={
            f"{stem}ForCausalLM": LM,
            f"{stem}Model": NONE,
            f"{stem}ForSequenceClassification": SEQUENCE,
            f"{stem}ForTokenClassification": TOKEN,
        },
        prefix="model.",
        tensors=LLAMA_TENSORS | dict(tensors or {}),
        ignored=("rotary_emb.inv_freq",),
        read=read,
        write=write,
        alternatives=alternatives or {},
    )


_OLMO2 = _kin("olmo2", "Olmo2", _read_olmo2, _write_olmo2, _QK_NORM | _OLMO2_NORMS)
LLAMA_FAMILIES = (
    _kin("llama", "Llama", _read_llama, _write_llama),
    _kin("qwen2", "Qwen2", _read_qwen2, _write_qwen2),
    _kin("mistral", "Mistral", _read_mistral, _write_mistral),
    _kin("qwen3", "Qwen3", _read_qwen3, _write_qwen3, _QK_NORM),
    _kin("mixtral", "Mixtral", _read_mixtral, _write_mixtral, _MIXTRAL_EXPERTS, _MIXTRAL_FUSED),
    _kin("phi3", "Phi3", _read_phi3, _write_phi3, _PHI3_FUSED),
    _kin("smollm3", "SmolLM3", _read_smollm3, _write_smollm3),
    # transformers has no OLMo2 for tokens.
    replace(_OLMO2, heads={k: v for k, v in _OLMO2.heads.items() if v is not TOKEN}),
)
