"""BERT and its kin: post-norm encoders with learned positions.

Covered: BERT, ELECTRA (embeddings of another width), RoBERTa, XLM-R and CamemBERT (positions
that skip padding), MPNet (T5's relative bias as well), DistilBERT, and ALBERT (few blocks for many
layers).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.model.config import TransformerConfig
from lmstack.model.families.encoders import (
    ENCODER,
    OLD_NORMS,
    POST_NORM,
    encoder_family,
    encoder_heads,
    encoder_table,
)
from lmstack.model.families.family import AS_BODY, Family, in_blocks
from lmstack.model.families.settings import ConfigKey
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import Entry, Table

__all__ = ["BERT_FAMILIES"]

_BLOCK: dict[str, Entry] = {
    "attention.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "mlp.up": "intermediate.dense",
    "mlp.down": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
_TYPES = {**ENCODER, "token_types": ConfigKey.count("type_vocab_size", default=2, least=1)}


def _embeddings(prefix: str) -> dict[str, Entry]:
    return {
        "embed": f"{prefix}embeddings.word_embeddings",
        "embed_positions": f"{prefix}embeddings.position_embeddings",
        "embed_types": f"{prefix}embeddings.token_type_embeddings",
        "embed_norm": f"{prefix}embeddings.LayerNorm",
        "embed_project": f"{prefix}embeddings_project",
    }


def _body(prefix: str) -> dict[str, Entry]:
    return _embeddings(prefix) | in_blocks(f"{prefix}encoder.layer.{{i}}.", _BLOCK)


def _masked(dense: str, norm: str, decoder: str, *bias: str) -> Table:
    """The head for masked words."""
    table = {"transform": dense, "transform_norm": norm, "head": decoder}
    return table | ({"head_bias": decoder} if bias else {})


def _skip_padding(values: Mapping[str, Any], pad: int) -> dict[str, Any]:
    """Positions as RoBERTa counts them: padding stands at row ``pad`` of the table and does not
    count, so the first token stands at the next row."""
    rows = values["max_positions"]
    return {"position_pad": pad, "position_offset": pad + 1, "max_positions": rows - pad - 1}


def _write_rows(config: TransformerConfig) -> dict[str, Any]:
    return {"max_position_embeddings": config.max_positions + config.position_offset}


def _read_roberta(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    return _skip_padding(values, fields.count("pad_token_id", 1))


def _write_roberta(config: TransformerConfig) -> dict[str, Any]:
    return _write_rows(config) | {"pad_token_id": config.position_pad}


# What RoBERTa's and MPNet's heads do whatever hidden_act says.
_GELU = {"lm": "gelu", "pool": "tanh", "sequence": "tanh"}
_BESIDE: Table = {"transform": "classifier.dense", "classifier": "classifier.out_proj"}
_LM_HEAD = _masked("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder")
_LM_HEAD_BIAS = ("lm_head.bias", "lm_head.decoder.bias")


def _roberta(model_type: str, stem: str) -> Family:
    return encoder_family(
        model_type,
        encoder_heads(stem, **_GELU),
        "roberta.",
        _body("roberta."),
        {"pool": {"transform": "roberta.pooler.dense"}, "lm": _LM_HEAD, "sequence": _BESIDE},
        bias=_LM_HEAD_BIAS,
        settings=_TYPES,
        read=_read_roberta,
        write=_write_roberta,
    )


_BERT = encoder_family(
    "bert",
    encoder_heads("Bert", pool="tanh", sequence="tanh")
    | {"BertForPreTraining": encoder_heads("Bert")["BertForMaskedLM"]},
    "bert.",
    _body("bert."),
    {
        "pool": {"transform": "bert.pooler.dense"},
        "lm": _masked(
            "cls.predictions.transform.dense",
            "cls.predictions.transform.LayerNorm",
            "cls.predictions.decoder",
        ),
        "sequence": {"transform": "bert.pooler.dense", "classifier": "classifier"},
    },
    bias=("cls.predictions.bias", "cls.predictions.decoder.bias"),
    ignored=("cls.seq_relationship",),
    settings=_TYPES,
    renames=OLD_NORMS,
)


_DISCRIMINATOR = {
    "transform": "discriminator_predictions.dense",
    "classifier": "discriminator_predictions.dense_prediction",
}
_ELECTRA_HEADS = {
    "lm": _masked(
        "generator_predictions.dense",
        "generator_predictions.LayerNorm",
        "generator_lm_head",
        "bias",
    ),
    "sequence": _BESIDE,
}


def _electra_table(config: TransformerConfig) -> Table:
    table = encoder_table(_body("electra."), _ELECTRA_HEADS)(config)
    discriminates = config.head == "token" and config.transform is not None
    return {**table, **_DISCRIMINATOR} if discriminates else table


def _read_electra(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    width = fields.count("embedding_size", 128)
    return {"embedding_size": None if width == values["hidden_size"] else width}


def _write_electra(config: TransformerConfig) -> dict[str, Any]:
    return {"embedding_size": config.embedding_width}


_ELECTRA = encoder_family(
    "electra",
    encoder_heads("Electra", lm="gelu", sequence="gelu")
    # Whether each token is the original: one score, after the body's activation.
    | {"ElectraForPreTraining": {"head": "token", "transform": AS_BODY, "num_labels": 1}},
    "electra.",
    _body("electra."),
    _ELECTRA_HEADS,
    ignored=_DISCRIMINATOR.values(),
    settings=_TYPES,
    read=_read_electra,
    write=_write_electra,
    tensors=_electra_table,
    renames=OLD_NORMS,
)

_MPNET_BODY = {
    **_embeddings("mpnet."),
    "relative_bias": "mpnet.encoder.relative_attention_bias",
} | in_blocks(
    "mpnet.encoder.layer.{i}.",
    _BLOCK
    | {
        "attention.qkv": ("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        "attention.out": "attention.attn.o",
        "attention_norm": "attention.LayerNorm",
    },
)
# Written into the model's code, whatever its config says.
_MPNET_BUCKETS, _MPNET_PAD = 32, 1
_MPNET = encoder_family(
    "mpnet",
    encoder_heads("MPNet", **_GELU),
    "mpnet.",
    _MPNET_BODY,
    {"pool": {"transform": "mpnet.pooler.dense"}, "lm": _LM_HEAD, "sequence": _BESIDE},
    bias=_LM_HEAD_BIAS,
    fixed={**POST_NORM, "bias": "t5", "bias_buckets": _MPNET_BUCKETS, "bias_max_distance": 128},
    refused={"relative_attention_num_buckets": _MPNET_BUCKETS},
    read=lambda _, values: _skip_padding(values, _MPNET_PAD),
    write=_write_rows,
)

_DISTILBERT = encoder_family(
    "distilbert",
    encoder_heads("DistilBert", sequence="relu"),
    "distilbert.",
    _embeddings("distilbert.")
    | in_blocks(
        "distilbert.transformer.layer.{i}.",
        {
            "attention.qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
            "attention.out": "attention.out_lin",
            "attention_norm": "sa_layer_norm",
            "mlp.up": "ffn.lin1",
            "mlp.down": "ffn.lin2",
            "mlp_norm": "output_layer_norm",
        },
    ),
    {
        "lm": _masked("vocab_transform", "vocab_layer_norm", "vocab_projector", "bias"),
        "sequence": {"transform": "pre_classifier", "classifier": "classifier"},
    },
    # sinusoidal_pos_embds only says how the table, which the file holds, was first filled.
    settings={
        "vocab_size": ConfigKey.count("vocab_size"),
        "hidden_size": ConfigKey.count("dim"),
        "intermediate_size": ConfigKey.count("hidden_dim"),
        "num_layers": ConfigKey.count("n_layers"),
        "num_heads": ConfigKey.count("n_heads"),
        "max_positions": ConfigKey.count("max_position_embeddings", default=512),
        "activation": ConfigKey.activation("activation", "gelu"),
        "tie_embeddings": ConfigKey.flag("tie_word_embeddings", True),
    },
    fixed={**POST_NORM, "norm_eps": 1e-12},
)

_ALBERT_BODY = _embeddings("albert.") | {
    "embed_project": "albert.encoder.embedding_hidden_mapping_in"
}
_ALBERT_BLOCK: dict[str, Entry] = {
    "attention.qkv": ("attention.query", "attention.key", "attention.value"),
    "attention.out": "attention.dense",
    "attention_norm": "attention.LayerNorm",
    "mlp.up": "ffn",
    "mlp.down": "ffn_output",
    "mlp_norm": "full_layer_layer_norm",
}
_ALBERT_HEADS = {
    "pool": {"transform": "albert.pooler"},
    "lm": _masked("predictions.dense", "predictions.LayerNorm", "predictions.decoder"),
    "sequence": {"transform": "albert.pooler", "classifier": "classifier"},
}
_ALBERT_BIAS = ("predictions.bias", "predictions.decoder.bias")


def _albert_table(config: TransformerConfig) -> Table:
    """Blocks are named by their group and their place in it."""
    body = dict(_ALBERT_BODY)
    for block in range(config.num_blocks or config.num_layers):
        group, place = divmod(block, config.blocks_per_group)
        layer = f"albert.encoder.albert_layer_groups.{group}.albert_layers.{place}."
        body |= in_blocks(layer, _ALBERT_BLOCK, f"blocks.{block}.")
    return encoder_table(body, _ALBERT_HEADS, _ALBERT_BIAS)(config)


def _read_albert(fields: Fields, _values: Mapping[str, Any]) -> dict[str, Any]:
    inner = fields.count("inner_group_num", 1)
    return {
        "num_layers": fields.count("num_hidden_layers", 12) * inner,
        "num_blocks": fields.count("num_hidden_groups", 1) * inner,
        "blocks_per_group": inner,
    }


def _write_albert(config: TransformerConfig) -> dict[str, Any]:
    inner, blocks = config.blocks_per_group, config.num_blocks or config.num_layers
    return {
        "num_hidden_layers": config.num_layers // inner,
        "num_hidden_groups": blocks // inner,
        "inner_group_num": inner,
    }


_ALBERT = encoder_family(
    "albert",
    encoder_heads("Albert", pool="tanh", sequence="tanh")
    | {"AlbertForPreTraining": encoder_heads("Albert")["AlbertForMaskedLM"]},
    "albert.",
    _ALBERT_BODY,
    _ALBERT_HEADS,
    bias=_ALBERT_BIAS,
    ignored=("sop_classifier.classifier",),
    settings={
        **ENCODER,
        "token_types": ConfigKey.count("type_vocab_size", default=2),
        "num_layers": ConfigKey.count("num_hidden_layers", default=12),
        "activation": ConfigKey.activation("hidden_act", "gelu_new"),
        "embedding_size": ConfigKey.count("embedding_size", default=128),
    },
    read=_read_albert,
    write=_write_albert,
    tensors=_albert_table,
    renames=OLD_NORMS,
)

BERT_FAMILIES = (
    _BERT,
    _ELECTRA,
    _roberta("roberta", "Roberta"),
    _roberta("xlm-roberta", "XLMRoberta"),
    _roberta("camembert", "Camembert"),
    _DISTILBERT,
    _ALBERT,
    _MPNET,
)
