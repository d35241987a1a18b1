"""MPNet: RoBERTa without segments, with T5's relative bias shared by all layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.core import UnsupportedError
from lmstack.model.families.encoders import (
    both,
    encoder_heads,
    encoder_table,
    head_fields,
    post_norm_encoder,
    skip_padding,
    write_encoder,
)
from lmstack.model.families.family import Family, read_activation
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import Table

__all__ = ["MPNET_FAMILIES"]

# Written into the model's code, whatever its config says.
_BUCKETS, _PAD = 32, 1
_LAYER = "mpnet.encoder.layer.{i}."
_TENSORS: Table = {
    "embed": "mpnet.embeddings.word_embeddings",
    "embed_positions": "mpnet.embeddings.position_embeddings",
    "embed_norm": "mpnet.embeddings.LayerNorm",
    "relative_bias": "mpnet.encoder.relative_attention_bias",
    "blocks.{i}.attention.qkv": tuple(f"{_LAYER}attention.attn.{part}" for part in "qkv"),
    "blocks.{i}.attention.out": f"{_LAYER}attention.attn.o",
    "blocks.{i}.attention_norm": f"{_LAYER}attention.LayerNorm",
    "blocks.{i}.mlp.up": f"{_LAYER}intermediate.dense",
    "blocks.{i}.mlp.down": f"{_LAYER}output.dense",
    "blocks.{i}.mlp_norm": f"{_LAYER}output.LayerNorm",
}


def _read(fields: Fields) -> dict[str, Any]:
    buckets = fields.count("relative_attention_num_buckets", _BUCKETS)
    if buckets != _BUCKETS:
        raise UnsupportedError(
            f"{fields.source}: {buckets} buckets of relative positions",
            hint=f"MPNet counts {_BUCKETS}, whatever the size of its table",
        )
    body = post_norm_encoder(fields, read_activation(fields, "gelu"))
    return (
        body
        | skip_padding(body, _PAD)
        | {"bias": "t5", "bias_buckets": _BUCKETS, "bias_max_distance": 128}
        # gelu, whatever hidden_act says.
        | head_fields(fields, lm="gelu", pool="tanh", sequence="tanh")
    )


def _write(config: Mapping[str, Any]) -> dict[str, Any]:
    return write_encoder(config) | {"relative_attention_num_buckets": _BUCKETS}


_HEADS: dict[str, Table] = {
    "pool": {"transform": "mpnet.pooler.dense"},
    "lm": {
        "transform": "lm_head.dense",
        "transform_norm": "lm_head.layer_norm",
        "head": "lm_head.decoder",
    },
    "sequence": {"transform": "classifier.dense", "classifier": "classifier.out_proj"},
}
_BIAS = ("lm_head.bias", "lm_head.decoder.bias")

MPNET_FAMILIES = (
    Family(
        model_type="mpnet",
        heads=encoder_heads("MPNet", "pool"),
        prefix="mpnet.",
        tensors=encoder_table(_TENSORS, _HEADS, _BIAS),
        ignored=(
            "embeddings.position_ids",
            *_BIAS,
            *both("mpnet.pooler.dense", "lm_head.dense", "lm_head.layer_norm"),
        ),
        read=_read,
        write=_write,
        optional_head=True,
        alternatives={"head_bias.bias": _BIAS[1]},
    ),
)
