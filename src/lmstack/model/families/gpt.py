"""Decoders with LayerNorm and a plain MLP: GPT-2, GPT-NeoX (Pythia), BLOOM, MPT.

What sets them apart is where positions enter: a table, partial rotation, ALiBi. Not covered:
GPT-2 with cross-attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lmstack.model.families.family import (
    ACTIVATION_NAMES,
    LM,
    NONE,
    SEQUENCE,
    SPAN,
    TOKEN,
    Family,
    any_count,
    nullable_number,
    read_activation,
    refuse,
)
from lmstack.model.families.rope import read_rope, write_rope
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import QKV_BY_HEAD, TRANSPOSED, Entry, Part
from lmstack.model.kinds import LayerKind
from lmstack.model.positions import RopeSpec

__all__ = ["GPT_FAMILIES"]

_GPT2_TENSORS: dict[str, Entry] = {
    "embed": "transformer.wte",
    "embed_positions": "transformer.wpe",
    "blocks.{i}.attention_norm": "transformer.h.{i}.ln_1",
    "blocks.{i}.attention.qkv": Part("transformer.h.{i}.attn.c_attn", TRANSPOSED),
    "blocks.{i}.attention.out": Part("transformer.h.{i}.attn.c_proj", TRANSPOSED),
    "blocks.{i}.mlp_norm": "transformer.h.{i}.ln_2",
    "blocks.{i}.mlp.up": Part("transformer.h.{i}.mlp.c_fc", TRANSPOSED),
    "blocks.{i}.mlp.down": Part("transformer.h.{i}.mlp.c_proj", TRANSPOSED),
    "final_norm": "transformer.ln_f",
    "head": "lm_head",
}
_NEOX_TENSORS: dict[str, Entry] = {
    "embed": "gpt_neox.embed_in",
    "blocks.{i}.attention_norm": "gpt_neox.layers.{i}.input_layernorm",
    "blocks.{i}.attention.qkv": Part("gpt_neox.layers.{i}.attention.query_key_value", QKV_BY_HEAD),
    "blocks.{i}.attention.out": "gpt_neox.layers.{i}.attention.dense",
    "blocks.{i}.mlp_norm": "gpt_neox.layers.{i}.post_attention_layernorm",
    "blocks.{i}.mlp.up": "gpt_neox.layers.{i}.mlp.dense_h_to_4h",
    "blocks.{i}.mlp.down": "gpt_neox.layers.{i}.mlp.dense_4h_to_h",
    "final_norm": "gpt_neox.final_layer_norm",
    "head": "embed_out",
}
_BLOOM_TENSORS: dict[str, Entry] = {
    "embed": "transformer.word_embeddings",
    "embed_norm": "transformer.word_embeddings_layernorm",
    "blocks.{i}.attention_norm": "transformer.h.{i}.input_layernorm",
    "blocks.{i}.attention.qkv": Part(
        "transformer.h.{i}.self_attention.query_key_value", QKV_BY_HEAD
    ),
    "blocks.{i}.attention.out": "transformer.h.{i}.self_attention.dense",
    "blocks.{i}.mlp_norm": "transformer.h.{i}.post_attention_layernorm",
    "blocks.{i}.mlp.up": "transformer.h.{i}.mlp.dense_h_to_4h",
    "blocks.{i}.mlp.down": "transformer.h.{i}.mlp.dense_4h_to_h",
    "final_norm": "transformer.ln_f",
    "head": "lm_head",
}
_MPT_TENSORS: dict[str, Entry] = {
    "embed": "transformer.wte",
    "blocks.{i}.attention_norm": "transformer.blocks.{i}.norm_1",
    "blocks.{i}.attention.qkv": "transformer.blocks.{i}.attn.Wqkv",
    "blocks.{i}.attention.out": "transformer.blocks.{i}.attn.out_proj",
    "blocks.{i}.mlp_norm": "transformer.blocks.{i}.norm_2",
    "blocks.{i}.mlp.up": "transformer.blocks.{i}.ffn.up_proj",
    "blocks.{i}.mlp.down": "transformer.blocks.{i}.ffn.down_proj",
    "final_norm": "transformer.norm_f",
    "head": "lm_head",
}
_CLASSIFIERS = {"sequence": "score", "token": "classifier", "span": "qa_outputs"}


def _with_classifier(
    tensors: dict[str, Entry],
) -> Callable[[Mapping[str, Any]], dict[str, Entry]]:
    """The classifier is named after its task."""
    return lambda config: tensors | {"classifier": _CLASSIFIERS.get(config["head"], "score")}


def _body(width: int, heads: int, eps: float) -> dict[str, Any]:
    """What the four share."""
    return {
        "hidden_size": width,
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": width // heads if heads else 0,
        "norm": "ln",
        "norm_eps": eps,
        "mlp": "plain",
        "kinds": (LayerKind(rope=None),),
        "qkv_bias": True,
        "out_bias": True,
        "mlp_bias": True,
    }


def _read_gpt2(fields: Fields) -> dict[str, Any]:
    refuse(fields, add_cross_attention=False)
    width = any_count(fields, "n_embd", "hidden_size")
    heads = any_count(fields, "n_head", "num_attention_heads")
    scaled = fields.flag("scale_attn_weights", True)
    return _body(width, heads, fields.number("layer_norm_epsilon", 1e-5)) | {
        "vocab_size": fields.count("vocab_size"),
        "intermediate_size": fields.count("n_inner", 4 * width),
        "num_layers": any_count(fields, "n_layer", "num_hidden_layers"),
        "max_positions": any_count(
            fields, "n_positions", "max_position_embeddings", "n_ctx", default=1024
        ),
        "positions": "learned",
        "activation": read_activation(fields, "gelu_new", "activation_function"),
        "attention_scale": None if scaled else 1.0,
        "scale_by_layer": fields.flag("scale_attn_by_inverse_layer_idx", False),
        "tie_embeddings": fields.flag("tie_word_embeddings", True),
    }


def _write_gpt2(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": config["vocab_size"],
        "n_embd": config["hidden_size"],
        "n_inner": config["intermediate_size"],
        "n_layer": config["num_layers"],
        "n_head": config["num_heads"],
        "n_positions": config["max_positions"],
        "layer_norm_epsilon": config["norm_eps"],
        "activation_function": ACTIVATION_NAMES[config["activation"]],
        "scale_attn_weights": config["attention_scale"] is None,
        "scale_attn_by_inverse_layer_idx": config["scale_by_layer"],
        "tie_word_embeddings": config["tie_embeddings"],
    }


def _read_neox(fields: Fields) -> dict[str, Any]:
    width, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    rope = read_rope(
        fields,
        fields.number("rotary_emb_base", 10000.0),
        fraction=fields.number("rotary_pct", 0.25),
    )
    bias = fields.flag("attention_bias", True)
    return _body(width, heads, fields.number("layer_norm_eps", 1e-5)) | {
        "vocab_size": fields.count("vocab_size"),
        "intermediate_size": fields.count("intermediate_size"),
        "num_layers": fields.count("num_hidden_layers"),
        "max_positions": fields.count("max_position_embeddings", 2048),
        "kinds": (LayerKind(rope),),
        "activation": read_activation(fields, "gelu"),
        "parallel": fields.flag("use_parallel_residual", True),
        "qkv_bias": bias,
        "out_bias": bias,
        "tie_embeddings": fields.flag("tie_word_embeddings", False),
    }


def _write_neox(config: Mapping[str, Any]) -> dict[str, Any]:
    rope = config["kinds"][0].rope or RopeSpec()
    return {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["intermediate_size"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "max_position_embeddings": config["max_positions"],
        "layer_norm_eps": config["norm_eps"],
        "hidden_act": ACTIVATION_NAMES[config["activation"]],
        "rope_parameters": {"partial_rotary_factor": rope.fraction} | write_rope(rope),
        "use_parallel_residual": config["parallel"],
        "attention_bias": config["out_bias"],
        "tie_word_embeddings": config["tie_embeddings"],
    }


def _read_bloom(fields: Fields) -> dict[str, Any]:
    after = fields.flag("apply_residual_connection_post_layernorm", False)
    width = any_count(fields, "hidden_size", "n_embed")
    heads = any_count(fields, "n_head", "num_attention_heads")
    return _body(width, heads, fields.number("layer_norm_epsilon", 1e-5)) | {
        "vocab_size": fields.count("vocab_size"),
        "intermediate_size": 4 * width,
        "num_layers": any_count(fields, "n_layer", "num_hidden_layers"),
        # A bound on nothing but what the model was trained at: ALiBi has no table.
        "max_positions": fields.count("seq_length", 2048),
        "embedding_norm": True,
        "norm_place": "pre_residual" if after else "pre",
        "bias": "alibi",
        "activation": "gelu_tanh",
        "tie_embeddings": fields.flag("tie_word_embeddings", True),
    }


def _write_bloom(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "n_layer": config["num_layers"],
        "n_head": config["num_heads"],
        "seq_length": config["max_positions"],
        "apply_residual_connection_post_layernorm": config["norm_place"] == "pre_residual",
        "layer_norm_epsilon": config["norm_eps"],
        "tie_word_embeddings": config["tie_embeddings"],
    }


def _read_mpt(fields: Fields) -> dict[str, Any]:
    # What transformers takes and does not heed is refused.
    refuse(fields, expansion_ratio=4, logit_scale=None, no_bias=True)
    attention = fields.nested("attn_config") or Fields({}, f"{fields.source}: attn_config")
    refuse(
        attention,
        attn_type="multihead_attention",
        prefix_lm=False,
        qk_ln=False,
        alibi=True,
    )
    width = any_count(fields, "d_model", "hidden_size")
    heads = any_count(fields, "n_heads", "num_attention_heads")
    return _body(width, heads, fields.number("layer_norm_epsilon", 1e-5)) | {
        "vocab_size": fields.count("vocab_size"),
        "intermediate_size": 4 * width,
        "num_layers": any_count(fields, "n_layers", "num_hidden_layers"),
        "max_positions": fields.count("max_seq_len", 2048),
        "norm": "ln_nobias",
        "bias": "alibi",
        "alibi_max": attention.number("alibi_bias_max", 8.0),
        "attention_scale": nullable_number(attention, "softmax_scale", None),
        "qkv_clip": nullable_number(attention, "clip_qkv", None) or None,
        "activation": "gelu",
        "qkv_bias": False,
        "out_bias": False,
        "mlp_bias": False,
        "tie_embeddings": fields.flag("tie_word_embeddings", True),
    }


def _write_mpt(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": config["vocab_size"],
        "d_model": config["hidden_size"],
        "n_layers": config["num_layers"],
        "n_heads": config["num_heads"],
        "max_seq_len": config["max_positions"],
        "layer_norm_epsilon": config["norm_eps"],
        "attn_config": {
            # A whole number there.
            "alibi_bias_max": int(config["alibi_max"]),
            "softmax_scale": config["attention_scale"],
            "clip_qkv": config["qkv_clip"],
        },
        "tie_word_embeddings": config["tie_embeddings"],
    }


def _heads(stem: str, lm: str = "ForCausalLM") -> dict[str, Mapping[str, Any]]:
    return {
        f"{stem}{lm}": LM,
        f"{stem}Model": NONE,
        f"{stem}ForSequenceClassification": SEQUENCE,
        f"{stem}ForTokenClassification": TOKEN,
        f"{stem}ForQuestionAnswering": SPAN,
    }


GPT_FAMILIES = (
    Family(
        model_type="gpt2",
        heads=_heads("GPT2", "LMHeadModel"),
        prefix="transformer.",
        tensors=_with_classifier(_GPT2_TENSORS),
        ignored=(".attn.bias", ".attn.masked_bias"),
        read=_read_gpt2,
        write=_write_gpt2,
    ),
    Family(
        model_type="gpt_neox",
        heads=_heads("GPTNeoX"),
        prefix="gpt_neox.",
        tensors=_with_classifier(_NEOX_TENSORS),
        ignored=(".attention.bias", ".attention.masked_bias", "rotary_emb.inv_freq"),
        read=_read_neox,
        write=_write_neox,
        renames=((r"^lm_head\.", "embed_out."),),
    ),
    Family(
        model_type="bloom",
        heads=_heads("Bloom"),
        prefix="transformer.",
        tensors=_with_classifier(_BLOOM_TENSORS),
        ignored=(),
        read=_read_bloom,
        write=_write_bloom,
    ),
    Family(
        model_type="mpt",
        heads=_heads("Mpt"),
        prefix="transformer.",
        tensors=_with_classifier(_MPT_TENSORS),
        ignored=(),
        read=_read_mpt,
        write=_write_mpt,
    ),
)
