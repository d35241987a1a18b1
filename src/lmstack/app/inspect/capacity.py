"""What a deployment needs and can give, before it is made: memory, sequences that fit, speed.

    sequences   (memory - program - weights) / blocks of the context
    decode      a step reads the weights once and the keys and values of every sequence
    prompt      every token passes every matrix

Speeds are what memory and matrix units allow at most (the roofline of Williams et al., 2009), so
a real server stays below. Bytes of keys and values are those of the engine's own caches. Not
covered: measuring the machine (`rates`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from lmstack.app.inspect.rates import Rates
from lmstack.app.inspect.weight_sizes import Weights, parameters
from lmstack.core import Config, InputError, UnsupportedError, check_whole
from lmstack.engine.config import EngineConfig
from lmstack.engine.cpu.library import problem as native_problem
from lmstack.engine.torch.kvpool import KVPool
from lmstack.model import TransformerConfig

__all__ = [
    "Bound",
    "CapacityPlan",
    "Demand",
    "KvForm",
    "MemoryNeeds",
    "Speed",
    "kv_bytes",
    "kv_forms",
    "plan",
]

Bound = Literal["memory", "matrices"]
KvForm = Literal["float32", "bfloat16", "int8"]
# What Python, torch and the server take before any weight, and work space: measured at 0.3 GB.
PROGRAM_BYTES = 400 << 20


@dataclass(frozen=True)
class Demand(Config):
    """``users`` at once, each with ``context`` tokens (prompt and answer together), in ``memory``
    bytes."""

    users: int
    context: int
    memory: int

    def __post_init__(self) -> None:
        check_whole("users", self.users, 1, 1 << 20)
        check_whole("context", self.context, 1, 1 << 31)
        check_whole("memory", self.memory, 0, 1 << 60)


@dataclass(frozen=True)
class MemoryNeeds:
    """Bytes, and what fits. ``sequence``: keys and values of one context, in whole blocks.
    ``fits``: contexts that fit beside weights and program. ``context_for_users``: the longest
    with which all users fit, 0 for none. ``memory_for_users``: what they would need."""

    weights: int
    program: int
    kv_per_token: int
    sequence: int
    fits: int
    context_for_users: int
    memory_for_users: int


@dataclass(frozen=True)
class Speed:
    """At most. ``tokens_per_s``: of all sequences together. ``seconds``: of one step, or of one
    prompt. ``bound``: which of the two limits it is."""

    tokens_per_s: float
    seconds: float
    bytes_read: int
    operations: int
    bound: Bound


@dataclass(frozen=True)
class CapacityPlan:
    """``decode``: a step with ``batch`` sequences (the users, or those that fit), every context
    full. ``prompt``: one prompt as long as the context. Both None where nothing fits."""

    needs: MemoryNeeds
    batch: int
    decode: Speed | None
    prompt: Speed | None


def plan(
    config: TransformerConfig,
    weights: Weights,
    kv: KvForm,
    demand: Demand,
    rates: Rates,
    engine: EngineConfig | None = None,
) -> CapacityPlan:
    """`UnsupportedError` for a model that does not generate, which keeps nothing from token to
    token; `InputError` where the machine has no rate for products with such weights."""
    if config.head != "lm" or not config.causal:
        raise UnsupportedError(
            "this model does not generate text, so it keeps no keys and values",
            hint="lmstack model inspect MODEL shows what it takes",
            param="model",
        )
    matrix = weights.matrix
    if matrix not in rates.matrix:
        raise InputError(
            f"this machine has no measured rate for products in {matrix}",
            hint=f"measured: {', '.join(rates.matrix)}; choose weights of another form",
            param="weights",
        )
    engine = engine or EngineConfig()
    needs = _needs(config, weights, kv, demand, engine)
    batch = min(demand.users, needs.fits)
    if not batch:
        return CapacityPlan(needs, 0, None, None)
    operations = rates.matrix[matrix]
    # Scores are products of floats whatever the cache holds.
    attention = rates.matrix.get("float32" if kv == "float32" else "bfloat16", operations)
    work = _Work(config, needs.kv_per_token, weights, engine.max_batch_tokens)
    times = (rates.read_all, operations, attention)
    decode = work.step(batch, demand.context).speed(batch, times)
    return CapacityPlan(
        needs, batch, decode, work.prompt(demand.context).speed(demand.context, times)
    )


def kv_forms(weights: Weights, config: TransformerConfig) -> tuple[KvForm, ...]:
    """How the engine can hold keys and values beside such weights, what it does unless told
    first. Integers without native kernels run on the reference ops, whose states are float32."""
    if weights.matrix != "int8":
        return (weights.matrix,)
    if native_problem():
        return ("float32",)
    usual = EngineConfig().kv_of(config)
    return ("int8", "bfloat16") if usual == "int8" else ("bfloat16", "int8")


def kv_bytes(config: TransformerConfig, kv: KvForm) -> int:
    """Bytes of keys and values of one token. `UnsupportedError` for int8 where there are no
    native kernels, which alone hold them so."""
    if kv == "int8":
        from lmstack.engine.cpu.executor import native_bytes_per_token

        return native_bytes_per_token(config, kv)
    return KVPool.bytes_per_token(config, getattr(torch, kv))


def _needs(
    config: TransformerConfig,
    weights: Weights,
    kv: KvForm,
    demand: Demand,
    engine: EngineConfig,
) -> MemoryNeeds:
    per_token = kv_bytes(config, kv)
    block = per_token * engine.block_size
    sequence = engine.blocks_for(demand.context) * block
    free = max(0, demand.memory - weights.total - PROGRAM_BYTES)
    return MemoryNeeds(
        weights=weights.total,
        program=PROGRAM_BYTES,
        kv_per_token=per_token,
        sequence=sequence,
        fits=free // sequence,
        context_for_users=free // demand.users // block * engine.block_size,
        memory_for_users=weights.total + PROGRAM_BYTES + demand.users * sequence,
    )


@dataclass(frozen=True)
class _Load:
    """Bytes read, and operations with weights and of attention."""

    read: float
    linear: float
    attention: float

    def speed(self, num_tokens: int, rates: tuple[float, float, float]) -> Speed:
        read, linear, attention = rates
        by_memory = self.read / read
        by_matrices = self.linear / linear + self.attention / attention
        seconds = max(by_memory, by_matrices)
        return Speed(
            tokens_per_s=num_tokens / seconds,
            seconds=seconds,
            bytes_read=round(self.read),
            operations=round(self.linear + self.attention),
            bound="memory" if by_memory >= by_matrices else "matrices",
        )


class _Work:
    """What steps and prompts of one model read and compute."""

    def __init__(
        self, config: TransformerConfig, kv_per_token: int, weights: Weights, chunk: int
    ) -> None:
        self._config, self._weights, self._chunk = config, weights, chunk
        self._kv_of_layer = kv_per_token / config.num_layers
        self._prompt_stack = config if config.encoder is None else config.encoder
        # Operations of a token of a prompt, of the last one besides, and of one that is decoded.
        self._each = self._last = self._step = 0
        for role, shape, name in parameters(config):
            multiplied = math.prod(shape) if len(shape) > 1 and role != "looked up" else 0
            if role == "experts":
                multiplied = multiplied * config.experts_per_token // config.num_experts
            if role != "once":
                self._step += 2 * multiplied
            # The output layer sees the last token of a prompt only; of an encoder-decoder's the
            # decoder sees no more than that either.
            passes = role == "once" if config.encoder else name.startswith("blocks.")
            if passes:
                self._each += 2 * multiplied
            else:
                self._last += 2 * multiplied

    def step(self, batch: int, context: int) -> _Load:
        """One token of each of ``batch`` sequences, all of ``context`` tokens."""
        seen = [_seen(layer.window, context) for layer in self._config.layers]
        read = self._weights.read_by(batch, self._config) + batch * self._kv_of_layer * sum(seen)
        width = self._config.num_heads * self._config.head_dim
        return _Load(read, batch * self._step, batch * 4 * width * sum(seen))

    def prompt(self, length: int) -> _Load:
        """A whole prompt, without a cache's help: weights are read once a chunk, keys and values
        written once."""
        stack = self._prompt_stack
        pairs = sum(_pairs(layer.window, length, stack.causal) for layer in stack.layers)
        written = length * self._kv_of_layer * self._config.num_layers
        width = stack.num_heads * stack.head_dim
        linear = length * self._each + self._last
        chunks = 1 if self._config.encoder else -(-length // self._chunk)
        return _Load(chunks * self._weights.total + written, linear, 4 * width * pairs)


def _seen(window: int | None, context: int) -> int:
    return context if window is None else min(window, context)


def _pairs(window: int | None, length: int, causal: bool) -> int:
    """Tokens that tokens look at, counted over a text of ``length``."""
    width = _seen(window, length)
    looks_back = width * (width + 1) // 2 + (length - width) * width
    return looks_back if causal else 2 * looks_back - length
