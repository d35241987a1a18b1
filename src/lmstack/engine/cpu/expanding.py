"""Codes of 8 bits of the matrices whose 4-bit codes are on lines, held beside them.

Few rows are multiplied by the 4-bit codes, which are fewer bytes, many by these, which need fewer
instructions; the sums are the same integers. Without them a product of many rows unpacks two
panels at a time. Not covered: the layout of either (`lm.h`).
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from lmstack.engine.cpu.library import path_now
from lmstack.engine.cpu.mirrors import Matrix
from lmstack.engine.memory import free_memory
from lmstack.model import Transformer
from lmstack.model.quant.matrix import QuantizedEmbedding, QuantizedLinear, QuantizedMatrix

__all__ = ["Expanded", "expanded_bytes", "has_room"]


def expanded_bytes(module: Transformer) -> int:
    """What the codes of 8 bits of the matrices that it multiplies by take; a table that is only
    looked up needs none."""
    is_tied = module.config.head == "lm" and module.head is None
    kinds = (QuantizedLinear, QuantizedEmbedding) if is_tied else (QuantizedLinear,)
    held = (each for each in module.modules() if isinstance(each, kinds))
    return sum(2 * each.codes.nbytes for each in held if each.lines is not None)


def has_room(size: int) -> bool:
    """Whether ``size`` bytes leave as much again free; where the system does not say, they do."""
    free = free_memory()[0]
    return free is None or 2 * size <= free


class Expanded:
    """Owns these codes, of as many matrices as are asked for, or of none where ``held`` is
    false."""

    def __init__(self, *, held: bool) -> None:
        self._is_held = held
        self._codes: dict[int, Tensor] = {}

    def of(self, matrix: QuantizedMatrix) -> Tensor | None:
        """Those of ``matrix``, made of its present codes in the memory that held them before."""
        if matrix.lines is None or not self._is_held:
            return None
        at = matrix.codes.data_ptr()
        if at not in self._codes:
            self._codes[at] = torch.empty(2 * matrix.codes.nbytes, dtype=torch.uint8)
        codes = self._codes[at]
        panels = len(matrix.codes)
        path_now().unpack(ctypes.byref(Matrix.of(matrix)), 0, panels, codes.data_ptr())
        return codes
