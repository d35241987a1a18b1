"""From the tensors of a file to those of our module, whatever the file.

A `TensorSource` gives named tensors; a table of names (`families`, `gguf_families`) says which
of them make up each of ours. Everything is checked against the shapes that the config implies
before memory is asked for, so a file that lies about its sizes costs an error and no more.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from lmstack.core import FormatError, shown
from lmstack.model.config import TransformerConfig
from lmstack.model.transformer import Transformer

__all__ = ["TensorSource", "assemble", "meta_module", "part_rows", "source_names"]


class TensorSource(Protocol):
    """The tensors of a file or folder. ``label`` names it in messages."""

    label: str

    def names(self) -> Collection[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> torch.dtype:
        """What `read` gives when not asked for another."""
        ...

    def read_into(self, name: str, out: Tensor) -> None:
        """Fill ``out``, of the tensor's shape and any floating dtype. Thread-safe."""
        ...


def meta_module(config: TransformerConfig, source: TensorSource) -> Transformer:
    """The module without memory. Refuses layer counts that the source cannot fill."""
    if config.num_layers > len(source.names()):
        raise FormatError(
            f"{source.label} has {len(source.names())} tensors, "
            f"too few for {config.num_layers} layers",
            hint="the file is damaged or incomplete; fetch the model again",
        )
    with torch.device("meta"):
        return Transformer(config)


def source_names(key: str, table: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The names in ``table`` of our parameter ``key``, for example blocks.3.mlp.up.weight."""
    path, _, kind = key.rpartition(".")
    layer = re.search(r"\.(\d+)\.", path)
    if layer is None:
        return tuple(f"{name}.{kind}" for name in table[path])
    template = path.replace(layer.group(), ".{i}.", 1)
    return tuple(f"{name.format(i=layer.group(1))}.{kind}" for name in table[template])


def part_rows(key: str, rows: int, parts: int, config: TransformerConfig) -> Sequence[int]:
    """Rows of each part of our parameter ``key`` that is a concatenation of ``parts``."""
    if parts == 1:
        return [rows]
    if ".qkv." in key:
        kv = config.num_kv_heads * config.head_dim
        return [config.num_heads * config.head_dim, kv, kv]
    return [rows // parts] * parts


def assemble(
    module: Transformer,
    table: Mapping[str, tuple[str, ...]],
    source: TensorSource,
    *,
    dtype: torch.dtype | None,
    ignored: tuple[str, ...] = (),
) -> dict[str, Tensor]:
    """Our tensors, in ``dtype`` or as stored. ``ignored``: ends of names that carry no weights.

    A tensor that is missing, of another shape, or of no use to the config is a `FormatError`:
    weights are never left out in silence.
    """
    available = set(source.names())
    plan: list[tuple[str, tuple[int, ...], list[tuple[str, int]]]] = []
    for key, parameter in module.state_dict().items():
        shape = tuple(parameter.shape)
        names = source_names(key, table)
        rows = part_rows(key, shape[0], len(names), module.config)
        parts = list(zip(names, rows, strict=True))
        for name, count in parts:
            _check(source, name, (count, *shape[1:]), available)
        plan.append((key, shape, parts))
    used = {name for _, _, parts in plan for name, _ in parts}
    extra = sorted(n for n in available - used if not n.endswith(ignored))
    if extra:
        raise FormatError(
            f"{source.label} has {len(extra)} tensors that its config has no place for: "
            + ", ".join(extra[:3]),
            hint="the config does not belong to these weights",
        )
    # A tensor a thread. Left to torch's own workers alone, which spin while they wait for each
    # other after every small op, loading takes up to ten times as long on a busy machine.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        read = pool.map(lambda item: _read(source, item[1], item[2], dtype), plan)
        return {key: tensor for (key, _, _), tensor in zip(plan, read, strict=True)}


def _check(
    source: TensorSource, name: str, shape: tuple[int, ...], available: Collection[str]
) -> None:
    if name not in available:
        raise FormatError(
            f"{source.label} has no tensor {shown(name)}",
            hint="the file is damaged or incomplete; fetch the model again",
        )
    if source.shape(name) != shape:
        raise FormatError(
            f"{source.label}: {name} has shape {source.shape(name)}, its config says {shape}",
            hint="the config does not belong to these weights",
        )


def _read(
    source: TensorSource,
    shape: tuple[int, ...],
    parts: Sequence[tuple[str, int]],
    dtype: torch.dtype | None,
) -> Tensor:
    out = torch.empty(shape, dtype=dtype or source.dtype(parts[0][0]))
    start = 0
    for name, rows in parts:
        source.read_into(name, out[start : start + rows])
        start += rows
    return out
