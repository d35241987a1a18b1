"""One int8 matrix product by the native ops, alone: to measure what they give on a processor.

Codes are random and scales are 1. What a model computes goes through `program.py` instead.
"""

from __future__ import annotations

import ctypes

import numpy as np

from lmstack.engine.cpu.library import path_now
from lmstack.engine.cpu.mirrors import ActsStruct, MatrixStruct

__all__ = ["ByteProduct"]

GROUP, PANEL = 128, 16


class ByteProduct:
    """``rows`` of activations times a matrix; ``inputs`` in whole groups of 128, ``outputs`` in
    whole panels of 16. ``low`` to ``high - 1``: the codes of the matrix, of which 128 is zero.
    ``activations``: int8 of (rows, inputs). ``out``: float32 of (rows, outputs).
    ``operations``: a multiplication and its addition are two."""

    def __init__(
        self, rows: int, inputs: int, outputs: int, *, low: int = 1, high: int = 256
    ) -> None:
        rng = np.random.default_rng(0)
        groups, panels = inputs // GROUP, outputs // PANEL
        self.operations = 2 * rows * inputs * outputs
        self.out = np.empty((rows, outputs), np.float32)
        codes = rng.integers(low, high, inputs * outputs, dtype=np.uint8)
        scales = np.ones(groups * outputs, np.float16)
        self.activations = acts = rng.integers(-127, 128, (rows, inputs), dtype=np.int8)
        ones = np.ones(rows * groups, np.float32)
        offsets = -128 * acts.reshape(-1, GROUP).sum(1, dtype=np.int32)
        self._kept = (codes, scales, acts, ones, offsets)
        at = [each.ctypes.data for each in self._kept]
        self._matrix = MatrixStruct(
            codes=at[0], scales=at[1], rows=outputs, panels=panels, cols=inputs,
            groups=groups, group=GROUP, bits=8, zero=128, superblock=1,
        )  # fmt: skip
        self._acts = ActsStruct(at[2], at[3], at[4], at[3])

    def __call__(self) -> None:
        """Multiply, in the caller's thread; other Python threads run meanwhile."""
        rows, outputs = self.out.shape
        path_now().multiply(
            ctypes.byref(self._matrix),
            0,
            outputs // PANEL,
            ctypes.byref(self._acts),
            0,
            rows,
            self.out.ctypes.data,
            outputs,
        )
