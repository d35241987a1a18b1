"""An encoder's native program as a file, to be run without torch, which takes a second to load.

Holds the structs of `program.h` as bytes, the floats that they point to, and where in the file of
weights (`lmstack.model.formats.mapped`) the rest lies. An image is refused where the native build,
the file of weights, or its own bytes are not those that it was written with; what it says of places
is believed, so whoever wrote it must have had the key that the reader gives. Only for encoders
whose positions are counted from 0 and not rotated: `write_image` refuses others. Not covered:
making programs (`program`).
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lmstack.core import ContextLengthError, FormatError, InputError, UnsupportedError
from lmstack.engine.cpu.build import headers_fingerprint
from lmstack.engine.cpu.library import native, tile_bytes
from lmstack.engine.cpu.mirrors import (
    AttentionStruct,
    BufferStruct,
    MatrixStruct,
    OpStruct,
    ProgramStruct,
    StepStruct,
)
from lmstack.engine.cpu.structs import ALIGNMENT, Int32s, address_of, run_step, varlen_spans
from lmstack.model.formats.mapped.header import (
    StoredTensor,
    read_bytes,
    read_header,
    verify,
    write_container,
)

__all__ = ["ImageEncoder", "ImageFacts", "ProgramParts", "read_image", "write_image"]

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
# Another with each change of what an image holds.
_VERSION = "1"
_STRUCTS: dict[str, Any] = {
    "ops": OpStruct, "buffers": BufferStruct, "matrices": MatrixStruct, "layers": AttentionStruct,
}  # fmt: skip
# The fields of structs that point to numbers.
_POINTERS = {
    name: tuple(field for field, kind in struct._fields_ if kind is ctypes.c_void_p)
    for name, struct in _STRUCTS.items()
}


@dataclass(frozen=True)
class ImageFacts:
    """What is needed to run an encoder beside its program. ``rows``: of the tables that ids and
    types look into; ``positions``: of that of positions."""

    hidden_size: int
    head_dim: int
    num_kv_heads: int
    max_positions: int
    token_types: int
    width: int
    positions: int
    rows: Mapping[str, int]
    row_floats: int
    local_floats: int
    in_buffer: int
    out_buffer: int


@dataclass(frozen=True)
class ProgramParts:
    """A program as it is written. ``structs``: by their names in `_STRUCTS`, in order. ``kept``:
    the arrays that they point to. ``more``: what else goes into the file, by name."""

    facts: ImageFacts
    structs: Mapping[str, Sequence[ctypes.Structure]]
    kept: Sequence[npt.NDArray[Any]]
    more: Mapping[str, Floats]


def write_image(
    path: Path, parts: ProgramParts, weights: Path, stamp: Mapping[str, str], key: bytes = b""
) -> None:
    """``path`` whole or not at all. What ``parts`` point to and ``weights``, a file of weights,
    holds as well is not written again. ``key``: of the hash of both files."""
    in_file = read_bytes(weights)
    held = _Held(parts.kept, in_file, weights)
    pointers = [
        [name, index, field, *held.place(getattr(struct, field))]
        for name, fields in _POINTERS.items()
        for index, struct in enumerate(parts.structs[name])
        for field in fields
        if getattr(struct, field) is not None
    ]
    # Aligned as they are used: first what the kernels read, then other floats, then bytes.
    arrays: dict[str, npt.NDArray[Any]] = {"own": held.own()}
    arrays |= {f"more.{name}": array for name, array in parts.more.items()}
    for name, structs in parts.structs.items():
        raw = b"".join(_without_pointers(name, struct) for struct in structs)
        arrays[name] = np.frombuffer(raw or b"\0", np.uint8)
    metadata = {
        **stamp,
        **_build(in_file),
        "facts": json.dumps({**vars(parts.facts), "rows": dict(parts.facts.rows)}),
        "pointers": json.dumps(pointers),
    }
    stored = {name: _stored(array) for name, array in arrays.items()}
    write_container(path, stored, metadata, key)


def read_image(
    path: Path, weights: Path, stamp: Mapping[str, str], key: bytes = b""
) -> ImageEncoder:
    """`FormatError`, `NotFoundError` or `StoreError` where there is none that is of use, or one
    that was written without ``key``."""
    native()
    buffer, held = read_bytes(path), read_bytes(weights)
    tensors, metadata, base = read_header(buffer, path)
    wanted = {**stamp, **_build(held)}
    wrong = [key for key, value in wanted.items() if metadata.get(key) != value]
    if wrong:
        raise FormatError(
            f"{path} was made for another {wrong[0]}", hint="delete it; it is made again"
        )
    verify(buffer, metadata, path, key)
    verify(held, read_header(held, weights)[1], weights, key)
    try:
        arrays = {name: _array(buffer, base, facts) for name, facts in tensors.items()}
        pointers = json.loads(metadata["pointers"])
        facts = ImageFacts(**json.loads(metadata["facts"]))
        return ImageEncoder(facts, arrays, pointers, held)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path} is damaged: {error!r}", hint="delete it") from error


class ImageEncoder:
    """Varlen batches, as `NativeEncoder` computes them, bit for bit. Thread-safe."""

    def __init__(
        self,
        facts: ImageFacts,
        arrays: Mapping[str, npt.NDArray[Any]],
        pointers: Sequence[Sequence[Any]],
        weights: mmap.mmap,
    ) -> None:
        self.facts = facts
        self.more = {
            name.removeprefix("more."): array
            for name, array in arrays.items()
            if name.startswith("more.")
        }
        starts = {
            "own": arrays["own"].ctypes.data,
            "file": ctypes.addressof(ctypes.c_char.from_buffer(weights)),
        }
        made = {name: _structs(kind, arrays[name]) for name, kind in _STRUCTS.items()}
        for name, index, field, where, offset in pointers:
            setattr(made[name][index], field, starts[where] + offset)
        self._kept = (arrays, weights, made)
        self._program = ProgramStruct(
            len(made["ops"]), len(made["buffers"]), len(made["matrices"]),
            len(made["layers"]) // 2, facts.row_floats, facts.local_floats, facts.in_buffer,
            facts.out_buffer, made["ops"], made["buffers"], made["matrices"], made["layers"],
        )  # fmt: skip
        self._tile_bytes = tile_bytes(facts.head_dim, 0)
        self._no_rotations = (ctypes.c_void_p * 1)()

    def varlen_hidden(
        self,
        ids: Sequence[int] | Int32s,
        lengths: Sequence[int],
        types: Sequence[int] | None = None,
    ) -> Floats:
        """(N, D); ``lengths`` of the sequences, each at least 1, add up to N."""
        facts = self.facts
        flat = np.ascontiguousarray(ids, np.int32)
        segments = None if types is None else np.ascontiguousarray(types, np.int32)
        self._check("ids", flat)
        self._check("types", segments)
        if max(lengths) > facts.positions:
            raise ContextLengthError(
                f"position {max(lengths) - 1}, but the model has {facts.positions}",
                hint="cut or split the text",
            )
        spans, tiles = varlen_spans(lengths)
        places = np.arange(max(lengths), dtype=np.int32)
        positions = np.concatenate([places[:n] for n in lengths])
        cache = np.empty(tiles * facts.num_kv_heads * self._tile_bytes + ALIGNMENT, np.uint8)
        at = cache.ctypes.data
        out = np.empty((len(flat), facts.width), np.float32)
        none = ctypes.addressof(self._no_rotations)
        step = StepStruct(
            len(flat), len(spans.rows), address_of(flat), address_of(positions),
            address_of(segments), address_of(spans.rows), at + -at % ALIGNMENT, 0,
            none, none, none, None, address_of(out), 0, facts.width,
        )  # fmt: skip
        run_step(self._program, step, _threads())
        return out[:, : facts.hidden_size]

    def _check(self, name: str, ids: Int32s | None) -> None:
        """C would read beyond the table."""
        rows = self.facts.rows.get(name)
        if ids is None or rows is None:
            return
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= rows:
            raise InputError(f"{name} run from {low} to {high}, outside [0, {rows})", param=name)


class _Held:
    """Where each array that a program points to is to be found again: in the file of weights, or
    among the floats that the image keeps itself."""

    def __init__(self, kept: Sequence[npt.NDArray[Any]], weights: mmap.mmap, path: Path) -> None:
        self._arrays = {array.ctypes.data: array for array in kept if array.size}
        tensors, _, base = read_header(weights, path)
        self._in_file: dict[bytes, int] = {}
        for facts in tensors.values():
            start, end = (base + int(n) for n in facts["data_offsets"])
            self._in_file[hashlib.sha256(memoryview(weights)[start:end]).digest()] = start
        self._own: list[Bytes] = []
        self._size = 0

    def place(self, address: int) -> tuple[str, int]:
        array = self._arrays.get(address)
        if array is None:
            raise UnsupportedError("the program points to what it does not keep")
        raw = array.reshape(-1).view(np.uint8)
        found = self._in_file.get(hashlib.sha256(raw.data).digest())
        if found is not None:
            return "file", found
        at = self._size
        padded = -(-len(raw) // ALIGNMENT) * ALIGNMENT
        self._own.append(np.pad(raw, (0, padded - len(raw))))
        self._size += padded
        return "own", at

    def own(self) -> Bytes:
        return np.concatenate(self._own) if self._own else np.zeros(ALIGNMENT, np.uint8)


def _without_pointers(name: str, struct: ctypes.Structure) -> bytes:
    """The bytes of a struct, its pointers zero, so that equal programs give equal files."""
    copy = type(struct).from_buffer_copy(struct)
    for field in _POINTERS.get(name, ()):
        setattr(copy, field, None)
    return bytes(copy)


def _build(weights: mmap.mmap) -> dict[str, str]:
    """What an image depends on beside its model: the structs' layout, and the file of weights."""
    header = weights[: 8 + int.from_bytes(weights[:8], "little")]
    return {
        "image": _VERSION,
        "headers": str(headers_fingerprint()),
        # Of this process, which may have begun before the headers were replaced by newer ones.
        "structs": " ".join(str(ctypes.sizeof(kind)) for kind in _STRUCTS.values()),
        "weights": hashlib.sha256(header).hexdigest(),
    }


def _stored(array: npt.NDArray[Any]) -> StoredTensor:
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return StoredTensor("F32" if array.dtype == np.float32 else "U8", array.shape, raw.data)


def _array(buffer: mmap.mmap, base: int, facts: Mapping[str, Any]) -> npt.NDArray[Any]:
    kind = {"U8": np.uint8, "F32": np.float32}[facts["dtype"]]
    shape = [int(n) for n in facts["shape"]]
    start = base + int(facts["data_offsets"][0])
    return np.frombuffer(buffer, kind, math.prod(shape), start).reshape(shape)


def _structs(kind: Any, raw: Bytes) -> Any:
    return (kind * (len(raw) // ctypes.sizeof(kind))).from_buffer_copy(raw.tobytes())


def _threads() -> int:
    """As many as torch would use: those of OMP_NUM_THREADS, or one a core that this process has."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) else len(os.sched_getaffinity(0))
