"""What computes: hidden states, logits and cached keys of one model, by one of two ways.

`ReferenceExecutor` runs the module over a `KVPool`, on the ops that suit its weights.
`kernels.executor` runs its passes as native programs. A `Runner` does not know which one it has.
`Encoder` is the same choice for whole texts at once, without a cache.

Legend: N tokens of a step, D width, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lmstack.core import EngineError, UnsupportedError
from lmstack.engine.config import EngineConfig
from lmstack.engine.cpu.executor import (
    NativeEncoder,
    NativeExecutor,
    native_bytes_per_token,
)
from lmstack.engine.kvpool import KVPool, Span, slots_of
from lmstack.engine.scratch import Scratch
from lmstack.engine.torch.adapted_ops import AdaptedOps, Matrices
from lmstack.engine.torch.attention import PagedAttention
from lmstack.engine.torch.prepacked import inference_context
from lmstack.model import ForwardContext, Ops, Transformer
from lmstack.model.lora.terms import AdapterTerms

__all__ = [
    "Encoder",
    "Executor",
    "ReferenceEncoder",
    "ReferenceExecutor",
    "native_encoder",
    "open_encoder",
    "open_executor",
]

log = logging.getLogger("lmstack.engine")
Int32s = npt.NDArray[np.int32]


class Executor(Protocol):
    """Owns the KV memory. Used by one thread. ``dtype``: of what products multiply.
    ``numerics``: what a digest has to say beside the weights, because logits depend on it; empty
    for what is usual: keys and values as bytes beside quantized weights, as floats beside floats.
    """

    dtype: str
    numerics: str

    def hidden(
        self, ids: Seq[int], positions: Seq[int], spans: Seq[Span], length: int | None
    ) -> Tensor:
        """Hidden states (N, D) of tokens that lie end to end, those of one-token spans first.
        ``length``: what rotations that depend on one reckon with."""
        ...

    def prepared(self, terms: AdapterTerms) -> Any:
        """An adapter as `Span.adapter` takes it. From any thread."""
        ...

    def logits(self, hidden: Tensor, scratch: Scratch | None = None) -> Tensor:
        """(S, D) to float32 (S, V), which may be changed in place. In ``scratch``, where one is
        given: valid until the next call with it."""
        ...

    def encode(self, inputs: Seq[tuple[Seq[int], Seq[int]]]) -> None:
        """Read each (token ids, block table) with the encoder, into its blocks."""
        ...

    def copy(self, blocks: Seq[tuple[int, int]]) -> None:
        """Copy whole blocks, each (from, to)."""
        ...

    def wipe(self, table: Iterable[int]) -> None:
        """Leave nothing of a failed sequence in these blocks."""
        ...

    def reload(self) -> None:
        """The module's weights have changed: make again what was made of the old ones."""
        ...


class ReferenceExecutor:
    """The module by torch. ``ops``: unless given, the fastest that suit its dtype."""

    def __init__(
        self, module: Transformer, num_blocks: int, block_size: int, ops: Ops | None = None
    ) -> None:
        self._module = module.eval()
        self._given_ops = ops is not None
        self._context = ForwardContext(ops) if ops else inference_context(module)
        self.dtype = str(module.dtype).removeprefix("torch.")
        # Small integers, but activations, keys and values as floats.
        self.numerics = "+reference" if _quantized(module) else ""
        self._pool = KVPool(module.config, num_blocks, block_size, module.dtype)

    def hidden(
        self, ids: Seq[int], positions: Seq[int], spans: Seq[Span], length: int | None
    ) -> Tensor:
        attend = PagedAttention(self._pool, self._module.config, spans)
        context = self._context.replace(attend=attend)
        if any(span.adapter is not None for span in spans):
            context = context.replace(ops=AdaptedOps(context.ops, _rows_by_adapter(spans)))
        return self._module.hidden(
            torch.tensor(ids), torch.tensor(positions), context, length=length
        )

    def prepared(self, terms: AdapterTerms) -> Matrices:
        return {self._module.get_submodule(p): found for p, found in terms.matrices.items()}

    def logits(self, hidden: Tensor, scratch: Scratch | None = None) -> Tensor:
        found = self._module.logits(hidden, self._context).float()
        return found if scratch is None else scratch.holding(found)

    def encode(self, inputs: Seq[tuple[Seq[int], Seq[int]]]) -> None:
        encoder = self._module.encoder
        assert encoder is not None
        ordered = sorted(inputs, key=lambda each: len(each[0]))
        ids = torch.tensor([token for tokens, _ in ordered for token in tokens])
        lengths = [len(tokens) for tokens, _ in ordered]
        encoded = encoder.varlen_hidden(ids, lengths, context=self._context)
        size = self._pool.block_size
        slots = torch.from_numpy(
            np.concatenate([slots_of(table, 0, len(ids), size) for ids, table in ordered])
        )
        for layer, (k, v) in enumerate(self._module.cross_states(encoded, self._context)):
            self._pool.keys[layer].index_copy_(0, slots, k)
            self._pool.values[layer].index_copy_(0, slots, v)

    def copy(self, blocks: Seq[tuple[int, int]]) -> None:
        self._pool.copy(blocks)

    def wipe(self, table: Iterable[int]) -> None:
        self._pool.wipe(list(table))

    def reload(self) -> None:
        if not self._given_ops:
            self._context = inference_context(self._module)


def _rows_by_adapter(spans: Seq[Span]) -> list[tuple[Tensor, Matrices]]:
    """The rows of each adapter in ``spans``."""
    rows: dict[int, list[Tensor]] = {}
    matrices: dict[int, Matrices] = {}
    row = 0
    for span in spans:
        if span.adapter is not None:
            matrices[id(span.adapter)] = span.adapter
            rows.setdefault(id(span.adapter), []).append(torch.arange(row, row + span.count))
        row += span.count
    return [(torch.cat(rows[key]), matrices[key]) for key in rows]


def open_executor(module: Transformer, config: EngineConfig) -> tuple[Executor, int]:
    """The best way to run ``module`` here, and the blocks of its KV pool."""
    model = module.config
    window = model.max_positions + (0 if model.encoder is None else model.encoder.max_positions)
    if _quantized(module):
        try:
            per_token = native_bytes_per_token(model, config.kv_dtype)
            num_blocks = config.pool_blocks(per_token, window)
            return NativeExecutor(
                module, num_blocks, config.block_size, config.kv_dtype
            ), num_blocks
        except (UnsupportedError, EngineError) as error:
            _warn(error)
    num_blocks = config.pool_blocks(KVPool.bytes_per_token(model, module.dtype), window)
    return ReferenceExecutor(module, num_blocks, config.block_size), num_blocks


class Encoder(Protocol):
    """Thread-safe."""

    def packed(
        self, ids: Seq[int] | Int32s, lengths: Seq[int], types: Seq[int] | Int32s | None = None
    ) -> Tensor:
        """Whole sequences end to end to their last hidden states (N, D) in float32. ``lengths``,
        each at least 1, add up to N; fastest when sorted. ``types``: segment ids."""
        ...


class ReferenceEncoder:
    """The module by torch, on the ops that suit its dtype."""

    def __init__(self, module: Transformer) -> None:
        self._module = module.eval()
        self._context = inference_context(module)

    @torch.inference_mode()
    def packed(
        self, ids: Seq[int] | Int32s, lengths: Seq[int], types: Seq[int] | Int32s | None = None
    ) -> Tensor:
        flat = torch.as_tensor(ids, dtype=torch.int64)
        segments = None if types is None else torch.as_tensor(types, dtype=torch.int64)
        return self._module.varlen_hidden(flat, lengths, segments, self._context).float()


def open_encoder(module: Transformer) -> Encoder:
    """The best way to run an encoder here."""
    return native_encoder(module) or ReferenceEncoder(module)


def native_encoder(module: Transformer) -> NativeEncoder | None:
    """The native way, for an encoder whose matrices are small integers, where there is one."""
    if _quantized(module):
        try:
            return NativeEncoder(module)
        except (UnsupportedError, EngineError) as error:
            _warn(error)
    return None


def _quantized(module: Transformer) -> bool:
    return any(hasattr(each, "codes") for each in module.modules())


def _warn(error: Exception) -> None:
    log.warning("quantized weights run slowly on the reference ops: %s", error)
