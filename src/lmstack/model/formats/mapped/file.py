"""A model in one form, config and weights, in a file whose bytes are used as they lie.

A safetensors file whose data begin at a multiple of 64 bytes, codes first, so that the kernels read
them where they lie in memory. Its metadata hold the config, so that opening it needs no other file,
and say what it was made from (``stamp``). A file with another stamp, of another layout, or cut
short is a `FormatError`, and where the hash is asked for (``verified``) one with a bit flipped, and
with a ``key`` one that was written without it. Not covered: where such files are kept (the
registry's part), other programs, which find names in it that they do not know.
"""

from __future__ import annotations

import dataclasses
import json
import math
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmstack.core import FormatError, InputError, shown
from lmstack.model.config import LayerKind, TransformerConfig
from lmstack.model.formats.assembly import Weight
from lmstack.model.formats.mapped.header import (
    BROKEN_JSON,
    StoredTensor,
    damaged,
    read_bytes,
    read_header,
    verify,
    write_container,
)
from lmstack.model.positions import RopeSpec
from lmstack.model.quant.matrix import BUFFERS, FACTS, QuantizedMatrix

__all__ = ["read_mapped", "write_mapped"]

_DTYPES = {
    **{"U8": torch.uint8, "I8": torch.int8, "I32": torch.int32},
    **{"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32},
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def write_mapped(
    path: Path,
    config: TransformerConfig,
    weights: Mapping[str, Weight],
    stamp: Mapping[str, str],
    key: bytes = b"",
) -> None:
    """``path`` whole or not at all, also across a power cut. ``key``: of its hash (`header`)."""
    matrices = {key: m for key, m in weights.items() if isinstance(m, QuantizedMatrix)}
    tensors = {
        f"{key}.{name}": tensor
        for name in BUFFERS  # codes and lines are of 64 bytes, scales of 32: so all are aligned
        for key, matrix in matrices.items()
        if (tensor := matrix.buffers().get(name)) is not None
    }
    tensors |= {key: tensor for key, tensor in weights.items() if isinstance(tensor, Tensor)}
    described = {key: [int(getattr(m, name)) for name in FACTS] for key, m in matrices.items()}
    metadata = {
        **stamp,
        "config": json.dumps(dataclasses.asdict(config)),
        "matrices": json.dumps(described),
    }
    stored = {name: _stored(tensor) for name, tensor in tensors.items()}
    write_container(path, stored, metadata, key)


def _stored(tensor: Tensor) -> StoredTensor:
    data = tensor.contiguous().flatten().view(torch.uint8).numpy().data
    return StoredTensor(_NAMES[tensor.dtype], tuple(tensor.shape), data)


def read_mapped(
    path: Path, stamp: Mapping[str, str], *, verified: bool = False, key: bytes = b""
) -> tuple[TransformerConfig, dict[str, Weight]]:
    """Config and weights in ``path``, these as views of its bytes in memory, which no change of the
    file reaches. `FormatError`: its stamp lacks something of ``stamp``, or it is damaged.
    `NotFoundError`: there is none. ``verified``: the bytes are compared with their hash, that with
    ``key`` where one is given."""
    buffer = read_bytes(path)
    tensors, metadata, base = read_header(buffer, path)
    wrong = [key for key, value in stamp.items() if metadata.get(key) != value]
    if wrong:
        raise FormatError(f"{path} is of another {wrong[0]}: {shown(metadata.get(wrong[0]))}")
    if verified:
        verify(buffer, metadata, path, key)
    views = {name: _view(buffer, base, facts, name, path) for name, facts in tensors.items()}
    weights: dict[str, Weight] = {}
    try:
        config = _config(json.loads(metadata["config"]))
        described: dict[str, list[int]] = json.loads(metadata["matrices"])
        for name, values in described.items():
            weights[name] = _matrix(name, values, views, path)
    except (*BROKEN_JSON, AttributeError, InputError) as error:
        raise damaged(path, f"its metadata are wrong: {error!r}") from error
    for name, tensor in views.items():
        if not tensor.is_floating_point():
            raise damaged(path, f"{name} holds {tensor.dtype} and is no part of a matrix")
    return config, weights | views


def _matrix(
    key: str, values: Sequence[int], views: dict[str, Tensor], path: Path
) -> QuantizedMatrix:
    """The matrix of which ``values`` are the `FACTS`, fewer in older files; its parts are taken
    out of ``views``."""
    facts: dict[str, Any] = dict(zip(FACTS, map(int, values), strict=False))
    facts["paired"] = bool(facts["paired"])
    codes, scales = (views.pop(f"{key}.{name}") for name in ("codes", "scales"))
    others = (name for name in BUFFERS if name not in ("codes", "scales"))
    facts |= {name: views.pop(f"{key}.{name}", None) for name in others}
    try:
        return QuantizedMatrix(codes, scales, **facts)
    except FormatError as error:
        raise damaged(path, f"{key}: {error.message}") from error


def _config(values: dict[str, Any]) -> TransformerConfig:
    """The config of which ``values`` is the JSON."""
    kinds = [
        LayerKind(
            rope=None if kind["rope"] is None else RopeSpec.from_mapping(_tupled(kind["rope"])),
            window=kind["window"],
        )
        for kind in values["kinds"]
    ]
    encoder = None if values["encoder"] is None else _config(values["encoder"])
    return TransformerConfig.from_mapping(
        {**_tupled(values), "kinds": tuple(kinds), "encoder": encoder}
    )


def _tupled(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _view(buffer: mmap.mmap, base: int, facts: Any, name: str, path: Path) -> Tensor:
    try:
        dtype, shape = _DTYPES[facts["dtype"]], [int(n) for n in facts["shape"]]
        start, end = (int(n) for n in facts["data_offsets"])
    except BROKEN_JSON as error:
        raise damaged(path, f"{name} is described as {shown(facts)}") from error
    count = math.prod(shape)
    fits = min(shape, default=1) > 0 and count * dtype.itemsize == end - start
    if not fits or not 0 <= start <= end <= len(buffer) - base or (base + start) % dtype.itemsize:
        raise damaged(path, f"{name} is described as {shown(facts)}")
    return torch.frombuffer(buffer, dtype=dtype, count=count, offset=base + start).view(shape)
