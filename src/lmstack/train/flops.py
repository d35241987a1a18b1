"""Operations of a training pass, counted module by module: forwards, backwards, computed again.

A product of (n, in) by (in, out) takes 2 n in out operations, its gradient by the input as many,
its gradient by the weight as many. What is frozen has no gradient by the weight, and below the
first trained weight no gradient flows at all. Attention counts the pairs that attend: of a causal
sequence half of them. Lookups, norms, activations and the optimizer are not products and not
counted (Kaplan et al., 2020, table 1, leave them out too). `torch.utils.flop_counter` agrees.

Legend: T tokens of a sequence, S of its source, Hq query heads, hd channels of a head.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import nn

from lmstack.model import Transformer, TransformerConfig
from lmstack.model.blocks import Attention, Mixture, TransformerBlock
from lmstack.model.config import LayerSpec
from lmstack.model.layers import Embedding, Linear
from lmstack.model.lora.layers import LoraLinear
from lmstack.model.quant.matrix import QuantizedEmbedding, QuantizedLinear

__all__ = ["Flops", "Load", "count_flops"]

Ints = npt.NDArray[np.int64]
Part = str


@dataclass(frozen=True)
class Load:
    """What is read: ``lengths`` of the sequences through the stack (the decoder's where there is an
    encoder, which reads ``sources``), and ``outputs``, places that are given to the head.
    ``places``: where each sequence begins, after so many tokens of another that it attends to."""

    lengths: Ints
    outputs: int
    sources: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    places: Ints = field(default_factory=lambda: np.zeros(1, np.int64))

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())


@dataclass(frozen=True)
class Flops:
    """Operations by part of the model. ``recomputed``: those of blocks that activation
    checkpointing computes again, if it is on."""

    forward_by_part: Mapping[Part, int]
    backward_by_part: Mapping[Part, int]
    recomputed: int

    @property
    def forward(self) -> int:
        return sum(self.forward_by_part.values())

    @property
    def backward(self) -> int:
        return sum(self.backward_by_part.values())

    def total(self, *, checkpointing: bool = False) -> int:
        return self.forward + self.backward + (self.recomputed if checkpointing else 0)


def count_flops(module: Transformer, load: Load) -> Flops:
    """Of one pass over ``load``; ``module`` may be without memory (``torch.device("meta")``). What
    is trained is what ``requires_grad``."""
    count = _Count()
    flows = _is_trained(module.embed_types, module.embed_positions)
    encoded = False
    if module.encoder is not None:
        encoded = _stack(count, module.encoder, Load(load.sources, 0), False)
    flows = _stack(count, module, load, encoded) or flows
    _head(count, module, load, flows)
    return Flops(dict(count.forward), dict(count.backward), count.recomputed)


class _Count:
    """What was counted so far."""

    def __init__(self) -> None:
        self.forward: Counter[Part] = Counter()
        self.backward: Counter[Part] = Counter()
        self.recomputed = 0

    def product(self, part: Part, size: int, *gradients: bool) -> None:
        """One of ``size`` operations, and as many for each of ``gradients`` that is needed."""
        self.forward[part] += size
        self.backward[part] += size * sum(gradients)

    def linear(
        self, part: Part, weight: Linear | Embedding | LoraLinear | None, rows: int, flows: bool
    ) -> bool:
        """``rows`` through ``weight``. ``flows``: whether a gradient is needed before it; the
        result: whether one is after it."""
        if weight is None:
            return flows
        if isinstance(weight, LoraLinear):
            out = self.linear(part, weight.base, rows, flows)
            self._terms(weight, rows, flows)
            return out or bool(weight.ordered())
        height, width = _shape(weight)
        trained = _is_trained(weight)
        own = not isinstance(weight, QuantizedLinear | QuantizedEmbedding)
        by_weight = own and bool(weight.weight.requires_grad)
        self.product(part, 2 * rows * height * width, flows, by_weight)
        return flows or trained

    def _terms(self, weight: LoraLinear, rows: int, flows: bool) -> None:
        for term in weight.ordered():
            rank, width = term.A.shape
            height = term.B.shape[0]
            trained = term.A.requires_grad
            self.product("adapters", 2 * rows * rank * width, flows, trained)
            self.product("adapters", 2 * rows * rank * height, flows or trained, trained)
            if term.magnitude is not None:  # DoRA: the norms, once a pass
                self.product("adapters", 2 * rank * width * height)
                if term.dropout > 0:
                    self.product("adapters", 2 * rows * width * height, flows)


def _stack(count: _Count, module: Transformer, load: Load, encoded: bool) -> bool:
    """Embeddings and blocks over ``load``; whether a gradient flows out of them."""
    tokens, config = load.tokens, module.config
    flows = _is_trained(module.table, module.embed_positions, module.embed_types, module.embed_norm)
    flows = count.linear("embeddings", module.embed_project, tokens, flows)
    relative = _is_trained(module.embed_relative, module.relative_norm)
    for layer in range(config.num_layers):
        block = module.blocks[config.block_of(layer)]
        assert isinstance(block, TransformerBlock)
        before = count.forward.total()
        walk = _BlockWalk(count, config, block, load)
        flows = walk(config.layer(layer), flows, encoded, relative)
        if flows:
            count.recomputed += count.forward.total() - before
        if module.neighbours is not None and layer == 0:
            weight = module.neighbours.conv.weight
            size = 2 * tokens * weight.numel()
            count.product("embeddings", size, flows, weight.requires_grad)
            flows = flows or _is_trained(module.neighbours)
    return flows or _is_trained(module.final_norm)


@dataclass(frozen=True)
class _BlockWalk:
    """One layer in the order in which it is computed."""

    count: _Count
    config: TransformerConfig
    block: TransformerBlock
    load: Load

    def __call__(self, spec: LayerSpec, flows: bool, encoded: bool, relative: bool) -> bool:
        block, tokens = self.block, self.load.tokens
        entering = flows
        flows |= _is_trained(block.attention_norm)
        flows = self._attention(block.attention, spec, flows, relative)
        flows |= entering or _is_trained(block.attention_post_norm)
        if block.cross is not None:
            flows |= _is_trained(block.cross_norm)
            flows = self._cross(flows, encoded)
        flows |= _is_trained(block.mlp_norm)
        if isinstance(block.mlp, Mixture):
            flows = self._mixture(block.mlp, tokens, flows)
        else:
            flows = self.count.linear("feed-forward", block.mlp.up, tokens, flows)
            flows = self.count.linear("feed-forward", block.mlp.down, tokens, flows)
        return flows or _is_trained(block.mlp_post_norm)

    def _attention(
        self, attention: Attention, spec: LayerSpec, flows: bool, relative: bool
    ) -> bool:
        config, tokens = self.config, self.load.tokens
        flows = self.count.linear("projections", attention.qkv, tokens, flows)
        if config.bias == "deberta":
            flows = self._disentangled(attention, tokens, flows, relative)
        flows |= _is_trained(attention.q_norm, attention.k_norm)
        self._scores(_pairs(self.load, spec), flows)
        return self.count.linear("projections", attention.out, tokens, flows)

    def _disentangled(self, attention: Attention, tokens: int, flows: bool, relative: bool) -> bool:
        """DeBERTa: the table of relative positions projected, and read by queries and keys."""
        config, rows = self.config, 2 * self.config.bias_span
        shared = [attention.qkv] if config.bias_shared else []
        for weight in (*shared, attention.pos_key, attention.pos_query):
            relative = self.count.linear("projections", weight, rows, relative)
        size = 2 * tokens * rows * config.num_heads * config.head_dim
        for _ in config.bias_parts:
            self.count.product("scores", size, flows, relative or flows)
        return flows or relative

    def _cross(self, flows: bool, encoded: bool) -> bool:
        cross, tokens = self.block.cross, self.load.tokens
        assert cross is not None
        before = flows
        flows = self.count.linear("projections", cross.q, tokens, flows)
        flows |= self.count.linear("projections", cross.kv, int(self.load.sources.sum()), encoded)
        self._scores(int((self.load.lengths * self.load.sources).sum()), flows)
        return self.count.linear("projections", cross.out, tokens, flows) or before

    def _scores(self, pairs: int, flows: bool) -> None:
        """Queries by keys and weights by values, each with two gradients."""
        size = 2 * pairs * self.config.num_heads * self.config.head_dim
        for _ in range(2):
            self.count.product("scores", size, flows, flows)

    def _mixture(self, mixture: Mixture, tokens: int, flows: bool) -> bool:
        flows = self.count.linear("feed-forward", mixture.router, tokens, flows)
        routed = tokens * self.config.experts_per_token
        for experts in (mixture.up, mixture.down):
            _, height, width = experts.weight.shape
            trained = experts.weight.requires_grad
            self.count.product("feed-forward", 2 * routed * height * width, flows, trained)
            flows = flows or trained
        return flows


def _head(count: _Count, module: Transformer, load: Load, flows: bool) -> None:
    flows = count.linear("output layer", module.transform, load.outputs, flows)
    flows |= _is_trained(module.transform_norm)
    if module.config.head == "lm":
        weight = module.table if module.head is None else module.head
        count.linear("output layer", weight, load.outputs, flows)
    else:
        count.linear("output layer", module.classifier, load.outputs, flows)


def _pairs(load: Load, spec: LayerSpec) -> int:
    """Pairs of a query and a key that it attends to, over all sequences."""

    def back(lengths: Ints) -> Ints:
        width = lengths if spec.window is None else np.minimum(lengths, spec.window)
        return width * (width + 1) // 2 + (lengths - width) * width

    if spec.causal:
        return int((back(load.places + load.lengths) - back(load.places)).sum())
    return int((2 * back(load.lengths) - load.lengths).sum())


def _is_trained(*modules: nn.Module | None) -> bool:
    given: Sequence[nn.Module] = [module for module in modules if module is not None]
    return any(parameter.requires_grad for module in given for parameter in module.parameters())


def _shape(weight: Linear | Embedding) -> tuple[int, int]:
    if isinstance(weight, QuantizedLinear | QuantizedEmbedding):
        return weight.matrix.shape
    height, width = weight.weight.shape
    return int(height), int(width)
