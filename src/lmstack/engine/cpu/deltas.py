"""An adapter's terms as the kernels read them: a delta for each matrix of a program.

The numbers are bfloat16, which halves what a step reads of many adapters, and rounds each by a
part in 512 at most, less than activations of 8 bits are rounded by; sums are float32.
`Adapted` says which rows of a step have which adapter.

Legend: R ranks of all terms on a matrix, P panels, O its outputs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.core import EngineError, UnsupportedError
from lmstack.engine.cpu.mirrors import DELTA_PANEL, Delta
from lmstack.engine.cpu.structs import Int32s
from lmstack.model.lora.terms import Term
from lmstack.model.quant.matrix import PANEL, QuantizedMatrix

__all__ = ["Adapted", "Deltas"]


class Deltas:
    """One adapter for one program. ``matrices``: those of the program, in its order. ``terms``: by
    the index of the matrix. ``structs``: the array that C reads; ``ranks``: the most of a
    matrix, in whole sixteens. Whatever C will index is checked here."""

    def __init__(
        self, matrices: Sequence[QuantizedMatrix], terms: Mapping[int, Sequence[Term]]
    ) -> None:
        self._kept: list[Any] = []
        deltas = (Delta * max(1, len(matrices)))()
        for index, found in terms.items():
            if found:
                deltas[index] = self._delta(matrices[index], found)
        self.structs = deltas
        self.ranks = max((delta.ranks for delta in deltas), default=0)

    def _delta(self, matrix: QuantizedMatrix, terms: Sequence[Term]) -> Delta:
        down = torch.cat([term.down for term in terms])
        _check(matrix, terms, down)
        down = F.pad(down, (0, 0, 0, -len(down) % PANEL))
        laid_out = down.view(-1, PANEL, matrix.cols).transpose(1, 2)
        panels, up = _panels(matrix, terms)
        arrays = [self._bfloat16(laid_out), self._bfloat16(up), panels.ctypes.data]
        self._kept.append(panels)
        return Delta(*arrays, len(down), matrix.cols)

    def _bfloat16(self, values: Tensor) -> int:
        held = values.to(torch.bfloat16).contiguous()
        self._kept.append(held)
        return held.data_ptr()


@dataclass(frozen=True)
class Adapted:
    """Which rows of a step have which adapter: ``of`` (N,) is the place of each row's in
    ``deltas``, made by `Program.deltas`; -1: none."""

    of: Int32s
    deltas: Sequence[Deltas]

    def checked(self, rows: int, num_matrices: int) -> tuple[Any, int]:
        """The array of arrays that C reads, and the most ranks; it would read beyond what does not
        fit."""
        fits = self.of.shape == (rows,) and self.of.dtype == np.int32
        if not fits or self.of.min() < -1 or self.of.max() >= len(self.deltas):
            raise EngineError(f"{len(self.deltas)} adapters do not fit {rows} rows of a step")
        if any(len(each.structs) != max(1, num_matrices) for each in self.deltas):
            raise EngineError("an adapter was made for another program")
        array = (ctypes.c_void_p * max(1, len(self.deltas)))(
            *(ctypes.addressof(each.structs) for each in self.deltas)
        )
        return array, max((each.ranks for each in self.deltas), default=0)


def _check(matrix: QuantizedMatrix, terms: Sequence[Term], down: Tensor) -> None:
    end = 0
    for term in terms:
        fits = end <= term.start < term.stop <= matrix.rows
        if not fits or term.up.shape != (term.stop - term.start, len(term.down)):
            raise UnsupportedError(
                f"terms on rows {term.start} to {term.stop} of a matrix with {matrix.rows}"
            )
        end = term.stop
    if down.shape[1] != matrix.cols:
        raise UnsupportedError(f"terms on {down.shape[1]} inputs of a matrix with {matrix.cols}")


def _panels(matrix: QuantizedMatrix, terms: Sequence[Term]) -> tuple[Any, Tensor]:
    """For each panel which ranks it gets and where their numbers lie, and these (all, 16)."""
    P = matrix.scales.shape[0]
    dense = torch.zeros(P, sum(len(term.down) for term in terms), PANEL)
    firsts, ends = torch.full((P,), dense.shape[1]), torch.zeros(P, dtype=torch.int64)
    at = 0
    for term in terms:
        end = at + len(term.down)
        panel, lane = matrix.places(torch.arange(term.start, term.stop))
        dense[panel[:, None], torch.arange(at, end), lane[:, None]] = term.up
        firsts[panel] = firsts[panel].clamp(max=at)
        ends[panel] = ends[panel].clamp(min=end)
        at = end
    counts = (ends - firsts).clamp(min=0)
    panels = np.zeros(P, DELTA_PANEL)
    panels["at"] = (counts.cumsum(0) - counts).numpy()
    panels["first"], panels["count"] = np.where(counts > 0, firsts, 0), counts.numpy()
    ranks = torch.arange(dense.shape[1])
    used = (ranks >= firsts[:, None]) & (ranks < ends[:, None])
    return panels, dense[used]
