"""ModernBERT: a pre-norm encoder with rotary positions, gated MLPs and mostly local attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.core import FormatError, shown
from lmstack.model.config import LayerKind, TransformerConfig
from lmstack.model.families.encoders import encoder_table
from lmstack.model.families.family import LM, NONE, SPAN, TOKEN, Family, in_blocks, layer_kinds
from lmstack.model.families.llama import attention_bias, layer_types
from lmstack.model.families.rope import rope_from, write_rope
from lmstack.model.families.settings import (
    SIZES,
    ConfigKey,
    Settings,
    activation_name,
    read_activation,
)
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import Table

__all__ = ["MODERNBERT_FAMILIES"]

_KINDS = ("full_attention", "sliding_attention")
_BODY = {
    "embed": "model.embeddings.tok_embeddings",
    "embed_norm": "model.embeddings.norm",
    "final_norm": "model.final_norm",
} | in_blocks(
    "model.layers.{i}.",
    {
        "attention_norm": "attn_norm",
        "attention.qkv": "attn.Wqkv",
        "attention.out": "attn.Wo",
        "mlp_norm": "mlp_norm",
        "mlp.up": "mlp.Wi",
        "mlp.down": "mlp.Wo",
    },
)
_HEAD = {"transform": "head.dense", "transform_norm": "head.norm"}
_HEADS: dict[str, Table] = {
    "lm": {**_HEAD, "head": "decoder", "head_bias": "decoder"},
    **{head: {**_HEAD, "classifier": "classifier"} for head in ("sequence", "token", "span")},
}
_SETTINGS: Settings = {
    **SIZES,
    **attention_bias(),
    "max_positions": ConfigKey.count("max_position_embeddings", default=8192),
    "norm_eps": ConfigKey.number("norm_eps", default=1e-5),
    "mlp_bias": ConfigKey.flag("mlp_bias", False),
    "activation": ConfigKey.activation("hidden_activation", "gelu"),
    "tie_embeddings": ConfigKey.flag("tie_word_embeddings", True),
}


def _layers(fields: Fields, layers: int) -> list[LayerKind]:
    """By ``layer_types``, or in older files how many layers there are to one that sees all."""
    ropes = fields.nested("rope_parameters") or Fields({}, fields.source)
    thetas = (
        fields.number("global_rope_theta", 160000.0),
        fields.number("local_rope_theta", 10000.0),
    )
    full, local = (
        rope_from(ropes.nested(kind) or Fields({}, fields.source), fields, theta=theta)
        for kind, theta in zip(_KINDS, thetas, strict=True)
    )
    # Half of it on either side of the query, which counts itself.
    window = fields.count("local_attention", 128) // 2 + 1
    every = ConfigKey.count("global_attn_every_n_layers", default=3, least=1).read(fields)
    slides = layer_types(fields, layers) or [i % every > 0 for i in range(layers)]
    return [LayerKind(local, window) if slide else LayerKind(full) for slide in slides]


def _read_head(fields: Fields, head: str) -> dict[str, Any]:
    if head == "none":
        return {}
    found: dict[str, Any] = {
        "transform": read_activation(fields, "gelu", key="classifier_activation"),
        "transform_norm": True,
        "transform_bias": fields.flag("classifier_bias", False),
    }
    if head == "lm":
        found["head_bias"] = fields.flag("decoder_bias", True)
    if head == "sequence":
        pooling = fields.text("classifier_pooling", "cls")
        if pooling not in ("cls", "mean"):
            raise FormatError(f"{fields.source}: classifier_pooling is {shown(pooling)}")
        found["pooling"] = "first" if pooling == "cls" else "mean"
    return found


def _read(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    return (
        {"norm": "ln" if fields.flag("norm_bias", False) else "ln_nobias"}
        | layer_kinds(_layers(fields, values["num_layers"]))
        | _read_head(fields, values["head"])
    )


def _write(config: TransformerConfig) -> dict[str, Any]:
    # Where all layers are of one kind, the other's numbers are of no use.
    kinds = {_KINDS[layer.window is not None]: layer for layer in config.layers}
    local = kinds.get("sliding_attention")
    written = {
        "norm_bias": config.norm == "ln",
        "layer_types": [_KINDS[layer.window is not None] for layer in config.layers],
        "rope_parameters": {n: write_rope(kind.rope) for n, kind in kinds.items() if kind.rope},
        # Their default lies beyond a small vocabulary.
        "pad_token_id": None,
        "local_attention": 2 * (local.window - 1) if local and local.window else 128,
    }
    if config.transform is None:
        return written
    return written | {
        "classifier_activation": activation_name(config.transform),
        "classifier_bias": config.transform_bias,
        "classifier_pooling": "mean" if config.pooling == "mean" else "cls",
        "decoder_bias": config.head_bias,
    }


MODERNBERT_FAMILIES = (
    Family(
        model_type="modernbert",
        heads={
            "ModernBertModel": NONE,
            "ModernBertForMaskedLM": LM,
            "ModernBertForSequenceClassification": {"head": "sequence"},
            "ModernBertForTokenClassification": TOKEN,
            "ModernBertForQuestionAnswering": SPAN,
        },
        prefix="model.",
        tensors=encoder_table(_BODY, _HEADS),
        settings=_SETTINGS,
        fixed={"first_norm": False, "embedding_norm": True, "causal": False},
        read=_read,
        write=_write,
    ),
)
