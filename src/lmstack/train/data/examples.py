"""Examples: rows as token ids, and the batches that they are put together to.

Legend: B sequences, T tokens of a padded one, N tokens of a varlen batch (sequences end to end).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = [
    "IGNORED",
    "Batch",
    "Example",
    "ExampleView",
    "Floats",
    "Ints",
    "by_length",
    "padded",
    "varlen",
]

IGNORED = -100
Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int32] | npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to learn from.

    ``sequences``: token ids of what is read; source and target for an encoder-decoder, two or
    more texts for an objective that compares them. ``labels``: what is to be predicted; for
    objectives over tokens one for each token of the last sequence, `IGNORED` where there is
    none; otherwise a class or a score. None: the objective makes them from the ids. ``left_out``:
    tokens of the row that are over ``max_length``, for the data report. ``scores`` (n,): numbers of
    the row that a loss needs beside the labels. ``reference`` (m,): what the weights that the run
    starts from say of it (`lmstack.train.reference`); never stored with it.
    """

    sequences: tuple[Ints, ...]
    labels: Numbers | None = None
    left_out: int = 0
    scores: Floats | None = None
    reference: Floats | None = None

    @property
    def tokens(self) -> int:
        return sum(len(ids) for ids in self.sequences)


class ExampleView(Sequence[Example]):
    """``count`` examples, each ``made`` from its place when it is asked for."""

    def __init__(self, count: int, made: Callable[[int], Example]) -> None:
        self._count, self._made = count, made

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self._made(place) for place in range(self._count)[index]]
        return self._made(range(self._count)[index])


@dataclass(frozen=True)
class Batch:
    """``inputs``: arguments of `Transformer.forward`. ``labels``: of the objective's own shape.
    ``weight``: how many predictions the sum of the losses counts, which a step divides by.
    ``tokens``: real ones, read by the model. ``more``: what else the objective needs."""

    inputs: Mapping[str, Any]
    labels: Tensor
    weight: float
    tokens: int
    more: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        def moved(values: Mapping[str, Any]) -> dict[str, Any]:
            return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in values.items()}

        return Batch(
            moved(self.inputs), self.labels.to(device), self.weight, self.tokens, moved(self.more)
        )


def varlen(sequences: Sequence[Ints]) -> dict[str, Any]:
    """``input_ids`` (N,) and ``lengths`` of `Transformer.forward`."""
    return {"input_ids": _ids(np.concatenate(sequences)), "lengths": [len(s) for s in sequences]}


def by_length(lengths: Sequence[int]) -> tuple[list[int], Tensor]:
    """The shortest first, equal ones as they come; and (S,): where each stands then."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return order, torch.tensor(order).argsort()


def padded(sequences: Sequence[Ints], pad: int) -> tuple[Tensor, Tensor]:
    """Ids (B, T) filled up with ``pad`` on the right, and the mask of real ones."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad, dtype=torch.int64)
    mask = torch.zeros((len(sequences), longest), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = _ids(sequence)
        mask[row, : len(sequence)] = True
    return ids, mask


def _ids(sequence: Ints) -> Tensor:
    return torch.from_numpy(sequence.astype(np.int64))
