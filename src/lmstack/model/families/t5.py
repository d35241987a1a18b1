"""T5 and mT5: encoder-decoders with RMSNorm, bucketed relative positions and unscaled scores.

Covered: T5 (plain MLP), v1.1 and FLAN (gated MLP), mT5; the encoder alone, and all heads. Not
covered: UMT5, whose layers each have their own buckets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.core import UnsupportedError, shown
from lmstack.model.config import TransformerConfig
from lmstack.model.families.family import LM, NO_ROPE, NONE, SPAN, TOKEN, Family, in_blocks
from lmstack.model.families.settings import ConfigKey, Settings, activation_name, read_activation
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import Entry, Table

__all__ = ["T5_FAMILIES"]

_SETTINGS: Settings = {
    "vocab_size": ConfigKey.count("vocab_size"),
    "hidden_size": ConfigKey.count("d_model"),
    "intermediate_size": ConfigKey.count("d_ff"),
    "num_layers": ConfigKey.count("num_decoder_layers", "num_layers"),
    "num_heads": ConfigKey.count("num_heads"),
    "head_dim": ConfigKey.count("d_kv"),
    # Relative positions reach any length; this is what the models were trained at.
    "max_positions": ConfigKey.count("n_positions", default=512),
    "norm_eps": ConfigKey.number("layer_norm_epsilon", default=1e-6),
    "bias_buckets": ConfigKey.count("relative_attention_num_buckets", default=32),
    "bias_max_distance": ConfigKey.count("relative_attention_max_distance", default=128),
    "tie_embeddings": ConfigKey.flag("tie_word_embeddings", True),
}
_FIXED = {"norm": "rms", "kinds": NO_ROPE, "bias": "t5", "attention_scale": 1.0}
_HEADS: dict[str, dict[str, Entry]] = {
    "lm": {"head": "lm_head"},
    "sequence": {
        "transform": "classification_head.dense",
        "classifier": "classification_head.out_proj",
    },
    "token": {"classifier": "classifier"},
    "span": {"classifier": "qa_outputs"},
}


def _stack(ours: str, stack: str, *, gated: bool, cross: bool) -> dict[str, Entry]:
    """Sublayers are numbered: cross-attention, where there is some, comes before the MLP."""
    mlp = "2." if cross else "1."
    inner = f"{mlp}DenseReluDense."
    block: dict[str, Entry] = {
        "attention_norm": "0.layer_norm",
        "attention.qkv": tuple(f"0.SelfAttention.{part}" for part in "qkv"),
        "attention.out": "0.SelfAttention.o",
        "mlp_norm": f"{mlp}layer_norm",
        "mlp.up": (f"{inner}wi_0", f"{inner}wi_1") if gated else f"{inner}wi",
        "mlp.down": f"{inner}wo",
    }
    if cross:
        block |= {
            "cross_norm": "1.layer_norm",
            "cross.q": "1.EncDecAttention.q",
            "cross.kv": tuple(f"1.EncDecAttention.{part}" for part in "kv"),
            "cross.out": "1.EncDecAttention.o",
        }
    return in_blocks(f"{stack}.block.{{i}}.layer.", block, f"{ours}blocks.{{i}}.") | {
        f"{ours}relative_bias": f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias",
        f"{ours}final_norm": f"{stack}.final_layer_norm",
    }


def _table(config: TransformerConfig) -> Table:
    gated, head = config.mlp == "glu", config.head
    # Heads that stand beside the body, not in the same class, put it under a name.
    start = "transformer." if head in ("sequence", "token") else ""
    table: dict[str, Entry] = {"embed": f"{start}shared"}
    if config.encoder is None:
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


def _read(fields: Fields, values: Mapping[str, Any], mlp: str, scaled: bool) -> dict[str, Any]:
    found, layers = _mlp(fields, mlp), fields.count("num_layers")
    if "encoder" in values:  # an encoder alone
        return found | {"num_layers": layers, "causal": False}
    if values["head"] == "lm" and scaled:
        found["logit_scale"] = max(values["hidden_size"], 1) ** -0.5
    return found | {"encoder": {"num_layers": layers, "causal": False}}


def _read_t5(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    scaled = fields.flag("scale_decoder_outputs", fields.flag("tie_word_embeddings", True))
    return _read(fields, values, "relu", scaled)


def _read_mt5(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    return _read(fields, values, "gated-gelu", False)


def _write(config: TransformerConfig) -> dict[str, Any]:
    encoder, gated, name = config.encoder, config.mlp == "glu", activation_name(config.activation)
    return {
        "num_layers": config.num_layers if encoder is None else encoder.num_layers,
        "feed_forward_proj": f"gated-{name.removesuffix('_new')}" if gated else name,
        "dense_act_fn": name,
        "is_gated_act": gated,
        "is_encoder_decoder": encoder is not None,
        "scale_decoder_outputs": config.logit_scale != 1.0,
    }


def _family(model_type: str, stem: str, **more: Any) -> Family:
    alone: Mapping[str, Any] = {"encoder": None}
    heads = {
        "ForConditionalGeneration": LM,
        "Model": NONE,
        "EncoderModel": {**NONE, **alone},
        "ForSequenceClassification": {"head": "sequence", "transform": "tanh", "pooling": "last"},
        "ForTokenClassification": {**TOKEN, **alone},
        "ForQuestionAnswering": SPAN,
        "WithLMHeadModel": LM,  # its name before 2020
    }
    return Family(
        model_type=model_type,
        heads={f"{stem}{name}": sets for name, sets in heads.items()},
        prefix="",
        tensors=_table,
        settings=_SETTINGS,
        fixed=_FIXED,
        ignored=(
            "encoder.embed_tokens.weight",
            "decoder.embed_tokens.weight",
            "EncDecAttention.relative_attention_bias.weight",
        ),
        write=_write,
        always_tied=True,
        **more,
    )


T5_FAMILIES = (
    _family("t5", "T5", read=_read_t5),
    _family("mt5", "MT5", read=_read_mt5, decoder_start=0),
)
