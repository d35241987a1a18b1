"""From the tensors of a file to those of our module, whatever the file.

A `TensorSource` gives named tensors; a table (of a family or a GGUF architecture, in the language
of `layouts`) says which of them make up each of ours, and how. Everything is checked
against the shapes that the config implies before memory is asked for, so a file that lies about
its sizes costs an error and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from lmstack.core import FormatError, shown
from lmstack.model.config import TransformerConfig
from lmstack.model.formats.layouts import ROWS, HeadCounts, Table, TensorPiece, pieces, stored_names
from lmstack.model.layers import Embedding, Linear
from lmstack.model.quant.matrix import QuantizedMatrix
from lmstack.model.transformer import Transformer

__all__ = [
    "AssemblyPlan",
    "TensorSource",
    "Weight",
    "check_weights",
    "head_counts",
    "matrices_of",
    "meta_module",
    "planned",
]

T = TypeVar("T")
Weight = Tensor | QuantizedMatrix
_INCOMPLETE = "the file is damaged or incomplete; fetch the model again"
_AGAIN = "quantize the original model again: lmstack model quantize"
_FOREIGN = "the config does not belong to these weights"
_FEW_ROWS = ("classifier", "router")


class TensorSource(Protocol):
    """The tensors of a file or folder. ``label`` names it in messages."""

    label: str

    def names(self) -> Collection[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> torch.dtype:
        """What `read` gives when not asked for another; an error where that is no float."""
        ...

    def read_into(self, name: str, out: Tensor) -> None:
        """Fill ``out``, of the tensor's shape and any floating dtype. Thread-safe."""
        ...


def meta_module(config: TransformerConfig, num_tensors: int, label: str) -> Transformer:
    """The module without memory. Refuses layer counts that so many tensors cannot fill."""
    layers = config.num_layers + (0 if config.encoder is None else config.encoder.num_layers)
    if layers > num_tensors:
        raise FormatError(
            f"{label} has {num_tensors} tensors, too few for {layers} layers", hint=_INCOMPLETE
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


@dataclass(frozen=True)
class AssemblyPlan:
    """Which tensors of ``source`` make up each of ours, checked; nothing is read yet.

    ``shapes``: of our parameters, by name. ``matrices``: those whose number of bits may be
    chosen, each with whether it is the gate and up of a gated MLP."""

    config: TransformerConfig
    source: TensorSource
    shapes: Mapping[str, tuple[int, ...]]
    matrices: Mapping[str, bool]
    _spelled: Mapping[str, Table]
    _available: Collection[str]

    def parts(self, key: str, ours: Tensor | None = None) -> list[TensorPiece]:
        """The stored tensors that make up ``key``, as views of ``ours``."""
        if ours is None:
            ours = torch.empty(self.shapes[key], device="meta")
        return pieces(key, ours, self._spelled[key], head_counts(self.config))

    def has(self, piece: TensorPiece) -> bool:
        """Whether the source holds it; what it may leave out has a default."""
        return piece.name in self._available

    def read(self, key: str, dtype: torch.dtype | None) -> Tensor:
        """Our tensor ``key`` in ``dtype``, or as it is stored."""
        names = [p.name for p in self.parts(key) if self.has(p)]
        kind = dtype or (self.source.dtype(names[0]) if names else torch.float32)
        out = torch.empty(self.shapes[key], dtype=kind)
        for piece in self.parts(key, out):
            _read(self.source, piece, self._available)
        return out

    def tensors(self, dtype: torch.dtype | None) -> dict[str, Tensor]:
        """All of ours."""
        return self.each(lambda key: self.read(key, dtype))

    def each(self, made: Callable[[str], T]) -> dict[str, T]:
        """What ``made`` gives for the name of each of ours, a few at a time."""
        # A tensor a thread. Left to torch's own workers alone, which spin while they wait for
        # each other after every small op, loading takes up to ten times as long on a busy machine.
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return dict(zip(self.shapes, pool.map(made, self.shapes), strict=True))


def planned(
    module: Transformer,
    table: Table,
    source: TensorSource,
    *,
    ignored: tuple[str, ...] = (),
    alternatives: Table | None = None,
) -> AssemblyPlan:
    """``ignored``: ends of names that carry no weights. ``alternatives``: entries of the table
    used where the file has their names instead.

    A tensor that is missing, of another shape, or of no use to the config is a `FormatError`:
    weights are never left out in silence.
    """
    available = set(source.names())
    state = module.state_dict()
    spelled = {key: _spelling(key, table, alternatives or {}, available) for key in state}
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    plan = AssemblyPlan(module.config, source, shapes, matrices_of(module), spelled, available)
    used: set[str] = set()
    for key, meta in state.items():
        for piece in plan.parts(key, meta):
            _check(source, piece, available)
            used.update((piece.name, *piece.part.copies))
    _check_extra(source.label, available - used, ignored)
    return plan


def matrices_of(module: Transformer) -> dict[str, bool]:
    """Names of the matrices of linear layers and embedding tables of tokens, each with whether
    it holds gate and up. Left out are the few rows of classifiers and routers, and tables of
    positions and token types."""
    found = {}
    for path, child in module.named_modules():
        name = path.rpartition(".")[2]
        is_table = isinstance(child, Embedding) and name == "embed"
        if is_table or (isinstance(child, Linear) and name not in _FEW_ROWS):
            inner = module.config.encoder if path.startswith("encoder.") else module.config
            assert inner is not None
            found[f"{path}.weight"] = path.endswith(".mlp.up") and inner.mlp == "glu"
    return found


def check_weights(module: Transformer, weights: Mapping[str, Weight], label: str) -> None:
    """`FormatError` unless ``weights`` are those that ``module`` declares: every one of its shape,
    floats of one dtype, quantized only what has a kernel for it. What computes with them, in C
    above all, relies on it. ``label`` names them."""
    declared, matrices = module.state_dict(), matrices_of(module)
    for key, meta in declared.items():
        if key not in weights:
            raise _missing(label, key)
        _check_shape(label, key, tuple(weights[key].shape), tuple(meta.shape))
    _check_extra(label, weights.keys() - declared.keys())
    dtypes = set()
    for key, weight in weights.items():
        if isinstance(weight, Tensor):
            dtypes.add(weight.dtype)
        elif key not in matrices:
            raise FormatError(
                f"{label}: {key} is quantized, which only the matrices of linear layers and the"
                " table of tokens can be",
                hint=_AGAIN,
            )
        elif weight.paired != matrices[key]:
            held = "rows of gate and up in turns" if weight.paired else "its rows in order"
            raise FormatError(f"{label}: {key} is quantized with {held}", hint=_AGAIN)
    if len(dtypes) > 1 or not all(dtype.is_floating_point for dtype in dtypes):
        raise FormatError(
            f"{label} holds tensors of {', '.join(sorted(map(str, dtypes)))} together",
            hint="give all of them one floating dtype",
        )


def _spelling(key: str, table: Table, others: Table, available: Collection[str]) -> Table:
    """``others`` where it knows ``key`` and the file has its names, else ``table``."""
    try:
        names = stored_names(key, others)
    except KeyError:
        return table
    return others if names[0].replace("{e}", "0") in available else table


def _check(source: TensorSource, piece: TensorPiece, available: Collection[str]) -> None:
    if piece.name not in available:
        if piece.part.default is not None:
            return
        raise _missing(source.label, piece.name)
    source.dtype(piece.name)  # an error where its numbers are no floats
    _check_shape(source.label, piece.name, source.shape(piece.name), piece.shape)


def _missing(label: str, name: str) -> FormatError:
    return FormatError(f"{label} has no tensor {shown(name)}", hint=_INCOMPLETE)


def _check_shape(label: str, name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if found != wanted:
        raise FormatError(
            f"{label}: {name} has shape {found}, its config says {wanted}", hint=_FOREIGN
        )


def _check_extra(label: str, unused: Collection[str], ignored: tuple[str, ...] = ()) -> None:
    extra = sorted(n for n in unused if not n.endswith(ignored))
    if extra:
        raise FormatError(
            f"{label} has {len(extra)} tensors that its config has no place for: "
            + ", ".join(extra[:3]),
            hint=_FOREIGN,
        )


def _read(source: TensorSource, piece: TensorPiece, available: Collection[str]) -> None:
    if piece.name not in available:
        assert piece.part.default is not None
        piece.view.fill_(piece.part.default)
    elif piece.part.layout is ROWS and piece.view.is_contiguous():
        source.read_into(piece.name, piece.view)
    else:
        stored = torch.empty(piece.shape, dtype=source.dtype(piece.name))
        source.read_into(piece.name, stored)
        piece.read(stored)
