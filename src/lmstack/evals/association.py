"""Correlation within prompts: does a reward rise with a trait among answers to the same prompt?

Answers are in cells: one prompt, one model, one step of training. Every variable is centred in its
cell, so that neither hard prompts nor a model that is better everywhere make a correlation. What
else goes with the trait (``controls``) is taken out by least squares: the partial correlation.

The test permutes what is left of the reward within each cell (Freedman and Lane, 1983); the
interval resamples prompts. Not covered: which traits are looked at (`traits`).

Legend: N answers, C controls, P prompts, V variables (trait, reward and controls).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lmstack.evals.statistics import Estimate, Floats, bootstrap

__all__ = ["Cells", "association", "cells_of"]

Ints = npt.NDArray[np.int64]
_DRAWS = 4999
_TINY = 1e-12


@dataclass(frozen=True)
class Cells:
    """``cell`` (N,): the number of each answer's cell, 0 to their count. ``prompt`` (N,): the
    number of its prompt."""

    cell: Ints
    prompt: Ints

    def centred(self, values: npt.ArrayLike) -> Floats:
        """``values`` (N, ...) less the mean of their cell."""
        table = np.asarray(values, np.float64)
        sums = np.zeros((int(self.cell.max()) + 1, *table.shape[1:]))
        np.add.at(sums, self.cell, table)
        counts = np.bincount(self.cell).reshape(-1, *[1] * (table.ndim - 1))
        found: Floats = table - (sums / np.maximum(counts, 1))[self.cell]
        return found

    def permutations(self, draws: int = _DRAWS, seed: int = 0) -> Ints:
        """(draws, N): places of answers, each swapped with others of its cell only."""
        keys = np.random.default_rng(seed).random((draws, len(self.cell)))
        keys += self.cell  # sorted by cell first
        home = np.argsort(self.cell, kind="stable")
        found = np.empty((draws, len(self.cell)), np.int64)
        found[:, home] = np.argsort(keys, axis=1)
        return found


def association(
    trait: npt.ArrayLike,
    reward: npt.ArrayLike,
    controls: npt.ArrayLike,
    cells: Cells,
    moves: Ints | None = None,
    *,
    seed: int = 0,
) -> Estimate:
    """The partial correlation of ``trait`` (N,) and ``reward`` (N,) within cells, given
    ``controls`` (N, C), with its interval and p. Without a spread of either it is 0, p 1.
    ``moves``: of `Cells.permutations`, where many traits share them."""
    x, y = cells.centred(trait), cells.centred(reward)
    z = _spread(cells.centred(np.asarray(controls).reshape(len(x), -1)))
    x, y = _without(x, z), _without(y, z)
    if _is_flat(x, trait) or _is_flat(y, reward):
        return Estimate(0.0, p=1.0)
    value = float(x @ y / np.sqrt((x @ x) * (y @ y)))
    found = bootstrap(_products(x, y, cells.prompt), _correlation, seed=seed)
    moves = cells.permutations(seed=seed) if moves is None else moves
    return Estimate(value, found.low, found.high, _p(x, y, z, moves))


def _p(x: Floats, y: Floats, z: Floats, moves: Ints) -> float:
    """Two-sided: how often permuted rewards go with the trait as closely."""
    moved = y[moves]
    if z.shape[1]:  # the permuted reward may go with the controls again, which are taken out again
        basis = np.linalg.qr(z)[0]
        moved = moved - (moved @ basis) @ basis.T
    sizes = np.abs(moved @ x) / np.sqrt(np.maximum((moved**2).sum(1), _TINY))
    observed = abs(float(x @ y)) / float(np.sqrt(y @ y))
    return float((int((sizes >= observed * (1 - 1e-9)).sum()) + 1) / (len(moves) + 1))


def _spread(z: Floats) -> Floats:
    """The columns that vary within cells, at one scale."""
    lengths = np.sqrt((z**2).sum(0))
    kept = lengths > _TINY * np.sqrt(max(len(z), 1))
    found: Floats = z[:, kept] / lengths[kept]
    return found


def _without(values: Floats, z: Floats) -> Floats:
    """``values`` less what ``z`` (N, C) explains of them."""
    if not z.shape[1]:
        return values
    found: Floats = values - z @ np.linalg.lstsq(z, values, rcond=None)[0]
    return found


def _is_flat(rest: Floats, whole: npt.ArrayLike) -> bool:
    scale = float(np.abs(whole).max(initial=0.0))
    return bool(np.sqrt((rest**2).mean()) <= 1e-9 * max(scale, _TINY))


def _products(x: Floats, y: Floats, prompt: Ints) -> Floats:
    """(P, 3): sums of xx, yy and xy of each prompt's answers."""
    numbers = np.unique(prompt, return_inverse=True)[1]
    found = np.zeros((int(numbers.max()) + 1, 3))
    np.add.at(found, numbers, np.stack([x * x, y * y, x * y], axis=1))
    return found


def _correlation(rows: Floats) -> Floats:
    sums = rows.sum(-2)
    size = np.sqrt(sums[..., 0] * sums[..., 1])
    found: Floats = sums[..., 2] / np.where(size > 0, size, np.inf)
    return found


def cells_of(keys: Sequence[object], prompts: Sequence[object]) -> Cells:
    """Cells of answers, by any keys of a cell and of a prompt."""
    return Cells(_numbers(keys), _numbers(prompts))


def _numbers(keys: Sequence[object]) -> Ints:
    known: dict[object, int] = {}
    return np.array([known.setdefault(key, len(known)) for key in keys], np.int64)
