"""How far raters agree, and estimates from a judge that is corrected by people.

    cohen_kappa           two raters, categories weighted or not (Cohen, 1960 and 1968)
    krippendorff_alpha    any number of raters, ratings missing or not (Krippendorff, 2011)
    prediction_powered    mean of human labels, from a few of them and many of a judge
                          (Angelopoulos et al., 2023, arXiv:2301.09633, with the tuned weight of
                          PPI++, arXiv:2311.01453)
    corrected_share       share of positives behind a judge with known errors (Rogan and Gladen,
                          1978), its interval with the errors' own uncertainty (Lang and Reiczigel,
                          2014, Preventive Veterinary Medicine 113:13)

Intervals at 95%: of agreement by the bootstrap over items, of the rest by the normal distribution.
Not covered: biases of judges (`judging`), samples in clusters.

Legend: N items, M raters, V values, n human labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError, nearest, shown
from lmstack.evals.statistics import CONFIDENCE, Estimate, bootstrap, bootstrap_places

__all__ = ["cohen_kappa", "corrected_share", "krippendorff_alpha", "prediction_powered"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Level = Literal["nominal", "ordinal", "interval", "ratio"]
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
_LEVELS = ("nominal", "ordinal", "interval", "ratio")
_WEIGHTS = ("linear", "quadratic")
_RESAMPLES = 1000


def cohen_kappa(
    first: Sequence[Any],
    second: Sequence[Any],
    *,
    weights: Literal["linear", "quadratic"] | None = None,
    labels: Sequence[Any] = (),
    seed: int = 0,
) -> Estimate:
    """Agreement of two raters of the same N items beyond chance, 1 at most. ``weights``: how much
    worse it is to be further apart, by the place in ``labels`` (their order otherwise is the
    sorted one). NaN where both always say the same one thing: chance explains all of it."""
    if len(first) != len(second) or not first:
        raise InputError(
            f"one rater has {len(first)} ratings, the other {len(second)}",
            hint="give both raters' ratings of the same items",
        )
    if weights is not None and weights not in _WEIGHTS:
        raise _unknown("weights", weights, _WEIGHTS)
    places = _places([*first, *second], labels)
    rows = np.stack([places[: len(first)], places[len(first) :]], axis=1)
    count = int(max(places.max() + 1, len(labels)))
    apart = np.abs(np.subtract.outer(np.arange(count), np.arange(count))).astype(np.float64)
    distance = {None: apart > 0, "linear": apart, "quadratic": apart**2}[weights].astype(np.float64)

    def kappa(table: Floats) -> Floats:
        one, two = table[..., 0].astype(np.int64), table[..., 1].astype(np.int64)
        shares = [np.stack([(x == k).mean(-1) for k in range(count)], -1) for x in (one, two)]
        chance = np.einsum("...i,ij,...j->...", shares[0], distance, shares[1])
        observed = distance[one, two].mean(-1)
        return _one_less(observed, chance)

    return bootstrap(rows.astype(np.float64), kappa, seed=seed)


def _unknown(name: str, value: object, known: Sequence[str]) -> InputError:
    guess = nearest(str(value), known)
    hint = f"did you mean {guess!r}?" if guess else f"known: {', '.join(known)}"
    return InputError(f"{name} is {shown(value)}", hint=hint, param=name)


def _places(ratings: Sequence[Any], labels: Sequence[Any]) -> Ints:
    known = list(labels) or sorted(set(ratings))
    place = {label: number for number, label in enumerate(known)}
    missing = next((rating for rating in ratings if rating not in place), None)
    if missing is not None:
        raise InputError(
            f"{shown(missing)} is none of the labels {shown(known)}",
            hint="name every label that a rater may use",
            param="labels",
        )
    return np.array([place[rating] for rating in ratings], np.int64)


def _one_less(observed: Floats, chance: Floats) -> Floats:
    """1 - observed / chance; where chance explains all, 0 of resamples is as good as any: NaN of
    all items alone."""
    if np.ndim(chance) == 0:
        found = 1 - observed / chance if chance > 0 else np.float64(math.nan)
        return np.asarray(found)
    result: Floats = 1 - np.where(chance > 0, observed, 1.0) / np.where(chance > 0, chance, 1.0)
    return result


def krippendorff_alpha(
    ratings: npt.ArrayLike, *, level: Level = "nominal", seed: int = 0
) -> Estimate:
    """Of ``ratings`` (M, N), numbers by rater and item, NaN where there is none. ``level``: of
    measurement, which decides how far two values are apart. NaN where nothing varies, or no item
    has two ratings."""
    if level not in _LEVELS:
        raise _unknown("level", level, _LEVELS)
    table = np.asarray(ratings, np.float64)
    if table.ndim != 2:
        raise InputError(
            f"ratings have the shape {table.shape}",
            hint="give a row for each rater, and a column for each item",
            param="ratings",
        )
    table = table[:, (~np.isnan(table)).sum(0) > 1]
    values = np.unique(table[~np.isnan(table)])
    if not table.shape[1]:
        return Estimate(math.nan)
    counts = (table[:, :, None] == values).sum(0).astype(np.float64)  # (N, V)
    pairs = counts[:, :, None] * counts[:, None, :]
    pairs -= counts[:, :, None] * np.eye(len(values))
    pairs /= (counts.sum(1) - 1)[:, None, None]  # (N, V, V), the coincidences in each item

    def alpha(places: Sequence[int]) -> float:
        return _alpha(pairs[list(places)].sum(0), values, level)

    whole = alpha(range(len(pairs)))
    if math.isnan(whole):
        return Estimate(whole)
    return bootstrap_places(
        len(pairs),
        lambda places: 0.0 if math.isnan(found := alpha(places)) else found,
        resamples=_RESAMPLES,
        seed=seed,
    )


def _alpha(coincidences: Floats, values: Floats, level: Level) -> float:
    margins = coincidences.sum(0)
    total = float(margins.sum())
    distance = _distance(values, margins, level)
    expected = float(margins @ distance @ margins) / (total - 1)
    if expected <= 0:
        return math.nan
    return 1 - float((coincidences * distance).sum()) / expected


def _distance(values: Floats, margins: Floats, level: Level) -> Floats:
    """(V, V): squared distances of two values."""
    if level == "nominal":
        return 1 - np.eye(len(values))
    if level == "ordinal":
        ranks = np.cumsum(margins) - margins / 2
        found: Floats = np.subtract.outer(ranks, ranks) ** 2
        return found
    apart = np.subtract.outer(values, values)
    if level == "ratio":
        size = np.abs(np.add.outer(values, values))
        apart = apart / np.where(size > 0, size, np.inf)
    squared: Floats = apart**2
    return squared


def prediction_powered(
    human: npt.ArrayLike, judged: npt.ArrayLike, unlabelled: npt.ArrayLike
) -> Estimate:
    """The mean that people would give. ``human`` (n,) and ``judged`` (n,): labels of the same
    items by people and the judge. ``unlabelled`` (N,): the judge's of further items, drawn from
    the same ones. However bad the judge is, the interval holds; a better one makes it narrower."""
    y, f, rest = (np.asarray(each, np.float64) for each in (human, judged, unlabelled))
    if y.shape != f.shape or y.ndim != 1 or len(y) < 2 or rest.ndim != 1 or len(rest) < 2:
        raise InputError(
            f"people labelled {y.size} items, the judge {f.size} of them and {rest.size} others",
            hint="give at least two of each, the first two of the same items",
        )
    if not all(np.isfinite(each).all() for each in (y, f, rest)):
        raise InputError(
            "some labels are not finite", hint="leave out items that the judge failed to label"
        )
    spread = float(np.concatenate([f, rest]).var(ddof=1))
    covariance = float(np.cov(y, f)[0, 1])
    weight = covariance / (spread * (1 + len(y) / len(rest))) if spread > 0 else 0.0
    weight = min(1.0, max(0.0, weight))
    value = weight * float(rest.mean()) + float((y - weight * f).mean())
    variance = weight**2 * float(rest.var(ddof=1)) / len(rest)
    variance += float((y - weight * f).var(ddof=1)) / len(y)
    half = _Z * math.sqrt(variance)
    return Estimate(value, value - half, value + half)


def corrected_share(
    positives: tuple[int, int], sensitivity: tuple[int, int], specificity: tuple[int, int]
) -> Estimate:
    """The share of true positives. ``positives``: how many the judge called positive, of how many;
    ``sensitivity``: of items that are positive, those that it called so, of how many;
    ``specificity``: of items that are not, those that it did not call so, of how many."""
    for name, (found, total) in (
        ("positives", positives),
        ("sensitivity", sensitivity),
        ("specificity", specificity),
    ):
        if not 0 <= found <= total or not total:
            raise InputError(
                f"{name} are {found} of {total}", hint="count some, of at least one", param=name
            )
    share, hit, rejected = (found / total for found, total in (positives, sensitivity, specificity))
    if hit + rejected <= 1:
        raise InputError(
            f"the judge is no better than chance: sensitivity {hit:.3f}, specificity"
            f" {rejected:.3f}",
            hint="a share can be corrected where the two sum to more than 1",
        )
    value = min(1.0, max(0.0, (share + rejected - 1) / (hit + rejected - 1)))
    return Estimate(value, *_share_limits(positives, sensitivity, specificity))


def _share_limits(
    positives: tuple[int, int], sensitivity: tuple[int, int], specificity: tuple[int, int]
) -> tuple[float, float]:
    """With z^2 / 2 successes and failures more of the share, and one more of the others."""
    size, hits, passes = positives[1] + _Z**2, sensitivity[1] + 2, specificity[1] + 2
    share = (positives[0] + _Z**2 / 2) / size
    hit, rejected = (sensitivity[0] + 1) / hits, (specificity[0] + 1) / passes
    gain = hit + rejected - 1
    if gain <= 0:
        return 0.0, 1.0
    middle = (share + rejected - 1) / gain
    of_hit, of_rejected = hit * (1 - hit) / hits, rejected * (1 - rejected) / passes
    shift = 2 * _Z**2 * (middle * of_hit - (1 - middle) * of_rejected)
    variance = share * (1 - share) / size + middle**2 * of_hit + (1 - middle) ** 2 * of_rejected
    half = _Z * math.sqrt(variance) / gain
    return min(1.0, max(0.0, middle + shift - half)), min(1.0, max(0.0, middle + shift + half))
