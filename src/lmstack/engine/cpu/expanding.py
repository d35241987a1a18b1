"""Codes of 8 bits of the matrices whose 4-bit codes are on lines, held beside them.

Few rows are multiplied by the 4-bit codes, which are fewer bytes, many by these, which need fewer
instructions; the sums are the same integers. Without them a product of many rows unpacks two
panels at a time. Not covered: the layout of either (`lm.h`).
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from lmstack.engine.cpu.library import path_now
from lmstack.engine.cpu.mirrors import MatrixStruct
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
    """Owns these codes: room for ``size`` bytes of them, 0 where none are held."""

    def __init__(self, size: int) -> None:
        self._room = _large_pages(size) if size else torch.empty(0, dtype=torch.uint8)
        self._codes: dict[int, Tensor] = {}

    @classmethod
    def of_module(cls, module: Transformer) -> Expanded:
        """With room for those of all matrices of ``module``, if memory has it."""
        size = expanded_bytes(module)
        return cls(size if has_room(size) else 0)

    def of(self, matrix: QuantizedMatrix) -> Tensor | None:
        """Those of ``matrix``, made of its present codes in the memory that held them before."""
        size, at = 2 * matrix.codes.nbytes, matrix.codes.data_ptr()
        if matrix.lines is None or (at not in self._codes and size > len(self._room)):
            return None
        if at not in self._codes:
            self._codes[at], self._room = self._room[:size], self._room[size:]
        codes, panels = self._codes[at], len(matrix.codes)
        held, unpack = MatrixStruct.of(matrix), path_now().unpack

        def fill(start: int, end: int) -> None:
            unpack(ctypes.byref(held), start, end, codes.data_ptr() + size // panels * start)

        parts = min(torch.get_num_threads(), panels)
        bounds = [panels * n // parts for n in range(parts + 1)]
        with ThreadPoolExecutor(parts) as pool:
            list(pool.map(fill, bounds[:-1], bounds[1:]))
        return codes


def _large_pages(size: int) -> Tensor:
    """Memory in large pages where the system has them: a step walks through all of it, and would
    wait for the addresses of small ones."""
    memory = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)
