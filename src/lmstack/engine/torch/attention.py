"""Attention over paged keys and values: the engine's side of the model's `Attend` seam.

One object for a step. It writes the step's keys and values to their slots, then each query
attends to its own sequence: decoding streams together as one padded batch, chunks of prompts
one by one. A lone stream whose blocks lie side by side is read in place. Layers may
differ: of a window only its blocks are read; soft-caps and biases take a general path. Biases
look at positions only, as all of decoders do, so each is computed once a step.

Where a few queries a row attend to many keys, as in decoding, the query heads that share a
key-value head become rows of one query matrix, so keys and values are never repeated. In
cross-attention beams and choices of one request attend to the same blocks: their queries are put
together, so that keys and values are read once for all of them.

Legend: N tokens of the step, B decoding streams, T tokens of a chunk, S tokens attended to,
Hq query heads, Hkv key-value heads, G query heads that share one of them, hd channels of a head;
of cross-attention U inputs, C most tokens of a step that attend to one input, S most tokens of an
input.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.engine.executor import SequenceSpan
from lmstack.engine.torch.kvpool import BlockRows, KVPool, gather, slots_of
from lmstack.model import TransformerConfig
from lmstack.model.biases import ScoreBias
from lmstack.model.config import LayerSpec
from lmstack.model.dot_product import scaled_dot_product_attention

__all__ = ["PagedAttention"]


def grouped_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, spec: LayerSpec
) -> Tensor:
    """One query a row: q (B, Hq, hd) over k and v (B, S, Hkv, hd), to (B, Hq, hd).

    ``mask``: added to the scores, broadcasts to (B, Hkv, Hq / Hkv, S)."""
    q = q.view(len(q), k.shape[2], -1, q.shape[2])
    k, v = k.transpose(1, 2), v.transpose(1, 2)
    if spec.softcap is None:
        out = F.scaled_dot_product_attention(q, k, v, mask, scale=spec.scale)
        return out.flatten(1, 2)
    scores = q @ k.transpose(-1, -2) * spec.scale
    scores = torch.tanh(scores / spec.softcap) * spec.softcap
    if mask is not None:
        scores = scores + mask
    return (scores.softmax(-1, dtype=torch.float).to(q.dtype) @ v).flatten(1, 2)


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


QUERY_BLOCK = 128


class PagedAttention:
    """``spans`` in the order of the varlen batch: those of one token first."""

    def __init__(self, pool: KVPool, config: TransformerConfig, spans: Seq[SequenceSpan]) -> None:
        self._pool, self._layers = pool, config.layers
        size = pool.block_size
        slots = np.concatenate([slots_of(s.table, s.start, s.end, size) for s in spans])
        self.slots = torch.from_numpy(slots).to(pool.device)
        singles = [s for s in spans if s.count == 1]
        self._num_singles = len(singles)
        # Layers of one window share its tables and mask.
        windows = dict.fromkeys(spec.window for spec in self._layers)
        self._singles = {w: _Singles(singles, w, pool) for w in windows} if singles else {}
        self._chunks = _chunks(spans, len(singles), pool)
        self._cross = CrossStep(pool, spans) if config.encoder is not None else None

    def __call__(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, bias: ScoreBias | None = None
    ) -> Tensor:
        """q (N, Hq, hd), k and v (N, Hkv, hd) to (N, Hq, hd)."""
        keys, values = self._pool.keys[layer], self._pool.values[layer]
        spec = self._layers[layer]
        if not self._chunks:
            singles = self._singles[spec.window]
            if singles.read.run is not None:
                last = singles.read.run.stop - 1
                keys[last], values[last] = k[0], v[0]
            else:
                keys.index_copy_(0, self.slots, k)
                values.index_copy_(0, self.slots, v)
            return singles.attend(q, keys, values, spec, bias)
        keys.index_copy_(0, self.slots, k)
        values.index_copy_(0, self.slots, v)
        parts = []
        if self._num_singles:
            first = q[: self._num_singles]
            parts.append(self._singles[spec.window].attend(first, keys, values, spec, bias))
        parts += [c.attend(q, k, v, keys, values, spec, bias) for c in self._chunks]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def cross(self, layer: int, q: Tensor) -> Tensor:
        """q (N, Hq, hd) over the keys and values of each sequence's encoder."""
        assert self._cross is not None, "cross-attention in a model without an encoder"
        return self._cross(layer, q, self._layers[layer].across)


class _Singles:
    """The streams of one token, each attending to the last ``window`` places."""

    def __init__(self, spans: Seq[SequenceSpan], window: int | None, pool: KVPool) -> None:
        self.read = BlockRows(
            [(s.table, 0 if window is None else max(0, s.end - window), s.end) for s in spans], pool
        )
        self._ends = [[s.end - 1] for s in spans]
        self._bias: tuple[ScoreBias, Tensor] | None = None

    def attend(
        self, q: Tensor, keys: Tensor, values: Tensor, spec: LayerSpec, bias: ScoreBias | None
    ) -> Tensor:
        """q (B, Hq, hd)."""
        k, v = self.read(keys, values)
        mask = self.read.mask if bias is None else self._biased(bias, q, k)
        return grouped_attention(q, k, v, mask, spec)

    def _biased(self, bias: ScoreBias, q: Tensor, k: Tensor) -> Tensor:
        """The bias on top of the mask, (B, Hkv, G, S)."""
        if self._bias is None or self._bias[0] is not bias:
            ends = torch.tensor(self._ends, device=q.device)
            scores = bias(q[:, None], k, ends, self.read.places).to(q.dtype)
            scores = scores.expand(len(q), q.shape[1], 1, -1).reshape(
                len(q), k.shape[2], -1, scores.shape[-1]
            )
            mask = self.read.mask
            self._bias = bias, scores if mask is None else scores + mask
        return self._bias[1]


class _PromptChunk:
    """``rows`` of the varlen batch, the tokens of ``span``. Where they begin their sequence they
    need nothing from the pool."""

    def __init__(self, rows: slice, span: SequenceSpan, pool: KVPool) -> None:
        self._rows, self._span, self._size = rows, span, pool.block_size
        self._table: Tensor | None = None
        self._mask: Tensor | None = None
        if span.start:
            blocks = span.table[: -(-span.end // self._size)]
            self._table = torch.tensor(blocks, device=pool.device)

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        keys: Tensor,
        values: Tensor,
        spec: LayerSpec,
        bias: ScoreBias | None,
    ) -> Tensor:
        q = q[self._rows]
        window = spec.window
        if window is not None and window >= self._span.end:
            window = None
        # The first block that any of the queries attends to.
        low = 0 if window is None else max(0, self._span.start - window + 1) // self._size
        if self._table is None:
            k, v = k[self._rows], v[self._rows]
        else:
            count = self._span.end - low * self._size
            k, v = (gather(x, self._table[low:], self._size)[:count] for x in (keys, values))
        if window is not None or bias is not None or spec.softcap is not None:
            out = scaled_dot_product_attention(
                *(x.transpose(0, 1)[None] for x in (q, k, v)),
                causal=True,
                window=window,
                scale=spec.scale,
                softcap=spec.softcap,
                bias=bias,
            )
            return out[0].transpose(0, 1)
        # A short prompt costs little either way, and its scores keep all their bits.
        if q.dtype == torch.bfloat16 and self._span.end > QUERY_BLOCK:
            return _blockwise(q, k, v, spec.scale)
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        mask = self._causal(q)
        out = F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=mask is None, scale=spec.scale, enable_gqa=True
        )
        return out[0].transpose(0, 1)

    def _causal(self, q: Tensor) -> Tensor | None:
        """Which tokens each of ``q`` attends to, (T, S); None where `is_causal` says it."""
        span = self._span
        if self._mask is None and span.start:
            self._mask = q.new_full((span.count, span.end), -torch.inf).triu_(span.start + 1)
        return self._mask


def _blockwise(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention of the last T of S tokens, (T, Hq, hd) over (S, Hkv, hd), a block of
    queries at a time. Twice as fast as torch's kernel in bfloat16 on CPUs without tiles, since
    heads that share keys share a product; scores are rounded to bfloat16 as in eager attention.
    """
    T, Hq, hd = q.shape
    S, Hkv, _ = k.shape
    groups = Hq // Hkv
    q = (q * scale).view(T, Hkv, groups, hd).transpose(0, 1).contiguous()
    k, v = k.permute(1, 2, 0).contiguous(), v.transpose(0, 1).contiguous()
    out = torch.empty(T, Hq, hd, dtype=q.dtype, device=q.device)
    hidden = out.new_full((QUERY_BLOCK, QUERY_BLOCK), -torch.inf).triu_(1)
    for start in range(0, T, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, T)
        count, seen = end - start, S - T + end
        scores = torch.bmm(q[:, start:end].reshape(Hkv, count * groups, hd), k[:, :, :seen])
        last = scores.view(Hkv, count, groups, seen)[..., seen - count :]
        last += hidden[:count, None, :count]
        mixed = torch.bmm(scores.softmax(-1), v[:, :seen])
        out[start:end] = mixed.view(Hkv, count, groups, hd).transpose(0, 1).flatten(1, 2)
    return out


def _chunks(spans: Seq[SequenceSpan], num_singles: int, pool: KVPool) -> list[_PromptChunk]:
    chunks, row = [], num_singles
    for span in spans[num_singles:]:
        chunks.append(_PromptChunk(slice(row, row + span.count), span, pool))
        row += span.count
    return chunks
