"""DeBERTa-v2 and v3: BERT with disentangled attention to relative positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.model.families.encoders import (
    both,
    encoder_heads,
    encoder_table,
    head_fields,
    post_norm_encoder,
    write_encoder,
)
from lmstack.model.families.family import ACTIVATION_NAMES, Family, read_activation, refuse
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import Table

__all__ = ["DEBERTA_FAMILIES"]

_LAYER = "deberta.encoder.layer.{i}."
_TENSORS: Table = {
    "embed": "deberta.embeddings.word_embeddings",
    "embed_positions": "deberta.embeddings.position_embeddings",
    "embed_types": "deberta.embeddings.token_type_embeddings",
    "embed_norm": "deberta.embeddings.LayerNorm",
    "embed_project": "deberta.embeddings.embed_proj",
    "neighbours.conv": "deberta.encoder.conv.conv",
    "neighbours.norm": "deberta.encoder.conv.LayerNorm",
    "embed_relative": "deberta.encoder.rel_embeddings",
    "relative_norm": "deberta.encoder.LayerNorm",
    "blocks.{i}.attention.qkv": tuple(
        f"{_LAYER}attention.self.{part}_proj" for part in ("query", "key", "value")
    ),
    "blocks.{i}.attention.pos_key": f"{_LAYER}attention.self.pos_key_proj",
    "blocks.{i}.attention.pos_query": f"{_LAYER}attention.self.pos_query_proj",
    "blocks.{i}.attention.out": f"{_LAYER}attention.output.dense",
    "blocks.{i}.attention_norm": f"{_LAYER}attention.output.LayerNorm",
    "blocks.{i}.mlp.up": f"{_LAYER}intermediate.dense",
    "blocks.{i}.mlp.down": f"{_LAYER}output.dense",
    "blocks.{i}.mlp_norm": f"{_LAYER}output.LayerNorm",
}


def _parts(fields: Fields) -> tuple[str, ...]:
    """``pos_att_type`` as a list or, in older files, as text: "p2c|c2p"."""
    given = fields.get("pos_att_type") or []
    names = [x.strip() for x in given.lower().split("|")] if isinstance(given, str) else given
    if not isinstance(names, list) or any(n not in ("c2p", "p2c") for n in names):
        raise FormatError(f"{fields.source}: pos_att_type is {shown(given)}, not of c2p and p2c")
    return tuple(sorted(set(names)))


def _refuse(fields: Fields, body: Mapping[str, Any]) -> None:
    for key, expected in (
        ("pooler_hidden_size", body["hidden_size"]),
        ("attention_head_size", body["head_dim"]),
    ):
        if fields.count(key, expected) != expected:
            raise UnsupportedError(f"{fields.source}: a DeBERTa with {key} {fields.count(key)}")


def _relative(fields: Fields, body: Mapping[str, Any]) -> dict[str, Any]:
    """Distances beyond ``bias_max_distance`` look alike; with buckets, those far but nearer
    than it share one."""
    parts, relative = _parts(fields), fields.flag("relative_attention", False)
    if relative and not parts:
        raise UnsupportedError(f"{fields.source}: relative_attention without pos_att_type")
    reach = fields.count("max_relative_positions", -1)
    norms = fields.text("norm_rel_ebd", "none").lower().split("|")
    return {
        "bias": "deberta" if relative else "none",
        "bias_parts": parts,
        "bias_shared": fields.flag("share_att_key", False),
        "bias_norm": relative and "layer_norm" in [name.strip() for name in norms],
        "bias_buckets": max(fields.count("position_buckets", -1), 0),
        "bias_max_distance": reach if reach >= 1 else body["max_positions"],
        # Each part is a score of its own: the sum has the spread of one.
        "attention_scale": (max(body["head_dim"], 1) * (1 + len(parts))) ** -0.5,
    }


def _read(fields: Fields) -> dict[str, Any]:
    activation = read_activation(fields, "gelu")
    body = post_norm_encoder(fields, activation)
    _refuse(fields, body)
    pooler = read_activation(fields, "gelu", key="pooler_hidden_act")
    width = fields.count("embedding_size", body["hidden_size"])
    narrow = width != body["hidden_size"]
    head = head_fields(fields, lm=activation, pool=None, sequence=pooler)
    if not fields.flag("legacy", True) and head.get("transform_norm"):
        refuse(fields, embedding_size=body["hidden_size"])
        head["tie_embeddings"] = True
    return (
        body
        | {
            "embedding_size": width if narrow else None,
            "projects_first": narrow,
            "conv_size": fields.count("conv_kernel_size", 0),
            "conv_groups": fields.count("conv_groups", 1),
            "conv_activation": read_activation(fields, "tanh", key="conv_act"),
            "norm_eps": fields.number("layer_norm_eps", 1e-7),
            "token_types": fields.count("type_vocab_size", 0),
            "positions": "learned" if fields.flag("position_biased_input", True) else "none",
        }
        | _relative(fields, body)
        | head
    )


def _write(config: Mapping[str, Any]) -> dict[str, Any]:
    written = write_encoder(config) | {
        "type_vocab_size": config["token_types"],
        "position_biased_input": config["positions"] == "learned",
        "relative_attention": config["bias"] == "deberta",
        "pos_att_type": list(config["bias_parts"]),
        "share_att_key": config["bias_shared"],
        "norm_rel_ebd": "layer_norm" if config["bias_norm"] else "none",
        "position_buckets": config["bias_buckets"] or -1,
        "max_relative_positions": config["bias_max_distance"],
        "embedding_size": config["embedding_size"] or config["hidden_size"],
    }
    if config["conv_size"]:
        written["conv_kernel_size"] = config["conv_size"]
        written["conv_groups"] = config["conv_groups"]
        written["conv_act"] = ACTIVATION_NAMES[config["conv_activation"]]
    if config["transform"] is not None:
        written["pooler_hidden_act"] = ACTIVATION_NAMES[config["transform"]]
    return written


_HEADS: dict[str, Table] = {
    "lm": {
        "transform": "cls.predictions.transform.dense",
        "transform_norm": "cls.predictions.transform.LayerNorm",
        "head": "cls.predictions.decoder",
    },
    "sequence": {"transform": "pooler.dense", "classifier": "classifier"},
}
_BIAS = ("cls.predictions.bias", "cls.predictions.decoder.bias")
# The names of the checkpoints that Microsoft published, and of ``legacy: false``.
_LEGACY = (
    (r"^lm_predictions\.lm_head\.(dense|LayerNorm)\.", r"cls.predictions.transform.\1."),
    (r"^lm_predictions\.lm_head\.bias$", "cls.predictions.bias"),
)
_NOT_LEGACY = (
    (r"^cls\.predictions\.transform\.", "lm_predictions.lm_head."),
    (r"^cls\.predictions\.bias$", "lm_predictions.lm_head.bias"),
)

DEBERTA_FAMILIES = (
    Family(
        model_type="deberta-v2",
        heads=encoder_heads("DebertaV2", "none"),
        prefix="deberta.",
        tensors=encoder_table(_TENSORS, _HEADS, _BIAS),
        ignored=(
            "embeddings.position_ids",
            *_BIAS,
            "mask_predictions.classifier.weight",
            "mask_predictions.classifier.bias",
            *both(
                "pooler.dense",
                "deberta.encoder.LayerNorm",
                "cls.predictions.transform.dense",
                "cls.predictions.transform.LayerNorm",
                "mask_predictions.dense",
                "mask_predictions.LayerNorm",
            ),
        ),
        read=_read,
        write=_write,
        alternatives={"head_bias.bias": _BIAS[1]},
        renames=_LEGACY,
        spellings={"legacy": (False, _NOT_LEGACY)},
    ),
)
