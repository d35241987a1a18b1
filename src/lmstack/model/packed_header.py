"""The header of a packed file: read and checked without torch, which takes a second to load.

Says what the file was made from and what is in it. Not covered: the weights (`packed_file`).
"""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, NotFoundError, StoreError, shown

__all__ = ["LAYOUT", "PACKED", "damaged", "mapped", "read_header", "read_stamp"]

# To be counted up when the fields of the config, the names of our tensors or the layout of their
# bytes change.
LAYOUT = "1"
# The name of such a file in the folder of a model that is quantized.
PACKED = "lmstack.safetensors"
_MOST_HEADER = 64 << 20


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
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error


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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, f"its header is wrong: {error!r}") from error
    if end != len(buffer) - 8 - size:
        raise damaged(path, f"it has {len(buffer)} bytes instead of {end + 8 + size}")
    return tensors, metadata, 8 + size


def damaged(path: Path, what: str) -> FormatError:
    return FormatError(f"{path} is damaged: {what}", hint="delete it; it is made anew")
