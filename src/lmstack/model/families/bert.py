"""BERT: a post-norm encoder with learned positions and segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.core import UnsupportedError, shown
from lmstack.model.families.family import ACTIVATION_NAMES, Family, read_activation
from lmstack.model.fields import Fields
from lmstack.model.kinds import LayerKind

__all__ = ["BERT_FAMILIES"]

_BERT_TENSORS = {
    "embed": ("bert.embeddings.word_embeddings",),
    "embed_positions": ("bert.embeddings.position_embeddings",),
    "embed_types": ("bert.embeddings.token_type_embeddings",),
    "embed_norm": ("bert.embeddings.LayerNorm",),
    "blocks.{i}.attention.qkv": (
        "bert.encoder.layer.{i}.attention.self.query",
        "bert.encoder.layer.{i}.attention.self.key",
        "bert.encoder.layer.{i}.attention.self.value",
    ),
    "blocks.{i}.attention.out": ("bert.encoder.layer.{i}.attention.output.dense",),
    "blocks.{i}.attention_norm": ("bert.encoder.layer.{i}.attention.output.LayerNorm",),
    "blocks.{i}.mlp.up": ("bert.encoder.layer.{i}.intermediate.dense",),
    "blocks.{i}.mlp.down": ("bert.encoder.layer.{i}.output.dense",),
    "blocks.{i}.mlp_norm": ("bert.encoder.layer.{i}.output.LayerNorm",),
    "transform": ("bert.pooler.dense",),
}


def _read_bert(fields: Fields) -> dict[str, Any]:
    kind = fields.text("position_embedding_type", "absolute")
    if kind != "absolute":
        raise UnsupportedError(f"{fields.source}: position_embedding_type {shown(kind)}")
    for key in ("is_decoder", "add_cross_attention"):
        if fields.flag(key, False):
            raise UnsupportedError(f"{fields.source}: a BERT with {key}")
    width, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    return {
        "vocab_size": fields.count("vocab_size"),
        "hidden_size": width,
        "intermediate_size": fields.count("intermediate_size"),
        "num_layers": fields.count("num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": width // heads if heads else 0,
        "max_positions": fields.count("max_position_embeddings", 512),
        "norm": "ln",
        "norm_place": "post",
        "norm_eps": fields.number("layer_norm_eps", 1e-12),
        "embedding_norm": True,
        "causal": False,
        "kinds": (LayerKind(rope=None),),
        "positions": "learned",
        "token_types": fields.count("type_vocab_size", 2),
        "qkv_bias": True,
        "out_bias": True,
        "mlp": "plain",
        "activation": read_activation(fields, "gelu"),
        "mlp_bias": True,
    }


def _write_bert(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["intermediate_size"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "max_position_embeddings": config["max_positions"],
        "layer_norm_eps": config["norm_eps"],
        "type_vocab_size": config["token_types"],
        "hidden_act": ACTIVATION_NAMES[config["activation"]],
        "position_embedding_type": "absolute",
    }


BERT_FAMILIES = (
    Family(
        model_type="bert",
        heads={"BertModel": {"head": "pool", "transform": "tanh"}},
        prefix="bert.",
        tensors=_BERT_TENSORS,
        ignored=("embeddings.position_ids",),
        read=_read_bert,
        write=_write_bert,
        optional_head=True,
    ),
)
