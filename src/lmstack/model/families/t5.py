"""T5 and mT5: encoder-decoders with RMSNorm, bucketed relative positions and unscaled scores.

Covered: T5 (plain MLP), v1.1 and FLAN (gated MLP), mT5; the encoder alone, and all heads. Not
covered: UMT5, whose layers each have their own buckets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lmstack.core import UnsupportedError, shown
from lmstack.model.families.encoders import NO_ROPE, architecture, write_tie
from lmstack.model.families.family import ACTIVATION_NAMES, Family, read_activation
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import Entry, Table

__all__ = ["T5_FAMILIES"]

# Relative positions reach any length; this is what the models were trained at.
_TRAINED_AT = 512


_HEADS: dict[str, dict[str, Entry]] = {
    "lm": {"head": "lm_head"},
    "sequence": {
        "transform": "classification_head.dense",
        "classifier": "classification_head.out_proj",
    },
    "token": {"classifier": "classifier"},
    "span": {"classifier": "qa_outputs"},
}


def _block(ours: str, stack: str, *, gated: bool, cross: bool) -> dict[str, Entry]:
    layer = f"{stack}.block.{{i}}.layer."
    mlp = f"{layer}{2 if cross else 1}."
    inner = f"{mlp}DenseReluDense."
    table: dict[str, Entry] = {
        f"{ours}attention_norm": f"{layer}0.layer_norm",
        f"{ours}attention.qkv": tuple(f"{layer}0.SelfAttention.{part}" for part in "qkv"),
        f"{ours}attention.out": f"{layer}0.SelfAttention.o",
        f"{ours}mlp_norm": f"{mlp}layer_norm",
        f"{ours}mlp.up": (f"{inner}wi_0", f"{inner}wi_1") if gated else f"{inner}wi",
        f"{ours}mlp.down": f"{inner}wo",
    }
    if cross:
        table |= {
            f"{ours}cross_norm": f"{layer}1.layer_norm",
            f"{ours}cross.q": f"{layer}1.EncDecAttention.q",
            f"{ours}cross.kv": tuple(f"{layer}1.EncDecAttention.{part}" for part in "kv"),
            f"{ours}cross.out": f"{layer}1.EncDecAttention.o",
        }
    return table


def _stack(ours: str, stack: str, *, gated: bool, cross: bool) -> dict[str, Entry]:
    return _block(f"{ours}blocks.{{i}}.", stack, gated=gated, cross=cross) | {
        f"{ours}relative_bias": f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias",
        f"{ours}final_norm": f"{stack}.final_layer_norm",
    }


def _table(config: Mapping[str, Any]) -> Table:
    gated, head = config["mlp"] == "glu", config["head"]
    # Heads that stand beside the body, not in the same class, put it under a name.
    start = "transformer." if head in ("sequence", "token") else ""
    table: dict[str, Entry] = {"embed": f"{start}shared"}
    if config["encoder"] is None:
        table |= _stack("", f"{start}encoder", gated=gated, cross=False)
    else:
        table |= _stack("", f"{start}decoder", gated=gated, cross=True)
        table |= _stack("encoder.", f"{start}encoder", gated=gated, cross=False)
    return table | _HEADS.get(head, {})


def _mlp(fields: Fields, default: str) -> dict[str, Any]:
    """``feed_forward_proj``: an activation, after "gated-" where the MLP has a gate; the gelu of
    a gated one is its tanh approximation."""
    given = fields.text("feed_forward_proj", default)
    gate, _, name = given.rpartition("-")
    if gate not in ("", "gated"):
        raise UnsupportedError(f"{fields.source}: feed_forward_proj {shown(given)}")
    # Newer files also write what this comes to.
    name = fields.text("dense_act_fn", "gelu_new" if given == "gated-gelu" else name)
    activation = read_activation(Fields({"name": name}, fields.source), name, key="name")
    return {"mlp": "glu" if gate else "plain", "activation": activation}


def _read_stack(fields: Fields, mlp: str) -> dict[str, Any]:
    heads = fields.count("num_heads")
    return {
        "vocab_size": fields.count("vocab_size"),
        "hidden_size": fields.count("d_model"),
        "intermediate_size": fields.count("d_ff"),
        "num_layers": fields.count("num_layers"),
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": fields.count("d_kv"),
        "max_positions": fields.count("n_positions", _TRAINED_AT),
        "norm": "rms",
        "norm_eps": fields.number("layer_norm_epsilon", 1e-6),
        "kinds": NO_ROPE,
        "bias": "t5",
        "bias_buckets": fields.count("relative_attention_num_buckets", 32),
        "bias_max_distance": fields.count("relative_attention_max_distance", 128),
        "attention_scale": 1.0,
    } | _mlp(fields, mlp)


def _read(fields: Fields, mlp: str, scaled: bool) -> dict[str, Any]:
    stack, name = _read_stack(fields, mlp), architecture(fields)
    if name.endswith(("TokenClassification", "EncoderModel")):
        return stack | {"causal": False}
    layers = stack["num_layers"]
    values = stack | {
        "num_layers": fields.count("num_decoder_layers", layers),
        "encoder": {"num_layers": layers, "causal": False},
    }
    if name.endswith("SequenceClassification"):
        return values | {"transform": "tanh", "pooling": "last"}
    if name.endswith("QuestionAnswering") or name in ("T5Model", "MT5Model"):
        return values
    return values | {
        "tie_embeddings": fields.flag("tie_word_embeddings", True),
        "logit_scale": max(stack["hidden_size"], 1) ** -0.5 if scaled else 1.0,
    }


def _read_t5(fields: Fields) -> dict[str, Any]:
    scaled = fields.flag("scale_decoder_outputs", fields.flag("tie_word_embeddings", True))
    return _read(fields, "relu", scaled)


def _read_mt5(fields: Fields) -> dict[str, Any]:
    return _read(fields, "gated-gelu", False)


def _write(config: Mapping[str, Any]) -> dict[str, Any]:
    encoder, gated = config["encoder"], config["mlp"] == "glu"
    name, scaled = ACTIVATION_NAMES[config["activation"]], config["logit_scale"] != 1.0
    written = {
        "vocab_size": config["vocab_size"],
        "d_model": config["hidden_size"],
        "d_ff": config["intermediate_size"],
        "d_kv": config["head_dim"],
        "num_layers": config["num_layers"] if encoder is None else encoder.num_layers,
        "num_decoder_layers": config["num_layers"],
        "num_heads": config["num_heads"],
        "n_positions": config["max_positions"],
        "layer_norm_epsilon": config["norm_eps"],
        "relative_attention_num_buckets": config["bias_buckets"],
        "relative_attention_max_distance": config["bias_max_distance"],
        "feed_forward_proj": f"gated-{name.removesuffix('_new')}" if gated else name,
        "dense_act_fn": name,
        "is_gated_act": gated,
        "is_encoder_decoder": encoder is not None,
    }
    return written | write_tie(config) | {"scale_decoder_outputs": scaled}


def _family(
    model_type: str, stem: str, read: Callable[[Fields], dict[str, Any]], start: int | None
) -> Family:
    heads = {
        "ForConditionalGeneration": "lm",
        "Model": "none",
        "EncoderModel": "none",
        "ForSequenceClassification": "sequence",
        "ForTokenClassification": "token",
        "ForQuestionAnswering": "span",
        "WithLMHeadModel": "lm",  # its name before 2020
    }
    return Family(
        model_type=model_type,
        heads={f"{stem}{name}": {"head": head} for name, head in heads.items()},
        prefix="",
        tensors=_table,
        ignored=(
            "encoder.embed_tokens.weight",
            "decoder.embed_tokens.weight",
            "EncDecAttention.relative_attention_bias.weight",
        ),
        read=read,
        write=_write,
        always_tied=True,
        decoder_start=start,
    )


T5_FAMILIES = (_family("t5", "T5", _read_t5, None), _family("mt5", "MT5", _read_mt5, 0))
