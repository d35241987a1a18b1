"""What an adapter adds to each matrix of a model, as numbers that any number of requests share.

The model stays as it is: `read_terms` gives the terms of a PEFT folder in the order of our fused
rows, for a base in any form, and who computes adds them to the rows of the requests that ask for
them. Covers LoRA, rank-stabilized LoRA and DoRA on the linear layers of decoders. Not covered, and
refused: modules that are trained whole; terms on the output layer. `adapter.merge_adapter` serves
those alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lmstack.core import UnsupportedError
from lmstack.model.lora.adapter import factors_at, linear_at, stored_term
from lmstack.model.lora.folder import StoredAdapter, read_adapter
from lmstack.model.lora.layers import LowRank, refuse_terms
from lmstack.model.lora.slots import Names, Slot, names_for
from lmstack.model.quant.matrix import rows_of
from lmstack.model.transformer import Transformer

__all__ = ["AdapterTerms", "Term", "read_terms"]


@dataclass(frozen=True, eq=False)
class Term:
    """Rows ``start:stop`` of a matrix give ``up @ (down @ x)`` more: ``down`` (r, in) and ``up``
    (stop - start, r), its scale included. ``gains`` (stop - start,), of DoRA: what their product
    without bias is multiplied by first. All float32."""

    start: int
    stop: int
    down: Tensor
    up: Tensor
    gains: Tensor | None = None

    @property
    def tensors(self) -> list[Tensor]:
        return [each for each in (self.down, self.up, self.gains) if each is not None]

    def to(self, device: torch.device) -> Term:
        return Term(self.start, self.stop, *(tensor.to(device) for tensor in self.tensors))


@dataclass(frozen=True, eq=False)
class AdapterTerms:
    """``matrices``: the terms on each linear layer, by its path in the model and in the order of
    their rows. ``digest``: of the adapter's files."""

    digest: str
    matrices: Mapping[str, tuple[Term, ...]]

    @property
    def num_parameters(self) -> int:
        terms = (term for found in self.matrices.values() for term in found)
        return sum(tensor.numel() for term in terms for tensor in term.tensors)

    @property
    def rank(self) -> int:
        """The largest."""
        return max(len(t.down) for terms in self.matrices.values() for t in terms)


def read_terms(module: Transformer, folder: Path | str) -> AdapterTerms:
    """The terms of the adapter in ``folder`` on ``module``, which is not changed. `FormatError`:
    it belongs to another model, or is damaged. `UnsupportedError`: it needs what cannot be added
    for one request alone."""
    refuse_terms(module)
    if module.config.encoder is not None:
        raise UnsupportedError(
            "adapters for one request alone are for decoders, this is an encoder-decoder",
            hint="merge it: merge_adapter(module)",
        )
    stored = read_adapter(folder)
    names = names_for(module, stored.modules(), stored.label)
    _refuse_unsupported(stored, names)
    found: dict[str, list[Term]] = defaultdict(list)
    for name in stored.modules():
        spelling = names.spelled(name, names.linears)
        assert spelling is not None
        slot = names.linears[spelling]
        found[slot.path].append(_term(stored_term(module, stored, name, slot), module, slot))
    matrices = {path: tuple(sorted(each, key=lambda t: t.start)) for path, each in found.items()}
    return AdapterTerms(stored.digest, matrices)


@torch.no_grad()
def _term(term: LowRank, module: Transformer, slot: Slot) -> Term:
    """``term`` on the layer of ``slot`` as numbers of its own."""
    down, up = term.A.float(), (term.B * term.scale).float()
    if term.magnitude is None:
        return Term(slot.start, slot.stop, down, up)
    linear = linear_at(module, slot)
    row, col = factors_at(linear, slot)  # norms are those of the model's own weight
    own = (rows_of(linear, slot.start, slot.stop) + term.delta()).float() / (row * col)
    gains = term.magnitude.float() / torch.linalg.norm(own, dim=1)
    return Term(slot.start, slot.stop, down, up * gains[:, None], gains)


def _refuse_unsupported(stored: StoredAdapter, names: Names) -> None:
    outputs = [n for n in stored.modules() if names.spelled(n, names.linears) in names.outputs]
    asked = {
        "has terms on the output layer": bool(outputs),
        "holds modules that were trained whole": bool(stored.whole),
    }
    for what, found in asked.items():
        if found:
            raise UnsupportedError(
                f"{stored.label} {what}, which is not added for one request alone",
                hint="merge it into a model of its own: merge_adapter(module, keep=False)",
            )
