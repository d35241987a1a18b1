"""BERT and its kin: post-norm encoders with learned positions and segments.

Covered: BERT, ELECTRA (embeddings of another width), RoBERTa, XLM-R and CamemBERT (positions
that skip padding). `distilbert`, `albert`, `mpnet` and `deberta` name their tensors otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.core import FormatError
from lmstack.model.families.encoders import (
    OLD_NORMS,
    architecture,
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

__all__ = ["BERT_FAMILIES"]


def _body(prefix: str) -> Table:
    layer = f"{prefix}encoder.layer.{{i}}."
    return {
        "embed": f"{prefix}embeddings.word_embeddings",
        "embed_positions": f"{prefix}embeddings.position_embeddings",
        "embed_types": f"{prefix}embeddings.token_type_embeddings",
        "embed_norm": f"{prefix}embeddings.LayerNorm",
        "embed_project": f"{prefix}embeddings_project",
        "blocks.{i}.attention.qkv": tuple(
            f"{layer}attention.self.{part}" for part in ("query", "key", "value")
        ),
        "blocks.{i}.attention.out": f"{layer}attention.output.dense",
        "blocks.{i}.attention_norm": f"{layer}attention.output.LayerNorm",
        "blocks.{i}.mlp.up": f"{layer}intermediate.dense",
        "blocks.{i}.mlp.down": f"{layer}output.dense",
        "blocks.{i}.mlp_norm": f"{layer}output.LayerNorm",
    }


def _read_body(fields: Fields) -> dict[str, Any]:
    types = fields.count("type_vocab_size", 2)
    if types < 1:
        raise FormatError(f"{fields.source}: type_vocab_size is {types}, below 1")
    body = post_norm_encoder(fields, read_activation(fields, "gelu"))
    return body | {"token_types": types}


def _read_bert(fields: Fields) -> dict[str, Any]:
    body = _read_body(fields)
    return body | head_fields(fields, lm=body["activation"], pool="tanh", sequence="tanh")


def _write_bert(config: Mapping[str, Any]) -> dict[str, Any]:
    return write_encoder(config) | {"type_vocab_size": config["token_types"]}


def _read_electra(fields: Fields) -> dict[str, Any]:
    width, body = fields.count("embedding_size", 128), _read_body(fields)
    body["embedding_size"] = None if width == body["hidden_size"] else width
    if architecture(fields).endswith("PreTraining"):
        # Whether each token is the original: one score, after the body's activation.
        return body | {"transform": body["activation"]}
    # gelu, whatever hidden_act says.
    return body | head_fields(fields, lm="gelu", pool=None, sequence="gelu")


def _electra_table(config: Mapping[str, Any]) -> Table:
    table = encoder_table(_body("electra."), _ELECTRA_HEADS)(config)
    discriminates = config["head"] == "token" and config["transform"] is not None
    return {**table, **_DISCRIMINATOR} if discriminates else table


def _write_electra(config: Mapping[str, Any]) -> dict[str, Any]:
    width = config["embedding_size"] or config["hidden_size"]
    return _write_bert(config) | {"embedding_size": width}


def _read_roberta(fields: Fields) -> dict[str, Any]:
    body = _read_body(fields)
    body |= skip_padding(body, fields.count("pad_token_id", 1))
    # gelu, whatever hidden_act says.
    return body | head_fields(fields, lm="gelu", pool="tanh", sequence="tanh")


def _write_roberta(config: Mapping[str, Any]) -> dict[str, Any]:
    return _write_bert(config) | {"pad_token_id": config["position_pad"]}


_BERT_HEADS: dict[str, Table] = {
    "pool": {"transform": "bert.pooler.dense"},
    "lm": {
        "transform": "cls.predictions.transform.dense",
        "transform_norm": "cls.predictions.transform.LayerNorm",
        "head": "cls.predictions.decoder",
    },
    "sequence": {"transform": "bert.pooler.dense", "classifier": "classifier"},
}
_ELECTRA_HEADS: dict[str, Table] = {
    "lm": {
        "transform": "generator_predictions.dense",
        "transform_norm": "generator_predictions.LayerNorm",
        "head": "generator_lm_head",
        "head_bias": "generator_lm_head",
    },
    "sequence": {"transform": "classifier.dense", "classifier": "classifier.out_proj"},
}
_DISCRIMINATOR: Table = {
    "transform": "discriminator_predictions.dense",
    "classifier": "discriminator_predictions.dense_prediction",
}
_ROBERTA_HEADS: dict[str, Table] = {
    "pool": {"transform": "roberta.pooler.dense"},
    "lm": {
        "transform": "lm_head.dense",
        "transform_norm": "lm_head.layer_norm",
        "head": "lm_head.decoder",
    },
    "sequence": {"transform": "classifier.dense", "classifier": "classifier.out_proj"},
}
_POSITION_IDS = "embeddings.position_ids"


def _roberta(model_type: str, stem: str) -> Family:
    bias = ("lm_head.bias", "lm_head.decoder.bias")
    return Family(
        model_type=model_type,
        heads=encoder_heads(stem, "pool"),
        prefix="roberta.",
        tensors=encoder_table(_body("roberta."), _ROBERTA_HEADS, bias),
        ignored=(
            _POSITION_IDS,
            *bias,
            *both("roberta.pooler.dense", "lm_head.dense", "lm_head.layer_norm"),
        ),
        read=_read_roberta,
        write=_write_roberta,
        optional_head=True,
        alternatives={"head_bias.bias": bias[1]},
    )


_BERT_BIAS = ("cls.predictions.bias", "cls.predictions.decoder.bias")

BERT_FAMILIES = (
    Family(
        model_type="bert",
        heads=encoder_heads("Bert", "pool") | {"BertForPreTraining": {"head": "lm"}},
        prefix="bert.",
        tensors=encoder_table(_body("bert."), _BERT_HEADS, _BERT_BIAS),
        ignored=(
            _POSITION_IDS,
            *_BERT_BIAS,
            "cls.predictions.decoder.weight",
            *both(
                "bert.pooler.dense",
                "cls.seq_relationship",
                "cls.predictions.transform.dense",
                "cls.predictions.transform.LayerNorm",
            ),
        ),
        read=_read_bert,
        write=_write_bert,
        optional_head=True,
        alternatives={"head_bias.bias": _BERT_BIAS[1]},
        renames=OLD_NORMS,
    ),
    Family(
        model_type="electra",
        heads=encoder_heads("Electra", "none")
        | {"ElectraForPreTraining": {"head": "token", "num_labels": 1}},
        prefix="electra.",
        tensors=_electra_table,
        ignored=(
            _POSITION_IDS,
            *both("discriminator_predictions.dense", "discriminator_predictions.dense_prediction"),
        ),
        read=_read_electra,
        write=_write_electra,
        renames=OLD_NORMS,
    ),
    _roberta("roberta", "Roberta"),
    _roberta("xlm-roberta", "XLMRoberta"),
    _roberta("camembert", "Camembert"),
)
