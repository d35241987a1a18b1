"""ALBERT: BERT with small embeddings, projected, and one block for many layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.model.families.encoders import (
    OLD_NORMS,
    both,
    encoder_heads,
    encoder_table,
    head_fields,
    post_norm_encoder,
    write_encoder,
)
from lmstack.model.families.family import Family, read_activation
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import Entry, Table

__all__ = ["ALBERT_FAMILIES"]

_LAYER = "albert.encoder.albert_layer_groups.{i}.albert_layers.0."
_TENSORS: Table = {
    "embed": "albert.embeddings.word_embeddings",
    "embed_positions": "albert.embeddings.position_embeddings",
    "embed_types": "albert.embeddings.token_type_embeddings",
    "embed_norm": "albert.embeddings.LayerNorm",
    "embed_project": "albert.encoder.embedding_hidden_mapping_in",
    "blocks.{i}.attention.qkv": tuple(
        f"{_LAYER}attention.{part}" for part in ("query", "key", "value")
    ),
    "blocks.{i}.attention.out": f"{_LAYER}attention.dense",
    "blocks.{i}.attention_norm": f"{_LAYER}attention.LayerNorm",
    "blocks.{i}.mlp.up": f"{_LAYER}ffn",
    "blocks.{i}.mlp.down": f"{_LAYER}ffn_output",
    "blocks.{i}.mlp_norm": f"{_LAYER}full_layer_layer_norm",
}


def _read(fields: Fields) -> dict[str, Any]:
    activation, inner = read_activation(fields, "gelu_new"), fields.count("inner_group_num", 1)
    layers = fields.count("num_hidden_layers", 12)
    return (
        post_norm_encoder(fields, activation)
        | {
            "token_types": fields.count("type_vocab_size", 2),
            "embedding_size": fields.count("embedding_size", 128),
            "num_layers": layers * inner,
            "num_blocks": fields.count("num_hidden_groups", 1) * inner,
            "blocks_per_group": inner,
        }
        | head_fields(fields, lm=activation, pool="tanh", sequence="tanh")
    )


def _write(config: Mapping[str, Any]) -> dict[str, Any]:
    inner, blocks = config["blocks_per_group"], config["num_blocks"] or config["num_layers"]
    return write_encoder(config) | {
        "type_vocab_size": config["token_types"],
        "embedding_size": config["embedding_size"],
        "num_hidden_layers": config["num_layers"] // inner,
        "num_hidden_groups": blocks // inner,
        "inner_group_num": inner,
    }


_HEADS: dict[str, Table] = {
    "pool": {"transform": "albert.pooler"},
    "lm": {
        "transform": "predictions.dense",
        "transform_norm": "predictions.LayerNorm",
        "head": "predictions.decoder",
    },
    "sequence": {"transform": "albert.pooler", "classifier": "classifier"},
}
_BIAS = ("predictions.bias", "predictions.decoder.bias")


def _tensors(config: Mapping[str, Any]) -> Table:
    table, inner = encoder_table(_TENSORS, _HEADS, _BIAS)(config), config["blocks_per_group"]
    if inner == 1:
        return table
    return {**table, **_grouped(config["num_blocks"], inner)}


def _grouped(num_blocks: int, inner: int) -> dict[str, Entry]:
    """The names of blocks that are several in a group."""
    found: dict[str, Entry] = {}
    for block in range(num_blocks):
        group, place = divmod(block, inner)
        here = f"albert.encoder.albert_layer_groups.{group}.albert_layers.{place}."
        for key, entry in _TENSORS.items():
            names = entry if isinstance(entry, tuple) else (entry,)
            moved = tuple(str(name).replace(_LAYER, here) for name in names)
            if "{i}" in key:
                found[key.replace("{i}", str(block))] = moved if len(moved) > 1 else moved[0]
    return found


ALBERT_FAMILIES = (
    Family(
        model_type="albert",
        heads=encoder_heads("Albert", "pool") | {"AlbertForPreTraining": {"head": "lm"}},
        prefix="albert.",
        tensors=_tensors,
        ignored=(
            "embeddings.position_ids",
            *_BIAS,
            "predictions.decoder.weight",
            *both(
                "albert.pooler",
                "sop_classifier.classifier",
                "predictions.dense",
                "predictions.LayerNorm",
            ),
        ),
        read=_read,
        write=_write,
        optional_head=True,
        alternatives={"head_bias.bias": _BIAS[1]},
        renames=OLD_NORMS,
    ),
)
