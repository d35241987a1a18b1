"""Matrices of a GGUF file as they are: the codes of its blocks, moved and never recomputed.

Rows are put in our order and projections fused while they are codes. Stored with 4 bits what has
at most 4, else with 8. Parts of one matrix that are of different types take the finest groups,
the most bits and mins if any has them, which changes the place of a code and not its weight:

    scale * (code - zero) = scale * code + min,  min = -zero * scale

Scales that a file multiplies out of two numbers (the K types) are rounded to float16, 11 bits of
their 17. Parts that are not on a grid (plain floats, IQ4, MXFP4, TQ) become int8. Not covered:
experts, which are three-dimensional and stay floats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lmstack.model.formats.gguf.blocks import Grid
from lmstack.model.formats.gguf.file import GGUFFile
from lmstack.model.formats.layouts import PAIRED, QKV_BY_HEAD, ROWS, Piece
from lmstack.model.quant.matrix import QuantizedMatrix, pack
from lmstack.model.quant.quantize import int8_codes, refuse_infinite

__all__ = ["file_matrix"]

# Layouts that move whole rows, and so the codes and scales of rows too.
_MOVES_ROWS = (ROWS, PAIRED, QKV_BY_HEAD)
# Weights whose codes are read at a time.
_CHUNK = 1 << 20
_GROUP = 64


@dataclass(frozen=True)
class _Rows:
    """Codes (rows, cols) uint8, scales and mins (rows, G) float16."""

    codes: Tensor
    scales: Tensor
    mins: Tensor | None
    bits: int
    group: int

    @property
    def zero(self) -> int:
        return 0 if self.mins is not None else 1 << (self.bits - 1)

    def in_groups(self, group: int) -> _Rows:
        """In groups that divide these."""
        count = -(-self.codes.shape[1] // group)

        def finer(values: Tensor) -> Tensor:
            return values.repeat_interleave(self.group // group, dim=1)[:, :count]

        mins = None if self.mins is None else finer(self.mins)
        return replace(self, scales=finer(self.scales), mins=mins, group=group)

    def with_mins(self) -> _Rows:
        if self.mins is not None:
            return self
        mins = self.scales * -self.zero
        refuse_infinite(mins)
        return replace(self, mins=mins)

    def in_bytes(self) -> _Rows:
        if self.bits == 8:
            return self
        codes = self.codes if self.mins is not None else self.codes + (128 - self.zero)
        return replace(self, codes=codes, bits=8)


def file_matrix(file: GGUFFile, parts: Sequence[Piece], *, paired: bool) -> QuantizedMatrix | None:
    """The matrix that ``parts`` make up, one below the other. None where no part is on a grid,
    or one lies in another way than by rows: it is to be made of its floats."""
    kinds = [file.tensors[p.name].kind for p in parts if p.name in file.tensors]
    moved = all(p.part.layout in _MOVES_ROWS for p in parts)
    if len(kinds) < len(parts) or not moved or all(kind.grid is None for kind in kinds):
        return None
    found = [_moved(_rows(file, part.name), part) for part in parts]
    group = min(rows.group for rows in found)
    found = [rows.in_groups(group) for rows in found]
    if any(rows.mins is not None for rows in found):
        found = [rows.with_mins() for rows in found]
    if any(rows.bits == 8 for rows in found):
        found = [rows.in_bytes() for rows in found]
    mins = [rows.mins for rows in found if rows.mins is not None]
    return pack(
        torch.cat([rows.codes for rows in found]),
        torch.cat([rows.scales for rows in found]),
        torch.cat(mins) if mins else None,
        bits=found[0].bits,
        group=group,
        zero=found[0].zero,
        paired=paired,
    )


def _moved(rows: _Rows, piece: Piece) -> _Rows:
    def ours(values: Tensor) -> Tensor:
        return piece.part.layout.read(values, piece.head_dim)

    mins = None if rows.mins is None else ours(rows.mins)
    return replace(rows, codes=ours(rows.codes), scales=ours(rows.scales), mins=mins)


def _rows(file: GGUFFile, name: str) -> _Rows:
    """The tensor ``name`` as it is stored, or made int8."""
    tensor = file.tensors[name]
    grid = tensor.kind.grid
    if grid is None:
        codes, scales = int8_codes(file.read(name), _GROUP)
        return _Rows(codes, scales, None, 8, _GROUP)
    blocks = file.raw(name).view(-1, tensor.kind.size)
    codes = torch.empty(math.prod(tensor.shape), dtype=torch.uint8).view(-1, tensor.kind.weights)
    step = _CHUNK // tensor.kind.weights
    for start in range(0, len(blocks), step):
        grid.codes(blocks[start : start + step], codes[start : start + step])
    scales, mins = grid.scales(blocks)
    scales = scales.half().view(tensor.shape[0], -1)
    refuse_infinite(scales)
    if mins is not None:
        mins = mins.half().view(tensor.shape[0], -1)
        refuse_infinite(mins)
    bits = 4 if grid.bits <= 4 else 8
    return _Rows(_centred(codes, grid, bits).view(tensor.shape), scales, mins, bits, grid.group)


def _centred(codes: Tensor, grid: Grid, bits: int) -> Tensor:
    """Codes whose zero is the middle of ``bits`` bits. Those with mins have none to move."""
    shift = (1 << (bits - 1)) - grid.zero if grid.zero else 0
    return codes.add_(shift)
