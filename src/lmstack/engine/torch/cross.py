"""Cross-attention: each sequence attends to what its encoder made of its input.

Beams and choices of one request attend to the same blocks. Their queries are put together, so
that keys and values are read once for all of them.

Legend: N tokens of the step, U inputs, C most tokens of a step that attend to one input, S most
tokens of an input.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np
import torch
from torch import Tensor

from lmstack.engine.executor import SequenceSpan
from lmstack.engine.torch.grouped import grouped_attention
from lmstack.engine.torch.kvpool import BlockRows, KVPool
from lmstack.model.config import LayerSpec

__all__ = ["CrossStep"]


class CrossStep:
    """One step's: which rows of its varlen batch attend to which input."""

    def __init__(self, pool: KVPool, spans: Seq[SequenceSpan]) -> None:
        self._pool = pool
        crosses = [s.cross for s in spans]
        inputs = {c.table[0]: (c.table, 0, c.count) for c in crosses if c is not None}
        assert None not in crosses, "a sequence of an encoder-decoder without an input"
        rows: dict[int, list[int]] = {first: [] for first in inputs}
        row = 0
        for span in spans:
            assert span.cross is not None
            rows[span.cross.table[0]] += range(row, row + span.count)
            row += span.count
        self._num_inputs, self._num_rows = len(inputs), row
        self._widest = max(map(len, rows.values()))
        self._place(list(rows.values()))
        self._read = BlockRows(list(inputs.values()), pool)

    def _place(self, rows: list[list[int]]) -> None:
        """Where each row of the step goes among (U * C), and back; None where it stays."""
        order = [row for many in rows for row in many]
        self._in = self._out = None
        if order == list(range(len(order))) and len(order) == len(rows) * self._widest:
            return
        there = [row for many in rows for row in many + many[:1] * (self._widest - len(many))]
        back = np.empty(self._num_rows, np.int64)
        for index, many in enumerate(rows):
            back[many] = np.arange(len(many)) + index * self._widest
        self._in, self._out = (
            torch.tensor(each, device=self._pool.device) for each in (there, back)
        )

    def __call__(self, layer: int, q: Tensor, spec: LayerSpec) -> Tensor:
        """q (N, Hq, hd) to (N, Hq, hd)."""
        k, v = self._read(self._pool.keys[layer], self._pool.values[layer])
        U, C = self._num_inputs, self._widest
        Hq, hd = q.shape[1:]
        Hkv = k.shape[2]
        rows = q if self._in is None else q[self._in]
        # (U, C, Hkv, G, hd): the rows of one input join the heads that share keys and values.
        rows = rows.view(U, C, Hkv, -1, hd).transpose(1, 2).reshape(U, -1, hd)
        out = grouped_attention(rows, k, v, self._read.mask, spec)
        out = out.view(U, Hkv, C, -1, hd).transpose(1, 2).reshape(U * C, Hq, hd)
        return out if self._out is None else out[self._out]
