"""Architectures as GGUF names them: names of tensors, and what a name alone implies.

Covered: llama (LLaMA, Mixtral, Mistral without a window), qwen2, qwen3, gemma2, gemma3, phi3,
gpt2, gptneox, bloom, mpt, olmo2, smollm3, granite, starcoder2 and bert. What metadata adds is in
`metadata`. The tables are in the language of `layouts`: files of the llama architecture hold query
and key rows in the interleaved order of the original RoPE, files of Gemma norm weights with their
1 added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lmstack.core import UnsupportedError, shown
from lmstack.model.config import TransformerConfig
from lmstack.model.families.family import NO_ROPE, in_blocks
from lmstack.model.families.settings import ConfigKey, Settings
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import PAIRED, PLUS_ONE, Entry, Table, TensorPart

__all__ = ["ARCHITECTURES", "Architecture", "architecture_of"]


@dataclass(frozen=True)
class Architecture:
    """``settings``: keys of metadata that say one field each, beside those that all share.
    ``fixed``: fields that the name implies. ``untied``: the file must hold an output layer.
    ``experts``: it may be a mixture. ``bare_norms``: its norms may have no biases.

    Layers. ``windows``: ``read`` where llama.cpp computes without those that a file states.
    ``interval``: every so many-th layer sees the whole text where there is a window; 0: a window
    is on all layers or none. ``window``: that of a file that states none. ``local_theta``: of
    layers with a window, where they rotate otherwise. ``unrotated``: every so many-th layer does
    not rotate. ``scaled``: embeddings are multiplied by the root of their width, and scores by
    that of the model where there are ``scaled_layers``: 27B models of Gemma.

    The rest bounds what is written, to what llama.cpp computes. ``biases``: ``qkv`` alone,
    ``no`` others than those, ``all`` of them, or ``any``. ``partial``: a part of each head may
    rotate. ``factors``: tables of rotary divisors that the file may hold."""

    name: str
    tensors: Table
    fixed: Mapping[str, Any] = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)
    untied: bool = False
    experts: bool = False
    bare_norms: bool = False
    windows: Literal["none", "read", "all"] = "none"
    interval: int = 0
    window: int = 0
    local_theta: float | None = None
    unrotated: int = 0
    scaled: bool = False
    scaled_layers: int = 0
    biases: Literal["qkv", "no", "all", "any"] = "no"
    partial: bool = False
    factors: tuple[str, ...] = ()

    def table(self, num_experts: int) -> Table:
        return {**self.tensors, **_EXPERTS} if num_experts else self.tensors

    @property
    def is_paired(self) -> bool:
        """Whether rows of queries and keys are in the order of the original RoPE, which pairs
        them over the whole head."""
        key = "blocks.{i}.attention.qkv"
        return self.tensors[key] == _PAIRED_QKV[key]

    def takes(self, config: TransformerConfig) -> bool:
        """Whether llama.cpp computes ``config`` as far as biases and rotations go, and the name
        implies the rest."""
        given = (config.qkv_bias, config.out_bias, config.mlp_bias)
        if self.biases in ("qkv", "no") and any(given[1:]):
            return False
        if self.biases == "qkv" and not given[0]:
            return False
        if self.biases == "all" and not all(given):
            return False
        ropes = [kind.rope for kind in config.kinds if kind.rope is not None]
        if not self.partial and any(rope.fraction != 1.0 for rope in ropes):
            return False
        bare = {"norm": "ln_nobias"} if self.bare_norms and config.norm == "ln_nobias" else {}
        return all(getattr(config, n) == v for n, v in (dict(self.fixed) | bare).items())


_COMMON: dict[str, Entry] = {
    "embed": "token_embd",
    "final_norm": "output_norm",
    "head": "output",
} | in_blocks(
    "blk.{i}.",
    {
        "attention_norm": "attn_norm",
        "attention.qkv": ("attn_q", "attn_k", "attn_v"),
        "attention.out": "attn_output",
        "mlp_norm": "ffn_norm",
        "mlp.up": ("ffn_gate", "ffn_up"),
        "mlp.down": "ffn_down",
    },
)
_PAIRED_QKV = in_blocks(
    "blk.{i}.",
    {
        "attention.qkv": (
            TensorPart("attn_q", PAIRED),
            TensorPart("attn_k", PAIRED),
            TensorPart("attn_v"),
        )
    },
)
_EXPERTS = in_blocks(
    "blk.{i}.",
    {
        "mlp.router": "ffn_gate_inp",
        "mlp.up": ("ffn_gate_exps", "ffn_up_exps"),
        "mlp.down": "ffn_down_exps",
    },
)
_QK_NORM = in_blocks(
    "blk.{i}.", {"attention.q_norm": "attn_q_norm", "attention.k_norm": "attn_k_norm"}
)
_FUSED = in_blocks("blk.{i}.", {"attention.qkv": "attn_qkv", "mlp.up": "ffn_up"})
_GEMMA2 = {"final_norm": TensorPart("output_norm", PLUS_ONE)} | in_blocks(
    "blk.{i}.",
    {
        "attention_norm": TensorPart("attn_norm", PLUS_ONE),
        "attention_post_norm": TensorPart("post_attention_norm", PLUS_ONE),
        "mlp_norm": TensorPart("ffn_norm", PLUS_ONE),
        "mlp_post_norm": TensorPart("post_ffw_norm", PLUS_ONE),
    },
)
_GEMMA3 = _GEMMA2 | in_blocks(
    "blk.{i}.",
    {
        "attention.q_norm": TensorPart("attn_q_norm", PLUS_ONE),
        "attention.k_norm": TensorPart("attn_k_norm", PLUS_ONE),
    },
)
_OLMO2 = _QK_NORM | in_blocks(
    "blk.{i}.", {"attention_norm": "post_attention_norm", "mlp_norm": "post_ffw_norm"}
)
_BERT = {
    "embed_types": "token_types",
    "embed_positions": "position_embd",
    "embed_norm": "token_embd_norm",
} | in_blocks(
    "blk.{i}.",
    {"attention_norm": "attn_output_norm", "mlp.up": "ffn_up", "mlp_norm": "layer_output_norm"},
)
_GEMMA_FIXED = {"norm": "rms1p", "norm_place": "sandwich", "activation": "gelu_tanh"}
_UNROTATED = {"kinds": NO_ROPE}
_PLAIN = {"norm": "ln", "mlp": "plain", "activation": "gelu_tanh"}
_ALIBI = _UNROTATED | {"bias": "alibi"}
_SOFTCAP: Settings = {"logit_softcap": ConfigKey.nullable("final_logit_softcapping")}

# In the order in which one is looked for that can hold a config.
ARCHITECTURES = (
    Architecture("qwen2", _COMMON, biases="qkv"),
    Architecture(
        "llama",
        _COMMON | _PAIRED_QKV,
        experts=True,
        biases="any",
        factors=("rope_freqs.weight",),
    ),
    Architecture("qwen3", _COMMON | _QK_NORM, {"qk_norm": "head"}),
    Architecture(
        "gemma2",
        _COMMON | _GEMMA2,
        _GEMMA_FIXED | {"tie_embeddings": True},
        settings={
            "logit_softcap": ConfigKey.nullable("final_logit_softcapping", 30.0),
            "attention_softcap": ConfigKey.nullable("attn_logit_softcapping", 50.0),
        },
        windows="all",
        interval=2,
        window=4096,
        scaled=True,
        scaled_layers=46,
    ),
    Architecture(
        "gemma3",
        _COMMON | _GEMMA3,
        _GEMMA_FIXED | {"qk_norm": "head"},
        settings=_SOFTCAP,
        windows="all",
        interval=6,
        local_theta=10000.0,
        scaled=True,
        scaled_layers=62,
    ),
    Architecture(
        "phi3",
        _COMMON | _FUSED,
        windows="read",
        partial=True,
        factors=("rope_factors_long.weight", "rope_factors_short.weight"),
    ),
    Architecture("smollm3", _COMMON | _PAIRED_QKV, unrotated=4),
    Architecture(
        "olmo2",
        _COMMON | _OLMO2,
        {"norm_place": "post_only", "qk_norm": "full"},
        untied=True,
    ),
    Architecture(
        "granite",
        _COMMON | _PAIRED_QKV,
        settings={
            "embedding_scale": ConfigKey.number("embedding_scale", default=1.0),
            "residual_scale": ConfigKey.number("residual_scale", default=1.0),
            "attention_scale": ConfigKey.nullable("attention.scale"),
            "logit_scale": ConfigKey.divisor("logit_scale", 1.0),
        },
        biases="any",
    ),
    Architecture(
        "starcoder2",
        _COMMON | in_blocks("blk.{i}.", {"mlp.up": "ffn_up"}),
        _PLAIN,
        biases="all",
    ),
    Architecture(
        "gpt2",
        _COMMON | _FUSED | {"embed_positions": "position_embd"},
        _PLAIN | _UNROTATED | {"positions": "learned"},
        biases="all",
    ),
    Architecture(
        "gptneox",
        _COMMON | _FUSED,
        _PLAIN | {"activation": "gelu"},
        settings={"parallel": ConfigKey.flag("use_parallel_residual", True)},
        untied=True,
        biases="all",
        partial=True,
    ),
    Architecture(
        "bloom",
        _COMMON | _FUSED | {"embed_norm": "token_embd_norm"},
        _PLAIN | _ALIBI | {"embedding_norm": True},
        biases="all",
    ),
    Architecture(
        "mpt",
        _COMMON | _FUSED,
        _PLAIN | _ALIBI | {"activation": "gelu"},
        settings={
            "qkv_clip": ConfigKey.nullable("attention.clamp_kqv"),
            # 0: without ALiBi, which the config refuses.
            "alibi_max": ConfigKey.nullable("attention.max_alibi_bias", 0.0),
        },
        bare_norms=True,
        biases="any",
    ),
    Architecture(
        "bert",
        _COMMON | _BERT,
        _PLAIN
        | _UNROTATED
        | {
            "norm_place": "post",
            "activation": "gelu",
            "causal": False,
            "positions": "learned",
            "embedding_norm": True,
            "head": "none",
            "tie_embeddings": False,
        },
        settings={
            "causal": ConfigKey.flag("attention.causal", False),
            "token_types": ConfigKey.count("tokenizer.ggml.token_type_count", default=2),
        },
        biases="all",
    ),
)


def architecture_of(metadata: Mapping[str, Any], source: str = "GGUF file") -> Architecture:
    """The architecture of a file; `UnsupportedError` names what is not known."""
    name = Fields(metadata, source).text("general.architecture")
    for architecture in ARCHITECTURES:
        if architecture.name == name:
            return architecture
    raise UnsupportedError(
        f"{source}: GGUF architecture {shown(name)} is not implemented",
        hint=f"implemented: {', '.join(a.name for a in ARCHITECTURES)}",
    )
