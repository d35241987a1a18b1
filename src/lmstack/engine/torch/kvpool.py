"""The KV cache in blocks of slots, and how to read it through block tables.

Self-attention keeps the tokens of a sequence in order, cross-attention those of its encoder;
both in blocks of one pool, so one set of books counts all of it. Not covered: who holds which
block (`blocks`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from collections.abc import Sequence as Seq

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lmstack.model import TransformerConfig

__all__ = ["BlockRows", "KVPool", "gather", "slots_of"]


class KVPool:
    """Keys and values of every layer, (blocks * block_size, Hkv, hd) each. Zero at first and
    finite always, since padding is masked by weight 0, and 0 times NaN is NaN."""

    def __init__(
        self,
        config: TransformerConfig,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        self.block_size, self.device = block_size, torch.device(device)
        shape = (config.num_layers, num_blocks * block_size, config.num_kv_heads, config.head_dim)
        self.keys, self.values = (_zeros(shape, dtype, self.device) for _ in range(2))

    @staticmethod
    def bytes_per_token(config: TransformerConfig, dtype: torch.dtype) -> int:
        width = config.num_kv_heads * config.head_dim
        return 2 * config.num_layers * width * dtype.itemsize

    def copy(self, blocks: Seq[tuple[int, int]]) -> None:
        """Copy whole blocks, each (from, to)."""
        if not blocks:
            return
        sources, targets = torch.tensor(list(zip(*blocks, strict=True)), device=self.device)
        layers, slots, *rest = self.keys.shape
        for pool in (self.keys, self.values):
            view = pool.view(layers, slots // self.block_size, self.block_size, *rest)
            view[:, targets] = view[:, sources]

    def wipe(self, table: Iterable[int]) -> None:
        """Zero the blocks of ``table``, after a step that may have left NaN in them."""
        for block in table:
            slots = slice(block * self.block_size, (block + 1) * self.block_size)
            self.keys[:, slots] = 0
            self.values[:, slots] = 0


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros whose memory a CPU's system provides at the first write, so start-up does not wait."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    raw = np.zeros(int(np.prod(shape)) * dtype.itemsize, np.uint8)
    return torch.from_numpy(raw).view(dtype).view(shape)


def gather(pool: Tensor, tables: Tensor, block_size: int) -> Tensor:
    """The slots of the blocks in ``tables``, end to end: (blocks * block_size, Hkv, hd)."""
    return pool.view(-1, block_size, *pool.shape[1:]).index_select(0, tables).flatten(0, 1)


def slots_of(table: Seq[int], start: int, end: int, block_size: int) -> npt.NDArray[np.int64]:
    """The slots of places ``start`` to ``end``."""
    places = np.arange(start, end)
    first = start // block_size
    blocks = np.asarray(table[first : -(-end // block_size)], np.int64)
    slots: npt.NDArray[np.int64] = blocks[places // block_size - first] * block_size
    return slots + places % block_size


class BlockRows:
    """Places ``start`` to ``end`` of block tables, read as rows of equal length. ``places``: the
    place of each slot (B, S). ``mask``: added to scores (B, 1, 1, S), -inf outside of them. One
    part alone whose blocks are neighbours is read in place: ``run``, and no mask."""

    def __init__(self, parts: Seq[tuple[Seq[int], int, int]], pool: KVPool) -> None:
        self._size = pool.block_size
        self.mask: Tensor | None = None
        self.run = self._run(*parts[0]) if len(parts) == 1 else None
        if self.run is not None:
            _, start, end = parts[0]
            self.places = torch.arange(start, end, device=pool.device)[None]
        else:
            self._gather(parts, pool)

    def __call__(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Of one layer (slots, Hkv, hd) to (B, S, Hkv, hd)."""
        if self.run is not None:
            return keys[None, self.run], values[None, self.run]
        k, v = (
            gather(x, self._tables, self._size).view(len(self.places), -1, *x.shape[1:])
            for x in (keys, values)
        )
        return k, v

    def _run(self, table: Seq[int], start: int, end: int) -> slice | None:
        first = start // self._size
        blocks = table[first : -(-end // self._size)]
        if any(b - a != 1 for a, b in itertools.pairwise(blocks)):
            return None
        base = (blocks[0] - first) * self._size
        return slice(base + start, base + end)

    def _gather(self, parts: Seq[tuple[Seq[int], int, int]], pool: KVPool) -> None:
        """Made by NumPy and moved once; rows are padded with block 0."""
        size = self._size
        starts, ends = (np.array([part[i] for part in parts])[:, None] for i in (1, 2))
        firsts = starts // size
        widths = (-(-ends // size) - firsts)[:, 0]
        tables = np.zeros((len(parts), widths.max()), np.int64)
        for row, (first, width, part) in enumerate(zip(firsts[:, 0], widths, parts, strict=True)):
            tables[row, :width] = part[0][first : first + width]
        places = firsts * size + np.arange(tables.shape[1] * size)
        outside = torch.from_numpy((places < starts) | (places >= ends)).to(pool.device)
        mask = torch.zeros(outside.shape, dtype=pool.keys.dtype, device=pool.device)
        self.mask = mask.masked_fill_(outside, -torch.inf)[:, None, None, :]
        self._tables, self.places = (
            torch.from_numpy(x).to(pool.device) for x in (tables.ravel(), places)
        )
