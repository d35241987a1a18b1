"""Sizes and limits of one engine. Not covered: the form of the weights, which is the module's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lmstack.core import Config, InputError, check_range, shown
from lmstack.model import TransformerConfig

__all__ = ["EngineConfig"]


_WORDS = {"kv_dtype": ("auto", "int8", "bfloat16"), "speculation": ("auto", "always", "off")}


@dataclass(frozen=True)
class EngineConfig(Config):
    """``block_size``: tokens a KV block holds. ``num_blocks``: blocks in the pool; None takes
    as many as fit in ``kv_memory_bytes``, but no more than ``max_sequences`` full windows need.
    ``kv_dtype``: how keys and values are held beside quantized weights, ``int8`` or ``bfloat16``;
    beside others they have the dtype of the weights. ``auto``: int8 unless keys have a bias, as
    Qwen2's. It makes some channels so large that in 8 bits the others are lost, and a model then
    overlooks single tokens (docs/decisions.md).

    ``max_batch_tokens``: tokens computed in one step, decodes included; a longer prompt is
    computed in chunks. ``target_step_s``: seconds that a step should not exceed while streams
    wait for their next token; prompts get what is left of it, and at least a quarter of a step.
    ``max_sequences``: streams that run at once. ``max_waiting``: requests that may queue before
    new ones are refused. ``client_weights``: share of the machine that a client may have in
    proportion to others when they compete, 1 if not named. ``prefix_cache``: share blocks of
    equal beginnings. ``max_grammar_bytes``: longest grammar source accepted.
    ``adapter_memory_bytes``: what all adapters that are open may take together; one more that does
    not fit is refused.

    ``device``: where the model runs, a device of torch.

    ``speculation``: compute what may come next before it is drawn, which changes no token:
    ``auto`` where it is faster, ``always`` wherever there is something to try, or ``off``.
    ``draft_tokens``: how many tokens ahead at most.
    """

    block_size: int = 16
    num_blocks: int | None = None
    kv_memory_bytes: int = 1 << 30
    adapter_memory_bytes: int = 1 << 30
    kv_dtype: str = "auto"
    max_batch_tokens: int = 512
    target_step_s: float = 0.06
    max_sequences: int = 64
    max_waiting: int = 256
    client_weights: Mapping[str, float] = field(default_factory=dict)
    prefix_cache: bool = True
    max_grammar_bytes: int = 256 * 1024
    device: str = "cpu"
    speculation: str = "auto"
    draft_tokens: int = 8

    def kv_of(self, model: TransformerConfig) -> str:
        """``kv_dtype`` for ``model``."""
        if self.kv_dtype != "auto":
            return self.kv_dtype
        return "bfloat16" if model.qkv_bias else "int8"

    def __post_init__(self) -> None:
        for name in ("block_size", "max_batch_tokens", "max_sequences", "max_grammar_bytes"):
            check_range(name, getattr(self, name), 1, 2**31)
        if re.fullmatch(r"[a-z]+(:\d+)?", str(self.device)) is None:
            raise InputError(
                f"device is {shown(self.device)}",
                hint="write a device of torch, such as cpu or cuda:0",
                param="device",
            )
        for name, known in _WORDS.items():
            value = getattr(self, name)
            if value not in known:
                raise InputError(
                    f"{name} is {shown(value)}", hint=f"use {' or '.join(known)}", param=name
                )
        check_range("draft_tokens", self.draft_tokens, 1, 64)
        check_range("max_waiting", self.max_waiting, 0, 2**31)
        check_range("adapter_memory_bytes", self.adapter_memory_bytes, 0, 2**63)
        check_range("target_step_s", self.target_step_s, 0, 3600, low_open=True)
        for client, weight in self.client_weights.items():
            check_range(f"client_weights[{client}]", weight, 0, 1e6, low_open=True)
        if self.num_blocks is not None:
            check_range("num_blocks", self.num_blocks, 1, 2**31)
        if self.max_sequences > self.max_batch_tokens:
            raise InputError(
                f"max_sequences {self.max_sequences} is above max_batch_tokens "
                f"{self.max_batch_tokens}, so a step could not advance every stream",
                hint=f"set max_batch_tokens to at least {self.max_sequences}",
                param="max_batch_tokens",
            )

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that hold ``num_tokens``."""
        return -(-num_tokens // self.block_size)

    def pool_blocks(self, bytes_per_token: int, context_length: int) -> int:
        """Blocks in the pool of a model that keeps ``bytes_per_token`` of keys and values."""
        if self.num_blocks is not None:
            return self.num_blocks
        fit = self.kv_memory_bytes // (bytes_per_token * self.block_size)
        if fit < 1:
            raise InputError(
                f"kv_memory_bytes is {self.kv_memory_bytes}, less than one block of "
                f"{bytes_per_token * self.block_size} bytes",
                hint=f"set it to at least {bytes_per_token * self.block_size}",
                param="kv_memory_bytes",
            )
        return min(fit, self.max_sequences * self.blocks_for(context_length))
