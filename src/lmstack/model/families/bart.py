"""BART and its kin: the encoder-decoder of 2017 with all its biases.

Covered: BART (post-norm, learned positions from row 2 on), mBART (pre-norm), Marian (post-norm,
sinusoids) and Pegasus (pre-norm, sinusoids), and all heads but the decoder alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lmstack.model.config import TransformerConfig
from lmstack.model.families.encoders import POST_NORM
from lmstack.model.families.family import NONE, SPAN, Family, in_blocks
from lmstack.model.families.settings import ConfigKey, Settings, read_settings, write_settings
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import ROW_VECTOR, Entry, Table, TensorPart

__all__ = ["BART_FAMILIES"]

_BLOCK: Table = {
    "attention.qkv": tuple(f"self_attn.{part}_proj" for part in "qkv"),
    "attention.out": "self_attn.out_proj",
    "attention_norm": "self_attn_layer_norm",
    "mlp.up": "fc1",
    "mlp.down": "fc2",
    "mlp_norm": "final_layer_norm",
}
_CROSS: Table = {
    "cross_norm": "encoder_attn_layer_norm",
    "cross.q": "encoder_attn.q_proj",
    "cross.kv": tuple(f"encoder_attn.{part}_proj" for part in "kv"),
    "cross.out": "encoder_attn.out_proj",
}
_HEADS: dict[str, dict[str, Entry]] = {
    "lm": {
        "head": "lm_head",
        "head_bias.bias": TensorPart("final_logits_bias", ROW_VECTOR, default=0.0),
    },
    "sequence": {
        "transform": "classification_head.dense",
        "classifier": "classification_head.out_proj",
    },
    "span": {"classifier": "qa_outputs"},
}


def _stack(ours: str, theirs: str, block: Table) -> dict[str, Entry]:
    return in_blocks(f"{theirs}layers.{{i}}.", block, f"{ours}blocks.{{i}}.") | {
        f"{ours}embed": f"{theirs}embed_tokens",
        f"{ours}embed_positions": f"{theirs}embed_positions",
        f"{ours}embed_norm": f"{theirs}layernorm_embedding",
        f"{ours}final_norm": f"{theirs}layer_norm",
    }


def _table(config: TransformerConfig) -> Table:
    table = _stack("", "model.decoder.", {**_BLOCK, **_CROSS})
    table |= _stack("encoder.", "model.encoder.", _BLOCK)
    if config.share_embeddings:
        table["embed"] = "model.shared"
    return table | _HEADS.get(config.head, {})


def _table_with_dead(config: TransformerConfig) -> Table:
    """Where two tables are in use, a third that nothing reads is written as well."""
    if config.share_embeddings:
        return _table(config)
    embed = TensorPart("model.decoder.embed_tokens", copies=("model.shared.weight",))
    return {**_table(config), "embed": embed}


_SETTINGS: Settings = {
    "vocab_size": ConfigKey.count("vocab_size"),
    "hidden_size": ConfigKey.count("d_model"),
    "intermediate_size": ConfigKey.count("decoder_ffn_dim"),
    "num_layers": ConfigKey.count("decoder_layers"),
    "num_heads": ConfigKey.count("decoder_attention_heads"),
    "activation": ConfigKey.activation("activation_function", "gelu"),
    "tie_embeddings": ConfigKey.flag("tie_word_embeddings", True),
}
_ENCODER: Settings = {
    "intermediate_size": ConfigKey.count("encoder_ffn_dim"),
    "num_layers": ConfigKey.count("encoder_layers"),
    "num_heads": ConfigKey.count("encoder_attention_heads"),
}


def _read(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    width, vocab_size = values["hidden_size"], values["vocab_size"]
    shared = fields.flag("share_encoder_decoder_embeddings", True)
    encoder = read_settings(_ENCODER, fields)
    heads = encoder["num_heads"]
    head_dim = width // heads if heads else 0
    sides = {"num_kv_heads": heads, "head_dim": head_dim, "vocab_size": vocab_size}
    return {
        "vocab_size": vocab_size if shared else fields.count("decoder_vocab_size", vocab_size),
        "max_positions": fields.count("max_position_embeddings", 1024),
        "embedding_scale": math.sqrt(width) if fields.flag("scale_embedding", False) else 1.0,
        "share_embeddings": shared and values["tie_embeddings"],
        "encoder": encoder | sides | {"causal": False},
    }


def _write(config: TransformerConfig) -> dict[str, Any]:
    encoder = config.encoder
    if encoder is None:
        return {}
    written = write_settings(_ENCODER, encoder) | {
        "vocab_size": encoder.vocab_size,
        "max_position_embeddings": config.max_positions,
        "scale_embedding": config.embedding_scale != 1.0,
        "is_encoder_decoder": True,
    }
    # Without an output layer the flag still says whether the two stacks share a table.
    tied = config.tie_embeddings if config.head == "lm" else config.share_embeddings
    return written | {"tie_word_embeddings": tied}


def _write_marian(config: TransformerConfig) -> dict[str, Any]:
    return _write(config) | {
        "share_encoder_decoder_embeddings": config.share_embeddings,
        "decoder_vocab_size": config.vocab_size,
        # Their default lies beyond a small vocabulary.
        "pad_token_id": None,
    }


_LM: Mapping[str, Any] = {"head": "lm", "head_bias": True}
# The state of the last token, </s>, has seen the whole text.
_SEQUENCE: Mapping[str, Any] = {"head": "sequence", "transform": "tanh", "pooling": "last"}
_LEARNED = {**POST_NORM, "norm_eps": 1e-5, "causal": True, "position_offset": 2}
_SINUSOIDS = _LEARNED | {
    "positions": "sinusoidal_halves",
    "position_offset": 0,
    "embedding_norm": False,
}
_ALL = {
    "ForConditionalGeneration": _LM,
    "Model": NONE,
    "ForSequenceClassification": _SEQUENCE,
    "ForQuestionAnswering": SPAN,
}


def _family(
    model_type: str,
    stem: str,
    fixed: Mapping[str, Any],
    heads: Mapping[str, Mapping[str, Any]],
    **more: Any,
) -> Family:
    given: dict[str, Any] = {"tensors": _table_with_dead, "write": _write} | more
    return Family(
        model_type=model_type,
        heads={f"{stem}{name}": sets for name, sets in heads.items()},
        prefix="model.",
        settings=_SETTINGS,
        fixed=fixed,
        read=_read,
        ignored=(
            "shared.weight",
            "encoder.embed_tokens.weight",
            "decoder.embed_tokens.weight",
            # Sinusoids are computed.
            "embed_positions.weight",
            "encoder.version",
            "decoder.version",
            "final_logits_bias",
        ),
        **given,
    )


BART_FAMILIES = (
    _family("bart", "Bart", _LEARNED, _ALL, decoder_start=2, num_labels=3),
    _family("mbart", "MBart", _LEARNED | {"norm_place": "pre"}, _ALL),
    _family(
        "marian",
        "Marian",
        _SINUSOIDS,
        {"MTModel": _LM, "Model": NONE},
        decoder_start=58100,
        tensors=_table,
        write=_write_marian,
    ),
    _family(
        "pegasus",
        "Pegasus",
        _SINUSOIDS | {"norm_place": "pre"},
        {"ForConditionalGeneration": _LM, "Model": NONE},
        decoder_start=0,
    ),
)
