"""Functions of a native path on numpy arrays. Every array that is handed over is as large as it
must be and no larger, so that a sanitizer sees what reads or writes beyond it.

Legend: R rows, N inputs or channels, O outputs, P panels, G groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lmstack.engine.cpu.library import path_now, select_path, selected_path
from lmstack.engine.cpu.mirrors import ActsStruct, MatrixStruct, PathStruct
from lmstack.model.quant.matrix import QuantizedMatrix, pack, unpack

__all__ = ["FOUR_BITS", "SCHEMES", "Codes", "Weights", "in_bytes", "on_path", "same_bits"]

ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu", "tanh", "quick_gelu")
Floats = npt.NDArray[np.float32]


@contextmanager
def on_path(name: str | None) -> Iterator[PathStruct]:
    before = selected_path()
    select_path(name)
    try:
        yield path_now()
    finally:
        select_path(before)


def same_bits(left: Floats, right: Floats) -> bool:
    return left.shape == right.shape and bool((left.view(np.int32) == right.view(np.int32)).all())


# What a matrix has beside codes and float16 scales.
SCHEMES: dict[str, tuple[str, ...]] = {
    "plain": (),
    "mins": ("mins",),
    "whole rows": ("rows",),
    "double quantization": ("scale_codes",),
    "double quantization of mins too": ("mins", "scale_codes", "min_codes"),
    "zero points": ("mins", "min_codes"),
    "codebook": ("codebook",),
    "codebook with double quantization": ("codebook", "scale_codes"),
    "lines": ("lines",),
}
FOUR_BITS = ("codebook", "lines")  # what only they may have


@dataclass(frozen=True)
class Weights:
    """A matrix, dense, as it is multiplied (codes after the codebook or on their lines, scales and
    mins (O, G) of each group), and as the kernels read it."""

    codes: npt.NDArray[np.uint8]
    scales: Floats
    mins: Floats | None
    packed: QuantizedMatrix
    struct: MatrixStruct

    @classmethod
    def drawn(
        cls,
        rng: np.random.Generator,
        rows: int,
        cols: int,
        group: int,
        bits: int,
        *,
        scheme: str = "plain",
        paired: bool = False,
        extreme: bool = False,
    ) -> Weights:
        """``extreme``: codes of only the smallest and the largest value."""
        parts, G = SCHEMES[scheme], -(-cols // group)
        codes = rng.integers(0, 1 << bits, (rows, cols), dtype=np.uint8)
        if extreme:
            codes = rng.choice(np.array([0, (1 << bits) - 1], np.uint8), (rows, cols))
        more: dict[str, Any] = {"superblock": 1}
        if "rows" in parts:
            more["superblock"] = G
        if "scale_codes" in parts or "min_codes" in parts:
            more["superblock"] = int(rng.integers(1, G + 1))
        S = -(-G // more["superblock"])
        scales = (rng.standard_normal((rows, S)) * 10.0 ** rng.integers(-6, 3)).astype(np.float16)
        mins = rng.standard_normal((rows, S)).astype(np.float16) if "mins" in parts else None
        for name in ("scale_codes", "min_codes"):
            if name in parts:
                more[name] = rng.integers(-128, 128, (rows, G), dtype=np.int8)
        if "codebook" in parts:
            more["codebook"] = rng.integers(0, 256, 16, dtype=np.uint8)
        if "lines" in parts:
            slopes = rng.integers(0, 18, (rows, 2 * G))
            if extreme:
                slopes = rng.choice(np.array([0, 17]), slopes.shape)
            room = 255 - slopes * 15  # of a start
            starts = rng.choice([0, 1], room.shape) * room if extreme else rng.integers(room + 1)
            more |= {"slopes": slopes.astype(np.uint8), "starts": starts.astype(np.uint8)}
        return cls.of(codes, scales, mins, group, bits, paired=paired, **more)

    @classmethod
    def of(
        cls,
        codes: npt.NDArray[np.uint8],
        scales: npt.NDArray[np.float16],
        mins: npt.NDArray[np.float16] | None,
        group: int,
        bits: int,
        *,
        paired: bool = False,
        superblock: int = 1,
        **more: npt.NDArray[Any],
    ) -> Weights:
        """``more``: as `pack` takes it."""
        tensors = {name: torch.from_numpy(array) for name, array in more.items()}
        middle = 8 if bits == 4 and "codebook" not in more and "slopes" not in more else 128
        packed = pack(
            torch.from_numpy(codes),
            torch.from_numpy(scales),
            None if mins is None else torch.from_numpy(mins),
            bits=bits,
            group=group,
            zero=middle if mins is None else 0,
            paired=paired,
            superblock=superblock,
            **tensors,
        )
        of_groups = [None if x is None else x.float().numpy() for x in unpack(packed)[1:]]
        codebook = more.get("codebook")
        dense = codes if codebook is None else codebook[codes]
        if packed.lines is not None:
            dense = unpack(packed)[0][:, : codes.shape[1]].numpy()
        assert of_groups[0] is not None
        return cls(dense, of_groups[0], of_groups[1], packed, MatrixStruct.of(packed))

    @property
    def order(self) -> npt.NDArray[np.int64]:
        """Of each of the P * 16 computed outputs, the row of the matrix; -1 for padding."""
        rows, struct = len(self.codes), self.struct
        half = rows // 2 if struct.paired else rows
        sides = 2 if struct.paired else 1
        found = np.full((struct.panels, 16), -1)
        for row in range(rows):
            side, inner = divmod(row, half)
            found[inner // 16 * sides + side, inner % 16] = row
        return found.ravel()


def in_bytes(path: PathStruct, weights: Weights) -> tuple[MatrixStruct, npt.NDArray[np.uint8]]:
    """Codes on lines as those of 8 bits, unpacked by ``path``, and the memory that holds them."""
    expanded = np.full(2 * weights.packed.codes.nbytes, 99, np.uint8)
    panels = weights.struct.panels
    for first, end in ((0, panels // 2), (panels // 2, panels)):
        at = len(expanded) // panels * first
        path.unpack(weights.struct, first, end, expanded.ctypes.data + at)
    matrix = MatrixStruct.from_buffer_copy(weights.struct)
    matrix.codes, matrix.bits, matrix.lines = expanded.ctypes.data, 8, None
    return matrix, expanded


@dataclass
class Codes:
    """Activations quantized for ``weights``."""

    weights: Weights
    rows: int
    codes: npt.NDArray[np.int8] = field(init=False)
    scales: Floats = field(init=False)
    offsets: npt.NDArray[np.int32] = field(init=False)
    sums: Floats = field(init=False)
    halves: npt.NDArray[np.int32] = field(init=False)
    struct: ActsStruct = field(init=False)

    def __post_init__(self) -> None:
        w, R = self.weights.struct, self.rows
        self.codes = np.full((R, w.groups * w.group), 99, np.int8)
        self.scales, self.sums = np.full((2, R, w.groups), np.nan, np.float32).copy()
        self.offsets, self.halves = np.full((2, R, w.groups), 99, np.int32).copy()
        arrays = (self.codes, self.scales, self.offsets, self.sums, self.halves)
        self.struct = ActsStruct(*(array.ctypes.data for array in arrays))

    @classmethod
    def of(cls, path: PathStruct, x: Floats, weights: Weights) -> Codes:
        """``x`` (R, N) through ``path``'s quantize."""
        made = cls(weights, len(x))
        for row, values in enumerate(x):
            held = values.copy()
            path.quantize(held.ctypes.data, weights.struct, made.struct, row)
        return made

    def multiplied(
        self,
        path: PathStruct,
        panels: tuple[int, int] | None = None,
        rows: tuple[int, int] | None = None,
        apart: int | None = None,
    ) -> Floats:
        """(rows, panels * 16), as `lm_path.multiply` writes them ``apart`` floats from row to
        row; what lies between is checked to stay untouched."""
        panel, end = panels or (0, self.weights.struct.panels)
        first, last = rows or (0, self.rows)
        width = (end - panel) * 16
        apart = apart or width
        out = np.full((last - first - 1) * apart + width, 77, np.float32)
        matrix, expanded = self.weights.struct, None
        if matrix.lines and last - first > path.line_rows:
            matrix, expanded = in_bytes(path, self.weights)
        path.multiply(
            matrix,
            panel,
            end,
            self.struct,
            first,
            last - first,
            out.ctypes.data,
            apart,
        )
        del expanded
        whole = np.concatenate((out, np.full(apart - width, 77, np.float32)))
        table = whole.reshape(last - first, apart)
        assert (table[:, width:] == 77).all()
        return table[:, :width].copy()
