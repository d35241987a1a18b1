"""What a Transformer is made of. One class for every family; a family is a value of it.

Holds the facts that shape the forward pass and nothing else: no token ids, no names of
families, no training settings. How other projects write these facts is in `families` (Hugging
Face) and `gguf_families`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from lmstack.core import (
    Config,
    FormatError,
    InputError,
    UnsupportedError,
    check_range,
    shown,
)
from lmstack.model.families import Family, read_config, writings
from lmstack.model.gguf_families import read_metadata
from lmstack.model.positions import RopeSpec

__all__ = ["Activation", "Head", "LayerSpec", "Mlp", "Norm", "NormPlace", "TransformerConfig"]

Norm = Literal["rms", "ln"]
NormPlace = Literal["pre", "post"]
Mlp = Literal["plain", "glu"]
Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]
Head = Literal["lm", "pool", "none"]

_CHOICES = {
    "norm": get_args(Norm),
    "norm_place": get_args(NormPlace),
    "mlp": get_args(Mlp),
    "activation": get_args(Activation),
    "head": get_args(Head),
}


@dataclass(frozen=True)
class LayerSpec:
    """The facts of one layer that its attention must know."""

    causal: bool
    scale: float
    rope: RopeSpec | None


@dataclass(frozen=True)
class TransformerConfig(Config):
    """A stack of ``num_layers`` blocks: attention and MLP, each with a norm and a residual.

    ``norm``: ``rms`` (weight only) or ``ln`` (weight and bias). ``norm_place``: ``pre`` norms
    the input of each sublayer and once more after the last block; ``post`` norms each sum of
    sublayer and residual. ``rope`` rotates queries and keys; ``learned_positions`` adds a row
    of a table of ``max_positions``. ``mlp``: ``plain`` is down(act(up(x))), ``glu`` is
    down(act(gate(x)) * up(x)). ``token_types`` > 0 adds a segment table of that many rows.
    ``head``: ``lm`` gives logits over the vocabulary (through the embedding table when
    ``tie_embeddings``), ``pool`` a tanh layer over the first token, ``none`` hidden states only.
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
    embedding_norm: bool = False
    causal: bool = True
    rope: RopeSpec | None = field(default_factory=RopeSpec)
    learned_positions: bool = False
    token_types: int = 0
    qkv_bias: bool = False
    out_bias: bool = False
    mlp: Mlp = "glu"
    activation: Activation = "silu"
    mlp_bias: bool = False
    head: Head = "lm"
    tie_embeddings: bool = False

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "head_dim",
            "max_positions",
        ):
            self._check_count(name, low=1)
        self._check_count("token_types", low=0)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"{name} is {shown(getattr(self, name))}",
                    hint=f"one of: {', '.join(choices)}",
                    param=name,
                )
        check_range("norm_eps", self.norm_eps, 0, math.inf, high_open=True)
        if self.num_heads % self.num_kv_heads:
            raise InputError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}",
                hint="each key/value head serves a whole number of query heads",
                param="num_kv_heads",
            )
        if self.rope is not None and self.head_dim % 2:
            raise InputError(
                f"head_dim {self.head_dim} is odd; RoPE rotates channels in pairs",
                param="head_dim",
            )
        if self.tie_embeddings and self.head != "lm":
            raise InputError(
                f"tie_embeddings is set, but head {self.head!r} has no vocabulary to tie",
                param="tie_embeddings",
            )

    def _check_count(self, name: str, low: int) -> None:
        value = getattr(self, name)
        # A bound well above any real model keeps a lying file from asking for absurd memory.
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= 1 << 31:
            raise InputError(
                f"{name} is {shown(value)}, not a whole number from {low} to {1 << 31}", param=name
            )

    @property
    def final_norm(self) -> bool:
        """Whether a norm follows the last block: pre-norm blocks leave their sum unnormed."""
        return self.norm_place == "pre"

    @property
    def qkv_heads(self) -> int:
        """Heads of the fused projection: queries, then keys, then values."""
        return self.num_heads + 2 * self.num_kv_heads

    def layer(self, index: int) -> LayerSpec:
        """The facts of layer ``index``; families whose layers differ say so here."""
        if not 0 <= index < self.num_layers:
            raise InputError(f"layer {index} of a model with {self.num_layers} layers")
        return LayerSpec(causal=self.causal, scale=self.head_dim**-0.5, rope=self.rope)

    @classmethod
    def from_hf(cls, config_json: Mapping[str, Any], source: str = "config.json") -> Self:
        """From a parsed config.json. `FormatError`: damaged; `UnsupportedError`: not ours."""
        with _blamed_on(source):
            return cls(**read_config(config_json, source))

    @classmethod
    def from_gguf(
        cls, metadata: Mapping[str, Any], tensors: Collection[str] = (), source: str = "GGUF file"
    ) -> Self:
        """From GGUF metadata. The names in ``tensors`` tell what metadata leaves out: biases,
        and whether there is an output layer apart from the embeddings."""
        with _blamed_on(source):
            return cls(**read_metadata(metadata, tensors, source))

    def to_hf(self) -> dict[str, Any]:
        """A config.json that says exactly this, of the first family that can."""
        return self.hf_writing()[1]

    def hf_writing(self) -> tuple[Family, dict[str, Any]]:
        """The family that `to_hf` uses, and its config.json."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for family, written in writings(values):
            back = self.from_hf(written)
            if family.optional_head and self.head == "none":
                back = back.replace(head="none")
            if back == self:
                return family, written
        raise UnsupportedError(
            "no Hugging Face family that lmstack writes has this combination of settings",
            hint=f"the settings: {values}",
        )


@contextlib.contextmanager
def _blamed_on(source: str) -> Iterator[None]:
    """Settings that do not pass our checks are the fault of the file that they come from."""
    try:
        yield
    except UnsupportedError:
        raise
    except InputError as error:
        hint = error.hint or "the file is damaged; fetch the model again"
        raise FormatError(f"{source}: {error.message}", hint=hint) from error
