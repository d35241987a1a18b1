"""The module by torch, on any device that it has: `TorchExecutor` over a `KVPool` of floats,
`TorchEncoder` for whole texts. The truth that other executors are tested against."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Seq

import numpy as np
import torch
from torch import Tensor

from lmstack.engine.config import EngineConfig
from lmstack.engine.executor import Int32s, SequenceSpan
from lmstack.engine.scratch import Scratch
from lmstack.engine.torch.adapted_ops import AdaptedOps, Matrices
from lmstack.engine.torch.attention import PagedAttention
from lmstack.engine.torch.kvpool import KVPool, slots_of
from lmstack.engine.torch.prepacked import inference_context
from lmstack.model import ForwardContext, Ops, Transformer
from lmstack.model.lora.terms import AdapterTerms
from lmstack.model.quant.matrix import has_quantized

__all__ = ["TorchEncoder", "TorchExecutor"]


class TorchExecutor:
    """``ops``: unless given, the fastest that suit its dtype. The module is moved to ``device``."""

    def __init__(
        self,
        module: Transformer,
        num_blocks: int,
        block_size: int,
        ops: Ops | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self._module = module.eval().to(self.device)
        self._given_ops = ops is not None
        self._context = ForwardContext(ops) if ops else inference_context(module)
        self.dtype = str(module.dtype).removeprefix("torch.")
        # Small integers, but activations, keys and values as floats.
        self.numerics = "+reference" if has_quantized(module) else ""
        if self.device.type != "cpu":
            self.numerics += f"+{self.device.type}"
        self._pool = KVPool(module.config, num_blocks, block_size, module.dtype, self.device)

    @classmethod
    def bytes_per_token(cls, module: Transformer, _config: EngineConfig, /) -> int:
        return KVPool.bytes_per_token(module.config, module.dtype)

    @classmethod
    def open(cls, module: Transformer, num_blocks: int, config: EngineConfig) -> TorchExecutor:
        return cls(module, num_blocks, config.block_size, device=config.device)

    def hidden(
        self, ids: Seq[int], positions: Seq[int], spans: Seq[SequenceSpan], length: int | None
    ) -> Tensor:
        attend = PagedAttention(self._pool, self._module.config, spans)
        context = self._context.replace(attend=attend)
        if any(span.adapter is not None for span in spans):
            context = context.replace(ops=AdaptedOps(context.ops, self._rows_by_adapter(spans)))
        inputs = torch.tensor([ids, positions], device=self.device)
        return self._module.hidden(inputs[0], inputs[1], context, length=length)

    def prepared(self, terms: AdapterTerms) -> Matrices:
        return Matrices(
            (self._module.get_submodule(path), [term.to(self.device) for term in found])
            for path, found in terms.matrices.items()
        )

    def logits(self, hidden: Tensor, scratch: Scratch | None = None) -> Tensor:
        found = self._module.logits(hidden, self._context).float()
        return found if scratch is None else scratch.holding(found)

    def encode(self, inputs: Seq[tuple[Seq[int], Seq[int]]]) -> None:
        encoder = self._module.encoder
        assert encoder is not None
        ordered = sorted(inputs, key=lambda each: len(each[0]))
        ids = torch.tensor([token for tokens, _ in ordered for token in tokens], device=self.device)
        lengths = [len(tokens) for tokens, _ in ordered]
        encoded = encoder.varlen_hidden(ids, lengths, context=self._context)
        size = self._pool.block_size
        slots = np.concatenate([slots_of(table, 0, len(ids), size) for ids, table in ordered])
        where = torch.from_numpy(slots).to(self.device)
        for layer, (k, v) in enumerate(self._module.cross_states(encoded, self._context)):
            self._pool.keys[layer].index_copy_(0, where, k)
            self._pool.values[layer].index_copy_(0, where, v)

    def copy(self, blocks: Seq[tuple[int, int]]) -> None:
        self._pool.copy(blocks)

    def wipe(self, table: Iterable[int]) -> None:
        self._pool.wipe(table)

    def reload(self) -> None:
        if not self._given_ops:
            self._context = inference_context(self._module)

    def _rows_by_adapter(self, spans: Seq[SequenceSpan]) -> list[tuple[Tensor, Matrices]]:
        """The rows of each adapter in ``spans``."""
        rows: dict[int, list[int]] = {}
        matrices: dict[int, Matrices] = {}
        row = 0
        for span in spans:
            if span.adapter is not None:
                matrices[id(span.adapter)] = span.adapter
                rows.setdefault(id(span.adapter), []).extend(range(row, row + span.count))
            row += span.count
        return [(torch.tensor(rows[key], device=self.device), matrices[key]) for key in rows]


class TorchEncoder:
    """On the ops that suit the module's dtype, on the device where it is."""

    def __init__(self, module: Transformer) -> None:
        self._module = module.eval()
        self._context = inference_context(module)

    @torch.inference_mode()
    def varlen_hidden(
        self, ids: Seq[int] | Int32s, lengths: Seq[int], types: Seq[int] | Int32s | None = None
    ) -> Tensor:
        device = self._module.device
        flat = torch.as_tensor(ids, dtype=torch.int64).to(device)
        segments = None if types is None else torch.as_tensor(types, dtype=torch.int64).to(device)
        return self._module.varlen_hidden(flat, lengths, segments, self._context).float()
