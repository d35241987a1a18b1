"""An adapter's terms as the kernels read them: a delta for each matrix of a program.

The numbers are bytes, like those of the matrices that they are added to, which halves what a step
reads of many adapters against bfloat16: ``down`` with a scale for each rank and group of inputs,
``up`` with one for each output. `Adapted` says which rows of a step have which adapter.

Legend: T terms on a matrix, each with R ranks: as many as the one with the most, in whole fours;
P panels of the matrix, of which each term meets some: its parts, (N, ...).
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
from lmstack.engine.cpu.mirrors import DELTA_TERM, DeltaStruct, MatrixStruct
from lmstack.engine.cpu.structs import Int32s
from lmstack.model.lora.terms import Term
from lmstack.model.quant.matrix import PANEL, QuantizedMatrix
from lmstack.model.quant.quantize import quantize_int8, refuse_infinite

__all__ = ["Adapted", "Deltas"]

_LINE = 64  # bytes
_Fields = list[tuple[ctypes.Structure, str, Tensor]]


class Deltas:
    """One adapter for one program. ``matrices``: those of the program, in its order. ``terms``: by
    the index of the matrix. ``structs``: the array that C reads; ``low_floats``: the most that it
    makes of a row; ``nbytes``: of all numbers. Whatever C will index is checked here."""

    def __init__(
        self, matrices: Sequence[QuantizedMatrix], terms: Mapping[int, Sequence[Term]]
    ) -> None:
        self.structs = (DeltaStruct * max(1, len(matrices)))()
        fields: _Fields = []
        for index, found in sorted(terms.items()):
            if found:
                fields += _filled(self.structs[index], matrices[index], found)
        self._numbers = _side_by_side(fields)
        self.nbytes = self._numbers.nbytes
        self.low_floats = max(d.down.panels * PANEL + 2 * d.num_terms for d in self.structs)


@dataclass(frozen=True)
class Adapted:
    """Which rows of a step have which adapter: ``of`` (N,) is the place of each row's in
    ``deltas``, made by `Program.deltas`; -1: none."""

    of: Int32s
    deltas: Sequence[Deltas]

    def checked(self, rows: int, num_matrices: int) -> tuple[Any, int]:
        """The array of arrays that C reads, and the most that it makes of a row, in floats; it
        would read beyond what does not fit."""
        fits = self.of.shape == (rows,) and self.of.dtype == np.int32
        if not fits or self.of.min() < -1 or self.of.max() >= len(self.deltas):
            raise EngineError(f"{len(self.deltas)} adapters do not fit {rows} rows of a step")
        if any(len(each.structs) != max(1, num_matrices) for each in self.deltas):
            raise EngineError("an adapter was made for another program")
        array = (ctypes.c_void_p * max(1, len(self.deltas)))(
            *(ctypes.addressof(each.structs) for each in self.deltas)
        )
        return array, max((each.low_floats for each in self.deltas), default=0)


def _filled(delta: DeltaStruct, matrix: QuantizedMatrix, terms: Sequence[Term]) -> _Fields:
    """Sets the numbers of ``delta``, and gives the tensors that it is to point to."""
    _check(matrix, terms)
    R = -(-max(len(term.down) for term in terms) // 4) * 4
    made = [_part(matrix, term, R) for term in terms]
    stacked = torch.cat([each[0] for each in made])
    ordered = stacked if matrix.order is None else stacked[:, matrix.order]
    down = quantize_int8(ordered, matrix.group)
    places = np.zeros(len(terms), DELTA_TERM)
    part = 0
    for place, (_, up, _, panels) in zip(places, made, strict=True):
        place["first"], place["end"], place["step"] = panels.start, panels.stop, panels.step
        place["part"] = part
        part += len(up)
    delta.down, delta.num_terms, delta.ranks = MatrixStruct.of(down), len(terms), R
    fields: _Fields = [
        (delta.down, "codes", down.codes),
        (delta.down, "scales", down.scales),
        (delta, "up", torch.cat([up for _, up, *_ in made])),
        (delta, "terms", torch.from_numpy(places.view(np.uint8))),
    ]
    if any(term.gains is not None for term in terms):
        fields.append((delta, "gains", torch.cat([gains for *_, gains, _ in made])))
    return fields


def _part(matrix: QuantizedMatrix, term: Term, R: int) -> tuple[Tensor, Tensor, Tensor, range]:
    """``down`` (R, in); of each panel that the term meets ``up`` (N, 32 + 16 R), bytes, and
    ``gains`` (N, 16), 1 for rows of others; and these panels."""
    more = R - len(term.down)
    # Rows of like size, lest some be lost beside others when they are rounded.
    exponents = torch.frexp(term.down.abs().amax(1)).exponent
    down = F.pad(torch.ldexp(term.down, -exponents[:, None]), (0, 0, 0, more))
    up = F.pad(torch.ldexp(term.up, exponents), (0, more))
    own_scales = (up.abs().amax(1) / 127).bfloat16()
    refuse_infinite(own_scales)
    inverse = torch.where(own_scales == 0, 0.0, 1 / own_scales.float())
    own = (up * inverse[:, None]).round().clamp(-127, 127) + 128
    panel, lane = matrix.places(torch.arange(term.start, term.stop))
    # Where a projection is half of a paired matrix, it meets every other panel.
    first, step = int(panel.min()), 2 if bool(((panel - panel[0]) % 2 == 0).all()) else 1
    panels = range(first, int(panel.max()) + 1, step)
    at = (panel - first) // step
    codes = torch.full((len(panels), R // 4, PANEL, 4), 128, dtype=torch.uint8)
    codes[at, :, lane] = own.to(torch.uint8).view(len(own), R // 4, 4)
    scales = torch.zeros(len(panels), PANEL, dtype=torch.bfloat16)
    scales[at, lane] = own_scales
    gains = torch.ones(len(panels), PANEL)
    if term.gains is not None:
        gains[at, lane] = term.gains
    return down, torch.cat([scales.view(torch.uint8), codes.flatten(1)], 1), gains, panels


def _side_by_side(fields: _Fields) -> Tensor:
    """The numbers of all ``fields``, which are set to their addresses: in the order in which a
    step reads them, each on lines of its own."""
    sizes = [tensor.nbytes + -tensor.nbytes % _LINE for _, _, tensor in fields]
    numbers = torch.zeros(sum(sizes) + _LINE, dtype=torch.uint8)
    at = -numbers.data_ptr() % _LINE
    for (struct, name, tensor), size in zip(fields, sizes, strict=True):
        values = tensor.contiguous().view(torch.uint8).flatten()
        numbers[at : at + len(values)] = values
        setattr(struct, name, numbers.data_ptr() + at)
        at += size
    return numbers


def _check(matrix: QuantizedMatrix, terms: Sequence[Term]) -> None:
    end = 0
    for term in terms:
        fits = end <= term.start < term.stop <= matrix.rows
        if not fits or term.up.shape != (term.stop - term.start, len(term.down)):
            raise UnsupportedError(
                f"terms on rows {term.start} to {term.stop} of a matrix with {matrix.rows}"
            )
        end = term.stop
        if term.down.shape[1] != matrix.cols:
            raise UnsupportedError(
                f"terms on {term.down.shape[1]} inputs of a matrix with {matrix.cols}"
            )
