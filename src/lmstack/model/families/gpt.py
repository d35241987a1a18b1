"""Decoders with LayerNorm and a plain MLP: GPT-2, GPT-NeoX (Pythia), BLOOM, MPT.

What sets them apart is where positions enter: a table, partial rotation, ALiBi. Not covered:
GPT-2 with cross-attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.model.config import LayerKind, TransformerConfig
from lmstack.model.families.family import NO_ROPE, Family, decoder_heads, in_blocks
from lmstack.model.families.llama import attention_bias
from lmstack.model.families.rope import read_rope, write_rope
from lmstack.model.families.settings import SIZES, ConfigKey, Settings, nullable_number, refuse
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import QKV_BY_HEAD, TRANSPOSED, Entry, TensorPart
from lmstack.model.positions import RopeSpec

__all__ = ["GPT_FAMILIES"]

_GPT2_TENSORS: dict[str, Entry] = {
    "embed": "transformer.wte",
    "embed_positions": "transformer.wpe",
    "final_norm": "transformer.ln_f",
    "head": "lm_head",
} | in_blocks(
    "transformer.h.{i}.",
    {
        "attention_norm": "ln_1",
        "attention.qkv": TensorPart("attn.c_attn", TRANSPOSED),
        "attention.out": TensorPart("attn.c_proj", TRANSPOSED),
        "mlp_norm": "ln_2",
        "mlp.up": TensorPart("mlp.c_fc", TRANSPOSED),
        "mlp.down": TensorPart("mlp.c_proj", TRANSPOSED),
    },
)


def _neox_blocks(layer: str, attention: str) -> dict[str, Entry]:
    return in_blocks(
        layer,
        {
            "attention_norm": "input_layernorm",
            "attention.qkv": TensorPart(f"{attention}.query_key_value", QKV_BY_HEAD),
            "attention.out": f"{attention}.dense",
            "mlp_norm": "post_attention_layernorm",
            "mlp.up": "mlp.dense_h_to_4h",
            "mlp.down": "mlp.dense_4h_to_h",
        },
    )


_NEOX_TENSORS: dict[str, Entry] = {
    "embed": "gpt_neox.embed_in",
    "final_norm": "gpt_neox.final_layer_norm",
    "head": "embed_out",
} | _neox_blocks("gpt_neox.layers.{i}.", "attention")
_BLOOM_TENSORS: dict[str, Entry] = {
    "embed": "transformer.word_embeddings",
    "embed_norm": "transformer.word_embeddings_layernorm",
    "final_norm": "transformer.ln_f",
    "head": "lm_head",
} | _neox_blocks("transformer.h.{i}.", "self_attention")
_MPT_TENSORS: dict[str, Entry] = {
    "embed": "transformer.wte",
    "final_norm": "transformer.norm_f",
    "head": "lm_head",
} | in_blocks(
    "transformer.blocks.{i}.",
    {
        "attention_norm": "norm_1",
        "attention.qkv": "attn.Wqkv",
        "attention.out": "attn.out_proj",
        "mlp_norm": "norm_2",
        "mlp.up": "ffn.up_proj",
        "mlp.down": "ffn.down_proj",
    },
)
_CLASSIFIERS = {"sequence": "score", "token": "classifier", "span": "qa_outputs"}
_PLAIN = {"norm": "ln", "mlp": "plain", "kinds": NO_ROPE}
_BIASED = _PLAIN | dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), True)
_EPS = {"norm_eps": ConfigKey.number("layer_norm_epsilon", default=1e-5)}
_TIED = {"tie_embeddings": ConfigKey.flag("tie_word_embeddings", True)}


def _read_gpt2(fields: Fields, _values: Mapping[str, Any]) -> dict[str, Any]:
    return {"attention_scale": None if fields.flag("scale_attn_weights", True) else 1.0}


def _write_gpt2(config: TransformerConfig) -> dict[str, Any]:
    return {"scale_attn_weights": config.attention_scale is None}


def _read_neox(fields: Fields, _values: Mapping[str, Any]) -> dict[str, Any]:
    theta, fraction = fields.number("rotary_emb_base", 10000.0), fields.number("rotary_pct", 0.25)
    return {"kinds": (LayerKind(read_rope(fields, theta, fraction=fraction)),)}


def _write_neox(config: TransformerConfig) -> dict[str, Any]:
    rope = config.rope or RopeSpec()
    return {"rope_parameters": {"partial_rotary_factor": rope.fraction} | write_rope(rope)}


def _read_bloom(fields: Fields, _values: Mapping[str, Any]) -> dict[str, Any]:
    after = fields.flag("apply_residual_connection_post_layernorm", False)
    return {"norm_place": "pre_residual" if after else "pre"}


def _write_bloom(config: TransformerConfig) -> dict[str, Any]:
    return {"apply_residual_connection_post_layernorm": config.norm_place == "pre_residual"}


def _read_mpt(fields: Fields, _values: Mapping[str, Any]) -> dict[str, Any]:
    attention = fields.nested("attn_config") or Fields({}, f"{fields.source}: attn_config")
    refuse(attention, attn_type="multihead_attention", prefix_lm=False, qk_ln=False, alibi=True)
    return {
        "alibi_max": attention.number("alibi_bias_max", 8.0),
        "attention_scale": nullable_number(attention, "softmax_scale", None),
        "qkv_clip": nullable_number(attention, "clip_qkv", None) or None,
    }


def _write_mpt(config: TransformerConfig) -> dict[str, Any]:
    attention = {"softmax_scale": config.attention_scale, "clip_qkv": config.qkv_clip}
    # A whole number there.
    return {"attn_config": attention | {"alibi_bias_max": int(config.alibi_max)}}


def _family(
    model_type: str,
    stem: str,
    prefix: str,
    tensors: dict[str, Entry],
    settings: Settings,
    fixed: Mapping[str, Any],
    *,
    lm: str = "ForCausalLM",
    **more: Any,
) -> Family:
    """The classifier is named after its task."""
    return Family(
        model_type=model_type,
        heads=decoder_heads(stem, "Sequence", "Token", "Span", lm=lm),
        prefix=prefix,
        tensors=lambda config: tensors | {"classifier": _CLASSIFIERS.get(config.head, "score")},
        settings={"vocab_size": ConfigKey.count("vocab_size"), **_EPS, **_TIED, **settings},
        fixed=fixed,
        **more,
    )


GPT_FAMILIES = (
    _family(
        "gpt2",
        "GPT2",
        "transformer.",
        _GPT2_TENSORS,
        {
            "hidden_size": ConfigKey.count("n_embd", "hidden_size"),
            "intermediate_size": ConfigKey.optional("n_inner"),
            "num_layers": ConfigKey.count("n_layer", "num_hidden_layers"),
            "num_heads": ConfigKey.count("n_head", "num_attention_heads"),
            "max_positions": ConfigKey.count(
                "n_positions", "max_position_embeddings", "n_ctx", default=1024
            ),
            "activation": ConfigKey.activation("activation_function", "gelu_new"),
            "scale_by_layer": ConfigKey.flag("scale_attn_by_inverse_layer_idx", False),
        },
        _BIASED | {"positions": "learned"},
        lm="LMHeadModel",
        refused={"add_cross_attention": False},
        ignored=(".attn.bias", ".attn.masked_bias"),
        read=_read_gpt2,
        write=_write_gpt2,
    ),
    _family(
        "gpt_neox",
        "GPTNeoX",
        "gpt_neox.",
        _NEOX_TENSORS,
        {
            **SIZES,
            **attention_bias(True),
            "max_positions": ConfigKey.count("max_position_embeddings", default=2048),
            "norm_eps": ConfigKey.number("layer_norm_eps", default=1e-5),
            "activation": ConfigKey.activation("hidden_act", "gelu"),
            "parallel": ConfigKey.flag("use_parallel_residual", True),
            "tie_embeddings": ConfigKey.flag("tie_word_embeddings", False),
        },
        _BIASED,
        ignored=(".attention.bias", ".attention.masked_bias", "rotary_emb.inv_freq"),
        read=_read_neox,
        write=_write_neox,
        renames=((r"^lm_head\.", "embed_out."),),
    ),
    _family(
        "bloom",
        "Bloom",
        "transformer.",
        _BLOOM_TENSORS,
        {
            "hidden_size": ConfigKey.count("hidden_size", "n_embed"),
            "num_layers": ConfigKey.count("n_layer", "num_hidden_layers"),
            "num_heads": ConfigKey.count("n_head", "num_attention_heads"),
            # A bound on nothing but what the model was trained at: ALiBi has no table.
            "max_positions": ConfigKey.count("seq_length", default=2048),
        },
        _BIASED | {"embedding_norm": True, "bias": "alibi", "activation": "gelu_tanh"},
        read=_read_bloom,
        write=_write_bloom,
    ),
    _family(
        "mpt",
        "Mpt",
        "transformer.",
        _MPT_TENSORS,
        {
            "hidden_size": ConfigKey.count("d_model", "hidden_size"),
            "num_layers": ConfigKey.count("n_layers", "num_hidden_layers"),
            "num_heads": ConfigKey.count("n_heads", "num_attention_heads"),
            "max_positions": ConfigKey.count("max_seq_len", default=2048),
        },
        _PLAIN | {"norm": "ln_nobias", "bias": "alibi", "activation": "gelu"},
        # What transformers takes and does not heed.
        refused={"expansion_ratio": 4, "logit_scale": None, "no_bias": True},
        read=_read_mpt,
        write=_write_mpt,
    ),
)
