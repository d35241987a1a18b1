"""LLaMA and its kin: RMSNorm, RoPE, grouped queries, a gated MLP and the same names of tensors.

Covered: LLaMA (1 to 3, SmolLM2), Mistral, Mixtral, Qwen2, Qwen3, Phi-3, SmolLM3, OLMo2, Granite
and, with LayerNorm and a plain MLP, StarCoder2. What sets one apart is a few settings, its kinds
of layers and entries of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.model.config import LayerKind, TransformerConfig
from lmstack.model.families.family import Family, decoder_heads, in_blocks, layer_kinds
from lmstack.model.families.rope import read_rope, write_rope
from lmstack.model.families.settings import SIZES, ConfigKey, Settings
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import Entry, Table
from lmstack.model.positions import RopeSpec

__all__ = [
    "DECODER",
    "LLAMA_FAMILIES",
    "LLAMA_TENSORS",
    "QK_NORM",
    "attention_bias",
    "layer_types",
    "window_of",
    "write_ropes",
    "write_slides",
]

DECODER: Settings = {
    **SIZES,
    "num_kv_heads": ConfigKey.optional("num_key_value_heads"),
    "head_dim": ConfigKey.optional("head_dim"),
    "max_positions": ConfigKey.count("max_position_embeddings"),
    "norm_eps": ConfigKey.number("rms_norm_eps", default=1e-6),
    "activation": ConfigKey.activation("hidden_act", "silu"),
    "tie_embeddings": ConfigKey.flag("tie_word_embeddings", False),
}
_MLP_BIAS = {"mlp_bias": ConfigKey.flag("mlp_bias", False)}
_EPS = {"norm_eps": ConfigKey.number("rms_norm_eps", default=1e-5)}
_TIED = {"tie_embeddings": ConfigKey.flag("tie_word_embeddings", True)}

_LAYER = "model.layers.{i}."
LLAMA_TENSORS: dict[str, Entry] = {
    "embed": "model.embed_tokens",
    "final_norm": "model.norm",
    "head": "lm_head",
    "classifier": "score",
} | in_blocks(
    _LAYER,
    {
        "attention_norm": "input_layernorm",
        "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attention.out": "self_attn.o_proj",
        "mlp_norm": "post_attention_layernorm",
        "mlp.up": ("mlp.gate_proj", "mlp.up_proj"),
        "mlp.down": "mlp.down_proj",
    },
)
QK_NORM = in_blocks(
    _LAYER, {"attention.q_norm": "self_attn.q_norm", "attention.k_norm": "self_attn.k_norm"}
)
_OLMO2_NORMS = in_blocks(
    _LAYER,
    {"attention_norm": "post_attention_layernorm", "mlp_norm": "post_feedforward_layernorm"},
)
_PHI3_FUSED = in_blocks(
    _LAYER, {"attention.qkv": "self_attn.qkv_proj", "mlp.up": "mlp.gate_up_proj"}
)
_MIXTRAL_EXPERTS = in_blocks(
    f"{_LAYER}block_sparse_moe.",
    {
        "mlp.router": "gate",
        "mlp.up.weight": ("experts.{e}.w1.weight", "experts.{e}.w3.weight"),
        "mlp.down.weight": "experts.{e}.w2.weight",
    },
)
# As transformers 5 names them inside, and in files when told to.
_MIXTRAL_FUSED = in_blocks(
    f"{_LAYER}mlp.",
    {
        "mlp.router": "gate",
        "mlp.up.weight": "experts.gate_up_proj",
        "mlp.down.weight": "experts.down_proj",
    },
)
_STARCODER2_MLP = in_blocks(_LAYER, {"mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"})
# The kinds of layers of a file whose layers rotate alike: one for each, or one for all.
Layers = Callable[[Fields, int, RopeSpec], list[LayerKind]]
Write = Callable[[TransformerConfig], Mapping[str, Any]]


def attention_bias(default: bool = False) -> dict[str, ConfigKey]:
    """One key for the biases of queries, keys and values, and of the output."""
    return dict.fromkeys(("qkv_bias", "out_bias"), ConfigKey.flag("attention_bias", default))


def layer_types(fields: Fields, count: int) -> list[bool] | None:
    """Whether each layer slides, where the file says so layer by layer."""
    types = fields.get("layer_types")
    if types is None:
        return None
    known = ("sliding_attention", "full_attention")
    if not isinstance(types, list) or len(types) != count or not all(t in known for t in types):
        raise FormatError(f"{fields.source}: layer_types is {shown(types)} for {count} layers")
    return [kind == "sliding_attention" for kind in types]


def window_of(fields: Fields, default: int | None = None) -> int | None:
    """``default``: where the key is absent; null switches the window off."""
    if "sliding_window" not in fields:
        return default
    return None if fields.get("sliding_window") is None else fields.count("sliding_window")


def _alike(_fields: Fields, _count: int, rope: RopeSpec) -> list[LayerKind]:
    return [LayerKind(rope)]


def _windowed(fields: Fields, _count: int, rope: RopeSpec) -> list[LayerKind]:
    return [LayerKind(rope, window_of(fields))]


def _mistral_layers(fields: Fields, _count: int, rope: RopeSpec) -> list[LayerKind]:
    return [LayerKind(rope, window_of(fields, 4096))]


def _qwen_layers(fields: Fields, count: int, rope: RopeSpec) -> list[LayerKind]:
    """A window, where it is switched on, from layer ``max_window_layers`` on."""
    window = window_of(fields, 4096) if fields.flag("use_sliding_window", False) else None
    first = fields.count("max_window_layers", 28)
    slides = layer_types(fields, count) or [i >= first for i in range(count)]
    return [LayerKind(rope, window if slide else None) for slide in slides]


def _smollm3_layers(fields: Fields, count: int, rope: RopeSpec) -> list[LayerKind]:
    interval = fields.count("no_rope_layer_interval", 4) or 1
    rotates = fields.get("no_rope_layers")
    if rotates is None:
        rotates = [(i + 1) % interval != 0 for i in range(count)]
    if not isinstance(rotates, list) or len(rotates) != count or set(rotates) - {0, 1}:
        raise FormatError(f"{fields.source}: no_rope_layers is {shown(rotates)}")
    window = window_of(fields) if fields.flag("use_sliding_window", False) else None
    slides = layer_types(fields, count) or [not turn for turn in rotates]
    return [
        LayerKind(rope if turn else None, window if slide else None)
        for turn, slide in zip(rotates, slides, strict=True)
    ]


def write_ropes(config: TransformerConfig) -> dict[str, Any]:
    """``rope_parameters`` of layers that rotate alike."""
    return {"rope_parameters": write_rope(config.rope or RopeSpec())}


def _write_window(config: TransformerConfig) -> dict[str, Any]:
    return {"sliding_window": config.kinds[0].window}


def write_slides(config: TransformerConfig) -> dict[str, Any]:
    """The windows of layers one by one."""
    windows = [layer.window for layer in config.layers]
    found = [window for window in windows if window is not None]
    return {
        "use_sliding_window": bool(found),
        "sliding_window": found[0] if found else None,
        "layer_types": ["full_attention" if w is None else "sliding_attention" for w in windows],
    }


def _write_phi3(config: TransformerConfig) -> dict[str, Any]:
    if config.rope is None or config.rope.scaling == "default":
        return _write_window(config)
    # Phi-3's own place for it, which goes before the one in rope_parameters.
    first = {"original_max_position_embeddings": config.rope.original_positions}
    return _write_window(config) | first


def _write_smollm3(config: TransformerConfig) -> dict[str, Any]:
    rotates = [int(layer.rope is not None) for layer in config.layers]
    return write_slides(config) | {"no_rope_layers": rotates}


def _kin(
    model_type: str,
    stem: str,
    settings: Settings,
    *,
    fixed: Mapping[str, Any] | None = None,
    layers: Layers = _alike,
    theta: float = 10000.0,
    partial: bool = False,
    write: Write = lambda _: {},
    tensors: Table | None = None,
    alternatives: Table | None = None,
    tasks: tuple[str, ...] = ("Sequence", "Token"),
) -> Family:
    """``settings`` and ``tensors``: where the family departs from LLaMA. ``theta``: where a file
    names none. ``partial``: it may rotate a part of each head. ``tasks``: see
    `decoder_heads`."""

    def read(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
        rope = read_rope(fields, theta)
        if rope.fraction != 1.0 and not partial:
            raise UnsupportedError(f"{fields.source}: partial rotary embeddings")
        return layer_kinds(layers(fields, values["num_layers"], rope))

    return Family(
        model_type=model_type,
        heads=decoder_heads(stem, *tasks),
        prefix="model.",
        tensors=LLAMA_TENSORS | dict(tensors or {}),
        settings={**DECODER, **settings},
        fixed=fixed or {},
        ignored=("rotary_emb.inv_freq",),
        read=read,
        write=lambda config: {**write_ropes(config), **write(config)},
        alternatives=alternatives or {},
    )


LLAMA_FAMILIES = (
    _kin("llama", "Llama", attention_bias() | _MLP_BIAS),
    _kin("qwen2", "Qwen2", {}, fixed={"qkv_bias": True}, layers=_qwen_layers, write=write_slides),
    _kin("mistral", "Mistral", {}, layers=_mistral_layers, write=_write_window),
    _kin(
        "qwen3",
        "Qwen3",
        attention_bias() | {"head_dim": ConfigKey.count("head_dim", default=128)},
        fixed={"qk_norm": "head"},
        layers=_qwen_layers,
        write=write_slides,
        tensors=QK_NORM,
    ),
    _kin(
        "mixtral",
        "Mixtral",
        _EPS
        | {
            "num_experts": ConfigKey.count("num_local_experts", default=8, least=1),
            "experts_per_token": ConfigKey.count("num_experts_per_tok", default=2),
        },
        layers=_windowed,
        theta=1e6,
        write=_write_window,
        tensors=_MIXTRAL_EXPERTS,
        alternatives=_MIXTRAL_FUSED,
    ),
    _kin(
        "phi3",
        "Phi3",
        _EPS,
        layers=_windowed,
        partial=True,
        write=_write_phi3,
        tensors=_PHI3_FUSED,
    ),
    _kin(
        "smollm3",
        "SmolLM3",
        attention_bias() | _MLP_BIAS | _TIED,
        layers=_smollm3_layers,
        theta=2e6,
        write=_write_smollm3,
    ),
    _kin(
        "olmo2",
        "Olmo2",
        _EPS | attention_bias(),
        fixed={"norm_place": "post_only", "qk_norm": "full"},
        tensors=QK_NORM | _OLMO2_NORMS,
        tasks=("Sequence",),
    ),
    _kin(
        "granite",
        "Granite",
        attention_bias()
        | _MLP_BIAS
        | {
            "embedding_scale": ConfigKey.number("embedding_multiplier", default=1.0),
            "residual_scale": ConfigKey.number("residual_multiplier", default=1.0),
            "attention_scale": ConfigKey.number("attention_multiplier", default=1.0),
            "logit_scale": ConfigKey.divisor("logits_scaling", 1.0),
        },
        tasks=(),
    ),
    _kin(
        "starcoder2",
        "Starcoder2",
        _TIED
        | dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), ConfigKey.flag("use_bias", True))
        | {
            "num_kv_heads": ConfigKey.count("num_key_value_heads", default=2),
            "norm_eps": ConfigKey.number("norm_epsilon", default=1e-5),
            "activation": ConfigKey.activation("hidden_act", "gelu_pytorch_tanh"),
        },
        fixed={"norm": "ln", "mlp": "plain"},
        layers=_windowed,
        write=_write_window,
        tensors=_STARCODER2_MLP,
    ),
)
