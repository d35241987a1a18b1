"""DeBERTa-v2 and v3: BERT with disentangled attention to relative positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.model.config import TransformerConfig
from lmstack.model.families.encoders import ENCODER, encoder_family, encoder_heads
from lmstack.model.families.family import in_blocks
from lmstack.model.families.settings import (
    ConfigKey,
    Settings,
    activation_name,
    read_activation,
    refuse,
)
from lmstack.model.fields import Fields

__all__ = ["DEBERTA_FAMILIES"]

_BODY = {
    "embed": "deberta.embeddings.word_embeddings",
    "embed_positions": "deberta.embeddings.position_embeddings",
    "embed_types": "deberta.embeddings.token_type_embeddings",
    "embed_norm": "deberta.embeddings.LayerNorm",
    "embed_project": "deberta.embeddings.embed_proj",
    "embed_relative": "deberta.encoder.rel_embeddings",
    "relative_norm": "deberta.encoder.LayerNorm",
    "neighbours.conv": "deberta.encoder.conv.conv",
    "neighbours.norm": "deberta.encoder.conv.LayerNorm",
} | in_blocks(
    "deberta.encoder.layer.{i}.",
    {
        "attention.qkv": tuple(f"attention.self.{x}_proj" for x in ("query", "key", "value")),
        "attention.pos_key": "attention.self.pos_key_proj",
        "attention.pos_query": "attention.self.pos_query_proj",
        "attention.out": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "mlp.up": "intermediate.dense",
        "mlp.down": "output.dense",
        "mlp_norm": "output.LayerNorm",
    },
)
_SETTINGS: Settings = {
    **ENCODER,
    "norm_eps": ConfigKey.number("layer_norm_eps", default=1e-7),
    "token_types": ConfigKey.count("type_vocab_size", default=0),
    "bias_shared": ConfigKey.flag("share_att_key", False),
    "conv_size": ConfigKey.count("conv_kernel_size", default=0),
    "conv_groups": ConfigKey.count("conv_groups", default=1),
    "conv_activation": ConfigKey.activation("conv_act", "tanh"),
}


def _parts(fields: Fields) -> tuple[str, ...]:
    """``pos_att_type`` as a list or, in older files, as text: "p2c|c2p"."""
    given = fields.get("pos_att_type") or []
    names = [x.strip() for x in given.lower().split("|")] if isinstance(given, str) else given
    if not isinstance(names, list) or any(n not in ("c2p", "p2c") for n in names):
        raise FormatError(f"{fields.source}: pos_att_type is {shown(given)}, not of c2p and p2c")
    return tuple(sorted(set(names)))


def _relative(fields: Fields, head_dim: int, longest: int) -> dict[str, Any]:
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
        "bias_norm": relative and "layer_norm" in [name.strip() for name in norms],
        "bias_buckets": max(fields.count("position_buckets", -1), 0),
        "bias_max_distance": reach if reach >= 1 else longest,
        # Each part is a score of its own: the sum has the spread of one.
        "attention_scale": (max(head_dim, 1) * (1 + len(parts))) ** -0.5,
    }


def _read(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    hidden, heads = values["hidden_size"], values["num_heads"]
    head_dim = hidden // heads if heads else 0
    refuse(fields, pooler_hidden_size=hidden, attention_head_size=head_dim)
    width = fields.count("embedding_size", hidden)
    found = {
        "positions": "learned" if fields.flag("position_biased_input", True) else "none",
        "embedding_size": None if width == hidden else width,
        "projects_first": width != hidden,
    } | _relative(fields, head_dim, values["max_positions"])
    if values["head"] == "sequence":
        found["transform"] = read_activation(fields, "gelu", key="pooler_hidden_act")
    if values["head"] == "lm" and not fields.flag("legacy", True):
        refuse(fields, embedding_size=hidden)
        found["tie_embeddings"] = True
    return found


def _write(config: TransformerConfig) -> dict[str, Any]:
    pooler = {}
    if config.head == "sequence" and config.transform is not None:
        pooler = {"pooler_hidden_act": activation_name(config.transform)}
    return pooler | {
        "position_biased_input": config.positions == "learned",
        "relative_attention": config.bias == "deberta",
        "pos_att_type": list(config.bias_parts),
        "norm_rel_ebd": "layer_norm" if config.bias_norm else "none",
        "position_buckets": config.bias_buckets or -1,
        "max_relative_positions": config.bias_max_distance,
        "embedding_size": config.embedding_width,
    }


# The names of the checkpoints that Microsoft published, and of ``legacy: false``.
_PUBLISHED = (
    (r"^lm_predictions\.lm_head\.(dense|LayerNorm)\.", r"cls.predictions.transform.\1."),
    (r"^lm_predictions\.lm_head\.bias$", "cls.predictions.bias"),
)
_NOT_LEGACY = (
    (r"^cls\.predictions\.transform\.", "lm_predictions.lm_head."),
    (r"^cls\.predictions\.bias$", "lm_predictions.lm_head.bias"),
)
_HEADS = encoder_heads("DebertaV2")
# Its activation has a key of its own.
_HEADS["DebertaV2ForSequenceClassification"] = {"head": "sequence"}

DEBERTA_FAMILIES = (
    encoder_family(
        "deberta-v2",
        _HEADS,
        "deberta.",
        _BODY,
        {
            "lm": {
                "transform": "cls.predictions.transform.dense",
                "transform_norm": "cls.predictions.transform.LayerNorm",
                "head": "cls.predictions.decoder",
            },
            "sequence": {"transform": "pooler.dense", "classifier": "classifier"},
        },
        bias=("cls.predictions.bias", "cls.predictions.decoder.bias"),
        ignored=(
            "pooler.dense",
            "deberta.encoder.LayerNorm",
            "mask_predictions.dense",
            "mask_predictions.LayerNorm",
            "mask_predictions.classifier",
        ),
        settings=_SETTINGS,
        read=_read,
        write=_write,
        renames=_PUBLISHED,
        spellings={"legacy": (False, _NOT_LEGACY)},
    ),
)
