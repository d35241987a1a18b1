"""The memory of keys and values: blocks of slots, and how to read them through block tables.

Self-attention keeps the tokens of a sequence in order, cross-attention those of its encoder;
both in blocks of one pool, so one set of books counts all of it. Not covered: who holds which
block (`blocks`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lmstack.model import TransformerConfig

__all__ = ["CrossSpan", "KVPool", "Span", "gather", "padded_tables", "run_of", "slots_of"]


class KVPool:
    """Keys and values of every layer, (blocks * block_size, Hkv, hd) each. Zero at first and
    finite always, since padding is masked by weight 0, and 0 times NaN is NaN."""

    def __init__(
        self, config: TransformerConfig, num_blocks: int, block_size: int, dtype: torch.dtype
    ) -> None:
        self.block_size = block_size
        shape = (config.num_layers, num_blocks * block_size, config.num_kv_heads, config.head_dim)
        self.keys, self.values = _lazy_zeros(shape, dtype), _lazy_zeros(shape, dtype)

    @staticmethod
    def bytes_per_token(config: TransformerConfig, dtype: torch.dtype) -> int:
        width = config.num_kv_heads * config.head_dim
        return 2 * config.num_layers * width * dtype.itemsize

    def copy(self, blocks: Seq[tuple[int, int]]) -> None:
        """Copy whole blocks, each (from, to)."""
        layers, slots, *rest = self.keys.shape
        for pool in (self.keys, self.values):
            view = pool.view(layers, slots // self.block_size, self.block_size, *rest)
            sources, targets = (torch.tensor(each) for each in zip(*blocks, strict=True))
            view[:, targets] = view[:, sources]

    def wipe(self, table: Seq[int]) -> None:
        """Zero the blocks of ``table``, after a step that may have left NaN in them."""
        for block in table:
            slots = slice(block * self.block_size, (block + 1) * self.block_size)
            self.keys[:, slots] = 0
            self.values[:, slots] = 0


def _lazy_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros whose memory the system provides at the first write, so start-up does not wait."""
    raw = np.zeros(int(np.prod(shape)) * dtype.itemsize, np.uint8)
    return torch.from_numpy(raw).view(dtype).view(shape)


@dataclass(frozen=True, slots=True)
class CrossSpan:
    """What an encoder made of ``count`` tokens, in the blocks of ``table``."""

    table: Seq[int]
    count: int


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens ``start`` to ``end`` of a sequence with the given block ``table``. ``wanted``: of how
    many of the last ones the hidden states are of use, all unless given; the others may come out
    as anything. ``adapter``: what `Executor.prepared` gave for theirs, None for the base alone."""

    table: Seq[int]
    start: int
    end: int
    cross: CrossSpan | None = None
    wanted: int | None = None
    adapter: Any = None

    @property
    def count(self) -> int:
        return self.end - self.start


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


def run_of(table: Seq[int], start: int, end: int, block_size: int) -> slice | None:
    """The slots of places ``start`` to ``end`` as one slice, if their blocks are neighbours."""
    first = start // block_size
    blocks = table[first : -(-end // block_size)]
    if any(b - a != 1 for a, b in itertools.pairwise(blocks)):
        return None
    base = (blocks[0] - first) * block_size
    return slice(base + start, base + end)


def padded_tables(
    parts: Seq[tuple[Seq[int], int, int]], block_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """For each (table, start, end) the blocks that hold its places, as rows of equal length:
    block tables (B * widest,) padded with block 0, the place of each slot (B, S), and whether it
    is one of ``start`` to ``end`` (B, S)."""
    firsts = [start // block_size for _, start, _ in parts]
    widths = [-(-end // block_size) - f for f, (_, _, end) in zip(firsts, parts, strict=True)]
    widest = max(widths)
    tables = np.zeros((len(parts), widest), np.int64)
    for row, (first, width, (table, _, _)) in enumerate(zip(firsts, widths, parts, strict=True)):
        tables[row, :width] = table[first : first + width]
    offsets = torch.tensor(firsts)[:, None] * block_size
    places = offsets + torch.arange(widest * block_size)
    starts, ends = (torch.tensor([part[i] for part in parts])[:, None] for i in (1, 2))
    return torch.from_numpy(tables).flatten(), places, (places >= starts) & (places < ends)
