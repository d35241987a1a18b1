"""What a forward pass needs beside weights and inputs, in one object.

Modules hold weights alone: how they compute (`Ops`), who attends to whom (`Attend`), rotary
tables, dropout and activation checkpointing travel with the pass. So one module can be trained,
served and traced at once. Not covered: dropout of attention weights.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from lmstack.core import InputError
from lmstack.model.attention import Attend
from lmstack.model.biases import ScoreBias
from lmstack.model.ops import REFERENCE_OPS, Ops

__all__ = ["Dropout", "ForwardContext", "Rotary"]

Rotary = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Dropout:
    """Residual dropout: of the embeddings and of what each sublayer adds (Vaswani et al., 2017).

    A mask follows from ``seed``, the layer and the place alone, so that a block computed again
    by activation checkpointing, or by another process, drops the same. Give each step its own
    seed. ``rate``: the share of zeros, in [0, 1).
    """

    rate: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise InputError(
                f"dropout of {self.rate}", hint="use a rate in [0, 1)", param="dropout"
            )

    def __call__(self, x: Tensor, layer: int, place: int) -> Tensor:
        if not self.rate:
            return x
        # The hash of a tuple of integers is the same in every process.
        seed = hash((self.seed, layer, place)) & ((1 << 63) - 1)
        generator = torch.Generator(x.device).manual_seed(seed)
        keep = torch.empty(x.shape, device=x.device).bernoulli_(1 - self.rate, generator=generator)
        return x * (keep / (1 - self.rate)).to(x.dtype)


@dataclass(frozen=True)
class ForwardContext:
    """``attend``: None lets `Transformer.forward` choose it by its inputs. ``checkpoint``: keep
    only the input of each block for the backward pass, and compute the block again there.

    The rest is filled in by the `Transformer`. ``mask``: of a padded batch, (B, T), True where a
    token is real; None: all are. ``rotary``: cosines and sines of each layer,
    None for a layer that does not rotate. ``bias``: what every layer adds to its scores alike.
    ``relative``: DeBERTa's normed table of relative positions (2 * span, D).
    """

    ops: Ops = REFERENCE_OPS
    attend: Attend | None = None
    dropout: Dropout | None = None
    checkpoint: bool = False
    mask: Tensor | None = None
    rotary: tuple[Rotary | None, ...] = ()
    bias: ScoreBias | None = None
    relative: Tensor | None = None

    def replace(self, **changes: object) -> ForwardContext:
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    @property
    def attention(self) -> Attend:
        """``attend``, where it must be there."""
        assert self.attend is not None, "Transformer.hidden needs a context that attends"
        return self.attend

    def dropped(self, x: Tensor, layer: int, place: int) -> Tensor:
        """``x`` after dropout. ``layer``: -1 for the embeddings; ``place``: of the sublayer."""
        return x if self.dropout is None else self.dropout(x, layer, place)
