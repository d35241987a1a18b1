"""Files of tensors taken apart and put together again, right or wrong: safetensors and GGUF.

Neither reading nor writing checks anything: what is put together may be nonsense on purpose.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Entry", "Gguf", "Safetensors", "Tensor"]

_ALIGNMENT = 32
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


@dataclass
class Tensor:
    """``kind``: a dtype of safetensors, or a number of ggml. ``shape``: as the file has it.
    ``offsets``: what the header says instead of where the data are."""

    name: str
    kind: Any
    shape: list[int]
    data: bytes
    offsets: tuple[int, int] | None = None


@dataclass
class Safetensors:
    """``padding``: blanks behind the header, which move the data."""

    tensors: list[Tensor]
    metadata: dict[str, Any]
    padding: int = 0

    @classmethod
    def parsed(cls, raw: bytes) -> Safetensors:
        size = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + size])
        metadata, data = header.pop("__metadata__", {}), raw[8 + size :]
        tensors = [
            Tensor(name, facts["dtype"], list(facts["shape"]), data[slice(*facts["data_offsets"])])
            for name, facts in header.items()
        ]
        return cls(tensors, metadata)

    def written(self) -> bytes:
        header: dict[str, Any] = {"__metadata__": self.metadata}
        end = 0
        for tensor in self.tensors:
            start, end = end, end + len(tensor.data)
            header[tensor.name] = {
                "dtype": tensor.kind,
                "shape": tensor.shape,
                "data_offsets": list(tensor.offsets or (start, end)),
            }
        text = json.dumps(header).encode()
        text += b" " * (-(len(text) + 8) % 64 + self.padding)
        return struct.pack("<Q", len(text)) + text + b"".join(t.data for t in self.tensors)


@dataclass
class Entry:
    """A key of GGUF's metadata; ``raw``: its value as it is written."""

    key: str
    kind: int
    raw: bytes


@dataclass
class Gguf:
    entries: list[Entry]
    tensors: list[Tensor]
    offsets: dict[str, int] = field(default_factory=dict)

    @classmethod
    def parsed(cls, raw: bytes) -> Gguf:
        at = 8
        num_tensors, num_entries = struct.unpack_from("<QQ", raw, at)
        at += 16
        entries = []
        for _ in range(num_entries):
            key, at = _string(raw, at)
            (kind,) = struct.unpack_from("<I", raw, at)
            end = _end(raw, at + 4, kind)
            entries.append(Entry(key, kind, raw[at + 4 : end]))
            at = end
        described = []
        for _ in range(num_tensors):
            name, at = _string(raw, at)
            (dims,) = struct.unpack_from("<I", raw, at)
            shape = list(struct.unpack_from(f"<{dims}Q", raw, at + 4))
            kind, offset = struct.unpack_from("<IQ", raw, at + 4 + 8 * dims)
            described.append((name, kind, shape, offset))
            at += 4 + 8 * dims + 12
        base = -(-at // _ALIGNMENT) * _ALIGNMENT
        ends = sorted([d[3] for d in described] + [len(raw) - base])
        tensors = [
            Tensor(name, kind, shape, raw[base + start : base + ends[ends.index(start) + 1]])
            for name, kind, shape, start in described
        ]
        return cls(entries, tensors)

    def written(self) -> bytes:
        out = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.entries))
        for entry in self.entries:
            out += _written(entry.key) + struct.pack("<I", entry.kind) + entry.raw
        end = 0
        for tensor in self.tensors:
            offset = end if tensor.offsets is None else tensor.offsets[0] % (1 << 64)
            dims = [n % (1 << 64) for n in tensor.shape]
            out += _written(tensor.name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
            out += struct.pack("<IQ", tensor.kind % (1 << 32), offset)
            end += -(-len(tensor.data) // _ALIGNMENT) * _ALIGNMENT
        out += bytes(-len(out) % _ALIGNMENT)
        return out + b"".join(t.data + bytes(-len(t.data) % _ALIGNMENT) for t in self.tensors)


def _string(raw: bytes, at: int) -> tuple[str, int]:
    end = at + 8 + struct.unpack_from("<Q", raw, at)[0]
    return raw[at + 8 : end].decode(), end


def _written(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(raw)) + raw


def _end(raw: bytes, at: int, kind: int) -> int:
    """Where a value ends."""
    if kind == _STRING:
        return _string(raw, at)[1]
    if kind != _ARRAY:
        return at + _WIDTHS[kind]
    inner, count = struct.unpack_from("<IQ", raw, at)
    at += 12
    if inner in _WIDTHS:
        return int(at + count * _WIDTHS[inner])
    for _ in range(count):
        at = _end(raw, at, inner)
    return at
