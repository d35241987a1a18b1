"""Gemma 2 and 3 (text): norms on both sides of each sublayer whose weights count from 1, scaled
embeddings, layers that alternate between a window and the whole text.

Not covered: the vision half of Gemma 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.core import FormatError, shown
from lmstack.model.config import LayerKind, TransformerConfig
from lmstack.model.families.family import (
    LM,
    NONE,
    SEQUENCE,
    Family,
    decoder_heads,
    in_blocks,
    layer_kinds,
)
from lmstack.model.families.llama import (
    DECODER,
    LLAMA_TENSORS,
    QK_NORM,
    attention_bias,
    layer_types,
    window_of,
    write_ropes,
    write_slides,
)
from lmstack.model.families.rope import read_rope, rope_from, write_rope
from lmstack.model.families.settings import ConfigKey, Settings
from lmstack.model.fields import Fields
from lmstack.model.positions import RopeSpec

__all__ = ["GEMMA_FAMILIES"]

_TENSORS = LLAMA_TENSORS | in_blocks(
    "model.layers.{i}.",
    {
        "attention_post_norm": "post_attention_layernorm",
        "mlp_norm": "pre_feedforward_layernorm",
        "mlp_post_norm": "post_feedforward_layernorm",
    },
)
_SETTINGS: Settings = {
    **DECODER,
    **attention_bias(),
    "num_kv_heads": ConfigKey.count("num_key_value_heads", default=4),
    "head_dim": ConfigKey.count("head_dim", default=256),
    "activation": ConfigKey.activation("hidden_activation", "gelu_pytorch_tanh"),
    "tie_embeddings": ConfigKey.flag("tie_word_embeddings", True),
    "logit_softcap": ConfigKey.nullable("final_logit_softcapping"),
}
_CAPPED: Settings = {
    **_SETTINGS,
    "logit_softcap": ConfigKey.nullable("final_logit_softcapping", 30.0),
    "attention_softcap": ConfigKey.nullable("attn_logit_softcapping", 50.0),
}
_FIXED = {"norm": "rms1p", "norm_place": "sandwich"}


def _common(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    scalar = fields.number("query_pre_attn_scalar", 256)
    plain = scalar == values["head_dim"] or scalar <= 0
    return {
        "embedding_scale": values["hidden_size"] ** 0.5,
        "attention_scale": None if plain else scalar**-0.5,
        "causal": not fields.flag("use_bidirectional_attention", False),
    }


def _slides(fields: Fields, count: int, interval: int) -> list[bool]:
    """All layers but every ``interval``-th slide, where the file does not list them."""
    if interval < 1:
        raise FormatError(f"{fields.source}: sliding_window_pattern is {shown(interval)}")
    return layer_types(fields, count) or [(i + 1) % interval != 0 for i in range(count)]


def _read_gemma2(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    rope, window = read_rope(fields), window_of(fields, 4096)
    slides = _slides(fields, values["num_layers"], 2)
    layers = [LayerKind(rope, window if slide else None) for slide in slides]
    return _common(fields, values) | layer_kinds(layers)


def _read_gemma3(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    common, window = _common(fields, values), window_of(fields, 4096)
    if window is not None and not common["causal"]:
        window = window // 2 + 1
    local, whole = _gemma3_ropes(fields)
    interval = fields.count("sliding_window_pattern", fields.count("_sliding_window_pattern", 6))
    slides = _slides(fields, values["num_layers"], interval)
    layers = [LayerKind(local, window) if slide else LayerKind(whole) for slide in slides]
    return common | layer_kinds(layers)


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


def _write(config: TransformerConfig) -> dict[str, Any]:
    scale, slides = config.attention_scale, write_slides(config)
    return {
        "query_pre_attn_scalar": config.head_dim if scale is None else round(scale**-2),
        "use_bidirectional_attention": not config.causal,
        "sliding_window": slides["sliding_window"] or 4096,
        "layer_types": slides["layer_types"],
        "hidden_activation": "gelu_pytorch_tanh",
    }


def _write_gemma3(config: TransformerConfig) -> dict[str, Any]:
    written = _write(config)
    if not config.causal:
        written["sliding_window"] = (written["sliding_window"] - 1) * 2
    ropes = {kind.window is None: kind.rope or RopeSpec() for kind in config.kinds}
    written["rope_parameters"] = {
        "full_attention": write_rope(ropes.get(True, RopeSpec(theta=1e6))),
        "sliding_attention": write_rope(ropes.get(False, RopeSpec())),
    }
    return written


GEMMA_FAMILIES = (
    Family(
        model_type="gemma2",
        heads=decoder_heads("Gemma2", "Sequence", "Token"),
        prefix="model.",
        tensors=_TENSORS,
        settings=_CAPPED,
        fixed=_FIXED,
        ignored=("rotary_emb.inv_freq",),
        read=_read_gemma2,
        write=lambda config: write_ropes(config) | _write(config),
    ),
    Family(
        model_type="gemma3_text",
        heads={"Gemma3ForCausalLM": LM, "Gemma3TextModel": NONE}
        | {"Gemma3TextForSequenceClassification": SEQUENCE},
        prefix="model.",
        tensors=_TENSORS | QK_NORM,
        settings=_SETTINGS,
        fixed=_FIXED | {"qk_norm": "head"},
        # It norms its queries and keys where Gemma 2 capped its scores.
        refused={"attn_logit_softcapping": None},
        ignored=("rotary_emb.inv_freq",),
        read=_read_gemma3,
        write=_write_gemma3,
    ),
)
