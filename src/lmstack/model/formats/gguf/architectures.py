"""Architectures as GGUF names them: names of tensors, and what a name alone implies.

Covered: llama (LLaMA, Mixtral, Mistral without a window), qwen2, qwen3, gemma2, gemma3, phi3,
gpt2, gptneox, bloom, mpt, olmo2, smollm3 and bert. What metadata adds is in `gguf_metadata`. The
tables are in the language of `layouts`: files of the llama architecture hold query and key rows in
the interleaved order of the original RoPE, files of Gemma norm weights with their 1 added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lmstack.core import UnsupportedError, shown
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import PAIRED, PLUS_ONE, Entry, Part, Table
from lmstack.model.kinds import LayerKind

__all__ = ["ARCHITECTURES", "Architecture", "architecture_of"]


@dataclass(frozen=True)
class Architecture:
    """``fixed``: fields that the name implies. ``interval``: every so many-th layer sees the
    whole text where there is a window; 0: a window is on all layers or none. ``windows``:
    whether there can be one. ``untied``: the file must hold an output layer. ``optional``: keys
    of metadata and the fields of ours that they set.

    The rest bounds what is written, to what llama.cpp computes. ``biases``: ``qkv`` alone,
    ``no`` others than those, ``all`` of them, or ``any``. ``partial``: a part of each head may
    rotate. ``factors``: tables of rotary divisors that the file may hold."""

    name: str
    tensors: Table
    fixed: Mapping[str, Any] = field(default_factory=dict)
    interval: int = 0
    windows: bool = False
    untied: bool = False
    optional: Mapping[str, str] = field(default_factory=dict)
    biases: Literal["qkv", "no", "all", "any"] = "no"
    partial: bool = False
    factors: tuple[str, ...] = ()

    def table(self, num_experts: int) -> Table:
        return {**self.tensors, **_EXPERTS} if num_experts else self.tensors

    def takes(self, config: Mapping[str, Any]) -> bool:
        """Whether llama.cpp has a place for the biases and rotations of these fields."""
        given = [config[name] for name in ("qkv_bias", "out_bias", "mlp_bias")]
        if self.biases in ("qkv", "no") and any(given[1:]):
            return False
        if self.biases == "qkv" and not given[0]:
            return False
        if self.biases == "all" and not all(given):
            return False
        ropes = [kind.rope for kind in config["kinds"] if kind.rope is not None]
        return self.partial or all(rope.fraction == 1.0 for rope in ropes)


_BLOCK = "blk.{i}"
_COMMON: dict[str, Entry] = {
    "embed": "token_embd",
    "blocks.{i}.attention_norm": f"{_BLOCK}.attn_norm",
    "blocks.{i}.attention.qkv": (f"{_BLOCK}.attn_q", f"{_BLOCK}.attn_k", f"{_BLOCK}.attn_v"),
    "blocks.{i}.attention.out": f"{_BLOCK}.attn_output",
    "blocks.{i}.mlp_norm": f"{_BLOCK}.ffn_norm",
    "blocks.{i}.mlp.up": (f"{_BLOCK}.ffn_gate", f"{_BLOCK}.ffn_up"),
    "blocks.{i}.mlp.down": f"{_BLOCK}.ffn_down",
    "final_norm": "output_norm",
    "head": "output",
}
_PAIRED_QKV: dict[str, Entry] = {
    "blocks.{i}.attention.qkv": (
        Part(f"{_BLOCK}.attn_q", PAIRED),
        Part(f"{_BLOCK}.attn_k", PAIRED),
        Part(f"{_BLOCK}.attn_v"),
    )
}
_EXPERTS: dict[str, Entry] = {
    "blocks.{i}.mlp.router": f"{_BLOCK}.ffn_gate_inp",
    "blocks.{i}.mlp.up": (f"{_BLOCK}.ffn_gate_exps", f"{_BLOCK}.ffn_up_exps"),
    "blocks.{i}.mlp.down": f"{_BLOCK}.ffn_down_exps",
}
_QK_NORM: dict[str, Entry] = {
    "blocks.{i}.attention.q_norm": f"{_BLOCK}.attn_q_norm",
    "blocks.{i}.attention.k_norm": f"{_BLOCK}.attn_k_norm",
}
_FUSED: dict[str, Entry] = {
    "blocks.{i}.attention.qkv": f"{_BLOCK}.attn_qkv",
    "blocks.{i}.mlp.up": f"{_BLOCK}.ffn_up",
}
_GEMMA2: dict[str, Entry] = {
    "blocks.{i}.attention_norm": Part(f"{_BLOCK}.attn_norm", PLUS_ONE),
    "blocks.{i}.attention_post_norm": Part(f"{_BLOCK}.post_attention_norm", PLUS_ONE),
    "blocks.{i}.mlp_norm": Part(f"{_BLOCK}.ffn_norm", PLUS_ONE),
    "blocks.{i}.mlp_post_norm": Part(f"{_BLOCK}.post_ffw_norm", PLUS_ONE),
    "final_norm": Part("output_norm", PLUS_ONE),
}
_GEMMA3: dict[str, Entry] = _GEMMA2 | {
    "blocks.{i}.attention.q_norm": Part(f"{_BLOCK}.attn_q_norm", PLUS_ONE),
    "blocks.{i}.attention.k_norm": Part(f"{_BLOCK}.attn_k_norm", PLUS_ONE),
}
_OLMO2: dict[str, Entry] = _QK_NORM | {
    "blocks.{i}.attention_norm": f"{_BLOCK}.post_attention_norm",
    "blocks.{i}.mlp_norm": f"{_BLOCK}.post_ffw_norm",
}
_BERT: dict[str, Entry] = {
    "embed_types": "token_types",
    "embed_positions": "position_embd",
    "embed_norm": "token_embd_norm",
    "blocks.{i}.attention_norm": f"{_BLOCK}.attn_output_norm",
    "blocks.{i}.mlp.up": f"{_BLOCK}.ffn_up",
    "blocks.{i}.mlp_norm": f"{_BLOCK}.layer_output_norm",
}
_GEMMA_FIXED = {
    "norm": "rms1p",
    "norm_place": "sandwich",
    "activation": "gelu_tanh",
}
_UNROTATED = {"kinds": (LayerKind(rope=None),)}
_PLAIN = {"norm": "ln", "mlp": "plain", "activation": "gelu_tanh"}
_ALIBI = _UNROTATED | {"bias": "alibi"}
_CAPS = {"final_logit_softcapping": "logit_softcap"}

# In the order in which one is looked for that can hold a config.
ARCHITECTURES = (
    Architecture("qwen2", _COMMON, biases="qkv"),
    Architecture("llama", _COMMON | _PAIRED_QKV, biases="any", factors=("rope_freqs.weight",)),
    Architecture("qwen3", _COMMON | _QK_NORM, {"qk_norm": "head"}),
    Architecture(
        "gemma2",
        _COMMON | _GEMMA2,
        _GEMMA_FIXED | {"tie_embeddings": True},
        interval=2,
        windows=True,
        optional=_CAPS | {"attn_logit_softcapping": "attention_softcap"},
    ),
    Architecture(
        "gemma3",
        _COMMON | _GEMMA3,
        _GEMMA_FIXED | {"qk_norm": "head"},
        interval=6,
        windows=True,
        optional=_CAPS,
    ),
    Architecture(
        "phi3",
        _COMMON | _FUSED,
        windows=True,
        partial=True,
        factors=("rope_factors_long.weight", "rope_factors_short.weight"),
    ),
    Architecture("smollm3", _COMMON | _PAIRED_QKV),
    Architecture(
        "olmo2",
        _COMMON | _OLMO2,
        {"norm_place": "post_only", "qk_norm": "full"},
        untied=True,
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
        optional={"attention.clamp_kqv": "qkv_clip", "attention.max_alibi_bias": "alibi_max"},
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
