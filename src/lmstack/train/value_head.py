"""The value head of a policy: what the rest of its answer will be worth, expected after each token.

    V(s) = w . h(s) + b,   h(s): the last hidden state after the tokens of s

One layer beside the language model's own head, on the same body, as in Ziegler et al., 2019
(arXiv:1909.08593); w and b begin at zero, so a fresh head expects nothing and changes nothing. It
fits any decoder. It is a parameter of the module, so it is optimized, sharded and kept in
checkpoints as every other; but it is no part of the module's state, so a model or adapter that is
saved does not have it, nor has the engine that samples.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmstack.model import Transformer
from lmstack.model.layers import Linear
from lmstack.train.cross_entropy import wide

__all__ = ["ValueHead", "add_value_head", "value_head_of"]

_NAME = "value_head"


class ValueHead(Linear):
    """(..., D) to (...), in float32 or wider whatever the precision of the products."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 1, bias=True)
        nn.init.zeros_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        weight, bias = wide(self.weight), self.bias
        assert bias is not None
        return F.linear(wide(hidden).to(weight.dtype), weight, wide(bias)).squeeze(-1)

    def state_dict(self, *_: Any, destination: Any = None, **__: Any) -> Any:
        """None of it: whoever reads the state of the module wants the language model."""
        return {} if destination is None else destination


def add_value_head(module: Transformer) -> ValueHead:
    """Give ``module`` a fresh head, which is trained, whatever else of it is."""
    head = ValueHead(module.config.hidden_size)
    dtype = torch.float64 if module.dtype == torch.float64 else torch.float32
    module.add_module(_NAME, head.to(module.device, dtype))
    return head


def value_head_of(module: Transformer) -> ValueHead:
    """That which `add_value_head` gave it."""
    head = module.get_submodule(_NAME)
    assert isinstance(head, ValueHead)
    return head
