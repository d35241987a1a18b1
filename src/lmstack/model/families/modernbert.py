"""ModernBERT: a pre-norm encoder with rotary positions, gated MLPs and mostly local attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.core import FormatError, shown
from lmstack.model.families.encoders import (
    architecture,
    encoder_heads,
    encoder_table,
    write_tie,
)
from lmstack.model.families.family import (
    ACTIVATION_NAMES,
    Family,
    layer_kinds,
    layers_of,
    read_activation,
)
from lmstack.model.families.rope import rope_from, write_rope
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import Table
from lmstack.model.kinds import LayerKind

__all__ = ["MODERNBERT_FAMILIES"]

_KINDS = ("full_attention", "sliding_attention")
_LAYER = "model.layers.{i}."
_TENSORS: Table = {
    "embed": "model.embeddings.tok_embeddings",
    "embed_norm": "model.embeddings.norm",
    "blocks.{i}.attention_norm": f"{_LAYER}attn_norm",
    "blocks.{i}.attention.qkv": f"{_LAYER}attn.Wqkv",
    "blocks.{i}.attention.out": f"{_LAYER}attn.Wo",
    "blocks.{i}.mlp_norm": f"{_LAYER}mlp_norm",
    "blocks.{i}.mlp.up": f"{_LAYER}mlp.Wi",
    "blocks.{i}.mlp.down": f"{_LAYER}mlp.Wo",
    "final_norm": "model.final_norm",
}
_HEAD = {"transform": "head.dense", "transform_norm": "head.norm"}
_CLASSIFIER = {**_HEAD, "classifier": "classifier"}
_HEADS: dict[str, Table] = {
    "lm": {**_HEAD, "head": "decoder", "head_bias": "decoder"},
    "sequence": _CLASSIFIER,
    "token": _CLASSIFIER,
    "span": _CLASSIFIER,
}


def _types(fields: Fields, layers: int) -> list[str]:
    """``layer_types``, or in older files how many layers there are to one that sees everything."""
    types = fields.get("layer_types")
    if types is None:
        every = fields.count("global_attn_every_n_layers", 3)
        if every < 1:
            raise FormatError(f"{fields.source}: global_attn_every_n_layers is {every}, below 1")
        return [_KINDS[i % every > 0] for i in range(layers)]
    if not isinstance(types, list) or not all(kind in _KINDS for kind in types):
        raise FormatError(f"{fields.source}: layer_types is {shown(types)}, not of {_KINDS}")
    if len(types) != layers:
        raise FormatError(f"{fields.source}: layer_types has {len(types)} layers of {layers}")
    return types


def _layers(fields: Fields, layers: int) -> list[LayerKind]:
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
    kinds = dict(zip(_KINDS, (LayerKind(full), LayerKind(local, window)), strict=True))
    return [kinds[name] for name in _types(fields, layers)]


def _head(fields: Fields) -> dict[str, Any]:
    task = architecture(fields).removeprefix("ModernBert")
    if task in ("", "Model"):
        return {}
    fixed = {
        "transform": read_activation(fields, "gelu", key="classifier_activation"),
        "transform_norm": True,
        "transform_bias": fields.flag("classifier_bias", False),
    }
    if task == "ForMaskedLM":
        return fixed | {
            "head_bias": fields.flag("decoder_bias", True),
            "tie_embeddings": fields.flag("tie_word_embeddings", True),
        }
    if task == "ForSequenceClassification":
        pooling = fields.text("classifier_pooling", "cls")
        if pooling not in ("cls", "mean"):
            raise FormatError(f"{fields.source}: classifier_pooling is {shown(pooling)}")
        fixed["pooling"] = "first" if pooling == "cls" else "mean"
    return fixed


def _read(fields: Fields) -> dict[str, Any]:
    width, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    layers, bias = fields.count("num_hidden_layers"), fields.flag("attention_bias", False)
    return (
        {
            "vocab_size": fields.count("vocab_size"),
            "hidden_size": width,
            "intermediate_size": fields.count("intermediate_size"),
            "num_layers": layers,
            "num_heads": heads,
            "num_kv_heads": heads,
            "head_dim": width // heads if heads else 0,
            "max_positions": fields.count("max_position_embeddings", 8192),
            "norm": "ln" if fields.flag("norm_bias", False) else "ln_nobias",
            "norm_eps": fields.number("norm_eps", 1e-5),
            "first_norm": False,
            "embedding_norm": True,
            "causal": False,
            "qkv_bias": bias,
            "out_bias": bias,
            "mlp_bias": fields.flag("mlp_bias", False),
            "activation": read_activation(fields, "gelu", key="hidden_activation"),
        }
        | layer_kinds(_layers(fields, layers))
        | _head(fields)
    )


def _write(config: Mapping[str, Any]) -> dict[str, Any]:
    layers = layers_of(config)
    # Where all layers are of one kind, the other's numbers are of no use.
    kinds = {_KINDS[layer.window is not None]: layer for layer in layers}
    ropes = {name: write_rope(layer.rope) for name, layer in kinds.items() if layer.rope}
    local = kinds.get("sliding_attention")
    written = {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["intermediate_size"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "max_position_embeddings": config["max_positions"],
        "norm_bias": config["norm"] == "ln",
        "norm_eps": config["norm_eps"],
        "attention_bias": config["out_bias"],
        "mlp_bias": config["mlp_bias"],
        "hidden_activation": ACTIVATION_NAMES[config["activation"]],
        "layer_types": [_KINDS[layer.window is not None] for layer in layers],
        "rope_parameters": ropes,
        # Their default lies beyond a small vocabulary.
        "pad_token_id": None,
        "local_attention": 2 * (local.window - 1) if local and local.window else 128,
    }
    if config["transform"] is None:
        return written
    return (
        written
        | {
            "classifier_activation": ACTIVATION_NAMES[config["transform"]],
            "classifier_bias": config["transform_bias"],
            "classifier_pooling": "mean" if config["pooling"] == "mean" else "cls",
            "decoder_bias": config["head_bias"],
        }
        | write_tie(config)
    )


MODERNBERT_FAMILIES = (
    Family(
        model_type="modernbert",
        heads=encoder_heads("ModernBert", "none"),
        prefix="model.",
        tensors=encoder_table(_TENSORS, _HEADS),
        ignored=(),
        read=_read,
        write=_write,
    ),
)
