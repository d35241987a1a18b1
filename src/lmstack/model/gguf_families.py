"""Architectures as GGUF writes them: metadata to the fields of our config, and tensor names.

Covered: ``llama`` (LLaMA, SmolLM2, Mistral without a window) and ``qwen2``. GGUF files of the
llama architecture hold query and key rows in the interleaved order of the original RoPE.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.model.fields import Fields
from lmstack.model.kinds import LayerKind
from lmstack.model.layouts import PAIRED, Entry, Part, Table
from lmstack.model.positions import RopeSpec

__all__ = ["ARCHITECTURES", "Architecture", "architecture_of", "read_metadata"]

_TENSORS: dict[str, Entry] = {
    "embed": "token_embd",
    "blocks.{i}.attention_norm": "blk.{i}.attn_norm",
    "blocks.{i}.attention.qkv": ("blk.{i}.attn_q", "blk.{i}.attn_k", "blk.{i}.attn_v"),
    "blocks.{i}.attention.out": "blk.{i}.attn_output",
    "blocks.{i}.mlp_norm": "blk.{i}.ffn_norm",
    "blocks.{i}.mlp.up": ("blk.{i}.ffn_gate", "blk.{i}.ffn_up"),
    "blocks.{i}.mlp.down": "blk.{i}.ffn_down",
    "final_norm": "output_norm",
    "head": "output",
}


@dataclass(frozen=True)
class Architecture:
    """``tensors`` as in `families.Family`."""

    name: str
    tensors: Table


_PAIRED_QKV = (
    Part("blk.{i}.attn_q", PAIRED),
    Part("blk.{i}.attn_k", PAIRED),
    Part("blk.{i}.attn_v"),
)
ARCHITECTURES = (
    Architecture("llama", _TENSORS | {"blocks.{i}.attention.qkv": _PAIRED_QKV}),
    Architecture("qwen2", _TENSORS),
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


def read_metadata(
    metadata: Mapping[str, Any], tensors: Collection[str] = (), source: str = "GGUF file"
) -> dict[str, Any]:
    """The fields of a `TransformerConfig`. ``tensors``: the names that the file holds; without
    them the output layer is taken to be its own and biases to be absent."""
    arch = architecture_of(metadata, source).name
    fields = Fields(metadata, source)
    width, heads = (
        fields.count(f"{arch}.embedding_length"),
        fields.count(f"{arch}.attention.head_count"),
    )
    head_dim = fields.count(f"{arch}.attention.key_length", width // heads if heads else 0)
    _refuse_unknown_features(fields, arch, head_dim)
    return {
        "vocab_size": _vocab_size(fields, arch),
        "hidden_size": width,
        "intermediate_size": fields.count(f"{arch}.feed_forward_length"),
        "num_layers": fields.count(f"{arch}.block_count"),
        "num_heads": heads,
        "num_kv_heads": fields.count(f"{arch}.attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_positions": fields.count(f"{arch}.context_length"),
        "norm_eps": _shortest(fields.number(f"{arch}.attention.layer_norm_rms_epsilon")),
        "kinds": (LayerKind(_rope(fields, arch, tensors)),),
        "qkv_bias": "blk.0.attn_q.bias" in tensors,
        "out_bias": "blk.0.attn_output.bias" in tensors,
        "mlp_bias": "blk.0.ffn_down.bias" in tensors,
        "tie_embeddings": bool(tensors) and "output.weight" not in tensors,
    }


def _refuse_unknown_features(fields: Fields, arch: str, head_dim: int) -> None:
    for key, plain in (
        ("attention.value_length", head_dim),
        ("rope.dimension_count", head_dim),
        ("expert_count", 0),
        ("attention.sliding_window", 0),
    ):
        value = fields.count(f"{arch}.{key}", plain)
        if value != plain:
            raise UnsupportedError(f"{fields.source}: {arch}.{key} = {value} is not implemented")


def _vocab_size(fields: Fields, arch: str) -> int:
    tokens = fields.get("tokenizer.ggml.tokens")
    if fields.get(f"{arch}.vocab_size") is None and isinstance(tokens, list):
        return len(tokens)
    return fields.count(f"{arch}.vocab_size")


def _rope(fields: Fields, arch: str, tensors: Collection[str]) -> RopeSpec:
    if "rope_freqs.weight" in tensors:
        raise UnsupportedError(f"{fields.source}: rope scaling by a table of factors")
    theta = fields.number(f"{arch}.rope.freq_base", 10000.0)
    kind = fields.text(f"{arch}.rope.scaling.type", "none")
    if kind == "none":
        return RopeSpec(theta=theta)
    if kind == "linear":
        factor = fields.number(f"{arch}.rope.scaling.factor")
        return RopeSpec(theta=theta, scaling="linear", factor=factor)
    raise UnsupportedError(f"{fields.source}: rope scaling {shown(kind)} is not implemented")


def _shortest(value: float) -> float:
    """The decimal meant by a float32: 1e-5 is stored as 9.99999974e-06."""
    if not 0 <= value < 1:
        raise FormatError(f"norm epsilon is {value}")
    return float(f"{value:.6g}")
