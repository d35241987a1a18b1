"""Gemma 2 and 3 (text): norms on both sides of each sublayer whose weights count from 1, scaled
embeddings, layers that alternate between a window and the whole text.

Not covered: the vision half of Gemma 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.core import FormatError, shown
from lmstack.model.families.family import (
    LM,
    NONE,
    SEQUENCE,
    TOKEN,
    Family,
    each_layer,
    layer_kinds,
    layers_of,
    nullable_number,
    read_activation,
    refuse,
)
from lmstack.model.families.llama import (
    LLAMA_TENSORS,
    layer_types,
    read_decoder,
    write_decoder,
)
from lmstack.model.families.rope import rope_from, write_rope
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import Entry
from lmstack.model.kinds import LayerKind
from lmstack.model.positions import RopeSpec

__all__ = ["GEMMA_FAMILIES"]

_LAYER = "model.layers.{i}"
_GEMMA2_TENSORS: dict[str, Entry] = LLAMA_TENSORS | {
    "blocks.{i}.attention_post_norm": f"{_LAYER}.post_attention_layernorm",
    "blocks.{i}.mlp_norm": f"{_LAYER}.pre_feedforward_layernorm",
    "blocks.{i}.mlp_post_norm": f"{_LAYER}.post_feedforward_layernorm",
}
_GEMMA3_TENSORS: dict[str, Entry] = _GEMMA2_TENSORS | {
    "blocks.{i}.attention.q_norm": f"{_LAYER}.self_attn.q_norm",
    "blocks.{i}.attention.k_norm": f"{_LAYER}.self_attn.k_norm",
}


def _read_gemma(fields: Fields, final_cap: float | None, cap: float | None) -> dict[str, Any]:
    values = read_decoder(fields)
    head_dim = fields.count("head_dim", 256)
    scalar = fields.number("query_pre_attn_scalar", 256)
    bias = fields.flag("attention_bias", False)
    return values | {
        "head_dim": head_dim,
        "num_kv_heads": fields.count("num_key_value_heads", 4),
        "activation": read_activation(fields, "gelu_pytorch_tanh", "hidden_activation"),
        "tie_embeddings": fields.flag("tie_word_embeddings", True),
        "norm": "rms1p",
        "norm_place": "sandwich",
        "embedding_scale": values["hidden_size"] ** 0.5,
        "attention_scale": None if scalar == head_dim or scalar <= 0 else scalar**-0.5,
        "attention_softcap": nullable_number(fields, "attn_logit_softcapping", cap),
        "logit_softcap": nullable_number(fields, "final_logit_softcapping", final_cap),
        "qkv_bias": bias,
        "out_bias": bias,
        "causal": not fields.flag("use_bidirectional_attention", False),
    }


def _window(fields: Fields) -> int | None:
    window = nullable_number(fields, "sliding_window", 4096)
    return None if window is None else int(window)


def _slides(fields: Fields, count: int, interval: int) -> list[bool]:
    """All layers but every ``interval``-th slide, where the file does not list them."""
    if interval < 1:
        raise FormatError(f"{fields.source}: sliding_window_pattern is {shown(interval)}")
    return layer_types(fields, count) or [
        (i + 1) % interval != 0 for i in each_layer(fields, count)
    ]


def _read_gemma2(fields: Fields) -> dict[str, Any]:
    values = _read_gemma(fields, 30.0, 50.0)
    (kind,) = values["kinds"]
    window = _window(fields)
    slides = _slides(fields, values["num_layers"], 2)
    return values | layer_kinds([LayerKind(kind.rope, window if s else None) for s in slides])


def _read_gemma3(fields: Fields) -> dict[str, Any]:
    # Gemma 3 norms its queries and keys where Gemma 2 capped its scores.
    refuse(fields, attn_logit_softcapping=None)
    values = _read_gemma(fields, None, None) | {"qk_norm": "head"}
    window = _window(fields)
    if window is not None and not values["causal"]:
        window = window // 2 + 1
    local, whole = _gemma3_ropes(fields)
    interval = fields.count("sliding_window_pattern", fields.count("_sliding_window_pattern", 6))
    slides = _slides(fields, values["num_layers"], interval)
    return values | layer_kinds(
        [LayerKind(local, window) if s else LayerKind(whole, None) for s in slides]
    )


def _gemma3_ropes(fields: Fields) -> tuple[RopeSpec, RopeSpec]:
    """Rotation of the layers that slide, and of the others."""
    nested = fields.nested("rope_parameters") or Fields({}, "rope_parameters")
    empty = Fields({}, fields.source)
    whole = nested.nested("full_attention") or fields.nested("rope_scaling") or empty
    return (
        rope_from(
            nested.nested("sliding_attention") or empty,
            fields,
            theta=fields.number("rope_local_base_freq", 10000.0),
        ),
        rope_from(whole, fields, theta=fields.number("rope_theta", 1e6)),
    )


def _write_gemma(config: Mapping[str, Any]) -> dict[str, Any]:
    scale = config["attention_scale"]
    layers = layers_of(config)
    windows = [layer.window for layer in layers if layer.window is not None]
    written = write_decoder(config) | {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": config["head_dim"] if scale is None else round(scale**-2),
        "attn_logit_softcapping": config["attention_softcap"],
        "final_logit_softcapping": config["logit_softcap"],
        "attention_bias": config["out_bias"],
        "use_bidirectional_attention": not config["causal"],
        "sliding_window": windows[0] if windows else 4096,
        "layer_types": [
            "full_attention" if layer.window is None else "sliding_attention" for layer in layers
        ],
    }
    del written["hidden_act"]
    return written


def _write_gemma3(config: Mapping[str, Any]) -> dict[str, Any]:
    written = _write_gemma(config)
    if not config["causal"]:
        written["sliding_window"] = (written["sliding_window"] - 1) * 2
    ropes = {k.window is None: k.rope or RopeSpec() for k in config["kinds"]}
    written["rope_parameters"] = {
        "full_attention": write_rope(ropes.get(True, RopeSpec(theta=1e6))),
        "sliding_attention": write_rope(ropes.get(False, RopeSpec())),
    }
    return written


GEMMA_FAMILIES = (
    Family(
        model_type="gemma2",
        heads={
            "Gemma2ForCausalLM": LM,
            "Gemma2Model": NONE,
            "Gemma2ForSequenceClassification": SEQUENCE,
            "Gemma2ForTokenClassification": TOKEN,
        },
        prefix="model.",
        tensors=_GEMMA2_TENSORS,
        ignored=("rotary_emb.inv_freq",),
        read=_read_gemma2,
        write=_write_gemma,
    ),
    Family(
        model_type="gemma3_text",
        heads={
            "Gemma3ForCausalLM": LM,
            "Gemma3TextModel": NONE,
            "Gemma3TextForSequenceClassification": SEQUENCE,
        },
        prefix="model.",
        tensors=_GEMMA3_TENSORS,
        ignored=("rotary_emb.inv_freq",),
        read=_read_gemma3,
        write=_write_gemma3,
    ),
)
