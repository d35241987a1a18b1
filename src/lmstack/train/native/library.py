"""The build of this folder's C files by ctypes, and what it is handed: pointers into tensors.
LMSTACK_KERNELS=none does without, as without the engine's native ops; any other path that is named
there but amx does without AMX tiles."""

from __future__ import annotations

import ctypes
import functools
import os
import sysconfig
import zlib
from ctypes import Structure
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["LANES", "PANEL", "available", "call", "pointer", "threads"]

# Columns come in whole lanes, those of matrices in whole panels (native.h).
LANES, PANEL = 16, 32


@functools.cache
def _library() -> ctypes.CDLL | None:
    if os.environ.get("LMSTACK_KERNELS") == "none":
        return None
    folder = Path(__file__).parent
    try:
        library = ctypes.CDLL(str(folder / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"))
    except OSError:
        return None  # not compiled here
    # A build of other sources may take other structs.
    sources = b"".join(file.read_bytes() for file in sorted(folder.glob("*.[ch]")))
    if library.lmt_sources() != zlib.crc32(sources) & 0x7FFFFFFF:
        return None
    if not library.lmt_available():
        return None
    library.lmt_use_tiles(os.environ.get("LMSTACK_KERNELS", "") in ("", "amx"))
    return library


def available() -> bool:
    """Whether this build and this processor have these ops."""
    return _library() is not None


def call(name: str, job: Structure) -> None:
    """A function that takes one struct. The caller holds what that points to."""
    library = _library()
    assert library is not None
    getattr(library, name)(ctypes.byref(job))


def threads() -> int:
    """Into how many parts a job is cut."""
    return torch.get_num_threads()


def pointer(tensor: Tensor | None) -> int | None:
    """To the first number of a contiguous tensor, or of a view whose strides are told."""
    return None if tensor is None else tensor.data_ptr()
