"""Cases of decoders: settings, variants and traps of each family."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from lmstack.model import TransformerConfig
from lmstack.model.config import LayerKind
from lmstack.model.families import FAMILIES
from lmstack.model.formats.layouts import QKV_BY_HEAD

from .cases import Case, Tensors, Trap, derived, louder, misread, setting

_BASE = {
    "vocab_size": 61,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_LLAMA = _BASE | {
    "intermediate_size": 80,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
_TIED = {"tied": {"tie_word_embeddings": True}}
_UNTIED = {"untied": {"tie_word_embeddings": False}}
_LABELS = {"id2label": {i: str(i) for i in range(3)}, "label2id": {str(i): i for i in range(3)}}


def _rope(kind, **more):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 500.0} | more}


_SHORT = {"max_position_embeddings": 8}
_SCALINGS = {
    "linear": _rope("linear", factor=3.0),
    # Shorter than the input, so that the angles change with its length.
    "dynamic": _rope("dynamic", factor=2.0) | _SHORT,
    "yarn": _rope("yarn", factor=4.0, original_max_position_embeddings=16),
    "llama3": _rope(
        "llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=16,
    ),
}


def _reroped(variant: str, **changes) -> Trap:
    """The mistake of another rotation in every layer."""

    def change(config: TransformerConfig) -> TransformerConfig:
        kinds = tuple(
            LayerKind(kind.rope and dataclasses.replace(kind.rope, **changes), kind.window)
            for kind in config.kinds
        )
        return config.replace(kinds=kinds)

    return derived(variant, change)


def _plain_rope(variant: str) -> Trap:
    return _reroped(
        variant,
        scaling="default",
        factor=1.0,
        short_factors=(),
        long_factors=(),
        attention_factor=None,
    )


def _unwindowed(variant: str = "plain") -> Trap:
    return derived(
        variant,
        lambda config: config.replace(kinds=tuple(LayerKind(k.rope) for k in config.kinds)),
    )


def _alike(variant: str = "plain", kind: int = 0) -> Trap:
    """The mistake of one kind of layer where there are several."""
    return derived(variant, lambda config: config.replace(kinds=(config.kinds[kind],), pattern=()))


def _tiled(config: TransformerConfig, tensors: Tensors) -> tuple[TransformerConfig, Tensors]:
    """The mistake of giving query head i the keys of head i % kv, not those of its group."""
    groups = config.num_heads // config.num_kv_heads
    sizes = [n * config.head_dim for n in (config.num_heads, *(config.num_kv_heads,) * 2)]

    def tile(rows: Tensor) -> Tensor:
        q, k, v = rows.split(sizes)
        return torch.cat((q, k.repeat(groups, *[1] * (k.dim() - 1)), *[v] * groups))

    wrong = {k: tile(t) if ".qkv." in k else t for k, t in tensors.items()}
    return config.replace(num_kv_heads=config.num_heads), wrong


_GROUPS = {"query heads of a group share keys": Trap(_tiled)}
_BY_HEAD = {
    "QKV interleaved by head": misread(
        ".qkv.weight", lambda rows, config: QKV_BY_HEAD.write(rows, config.head_dim)
    )
}
_BIASES = {"attention_bias": True}
_NO_GROUPS = {"num_key_value_heads": 4}
_FOUR_LAYERS = {"num_hidden_layers": 4}

LLAMA = Case(
    "LLaMA",
    "LlamaForCausalLM",
    _LLAMA,
    variants=_TIED
    | _SCALINGS
    | {
        "no groups": _NO_GROUPS,
        "multi-query": {"num_key_value_heads": 1},
        "biases": _BIASES | {"mlp_bias": True},
        "wide heads": {"head_dim": 20},
        "gelu": {"hidden_act": "gelu"},
    },
    traps=_GROUPS
    | {f"{kind} scaling": _plain_rope(kind) for kind in _SCALINGS}
    | {"theta": _reroped("linear", theta=1e4)},
    stepwise=("dynamic",),
)
MISTRAL = Case(
    "Mistral",
    "MistralForCausalLM",
    _LLAMA | {"sliding_window": 5},
    variants=_TIED | {"no window": {"sliding_window": None}, "wide window": {"sliding_window": 40}},
    traps=_GROUPS | {"window shorter than the input": _unwindowed()},
)
MIXTRAL = Case(
    "Mixtral",
    "MixtralForCausalLM",
    _LLAMA | {"num_local_experts": 5, "num_experts_per_tok": 2},
    variants=_TIED
    | {"window": {"sliding_window": 5}, "one expert": {"num_experts_per_tok": 1}}
    | {"all experts": {"num_experts_per_tok": 5}},
    traps={
        "top two experts, their weights renormalised": setting(experts_per_token=3),
        "window": _unwindowed("window"),
    },
)
QWEN2 = Case(
    "Qwen2",
    "Qwen2ForCausalLM",
    _LLAMA,
    variants=_TIED
    | {
        "window in the last layers": {
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 2,
        },
        "yarn": _SCALINGS["yarn"],
    },
    traps=_GROUPS
    | {
        "biases of queries, keys and values": setting(qkv_bias=False),
        "window from max_window_layers on": _unwindowed("window in the last layers"),
        "no window before max_window_layers": _alike("window in the last layers", 1),
    },
)
QWEN3 = Case(
    "Qwen3",
    "Qwen3ForCausalLM",
    _LLAMA | {"head_dim": 20},
    variants=_TIED
    | {
        "biases": _BIASES,
        "window in the last layers": {
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 1,
        },
    },
    traps={
        "norm of each head before rotation": setting(qk_norm="none"),
        "window": _unwindowed("window in the last layers"),
    },
)
_GEMMA = _LLAMA | _FOUR_LAYERS | {"head_dim": 20, "sliding_window": 5, "query_pre_attn_scalar": 30}
_GEMMA_TRAPS = {
    "weights of norms count from 1": setting(norm="rms"),
    "norms after each sublayer": setting(norm_place="pre"),
    "embeddings scaled": setting(embedding_scale=1.0),
    "query_pre_attn_scalar": setting(attention_scale=None),
    "window": _unwindowed(),
}
GEMMA2 = Case(
    "Gemma 2",
    "Gemma2ForCausalLM",
    # Caps that the scores of so small a model reach.
    _GEMMA | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    variants=_UNTIED
    | {
        "no caps": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
        "biases": _BIASES,
        "scale of the head": {"query_pre_attn_scalar": 20},
        "all layers whole": {"layer_types": ["full_attention"] * 4},
    },
    traps=_GEMMA_TRAPS
    | {
        "cap on scores": setting(attention_softcap=None),
        "cap on logits": setting(logit_softcap=None),
        "every other layer sees the whole text": _alike(),
    },
    center=0.0,
)
GEMMA3 = Case(
    "Gemma 3",
    "Gemma3ForCausalLM",
    _GEMMA
    | {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2}
    | {"num_hidden_layers": 6},
    variants=_UNTIED
    | {
        "both directions": {"use_bidirectional_attention": True},
        "scaled": {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            }
        },
        "capped": {"final_logit_softcapping": 3.0},
        "scale of the head": {"query_pre_attn_scalar": 20},
        "biases": _BIASES,
    },
    traps=_GEMMA_TRAPS
    | {
        "cap on logits": setting("capped", logit_softcap=None),
        "norms of queries and keys": setting(qk_norm="none"),
        "two rotations": derived(
            "plain",
            lambda config: config.replace(
                kinds=tuple(LayerKind(config.kinds[0].rope, k.window) for k in config.kinds)
            ),
        ),
        "both directions": setting("both directions", causal=True),
    },
    center=0.0,
    not_greedy=("both directions",),
)
_LONG = {
    "rope_type": "longrope",
    "rope_theta": 500.0,
    "short_factor": [1.0, 1.1, 1.3, 1.7, 2.0, 3.0],
    "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 6.0],
}
PHI3 = Case(
    "Phi-3",
    "Phi3ForCausalLM",
    _LLAMA,
    variants=_TIED
    | {
        "window": {"sliding_window": 5},
        "partial": _rope("default", partial_rotary_factor=0.5),
        "short of longrope": {
            "rope_parameters": _LONG,
            "original_max_position_embeddings": 32,
        },
        "beyond longrope": {"rope_parameters": _LONG, "original_max_position_embeddings": 8},
        "partial longrope": {
            "rope_parameters": _LONG
            | {
                "partial_rotary_factor": 0.5,
                "short_factor": [1.0, 1.2, 1.4],
                "long_factor": [1.0, 2.0, 4.0],
            },
            "original_max_position_embeddings": 8,
        },
    },
    traps={
        "window": _unwindowed("window"),
        "a part of each head rotates": _reroped("partial", fraction=1.0),
        "short divisors": _plain_rope("short of longrope"),
        "long divisors beyond the first length": _reroped(
            "beyond longrope", original_positions=32, factor=2.0
        ),
        "magnitude of cosine and sine": _reroped("beyond longrope", attention_factor=1.0),
    },
    stepwise=("short of longrope", "beyond longrope", "partial longrope"),
)
SMOLLM3 = Case(
    "SmolLM3",
    "SmolLM3ForCausalLM",
    _LLAMA | _FOUR_LAYERS,
    variants=_UNTIED
    | {
        "biases": _BIASES | {"mlp_bias": True},
        "listed": {"no_rope_layers": [0, 1, 1, 0]},
        "windows": {"use_sliding_window": True, "sliding_window": 5},
    },
    traps=_GROUPS
    | {
        "every fourth layer does not rotate": _alike(),
        "window where it does not rotate": _unwindowed("windows"),
    },
)
OLMO2 = Case(
    "OLMo2",
    "Olmo2ForCausalLM",
    _LLAMA,
    variants=_TIED | {"no groups": _NO_GROUPS, "biases": _BIASES},
    traps={
        "norms on the output of each sublayer": setting(norm_place="pre"),
        "norm over all queries": setting(qk_norm="none"),
    },
)
GRANITE = Case(
    "Granite",
    "GraniteForCausalLM",
    _LLAMA
    | {"embedding_multiplier": 6.0, "residual_multiplier": 0.3, "attention_multiplier": 0.1}
    | {"logits_scaling": 7.0},
    variants=_TIED
    | {
        "biases": _BIASES | {"mlp_bias": True},
        "yarn": _SCALINGS["yarn"],
        # 1 / (1 / 49) is not 49.
        "unscaled": {
            **dict.fromkeys(("embedding_multiplier", "residual_multiplier"), 1.0),
            "logits_scaling": 49.0,
        },
    },
    traps=_GROUPS
    | {
        "embeddings scaled": setting(embedding_scale=1.0),
        "scale of what sublayers add": setting(residual_scale=1.0),
        "scale of scores": setting(attention_scale=None),
        "scale of scores is 1 where none is stated": setting("unscaled", attention_scale=None),
        "logits divided": setting(logit_scale=7.0),
    },
)
STARCODER2 = Case(
    "StarCoder2",
    "Starcoder2ForCausalLM",
    _LLAMA,
    variants=_UNTIED
    | {
        "window": {"sliding_window": 5},
        "no biases": {"use_bias": False},
        "gelu": {"hidden_act": "gelu"},
    },
    traps=_GROUPS
    | {
        "biases": setting(qkv_bias=False, out_bias=False, mlp_bias=False),
        "window": _unwindowed("window"),
        "gelu by tanh": setting(activation="gelu"),
    },
    edit=louder("c_proj.weight", 3.0),
)
GPT2 = Case(
    "GPT-2",
    "GPT2LMHeadModel",
    {k: v for k, v in _BASE.items() if k != "num_hidden_layers"}
    | {"n_layer": 3, "n_positions": 64},
    variants=_UNTIED
    | {
        "narrow": {"n_inner": 40},
        "unscaled": {"scale_attn_weights": False},
        "by layer": {"scale_attn_by_inverse_layer_idx": True},
        "relu": {"activation_function": "relu"},
    },
    traps={
        "Conv1D weights are transposed": misread("attention.out.weight", lambda t, _: t.t()),
        "norms before the sublayers": setting(norm_place="post"),
        "learned positions": setting(positions="none"),
        "gelu by tanh": setting(activation="gelu"),
        "biases": setting(qkv_bias=False),
        "scores not scaled": setting("unscaled", attention_scale=None),
        "scores divided by the layer": setting("by layer", scale_by_layer=False),
    },
    edit=louder("mlp.c_proj.weight", 3.0),
)
NEOX = Case(
    "GPT-NeoX",
    "GPTNeoXForCausalLM",
    _BASE | {"intermediate_size": 80, "max_position_embeddings": 64, "hidden_size": 64},
    variants=_TIED
    | {
        "in sequence": {"use_parallel_residual": False},
        "no biases": {"attention_bias": False},
        "whole heads": _rope("default", partial_rotary_factor=1.0),
        "linear": _rope("linear", factor=2.0, partial_rotary_factor=0.5),
    },
    traps=_BY_HEAD
    | {
        "a quarter of each head rotates": _reroped("plain", fraction=1.0),
        "attention and MLP side by side": setting(parallel=False),
        "gelu by the error function": setting(activation="gelu_tanh"),
    },
    edit=louder("dense_4h_to_h.weight", 3.0),
)
BLOOM = Case(
    "BLOOM",
    "BloomForCausalLM",
    _BASE,
    variants=_UNTIED
    | {
        "six heads": {"num_attention_heads": 6},
        "residuals after norms": {"apply_residual_connection_post_layernorm": True},
    },
    traps=_BY_HEAD
    | {
        "ALiBi": setting(bias="none"),
        "slopes of six heads": setting("six heads", alibi_max=4.0),
        "residuals of normed inputs": setting("residuals after norms", norm_place="pre"),
        "norm of the embeddings": setting(embedding_norm=False),
    },
    given_positions=False,
)
MPT = Case(
    "MPT",
    "MptForCausalLM",
    {"vocab_size": 61, "d_model": 48, "n_layers": 3, "n_heads": 4, "max_seq_len": 64}
    | {"pad_token_id": 0},
    variants=_UNTIED
    | {
        "six heads": {"n_heads": 6},
        "clipped": {"attn_config": {"clip_qkv": 0.5}},
        "scale": {"attn_config": {"softmax_scale": 0.2}},
    },
    traps={
        "ALiBi": setting(bias="none"),
        "slopes of six heads": setting("six heads", alibi_max=4.0),
        "clip_qkv": setting("clipped", qkv_clip=None),
        "softmax_scale": setting("scale", attention_scale=None),
    },
    given_positions=False,
)
_LLAMAS = (LLAMA, MISTRAL, MIXTRAL, QWEN2, QWEN3, GEMMA2, GEMMA3, PHI3, SMOLLM3, OLMO2, GRANITE)
_LM = (*_LLAMAS, STARCODER2, GPT2, NEOX)


_OTHER_HEADS = (
    "Model",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
)


def _under_heads() -> list[Case]:
    """Each family's body under its other heads, without variants."""
    known = {name for family in FAMILIES for name in family.heads}
    cases = []
    for case in (*_LM, BLOOM, MPT):
        stem = case.architecture.removesuffix("ForCausalLM").removesuffix("LMHeadModel")
        text = "Gemma3Text" if stem == "Gemma3" else stem
        for head in _OTHER_HEADS:
            name = text + head
            if name not in known:
                continue
            cases.append(
                dataclasses.replace(
                    case,
                    architecture=name,
                    settings=case.settings | _LABELS,
                    variants={},
                    traps={},
                )
            )
    return cases


DECODERS = (*_LM, BLOOM, MPT, *_under_heads())
