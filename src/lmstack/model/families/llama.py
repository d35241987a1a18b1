"""LLaMA and its kin: pre-norm decoders with RMSNorm, RoPE, grouped queries and a gated MLP.

Covered: LLaMA (1 to 3, SmolLM2), Mistral without a window, Qwen2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lmstack.core import UnsupportedError, shown
from lmstack.model.families.family import (
    ACTIVATION_NAMES,
    Family,
    read_activation,
    read_rope,
    write_rope,
)
from lmstack.model.fields import Fields
from lmstack.model.kinds import LayerKind
from lmstack.model.layouts import Entry
from lmstack.model.positions import RopeSpec

__all__ = ["LLAMA_FAMILIES"]

_LLAMA_TENSORS: dict[str, Entry] = {
    "embed": "model.embed_tokens",
    "blocks.{i}.attention_norm": "model.layers.{i}.input_layernorm",
    "blocks.{i}.attention.qkv": (
        "model.layers.{i}.self_attn.q_proj",
        "model.layers.{i}.self_attn.k_proj",
        "model.layers.{i}.self_attn.v_proj",
    ),
    "blocks.{i}.attention.out": "model.layers.{i}.self_attn.o_proj",
    "blocks.{i}.mlp_norm": "model.layers.{i}.post_attention_layernorm",
    "blocks.{i}.mlp.up": ("model.layers.{i}.mlp.gate_proj", "model.layers.{i}.mlp.up_proj"),
    "blocks.{i}.mlp.down": "model.layers.{i}.mlp.down_proj",
    "final_norm": "model.norm",
    "head": "lm_head",
}


def _read_decoder(fields: Fields) -> dict[str, Any]:
    width, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    return {
        "vocab_size": fields.count("vocab_size"),
        "hidden_size": width,
        "intermediate_size": fields.count("intermediate_size"),
        "num_layers": fields.count("num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": fields.count("num_key_value_heads", heads),
        "head_dim": fields.count("head_dim", width // heads if heads else 0),
        "max_positions": fields.count("max_position_embeddings"),
        "norm_eps": fields.number("rms_norm_eps", 1e-6),
        "kinds": (LayerKind(read_rope(fields)),),
        "activation": read_activation(fields, "silu"),
        "tie_embeddings": fields.flag("tie_word_embeddings", False),
    }


def _read_llama(fields: Fields) -> dict[str, Any]:
    bias = fields.flag("attention_bias", False)
    mlp_bias = fields.flag("mlp_bias", False)
    return _read_decoder(fields) | {"qkv_bias": bias, "out_bias": bias, "mlp_bias": mlp_bias}


def _read_mistral(fields: Fields) -> dict[str, Any]:
    values = _read_decoder(fields)
    # An absent key means transformers' default of 4096; null switches the window off.
    raw = fields.get("sliding_window")
    window = raw if raw is not None or "sliding_window" in fields else 4096
    if window is not None and window < values["max_positions"]:
        raise UnsupportedError(f"{fields.source}: sliding window attention of {shown(window)}")
    return values


def _read_qwen2(fields: Fields) -> dict[str, Any]:
    if fields.flag("use_sliding_window", False):
        raise UnsupportedError(f"{fields.source}: sliding window attention")
    return _read_decoder(fields) | {"qkv_bias": True}


def _write_decoder(config: Mapping[str, Any]) -> dict[str, Any]:
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
        "rope_parameters": write_rope(config["kinds"][0].rope or RopeSpec()),
        "hidden_act": ACTIVATION_NAMES[config["activation"]],
        "tie_word_embeddings": config["tie_embeddings"],
    }


def _write_llama(config: Mapping[str, Any]) -> dict[str, Any]:
    return _write_decoder(config) | {
        "attention_bias": config["out_bias"],
        "mlp_bias": config["mlp_bias"],
    }


def _decoder_family(
    model_type: str,
    stem: str,
    read: Callable[[Fields], dict[str, Any]],
    write: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> Family:
    return Family(
        model_type=model_type,
        heads={f"{stem}ForCausalLM": {"head": "lm"}, f"{stem}Model": {"head": "none"}},
        prefix="model.",
        tensors=_LLAMA_TENSORS,
        ignored=("rotary_emb.inv_freq",),
        read=read,
        write=write,
    )


LLAMA_FAMILIES = (
    _decoder_family("llama", "Llama", _read_llama, _write_llama),
    _decoder_family("qwen2", "Qwen2", _read_qwen2, _write_decoder),
    _decoder_family("mistral", "Mistral", _read_mistral, _write_decoder),
)
