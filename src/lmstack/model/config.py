"""What a Transformer is made of. One class for every family; a family is a value of it.

Holds the facts that shape the forward pass and nothing else: no token ids but the padding that
positions skip, no names of families, no training settings. How other projects write these facts
is in `families` (Hugging Face) and `formats.gguf`, which make configs and are not known here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lmstack.core import (
    Config,
    FormatError,
    InputError,
    UnsupportedError,
    check_range,
    check_whole,
    shown,
)
from lmstack.model.positions import RopeSpec

__all__ = [
    "Activation",
    "Bias",
    "Head",
    "LayerKind",
    "LayerSpec",
    "Mlp",
    "Norm",
    "NormPlace",
    "Pooling",
    "Positions",
    "QkNorm",
    "TransformerConfig",
    "blamed_on",
]

Norm = Literal["rms", "rms1p", "ln", "ln_nobias"]
NormPlace = Literal["pre", "post", "sandwich", "post_only", "pre_residual"]
Positions = Literal["none", "learned", "sinusoidal", "sinusoidal_halves"]
Bias = Literal["none", "alibi", "t5", "deberta"]
QkNorm = Literal["none", "head", "full"]
Mlp = Literal["plain", "glu"]
Activation = Literal["silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "tanh"]
Head = Literal["lm", "sequence", "token", "span", "pool", "none"]
Pooling = Literal["first", "last", "mean"]

# Well above any real model, to keep a lying file from asking for absurd memory or time. Sizes fit
# 32 bits, as C has them; the bytes of a tensor of any that pass stay below 2^63, which torch needs
# even without memory.
_MOST, _WIDEST = (1 << 31) - 1, 1 << 22
_LARGEST = 1e9  # of scales and bounds
_CEILINGS = {
    **{"num_layers": 1 << 16, "num_experts": 1 << 12, "conv_size": 1 << 10},
    **dict.fromkeys(("hidden_size", "intermediate_size", "embedding_size", "head_dim"), _WIDEST),
}
_FROM_ZERO = (
    *("token_types", "position_offset", "position_pad", "num_experts", "num_labels"),
    *("bias_buckets", "conv_size"),
)


@dataclass(frozen=True)
class LayerKind(Config):
    """What may differ from layer to layer. ``rope``: None for a layer that does not rotate.
    ``window``: a query sees keys less than so many places away, None for all."""

    rope: RopeSpec | None = field(default_factory=RopeSpec)
    window: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None:
            check_whole("window", self.window, 1, _MOST)


@dataclass(frozen=True)
class LayerSpec:
    """The facts of one layer that its attention must know."""

    causal: bool
    scale: float
    rope: RopeSpec | None
    window: int | None = None
    softcap: float | None = None

    @functools.cached_property
    def across(self) -> LayerSpec:
        """Those of the layer's cross-attention: it attends to every token of the encoder."""
        return dataclasses.replace(self, causal=False, rope=None, window=None)


@dataclass(frozen=True)
class TransformerConfig(Config):
    """A stack of ``num_layers`` blocks: attention and MLP, each with a norm and a residual.

    **Norms.** ``norm``: ``rms`` (weight only), ``rms1p`` (its weight counts from 1, in float32),
    ``ln`` (weight and bias), ``ln_nobias``. ``norm_place``: ``pre`` norms the input of each
    sublayer, ``post`` the sum of sublayer and residual, ``post_only`` the output of the sublayer
    before it is added, ``sandwich`` input and output, ``pre_residual`` the input of the sublayer
    and of the residual. All but ``post`` norm once more after the last block. ``first_norm``:
    False leaves out that before the first layer's attention. ``residual_scale`` multiplies what a
    sublayer gives.

    **Input.** The table has ``embedding_size`` columns (None: hidden_size; else a projection
    follows, even of the same width) and is multiplied by ``embedding_scale``; ``token_types`` > 0
    adds a segment table, ``positions`` a ``learned`` table or sinusoids, at rows from
    ``position_offset`` on; tokens ``position_pad`` do not count and stand at the row before it.
    ``embedding_norm`` norms the sum, which ``projects_first`` projects before that, without bias.
    ``conv_size`` > 0: a convolution over so many neighbours of the blocks' input, in
    ``conv_groups``, stands beside the first block and is normed with its output.

    **Attention.** Layer i is of ``kinds[pattern[i]]``, of the first kind without a pattern.
    ``bias`` is added to scores: ``alibi`` (slopes up to 2^-``alibi_max``), ``t5`` and
    ``deberta`` (``bias_buckets``, ``bias_max_distance``; deberta's ``bias_parts``, projected
    with the keys and queries of the content where ``bias_shared``, and ``bias_norm``).
    ``attention_scale`` None is head_dim^-0.5; ``scale_by_layer`` divides that of layer i, counted
    from 0, by i + 1. ``qk_norm`` norms queries and keys, each ``head``
    or the ``full`` width; ``qkv_clip`` bounds them.

    **MLP.** ``plain`` is down(act(up(x))), ``glu`` down(act(gate(x)) * up(x)); with
    ``num_experts`` a mixture of ``experts_per_token`` of them. ``parallel``: attention and MLP
    both read the block's input. ``num_blocks``: fewer distinct blocks than layers, each serving
    equally many neighbours; with ``blocks_per_group`` it is groups of so many blocks that do, one
    block after the other.

    **Output.** ``head``: ``lm`` gives logits over the vocabulary (through the embedding table
    when ``tie_embeddings``), ``token`` and ``sequence`` ``num_labels`` scores for each token or
    for the ``pooling`` of all, ``span`` start and end scores for each token, ``pool`` the
    pooled vector, ``none`` hidden states only. Before it come ``transform`` (a dense layer and
    its activation, with a norm when ``transform_norm``) and ``logit_scale``; after it
    ``head_bias`` (of ``lm``) and ``logit_softcap``.

    ``encoder``: this stack is then the decoder of an encoder-decoder, with cross-attention in
    every block, and ``share_embeddings`` gives both one table.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    norm: Norm = "rms"
    norm_place: NormPlace = "pre"
    norm_eps: float = 1e-6
    first_norm: bool = True
    residual_scale: float = 1.0
    embedding_size: int | None = None
    embedding_scale: float = 1.0
    embedding_norm: bool = False
    projects_first: bool = False
    conv_size: int = 0
    conv_groups: int = 1
    conv_activation: Activation = "tanh"
    positions: Positions = "none"
    position_offset: int = 0
    position_pad: int | None = None
    token_types: int = 0
    causal: bool = True
    kinds: tuple[LayerKind, ...] = field(default_factory=lambda: (LayerKind(),))
    pattern: tuple[int, ...] = ()
    bias: Bias = "none"
    bias_buckets: int = 32
    bias_max_distance: int = 128
    bias_parts: tuple[str, ...] = ("c2p", "p2c")
    bias_shared: bool = True
    bias_norm: bool = True
    alibi_max: float = 8.0
    attention_scale: float | None = None
    attention_softcap: float | None = None
    scale_by_layer: bool = False
    qk_norm: QkNorm = "none"
    qkv_clip: float | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    mlp: Mlp = "glu"
    activation: Activation = "silu"
    mlp_bias: bool = False
    num_experts: int = 0
    experts_per_token: int = 2
    parallel: bool = False
    num_blocks: int | None = None
    blocks_per_group: int = 1
    head: Head = "lm"
    tie_embeddings: bool = False
    head_bias: bool = False
    logit_scale: float = 1.0
    logit_softcap: float | None = None
    num_labels: int = 0
    classifier_bias: bool = True
    pooling: Pooling = "first"
    transform: Activation | None = None
    transform_norm: bool = False
    transform_bias: bool = True
    encoder: TransformerConfig | None = None
    share_embeddings: bool = True

    def __post_init__(self) -> None:
        for name, (kind, is_optional) in _TYPES.items():
            value = getattr(self, name)
            if not (is_optional and value is None):
                _check_value(name, value, kind)
        if self.projects_first and self.embedding_size is None:
            raise InputError("projects_first without an embedding_size", param="projects_first")
        self._check_positions()
        self._check_convolution()
        self._check_attention()
        self._check_layers()
        self._check_head()

    def _check_positions(self) -> None:
        if self.position_pad is not None:
            rotates = any(kind.rope is not None for kind in self.kinds)
            if self.positions == "none" or rotates or self.position_offset < 1:
                raise InputError(
                    f"position_pad is {self.position_pad}, but no row is before the first position",
                    hint="it needs a table of positions, a position_offset, and no rotation",
                    param="position_pad",
                )
        # The nearest distances have a bucket each, those further away share one by logarithms.
        near, far = 1, self.bias_max_distance + 1
        if self.bias == "t5":
            near, far = self.bias_buckets // (2 if self.causal else 4), self.bias_max_distance
        elif self.bias == "deberta" and self.bias_buckets:
            near, far = self.bias_buckets // 2, self.bias_max_distance - 1
        if not 0 < near < far:
            raise InputError(
                f"bias_buckets is {self.bias_buckets} for bias_max_distance {far}",
                param="bias_buckets",
            )

    def _check_convolution(self) -> None:
        if self.conv_size and (self.conv_size % 2 == 0 or self.causal):
            raise InputError(
                f"conv_size is {self.conv_size}",
                hint="an odd number, in an encoder: as many neighbours on either side",
                param="conv_size",
            )
        if self.hidden_size % self.conv_groups:
            raise InputError(
                f"conv_groups {self.conv_groups} do not divide hidden_size {self.hidden_size}",
                param="conv_groups",
            )

    def _check_attention(self) -> None:
        if self.num_heads * self.head_dim > _WIDEST:
            raise InputError(
                f"num_heads {self.num_heads} of head_dim {self.head_dim} are more than {_WIDEST}",
                param="num_heads",
            )
        if self.num_heads % self.num_kv_heads:
            raise InputError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}",
                hint="each key/value head serves a whole number of query heads",
                param="num_kv_heads",
            )
        for rope in {kind.rope for kind in self.kinds}:
            if rope is not None:
                rope.check_width(self.head_dim)
        unknown = set(self.bias_parts) - {"c2p", "p2c"}
        if unknown:
            raise InputError(f"bias_parts has {shown(sorted(unknown))}", hint="c2p and p2c")
        if self.bias == "deberta" and self.num_kv_heads != self.num_heads:
            raise InputError("disentangled attention needs as many key heads as query heads")

    def _check_layers(self) -> None:
        if not self.kinds:
            raise InputError("kinds is empty", hint="one kind of layer at least", param="kinds")
        if self.pattern and len(self.pattern) != self.num_layers:
            raise InputError(
                f"pattern has {len(self.pattern)} layers, num_layers is {self.num_layers}",
                param="pattern",
            )
        for kind in self.pattern:
            check_whole("pattern", kind, 0, len(self.kinds) - 1)
        if self.parallel and not self.first_norm:
            raise InputError("parallel blocks without their first norm", param="first_norm")
        check_whole("num_blocks", self.num_blocks or 1, 1, self.num_layers)
        check_whole("blocks_per_group", self.blocks_per_group, 1, self.num_blocks or 1)
        for name in ("num_blocks", "num_layers"):
            if (getattr(self, name) or 0) % self.blocks_per_group:
                raise InputError(
                    f"{name} is {getattr(self, name)}, not whole groups of {self.blocks_per_group}",
                    param=name,
                )
        if self.num_experts:
            check_whole("experts_per_token", self.experts_per_token, 1, self.num_experts)
        if self.encoder is not None and self.encoder.encoder is not None:
            raise InputError("an encoder with an encoder of its own", param="encoder")
        if self.encoder is not None and self.share_embeddings:
            tables = [(c.vocab_size, c.embedding_width) for c in (self, self.encoder)]
            if tables[0] != tables[1]:
                raise InputError(
                    f"decoder and encoder share a table of {tables[0]} and {tables[1]}",
                    param="share_embeddings",
                )

    def _check_head(self) -> None:
        if self.tie_embeddings and self.head != "lm":
            raise InputError(
                f"tie_embeddings is set, but head {self.head!r} has no vocabulary to tie",
                param="tie_embeddings",
            )
        width = self.hidden_size if self.transform is None else self.embedding_width
        if self.tie_embeddings and width != self.embedding_width:
            raise InputError(
                f"tie_embeddings is set, but {width} columns meet a table of"
                f" {self.embedding_width}",
                param="tie_embeddings",
            )
        if self.head in ("sequence", "token") and not self.num_labels:
            raise InputError(f"num_labels is 0 for head {self.head!r}", param="num_labels")
        if self.head == "pool" and self.transform is None:
            raise InputError("head 'pool' without a transform pools nothing", param="transform")

    @property
    def final_norm(self) -> bool:
        """Whether a norm follows the last block: only post-norm blocks leave their sum normed."""
        return self.norm_place != "post"

    @property
    def qkv_heads(self) -> int:
        """Heads of the fused projection: queries, then keys, then values."""
        return self.num_heads + 2 * self.num_kv_heads

    @property
    def embedding_width(self) -> int:
        """Columns of the embedding table."""
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    @property
    def num_outputs(self) -> int:
        """Scores that the head gives for each place, 0 for none."""
        return {"lm": self.vocab_size, "span": 2, "pool": 0, "none": 0}.get(
            self.head, self.num_labels
        )

    @property
    def bias_span(self) -> int:
        """Half the rows of DeBERTa's table of relative positions."""
        return self.bias_buckets or self.bias_max_distance

    @property
    def rope(self) -> RopeSpec | None:
        """The first rotation of its kinds of layers."""
        return next((kind.rope for kind in self.kinds if kind.rope is not None), None)

    @functools.cached_property
    def layers(self) -> tuple[LayerSpec, ...]:
        """The facts of every layer."""
        scale = self.head_dim**-0.5 if self.attention_scale is None else self.attention_scale
        kinds = [
            LayerSpec(self.causal, scale, kind.rope, kind.window, self.attention_softcap)
            for kind in self.kinds
        ]
        found = [kinds[i] for i in self.pattern or (0,) * self.num_layers]
        if self.scale_by_layer:
            found = [dataclasses.replace(s, scale=scale / (i + 1)) for i, s in enumerate(found)]
        return tuple(found)

    def block_of(self, layer: int) -> int:
        """The number of the block that serves ``layer``: its own, unless blocks are shared."""
        count, inner = self.num_blocks or self.num_layers, self.blocks_per_group
        round_, place = divmod(layer, inner)
        group = round_ * (count // inner) // (self.num_layers // inner)
        return group * inner + place

    def layer(self, index: int) -> LayerSpec:
        """The facts of layer ``index``."""
        if not 0 <= index < self.num_layers:
            raise InputError(f"layer {index} of a model with {self.num_layers} layers")
        return self.layers[index]


def _types() -> dict[str, tuple[Any, bool]]:
    """Of each field that one value can be wrong in: int, float, bool or the choices, and whether
    it may be None."""
    found: dict[str, tuple[Any, bool]] = {}
    for name, hint in get_type_hints(TransformerConfig).items():
        parts = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
        for part in parts - {type(None)}:
            if part in (int, float, bool) or get_origin(part) is Literal:
                found[name] = (part if isinstance(part, type) else get_args(part), len(parts) > 1)
    return found


_TYPES = _types()


def _check_value(name: str, value: Any, kind: Any) -> None:
    if kind is float:
        check_range(name, value, 0, _LARGEST, low_open=name != "norm_eps")
    elif kind is int:
        low, most = int(name not in _FROM_ZERO), _CEILINGS.get(name, _MOST)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= most:
            raise InputError(
                f"{name} is {shown(value)}, not a whole number from {low} to {most}", param=name
            )
    elif kind is bool:
        if not isinstance(value, bool):
            raise InputError(f"{name} is {shown(value)}, not true or false", param=name)
    elif value not in kind:
        raise InputError(f"{name} is {shown(value)}", hint=f"one of: {', '.join(kind)}", param=name)


@contextlib.contextmanager
def blamed_on(source: str) -> Iterator[None]:
    """Settings that do not pass our checks are the fault of the file that they come from."""
    try:
        yield
    except UnsupportedError:
        raise
    except InputError as error:
        hint = error.hint or "the file is damaged; fetch the model again"
        raise FormatError(f"{source}: {error.message}", hint=hint) from error
