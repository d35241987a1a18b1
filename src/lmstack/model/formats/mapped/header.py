"""Files of tensors that are used through a memory map, without torch, which takes a second to load.

The layout is that of safetensors; the header says what the file was made from and what is in it,
and holds a hash of all bytes, its own included (with zeros in the place of the hash).
Not covered: what the tensors mean (`file` for weights).
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, NotFoundError, shown
from lmstack.core.files import replaced_file, store_error

__all__ = [
    "BROKEN_JSON",
    "LAYOUT",
    "QUANTIZED_FILE",
    "Stored",
    "damaged",
    "mapped",
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
class Stored:
    """A tensor as it is written. ``dtype``: as safetensors calls it."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview


def write_container(path: Path, tensors: Mapping[str, Stored], metadata: Mapping[str, str]) -> None:
    """``path`` whole or not at all, also across a power cut. The first of ``tensors`` begins at a
    multiple of 64 bytes."""
    header: dict[str, Any] = {"__metadata__": {**metadata, "layout": LAYOUT, "sha256": _NO_HASH}}
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
    digest = hashlib.sha256(text)
    for tensor in tensors.values():
        digest.update(tensor.data)
    text = text.replace(_field(_NO_HASH), _field(digest.hexdigest()), 1)
    with replaced_file(path) as partial, partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.data)


def _field(digest: str) -> bytes:
    return f'"sha256":"{digest}"'.encode()


def verify(buffer: mmap.mmap, metadata: Mapping[str, str], path: Path) -> None:
    """`FormatError` unless the bytes are those that were written. Reads all of them."""
    size = 8 + int.from_bytes(buffer[:8], "little")
    found = metadata.get("sha256", "")
    digest = hashlib.sha256(buffer[8:size].replace(_field(found), _field(_NO_HASH), 1))
    with memoryview(buffer) as view, view[size:] as data:
        digest.update(data)
    if digest.hexdigest() != found:
        raise damaged(path, "its bytes are not those that were written")


def read_stamp(path: Path) -> dict[str, str]:
    """What the file says that it was made from."""
    return read_header(mapped(path), path)[1]


def mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            # Copy on write: torch wants writable memory, and nothing may reach the file.
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist") from None
    except ValueError:
        raise damaged(path, "it is empty") from None
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
