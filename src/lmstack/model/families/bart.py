"""BART and its kin: the encoder-decoder of 2017 with all its biases.

Covered: BART (post-norm, learned positions from row 2 on), mBART (pre-norm), Marian (post-norm,
sinusoids) and Pegasus (pre-norm, sinusoids), and all heads but the decoder alone.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

from lmstack.model.families.encoders import POST_NORM, architecture
from lmstack.model.families.family import ACTIVATION_NAMES, Family, read_activation
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import ROW_VECTOR, Entry, Part, Table

__all__ = ["BART_FAMILIES"]


def _attention(ours: str, theirs: str) -> dict[str, Entry]:
    return {
        f"{ours}attention.qkv": tuple(f"{theirs}self_attn.{part}_proj" for part in "qkv"),
        f"{ours}attention.out": f"{theirs}self_attn.out_proj",
        f"{ours}attention_norm": f"{theirs}self_attn_layer_norm",
        f"{ours}mlp.up": f"{theirs}fc1",
        f"{ours}mlp.down": f"{theirs}fc2",
        f"{ours}mlp_norm": f"{theirs}final_layer_norm",
    }


def _stack(ours: str, theirs: str) -> dict[str, Entry]:
    return _attention(f"{ours}blocks.{{i}}.", f"{theirs}layers.{{i}}.") | {
        f"{ours}embed": f"{theirs}embed_tokens",
        f"{ours}embed_positions": f"{theirs}embed_positions",
        f"{ours}embed_norm": f"{theirs}layernorm_embedding",
        f"{ours}final_norm": f"{theirs}layer_norm",
    }


_CROSS: dict[str, Entry] = {
    "blocks.{i}.cross_norm": "model.decoder.layers.{i}.encoder_attn_layer_norm",
    "blocks.{i}.cross.q": "model.decoder.layers.{i}.encoder_attn.q_proj",
    "blocks.{i}.cross.kv": tuple(
        f"model.decoder.layers.{{i}}.encoder_attn.{part}_proj" for part in "kv"
    ),
    "blocks.{i}.cross.out": "model.decoder.layers.{i}.encoder_attn.out_proj",
}
_HEADS: dict[str, dict[str, Entry]] = {
    "lm": {
        "head": "lm_head",
        "head_bias.bias": Part("final_logits_bias", ROW_VECTOR, default=0.0),
    },
    "sequence": {
        "transform": "classification_head.dense",
        "classifier": "classification_head.out_proj",
    },
    "span": {"classifier": "qa_outputs"},
}


def _table(config: Mapping[str, Any]) -> Table:
    table = _stack("", "model.decoder.") | _stack("encoder.", "model.encoder.") | _CROSS
    if config["share_embeddings"]:
        table["embed"] = "model.shared"
    return table | _HEADS.get(config["head"], {})


def _table_with_dead(config: Mapping[str, Any]) -> Table:
    """Marian knows models with two tables; others keep a third that nothing reads."""
    if config["share_embeddings"]:
        return _table(config)
    embed = Part("model.decoder.embed_tokens", copies=("model.shared.weight",))
    return {**_table(config), "embed": embed}


def _read(
    fields: Fields, *, place: str, sinusoids: bool, embedding_norm: bool, labels: int = 2
) -> dict[str, Any]:
    width = fields.count("d_model")
    encoder, decoder = (_side(fields, width, side) for side in ("encoder", "decoder"))
    tied = fields.flag("tie_word_embeddings", True)
    shared = fields.flag("share_encoder_decoder_embeddings", True)
    vocab_size = fields.count("vocab_size")
    values = (
        POST_NORM
        | decoder
        | {
            "vocab_size": vocab_size if shared else fields.count("decoder_vocab_size", vocab_size),
            "hidden_size": width,
            "max_positions": fields.count("max_position_embeddings", 1024),
            "norm_place": place,
            "norm_eps": 1e-5,
            "embedding_norm": embedding_norm,
            "embedding_scale": math.sqrt(width) if fields.flag("scale_embedding", False) else 1.0,
            "positions": "sinusoidal_halves" if sinusoids else "learned",
            "position_offset": 0 if sinusoids else 2,
            "causal": True,
            "activation": read_activation(fields, "gelu", key="activation_function"),
            "share_embeddings": shared and tied,
            "encoder": encoder | {"vocab_size": vocab_size, "causal": False},
        }
    )
    name = architecture(fields)
    if name.endswith("SequenceClassification"):
        # The state of the last token, </s>, has seen the whole text.
        return values | {"transform": "tanh", "pooling": "last", "num_labels": labels}
    if name.endswith(("QuestionAnswering", "Model")) and not name.endswith("MTModel"):
        return values
    return values | {"tie_embeddings": tied, "head_bias": True}


def _side(fields: Fields, width: int, side: str) -> dict[str, Any]:
    heads = fields.count(f"{side}_attention_heads")
    return {
        "intermediate_size": fields.count(f"{side}_ffn_dim"),
        "num_layers": fields.count(f"{side}_layers"),
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": width // heads if heads else 0,
    }


def _write(config: Mapping[str, Any]) -> dict[str, Any]:
    encoder = config["encoder"]
    if encoder is None:
        return {}
    sides = {"encoder": (encoder.num_layers, encoder.num_heads, encoder.intermediate_size)}
    sides["decoder"] = tuple(config[k] for k in ("num_layers", "num_heads", "intermediate_size"))
    written = {
        "vocab_size": encoder.vocab_size,
        "d_model": config["hidden_size"],
        "max_position_embeddings": config["max_positions"],
        "scale_embedding": config["embedding_scale"] != 1.0,
        "activation_function": ACTIVATION_NAMES[config["activation"]],
        "is_encoder_decoder": True,
    }
    for side, (layers, heads, width) in sides.items():
        written[f"{side}_layers"] = layers
        written[f"{side}_attention_heads"] = heads
        written[f"{side}_ffn_dim"] = width
    # Without an output layer the flag still says whether the two stacks share a table.
    lm = config["head"] == "lm"
    return written | {"tie_word_embeddings": config["tie_embeddings" if lm else "share_embeddings"]}


def _write_marian(config: Mapping[str, Any]) -> dict[str, Any]:
    return _write(config) | {
        "share_encoder_decoder_embeddings": config["share_embeddings"],
        "decoder_vocab_size": config["vocab_size"],
        # Their default lies beyond a small vocabulary.
        "pad_token_id": None,
    }


_ALL = {
    "ForConditionalGeneration": "lm",
    "Model": "none",
    "ForSequenceClassification": "sequence",
    "ForQuestionAnswering": "span",
}


def _family(
    model_type: str, stem: str, heads: Mapping[str, str], start: int | None, **traits: Any
) -> Family:
    """``start``: `Family.decoder_start`. ``traits``: what `_read` needs to know that no
    config.json says."""
    marian = model_type == "marian"
    return Family(
        model_type=model_type,
        heads={f"{stem}{name}": {"head": head} for name, head in heads.items()},
        prefix="model.",
        tensors=_table if marian else _table_with_dead,
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
        read=functools.partial(_read, **traits),
        write=_write_marian if marian else _write,
        decoder_start=start,
    )


BART_FAMILIES = (
    _family("bart", "Bart", _ALL, 2, place="post", sinusoids=False, embedding_norm=True, labels=3),
    _family("mbart", "MBart", _ALL, None, place="pre", sinusoids=False, embedding_norm=True),
    _family(
        "marian",
        "Marian",
        {"MTModel": "lm", "Model": "none"},
        58100,
        place="post",
        sinusoids=True,
        embedding_norm=False,
    ),
    _family(
        "pegasus",
        "Pegasus",
        {"ForConditionalGeneration": "lm", "Model": "none"},
        0,
        place="pre",
        sinusoids=True,
        embedding_norm=False,
    ),
)
