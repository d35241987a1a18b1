"""DistilBERT: BERT without segments and pooler, under its own names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.model.families.encoders import (
    POST_NORM,
    both,
    encoder_heads,
    encoder_table,
    head_fields,
    write_tie,
)
from lmstack.model.families.family import ACTIVATION_NAMES, Family, read_activation
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import Table

__all__ = ["DISTILBERT_FAMILIES"]

_LAYER = "distilbert.transformer.layer.{i}."
_TENSORS: Table = {
    "embed": "distilbert.embeddings.word_embeddings",
    "embed_positions": "distilbert.embeddings.position_embeddings",
    "embed_norm": "distilbert.embeddings.LayerNorm",
    "blocks.{i}.attention.qkv": tuple(f"{_LAYER}attention.{part}_lin" for part in "qkv"),
    "blocks.{i}.attention.out": f"{_LAYER}attention.out_lin",
    "blocks.{i}.attention_norm": f"{_LAYER}sa_layer_norm",
    "blocks.{i}.mlp.up": f"{_LAYER}ffn.lin1",
    "blocks.{i}.mlp.down": f"{_LAYER}ffn.lin2",
    "blocks.{i}.mlp_norm": f"{_LAYER}output_layer_norm",
}


def _read(fields: Fields) -> dict[str, Any]:
    # sinusoidal_pos_embds only says how the table, which the file holds, was first filled.
    width, heads = fields.count("dim"), fields.count("n_heads")
    activation = read_activation(fields, "gelu", key="activation")
    body = POST_NORM | {
        "vocab_size": fields.count("vocab_size"),
        "hidden_size": width,
        "intermediate_size": fields.count("hidden_dim"),
        "num_layers": fields.count("n_layers"),
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": width // heads if heads else 0,
        "max_positions": fields.count("max_position_embeddings", 512),
        "norm_eps": 1e-12,
        "activation": activation,
    }
    return body | head_fields(fields, lm=activation, pool=None, sequence="relu")


def _write(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": config["vocab_size"],
        "dim": config["hidden_size"],
        "hidden_dim": config["intermediate_size"],
        "n_layers": config["num_layers"],
        "n_heads": config["num_heads"],
        "max_position_embeddings": config["max_positions"],
        "activation": ACTIVATION_NAMES[config["activation"]],
    } | write_tie(config)


_HEADS: dict[str, Table] = {
    "lm": {
        "transform": "vocab_transform",
        "transform_norm": "vocab_layer_norm",
        "head": "vocab_projector",
        "head_bias": "vocab_projector",
    },
    "sequence": {"transform": "pre_classifier", "classifier": "classifier"},
}

DISTILBERT_FAMILIES = (
    Family(
        model_type="distilbert",
        heads=encoder_heads("DistilBert", "none"),
        prefix="distilbert.",
        tensors=encoder_table(_TENSORS, _HEADS),
        ignored=(
            "embeddings.position_ids",
            *both("vocab_transform", "vocab_layer_norm", "vocab_projector"),
        ),
        read=_read,
        write=_write,
    ),
)
