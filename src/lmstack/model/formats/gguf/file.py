"""GGUF files: metadata and tensors, read through a memory map.

Every length and offset is checked against the file before it is used, so that a damaged or
hostile file is a `FormatError` and never a large allocation. Covers versions 2 and 3, little
endian. Not covered: writing, split files. Format: ggml's ``docs/gguf.md``.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from lmstack.core import FormatError, NotFoundError, UnsupportedError, shown
from lmstack.core.files import store_error
from lmstack.model.formats.gguf.blocks import BLOCK_TYPES, TYPE_NAMES, BlockType, dequantize_into

__all__ = ["GGUFFile", "GGUFTensor", "read_gguf"]

_MAX_DIMS = 4
_MAX_NAME = 1024
_MAX_DEPTH = 4
# Elements of all arrays together: bounds the Python objects that metadata turns into.
_MAX_ELEMENTS = 1 << 24
_SCALARS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "|b1",
    10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_BOOL, _STRING, _ARRAY = 7, 8, 9


@dataclass(frozen=True)
class GGUFTensor:
    """``shape`` in torch's order, rows first. ``start``: first byte in the file."""

    name: str
    shape: tuple[int, ...]
    kind: BlockType
    start: int
    size: int


class _Cursor:
    """Reads forward through the header; refuses to pass the end."""

    def __init__(self, buffer: mmap.mmap, label: str) -> None:
        self.buffer, self.label = buffer, label
        self.at, self.size = 0, len(buffer)
        self.elements = 0

    def fail(self, problem: str) -> FormatError:
        return FormatError(
            f"{self.label} is not a valid GGUF file: {problem} at byte {self.at}",
            hint="the file is damaged or incomplete; fetch the model again",
        )

    def take(self, count: int) -> int:
        """Step over ``count`` bytes; where they start."""
        start = self.at
        if count > self.size - start:
            raise self.fail(f"{count} bytes are claimed and {self.size - start} are left")
        self.at += count
        return start

    def u32(self) -> int:
        return int(struct.unpack_from("<I", self.buffer, self.take(4))[0])

    def u64(self) -> int:
        return int(struct.unpack_from("<Q", self.buffer, self.take(8))[0])

    def string(self) -> str:
        size = self.u64()
        start = self.take(size)
        try:
            return self.buffer[start : start + size].decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail("text that is not UTF-8") from None

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array(depth + 1)
        return self.scalars(kind, 1)[0]

    def scalars(self, kind: int, count: int) -> list[Any]:
        if kind not in _SCALARS:
            raise self.fail(f"unknown value type {kind}")
        dtype = np.dtype(_SCALARS[kind])
        start = self.take(count * dtype.itemsize)
        if kind == _BOOL:
            return [byte != 0 for byte in self.buffer[start : self.at]]
        values: list[Any] = np.frombuffer(self.buffer[start : self.at], dtype).tolist()
        return values

    def array(self, depth: int) -> list[Any]:
        if depth > _MAX_DEPTH:
            raise self.fail("arrays nested too deep")
        kind, count = self.u32(), self.u64()
        self.elements += count
        if self.elements > _MAX_ELEMENTS:
            raise self.fail(f"arrays of {self.elements} values")
        if kind == _STRING:
            return self._strings(count)
        if kind == _ARRAY:
            self.room(count, 12)
            return [self.array(depth + 1) for _ in range(count)]
        return self.scalars(kind, count)

    def room(self, count: int, least: int) -> None:
        if count * least > self.size - self.at:
            raise self.fail(f"{count} values are claimed and {self.size - self.at} bytes are left")

    def _strings(self, count: int) -> list[str]:
        """`string` unrolled: a vocabulary has a hundred thousand of them."""
        self.room(count, 8)
        buffer, at, end = self.buffer, self.at, self.size
        unpack = struct.Struct("<Q").unpack_from
        found = []
        for _ in range(count):
            stop = at + 8
            if stop <= end:
                stop += unpack(buffer, at)[0]
            if stop > end:
                self.at = at
                raise self.fail("a text longer than the file")
            found.append(buffer[at + 8 : stop])
            at = stop
        self.at = at
        try:
            return [text.decode("utf-8") for text in found]
        except UnicodeDecodeError:
            raise self.fail("text that is not UTF-8") from None


class GGUFFile:
    """An open file: ``metadata`` and ``tensors`` by name. A `TensorSource`.

    Holds the map until closed; tensors that were read do not depend on it.
    """

    def __init__(self, label: str, buffer: mmap.mmap) -> None:
        self.label = label
        self._buffer = buffer
        cursor = _Cursor(buffer, label)
        tensors, entries = _header(cursor)
        self.metadata: dict[str, Any] = {}
        for _ in range(entries):
            key = cursor.string()
            if key in self.metadata:
                raise cursor.fail(f"key {shown(key)} twice")
            self.metadata[key] = cursor.value(cursor.u32())
        self.tensors = _tensors(cursor, tensors, self._alignment(cursor))

    def _alignment(self, cursor: _Cursor) -> int:
        value = self.metadata.get("general.alignment", 32)
        if not isinstance(value, int) or not 8 <= value <= 1 << 20 or value & (value - 1):
            raise cursor.fail(f"alignment {shown(value)}")
        return value

    def names(self) -> Collection[str]:
        return self.tensors.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def dtype(self, name: str) -> torch.dtype:
        return self.tensors[name].kind.plain or torch.float32

    def raw(self, name: str) -> Tensor:
        """The bytes of a tensor, uint8, a view of the file that lives as long as it is open."""
        tensor = self.tensors[name]
        return torch.frombuffer(
            self._buffer, dtype=torch.uint8, count=tensor.size, offset=tensor.start
        )

    def read_into(self, name: str, out: Tensor) -> None:
        dequantize_into(self.tensors[name].kind, self.raw(name), out)

    def read(self, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """The tensor ``name``, dequantized."""
        if name not in self.tensors:
            raise FormatError(f"{self.label} has no tensor {shown(name)}")
        out = torch.empty(self.shape(name), dtype=dtype)
        self.read_into(name, out)
        return out

    def close(self) -> None:
        try:
            self._buffer.close()
        except BufferError:
            # A view from `raw` is still in use; the map goes when it does.
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_gguf(path: Path | str) -> GGUFFile:
    """Open ``path`` and read all but the weights."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            # Copy on write: torch wants writable memory, and nothing may reach the file.
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except FileNotFoundError:
        raise NotFoundError(
            f"{path} does not exist", hint="lmstack model list shows what is here"
        ) from None
    except ValueError:
        raise FormatError(f"{path} is empty", hint="fetch the model again") from None
    except OSError as error:
        raise store_error(error, path, "reading") from error
    try:
        return GGUFFile(str(path), buffer)
    except BaseException:
        buffer.close()
        raise


_MISTAKEN_HINT = "fetch the model again, from where the file itself is given"


def _mistaken(start: bytes) -> str:
    """What a file that is no GGUF file most likely is, by its first four bytes."""
    if start == b"vers":
        return "is a Git LFS pointer (it starts with b'vers'), not the weights themselves"
    if start.lstrip()[:1] == b"<":
        return f"is a web page (it starts with {start!r}), not a GGUF file"
    return f"starts with {start!r}, not b'GGUF'"


def _header(cursor: _Cursor) -> tuple[int, int]:
    """Counts of tensors and of metadata entries."""
    magic = cursor.buffer[:4]
    if magic != b"GGUF":
        raise FormatError(f"{cursor.label} {_mistaken(magic)}", hint=_MISTAKEN_HINT)
    cursor.take(4)
    version = cursor.u32()
    if version not in (2, 3):
        order = " (big endian)" if version & 0xFFFF == 0 else ""
        raise UnsupportedError(
            f"{cursor.label} is GGUF version {version}{order}",
            hint="versions 2 and 3, little endian, can be read; convert it with llama.cpp",
        )
    tensors, entries = cursor.u64(), cursor.u64()
    # The least that one of each takes: an empty name, a type, a value of a byte or a dimension.
    cursor.room(tensors, 8 + 4 + 8 + 4 + 8)
    cursor.room(entries, 8 + 4 + 1)
    return tensors, entries


def _tensors(cursor: _Cursor, count: int, alignment: int) -> dict[str, GGUFTensor]:
    found: list[tuple[str, tuple[int, ...], BlockType, int]] = []
    for _ in range(count):
        name = cursor.string()
        dims = cursor.u32()
        if not name or len(name) > _MAX_NAME or not 1 <= dims <= _MAX_DIMS:
            raise cursor.fail(f"tensor {shown(name)} with {dims} dimensions")
        # The file gives the fastest dimension first.
        shape = tuple(cursor.u64() for _ in range(dims))[::-1]
        found.append((name, shape, _kind(cursor, name), cursor.u64()))
    base = -(-cursor.at // alignment) * alignment
    tensors = {}
    for name, shape, kind, offset in found:
        if name in tensors:
            raise cursor.fail(f"tensor {shown(name)} twice")
        if offset % alignment or not all(shape) or shape[-1] % kind.weights:
            raise cursor.fail(f"tensor {shown(name)} of shape {shape} at offset {offset}")
        weights = 1
        for n in shape:
            weights *= n
        size = weights // kind.weights * kind.size
        if base + offset + size > cursor.size:
            raise cursor.fail(f"tensor {shown(name)} of shape {shape} that ends after the file")
        tensors[name] = GGUFTensor(name, shape, kind, base + offset, size)
    _refuse_overlap(cursor, tensors)
    return tensors


def _kind(cursor: _Cursor, name: str) -> BlockType:
    number = cursor.u32()
    if number in BLOCK_TYPES:
        return BLOCK_TYPES[number]
    if number in TYPE_NAMES:
        raise UnsupportedError(
            f"{cursor.label}: tensor {shown(name)} is of type {TYPE_NAMES[number]}",
            hint=f"implemented: {', '.join(k.name for k in BLOCK_TYPES.values())}",
        )
    raise cursor.fail(f"tensor {shown(name)} of unknown type {number}")


def _refuse_overlap(cursor: _Cursor, tensors: dict[str, GGUFTensor]) -> None:
    """Overlapping tensors would let a small file expand to any size."""
    end = 0
    for tensor in sorted(tensors.values(), key=lambda t: t.start):
        if tensor.start < end:
            raise cursor.fail(f"tensor {shown(tensor.name)} over another")
        end = tensor.start + tensor.size
