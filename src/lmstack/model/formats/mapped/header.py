"""Files of tensors that kernels read as they lie, without torch, which takes a second to load.

The layout is that of safetensors; the header says what the file was made from and what is in it,
and holds a hash of all bytes, its own included (with zeros in the place of the hash). Anybody can
write a file whose SHA-256 is right; with a key it is an HMAC (RFC 2104), which says that a holder
of the key wrote these bytes. Files are read and not mapped: a map, also a private one, shows what
others write to the file afterwards. Not covered: what the tensors mean (`file` for weights).
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, NotFoundError, shown
from lmstack.core.files import replaced_file, store_error

__all__ = [
    "BROKEN_JSON",
    "LAYOUT",
    "QUANTIZED_FILE",
    "StoredTensor",
    "damaged",
    "read_bytes",
    "read_header",
    "read_stamp",
    "verify",
    "write_container",
]

# To be counted up when the fields of the config, the names of our tensors or the layout of their
# bytes change.
LAYOUT = "2"
# The name of such a file in the folder of a model that is quantized.
QUANTIZED_FILE = "lmstack.safetensors"
# What JSON of another kind than is expected, or of numbers without bounds, raises when it is read.
BROKEN_JSON = (ValueError, LookupError, TypeError, OverflowError, RecursionError)
_MOST_HEADER = 64 << 20
_ALIGNMENT = 64
_NO_HASH = "0" * 64


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as it is written. ``dtype``: as safetensors calls it."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview


def write_container(
    path: Path, tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str], key: bytes = b""
) -> None:
    """``path`` whole or not at all, also across a power cut. The first of ``tensors`` begins at a
    multiple of 64 bytes. ``key``: of the hash, if it is to have one."""
    header: dict[str, Any] = {"__metadata__": {**metadata, "layout": LAYOUT, _kind(key): _NO_HASH}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.data.nbytes
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    digest = _hasher(key, text)
    for tensor in tensors.values():
        digest.update(tensor.data)
    text = text.replace(_field(key, _NO_HASH), _field(key, digest.hexdigest()), 1)
    with replaced_file(path) as partial, partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.data)


def _kind(key: bytes) -> str:
    return "hmac" if key else "sha256"


def _hasher(key: bytes, start: bytes) -> Any:
    return hmac.new(key, start, "sha256") if key else hashlib.sha256(start)


def _field(key: bytes, digest: str) -> bytes:
    return f'"{_kind(key)}":"{digest}"'.encode()


def verify(buffer: mmap.mmap, metadata: Mapping[str, str], path: Path, key: bytes = b"") -> None:
    """`FormatError` unless the bytes are those that were written, with ``key`` if one is given:
    then a plain hash is not enough."""
    size = 8 + int.from_bytes(buffer[:8], "little")
    found = metadata.get(_kind(key), "")
    start = buffer[8:size].replace(_field(key, found), _field(key, _NO_HASH), 1)
    digest = _hasher(key, start)
    with memoryview(buffer) as view, view[size:] as data:
        digest.update(data)
    if not hmac.compare_digest(digest.hexdigest().encode(), found.encode()):
        by = " with the key of this home" if key else ""
        raise damaged(path, f"its bytes are not those that were written{by}")


def read_stamp(path: Path) -> dict[str, str]:
    """What the file says that it was made from. The rest of it is not read."""
    with _opened(path) as file:
        return read_header(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), path)[1]


def read_bytes(path: Path) -> mmap.mmap:
    """All bytes of ``path``, in memory of this process alone, from the start of a page on."""
    with _opened(path) as file:
        buffer = mmap.mmap(-1, os.fstat(file.fileno()).st_size)
        with memoryview(buffer) as view:
            if file.readinto(view) < len(view):
                raise damaged(path, "it was cut while it was read")
        return buffer


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """``path``, which is not empty."""
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise damaged(path, "it is empty")
            yield file
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist") from None
    except OSError as error:
        raise store_error(error, path, "reading") from error


def read_header(buffer: mmap.mmap, path: Path) -> tuple[dict[str, Any], dict[str, str], int]:
    """Tensors, metadata, and where the data begin. Checks the size of the file."""
    size = int.from_bytes(buffer[:8], "little")
    if size > min(_MOST_HEADER, len(buffer) - 8):
        raise damaged(path, "it ends in its header")
    try:
        tensors = json.loads(buffer[8 : 8 + size])
        metadata = tensors.pop("__metadata__")
        end = max((int(t["data_offsets"][1]) for t in tensors.values()), default=0)
        if metadata["layout"] != LAYOUT:
            raise FormatError(f"{path} is of layout {shown(metadata['layout'])}, not {LAYOUT}")
    except (*BROKEN_JSON, AttributeError) as error:
        raise damaged(path, f"its header is wrong: {error!r}") from error
    if end != len(buffer) - 8 - size:
        raise damaged(path, f"it has {len(buffer)} bytes instead of {end + 8 + size}")
    return tensors, metadata, 8 + size


def damaged(path: Path, what: str) -> FormatError:
    # Only what lmstack keeps for itself is made anew.
    hint = "get the model again" if path.name == QUANTIZED_FILE else "delete it; it is made anew"
    return FormatError(f"{path} is damaged: {what}", hint=hint)
