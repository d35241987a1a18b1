"""How one trait goes with an outcome, what else is known held: correlations and slopes.

    association     partial correlation of a trait and a reward among answers to the same prompt;
                    the test permutes what is left of the reward within each cell (Freedman and
                    Lane, 1983), the interval resamples prompts
    partial_slope   least squares, the trait and the outcome less what the controls explain;
                    interval by the jackknife over clusters with Student's t (the estimator CR3 of
                    Bell and McCaffrey, 2002, up to its centre); p by random signs of the clusters'
                    scores (the score bootstrap of Kline and Santos, 2012), which is exact for
                    errors that are as often of either sign

Answers are in cells: one prompt, one model, one step of training. Every variable is centred in its
cell, so that neither hard prompts nor a model that is better everywhere make a correlation. Not
covered: which traits are looked at (`traits`, `judging.biases`).

Legend: N answers or rows, C controls, P prompts, V variables (trait, reward and controls), G
clusters, K columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from lmstack.evals.clustered import cluster_numbers
from lmstack.evals.distributions import student_quantile
from lmstack.evals.statistics import CONFIDENCE, Estimate, Floats, bootstrap, sign_flip

__all__ = ["Cells", "association", "cells_of", "partial_slope"]

Ints = npt.NDArray[np.int64]
_DRAWS = 4999
_TINY = 1e-12
_SIGN_DRAWS = 999
_MANY = 5000  # clusters beyond which scores are normal, and signs are not drawn
_FLAT = 1e-9


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


def partial_slope(
    outcome: npt.ArrayLike,
    trait: npt.ArrayLike,
    controls: npt.ArrayLike = (),
    clusters: Sequence[str] = (),
) -> Estimate:
    """Of ``outcome`` (N,) on ``trait`` (N,), given ``controls`` (N, C) or none. A column of ones
    among the controls is an intercept. NaN where the trait does not vary beyond the controls."""
    y, x = np.asarray(outcome, np.float64), np.asarray(trait, np.float64)
    z = np.asarray(controls, np.float64).reshape(len(y), -1)
    rest_x, rest_y = _without(x, z), _without(y, z)
    if np.abs(rest_x).max(initial=0.0) <= _FLAT * max(np.abs(x).max(initial=0.0), _FLAT):
        return Estimate(math.nan)
    table = np.column_stack([x, z])
    numbers = cluster_numbers(clusters, len(y))
    count = int(numbers.max()) + 1
    slope = float(rest_x @ rest_y / (rest_x @ rest_x))
    scale = float(np.abs(y).max(initial=0.0)) / float(np.abs(rest_x).max())
    if np.abs(rest_y).max() <= _FLAT * max(float(np.abs(y).max()), _FLAT):
        return Estimate(0.0, 0.0, 0.0, 1.0)  # the controls explain all of it
    slope = 0.0 if abs(slope) <= _FLAT * scale else slope
    scores = np.zeros(count)
    np.add.at(scores, numbers, rest_x * rest_y)
    error = _jackknife(table, y, numbers, count)
    degrees = count - int(np.linalg.matrix_rank(table))
    if degrees < 1 or not math.isfinite(error):
        return Estimate(slope, p=_score_p(scores))
    half = student_quantile((1 + CONFIDENCE) / 2, degrees) * error
    return Estimate(slope, slope - half, slope + half, _score_p(scores))


def _jackknife(table: Floats, y: Floats, numbers: npt.NDArray[np.int64], count: int) -> float:
    """The standard error of the first coefficient, each cluster left out once; NaN of one cluster.
    Columns that say the same as others, with all rows or without some, change nothing."""
    width = table.shape[1]
    grams, moments = np.zeros((count, width, width)), np.zeros((count, width))
    np.add.at(grams, numbers, table[:, :, None] * table[:, None, :])
    np.add.at(moments, numbers, table * y[:, None])
    if count < 2:
        return math.nan
    inverses = np.linalg.pinv(grams.sum(0) - grams, rcond=_FLAT, hermitian=True)
    slopes = (inverses @ (moments.sum(0) - moments)[..., None])[:, 0, 0]
    return math.sqrt((count - 1) / count * float(((slopes - slopes.mean()) ** 2).sum()))


def _score_p(scores: Floats) -> float:
    if len(scores) <= _MANY:
        return sign_flip(scores, draws=_SIGN_DRAWS)
    size = math.sqrt(float(scores @ scores))
    return 2 * NormalDist().cdf(-abs(float(scores.sum())) / size) if size else 1.0
