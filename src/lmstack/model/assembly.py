"""From the tensors of a file to those of our module, whatever the file.

A `TensorSource` gives named tensors; a table (`families`, `gguf_families`; its language is
described in `layouts`) says which of them make up each of ours, and how. Everything is checked
against the shapes that the config implies before memory is asked for, so a file that lies about
its sizes costs an error and no more.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from lmstack.core import FormatError, shown
from lmstack.model.config import TransformerConfig
from lmstack.model.layouts import ROWS, HeadCounts, Piece, Table, pieces, stored_names
from lmstack.model.transformer import Transformer

__all__ = ["TensorSource", "assemble", "head_counts", "meta_module"]


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
    layers = config.num_layers + (0 if config.encoder is None else config.encoder.num_layers)
    if layers > len(source.names()):
        raise FormatError(
            f"{source.label} has {len(source.names())} tensors, too few for {layers} layers",
            hint="the file is damaged or incomplete; fetch the model again",
        )
    with torch.device("meta"):
        return Transformer(config)


def head_counts(config: TransformerConfig) -> HeadCounts:
    encoder = getattr(config, "encoder", None)
    return HeadCounts(
        config.num_heads,
        config.num_kv_heads,
        config.head_dim,
        None if encoder is None else head_counts(encoder),
    )


def assemble(
    module: Transformer,
    table: Table,
    source: TensorSource,
    *,
    dtype: torch.dtype | None,
    ignored: tuple[str, ...] = (),
    alternatives: Table | None = None,
) -> dict[str, Tensor]:
    """Our tensors, in ``dtype`` or as stored. ``ignored``: ends of names that carry no weights.
    ``alternatives``: entries of the table used where the file has their names instead.

    A tensor that is missing, of another shape, or of no use to the config is a `FormatError`:
    weights are never left out in silence.
    """
    available = set(source.names())
    parameters = module.state_dict()
    heads = head_counts(module.config)
    plan = {
        key: pieces(key, meta, _spelling(key, table, alternatives or {}, available), heads)
        for key, meta in parameters.items()
    }
    for parts in plan.values():
        for piece in parts:
            _check(source, piece, available)
    used = {name for ps in plan.values() for p in ps for name in (p.name, *p.part.copies)}
    _check_extra(source, available - used, ignored)

    def read(key: str) -> Tensor:
        names = [p.name for p in plan[key] if p.name in available]
        kind = dtype or (source.dtype(names[0]) if names else torch.float32)
        out = torch.empty(parameters[key].shape, dtype=kind)
        spelling = _spelling(key, table, alternatives or {}, available)
        for piece in pieces(key, out, spelling, heads):
            _read(source, piece, available)
        return out

    # A tensor a thread. Left to torch's own workers alone, which spin while they wait for each
    # other after every small op, loading takes up to ten times as long on a busy machine.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return dict(zip(plan, pool.map(read, plan), strict=True))


def _spelling(key: str, table: Table, others: Table, available: Collection[str]) -> Table:
    """``others`` where it knows ``key`` and the file has its names, else ``table``."""
    try:
        names = stored_names(key, others)
    except KeyError:
        return table
    return others if names[0].replace("{e}", "0") in available else table


def _check(source: TensorSource, piece: Piece, available: Collection[str]) -> None:
    if piece.name not in available:
        if piece.part.default is not None:
            return
        raise FormatError(
            f"{source.label} has no tensor {shown(piece.name)}",
            hint="the file is damaged or incomplete; fetch the model again",
        )
    if source.shape(piece.name) != piece.shape:
        raise FormatError(
            f"{source.label}: {piece.name} has shape {source.shape(piece.name)}, "
            f"its config says {piece.shape}",
            hint="the config does not belong to these weights",
        )


def _check_extra(source: TensorSource, unused: Collection[str], ignored: tuple[str, ...]) -> None:
    extra = sorted(n for n in unused if not n.endswith(ignored))
    if extra:
        raise FormatError(
            f"{source.label} has {len(extra)} tensors that its config has no place for: "
            + ", ".join(extra[:3]),
            hint="the config does not belong to these weights",
        )


def _read(source: TensorSource, piece: Piece, available: Collection[str]) -> None:
    if piece.name not in available:
        assert piece.part.default is not None
        piece.view.fill_(piece.part.default)
    elif piece.part.layout is ROWS and piece.view.is_contiguous():
        source.read_into(piece.name, piece.view)
    else:
        stored = torch.empty(piece.shape, dtype=source.dtype(piece.name))
        source.read_into(piece.name, stored)
        piece.read(stored)
