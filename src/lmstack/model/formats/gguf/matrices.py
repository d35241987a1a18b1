"""Matrices of a GGUF file as they are: the codes of its blocks, moved and never recomputed.

Rows are put in our order and projections fused while they are codes. Stored with 4 bits what has
at most 4, else with 8; codebooks and the codes of scales are kept. Parts of one matrix that are of
different types take the finest groups, the most bits and mins if any has them, which changes the
place of a code and not its weight:

    scale * (code - zero) = scale * code + min,  min = -zero * scale

Where only some have codes of scales, these are multiplied out and rounded to float16, 11 bits of
their 17. Parts that are not on a grid (plain floats) become int8. Not covered: experts, which are
three-dimensional and stay floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lmstack.model.formats.gguf.blocks import Grid
from lmstack.model.formats.gguf.file import GGUFFile
from lmstack.model.formats.layouts import PAIRED, QKV_BY_HEAD, ROWS, TensorPiece
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
    """As `pack` takes them: codes (rows, cols), scales and mins (rows, S) float16, their codes
    (rows, G) int8."""

    codes: Tensor
    scales: Tensor
    mins: Tensor | None
    bits: int
    group: int
    superblock: int = 1
    scale_codes: Tensor | None = None
    min_codes: Tensor | None = None
    codebook: tuple[int, ...] | None = None

    @property
    def zero(self) -> int:
        if self.mins is not None:
            return 0
        return 128 if self.bits == 8 or self.codebook is not None else 8

    def each(self, change: Callable[[Tensor], Tensor]) -> _Rows:
        """With all that has rows changed."""
        names = ("codes", "scales", "mins", "scale_codes", "min_codes")
        changed: dict[str, Any] = {
            name: change(tensor) for name in names if (tensor := getattr(self, name)) is not None
        }
        return replace(self, **changed)

    def in_groups(self, group: int) -> _Rows:
        """In groups that divide these."""
        parts, count = self.group // group, -(-self.codes.shape[1] // group)

        def finer(codes: Tensor | None) -> Tensor | None:
            return None if codes is None else codes.repeat_interleave(parts, dim=1)[:, :count]

        return replace(
            self,
            group=group,
            superblock=self.superblock * parts,
            scale_codes=finer(self.scale_codes),
            min_codes=finer(self.min_codes),
        )

    def with_plain_scales(self) -> _Rows:
        """With one float16 for each group."""
        count = -(-self.codes.shape[1] // self.group)

        def plain(shared: Tensor, codes: Tensor | None) -> Tensor:
            values = shared.repeat_interleave(self.superblock, dim=1)[:, :count]
            found = values if codes is None else (values.float() * codes).half()
            refuse_infinite(found)
            return found

        mins = None if self.mins is None else plain(self.mins, self.min_codes)
        scales = plain(self.scales, self.scale_codes)
        return replace(
            self, scales=scales, mins=mins, superblock=1, scale_codes=None, min_codes=None
        )

    def with_mins(self) -> _Rows:
        if self.mins is not None:
            return self
        rows = self.in_bytes() if self.codebook is not None else self
        mins = rows.scales * -rows.zero
        refuse_infinite(mins)
        return replace(rows, mins=mins, min_codes=rows.scale_codes)

    def in_bytes(self) -> _Rows:
        if self.codebook is not None:
            codes = torch.tensor(self.codebook, dtype=torch.uint8)[self.codes.int()]
            return replace(self, codes=codes, bits=8, codebook=None)
        if self.bits == 8:
            return self
        codes = self.codes if self.mins is not None else self.codes + (128 - self.zero)
        return replace(self, codes=codes, bits=8)


def file_matrix(
    file: GGUFFile, parts: Sequence[TensorPiece], *, paired: bool
) -> QuantizedMatrix | None:
    """The matrix that ``parts`` make up, one below the other. None where no part is on a grid,
    or one lies in another way than by rows: it is to be made of its floats."""
    kinds = [file.tensors[p.name].kind for p in parts if p.name in file.tensors]
    moved = all(p.part.layout in _MOVES_ROWS for p in parts)
    if len(kinds) < len(parts) or not moved or all(kind.grid is None for kind in kinds):
        return None
    found = _alike([_moved(_rows(file, part.name), part) for part in parts])

    def joined(name: str) -> Tensor | None:
        of_parts = [getattr(rows, name) for rows in found]
        return None if of_parts[0] is None else torch.cat(of_parts)

    first = found[0]
    book = first.codebook
    return pack(
        torch.cat([rows.codes for rows in found]),
        torch.cat([rows.scales for rows in found]),
        joined("mins"),
        bits=first.bits,
        group=first.group,
        zero=first.zero,
        paired=paired,
        superblock=first.superblock,
        scale_codes=joined("scale_codes"),
        min_codes=joined("min_codes"),
        codebook=None if book is None else torch.tensor(book, dtype=torch.uint8),
    )


def _alike(found: list[_Rows]) -> list[_Rows]:
    """The same weights, all in one form."""
    if any(rows.mins is not None for rows in found):
        found = [rows.with_mins() for rows in found]
    if any(rows.bits == 8 or rows.codebook != found[0].codebook for rows in found):
        found = [rows.in_bytes() for rows in found]
    group = min(rows.group for rows in found)
    found = [rows.in_groups(group) for rows in found]
    forms = {(rows.superblock, rows.scale_codes is None, rows.min_codes is None) for rows in found}
    return found if len(forms) == 1 else [rows.with_plain_scales() for rows in found]


def _moved(rows: _Rows, piece: TensorPiece) -> _Rows:
    return rows.each(lambda values: piece.part.layout.read(values, piece.head_dim))


def _rows(file: GGUFFile, name: str) -> _Rows:
    """The tensor ``name`` as it is stored, or made int8."""
    tensor = file.tensors[name]
    grid = tensor.kind.grid
    if grid is None:
        return _int8(file.read(name))
    blocks = file.raw(name).view(-1, tensor.kind.size)
    codes = torch.empty(math.prod(tensor.shape), dtype=torch.uint8).view(-1, tensor.kind.weights)
    step = _CHUNK // tensor.kind.weights
    for start in range(0, len(blocks), step):
        grid.codes(blocks[start : start + step], codes[start : start + step])
    bits = 4 if grid.bits <= 4 else 8
    if grid.codebook is None:
        codes = _centred(codes, grid, bits)
    found = grid.scales(blocks)
    if not torch.equal(found.scales.half().float(), found.scales):
        return _int8(file.read(name))  # MXFP4 with exponents that float16 has not
    rows = tensor.shape[0]
    scales, *others = (None if each is None else each.reshape(rows, -1) for each in found)
    assert scales is not None
    mins, scale_codes, min_codes = others
    refuse_infinite(scales if mins is None else scales + mins)
    return _Rows(
        codes.view(tensor.shape),
        scales.half(),
        None if mins is None else mins.half(),
        bits,
        grid.group,
        1 if scale_codes is None else tensor.kind.weights // grid.group,
        scale_codes,
        min_codes,
        grid.codebook,
    )


def _int8(weight: Tensor) -> _Rows:
    codes, scales = int8_codes(weight, _GROUP)
    return _Rows(codes, scales, None, 8, _GROUP)


def _centred(codes: Tensor, grid: Grid, bits: int) -> Tensor:
    """Codes whose zero is the middle of ``bits`` bits. Those with mins have none to move."""
    shift = (1 << (bits - 1)) - grid.zero if grid.zero else 0
    return codes.add_(shift)
