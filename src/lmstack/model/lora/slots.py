"""Where the modules of a family's Hugging Face class lie in ours, for adapters to find them.

The same tables that read and write folders answer it: a `Slot` is a range of rows of one of our
parameters under the name of the module that others keep there. Does not cover what is done with
them (`adapter`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lmstack.core import FormatError, shown
from lmstack.model.families import FAMILIES, Family, config_to_json
from lmstack.model.formats.assembly import head_counts
from lmstack.model.formats.layouts import ROWS, TRANSPOSED, TensorPart, TensorPiece, pieces
from lmstack.model.layers import Linear
from lmstack.model.lora.layers import LoraLinear
from lmstack.model.quant.matrix import held_weights
from lmstack.model.transformer import Transformer

__all__ = ["Names", "Slot", "names_for", "names_of"]


@dataclass(frozen=True)
class Slot:
    """Rows ``start:stop`` of our parameter ``key``, which theirs called ``name`` holds whole."""

    name: str
    key: str
    start: int
    stop: int
    piece: TensorPiece

    @property
    def path(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def is_transposed(self) -> bool:
        return self.piece.part.layout is TRANSPOSED

    def rows_read(self, stored: Tensor) -> Tensor:
        """Rows in the order of theirs to ours; a factor has rows like the weight, and is never
        transposed."""
        ours = torch.empty_like(stored)
        self._rows(ours).read(stored)
        return ours

    def rows_written(self, ours: Tensor) -> Tensor:
        return self._rows(ours).written()

    def _rows(self, view: Tensor) -> TensorPiece:
        part = TensorPart(self.piece.name, ROWS) if self.is_transposed else self.piece.part
        return dataclasses.replace(self.piece, part=part, view=view)


@dataclass(frozen=True)
class Names:
    """Modules and parameters of one family's class: ``linears`` by the name of the module,
    ``parameters`` by that of the parameter. ``outputs``: modules that give the output."""

    family: Family
    linears: Mapping[str, Slot]
    parameters: Mapping[str, Slot]
    outputs: frozenset[str]
    prefix: str

    def spelled(self, name: str, known: Mapping[str, Slot]) -> str | None:
        """``name`` as it is in ``known``: adapters may come from a class with or without a
        head, whose names differ by a prefix, and from older versions of it."""
        family = self.family
        for pattern, replacement in family.renames:
            name = re.sub(pattern, replacement, name)
        tried = (name, family.prefix + name, name.removeprefix(family.prefix))
        return next((spelling for spelling in tried if spelling in known), None)


def names_of(
    module: Transformer, family: Family | None = None, *, model_type: str | None = None
) -> Names:
    """The names in ``family``, or in the first that writes this config, ``model_type`` before
    others."""
    chosen = config_to_json(module.config, model_type)[0] if family is None else family
    # A base model without a head is a class of its own, whose names have no prefix.
    prefix = chosen.prefix if module.config.head in ("none", "pool") else ""
    parameters = {slot.name: slot for slot in _slots(module, chosen, prefix)}
    paths = {p for p, m in module.named_modules() if isinstance(m, Linear | LoraLinear)}
    linears = {
        slot.name.removesuffix(".weight"): slot
        for slot in parameters.values()
        if slot.path in paths and slot.key.endswith(".weight")
    }
    outputs = frozenset(n for n, s in linears.items() if s.path in ("head", "classifier"))
    return Names(chosen, linears, parameters, outputs, prefix)


def names_for(module: Transformer, modules: Iterable[str], source: str) -> Names:
    """The names of the family in which all ``modules`` (of linear layers) are found."""
    wanted = list(modules)
    first = names_of(module)
    missing = [name for name in wanted if first.spelled(name, first.linears) is None]
    if not missing:
        return first
    for family in FAMILIES:
        try:
            names = names_of(module, family)
        except (KeyError, RuntimeError):  # a module that it has no name for, or of another shape
            continue
        if all(names.spelled(name, names.linears) is not None for name in wanted):
            return names
    known = ", ".join(list(first.linears)[:3])
    raise FormatError(
        f"{source} adapts {shown(missing[0])}, which this model does not have",
        hint=f"the adapter belongs to another model; here there are {known} ...",
    )


def _slots(module: Transformer, family: Family, prefix: str) -> Iterator[Slot]:
    table, heads = family.table(module.config), head_counts(module.config)
    for key, parameter in _parameters(module):
        start = 0
        for piece in pieces(key, parameter, table, heads):
            stop = start + (piece.view.shape[0] if piece.view.dim() else 0)
            yield Slot(piece.name.removeprefix(prefix), key, start, stop, piece)
            start = stop


def _parameters(module: Transformer) -> Iterator[tuple[str, Tensor]]:
    """Shapes of the parameters of the base, whatever adapters stand in their place."""
    for key, weight in held_weights(module).items():
        if ".terms." not in key:
            yield key.replace(".base.", "."), torch.empty(weight.shape, device="meta")
