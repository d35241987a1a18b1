"""Fitting L = E + A / N^alpha + B / D^beta to runs, with intervals.

The objective is Hoffmann's (2022, section 3.3): Huber losses of the residuals of log L, so that a
run that went wrong counts little. For given exponents the law is linear in A, B and E, so the
starts are a grid of exponents with the rest solved for; each goes down by Levenberg-Marquardt steps
on reweighted squares, all of them at once. Intervals are a bootstrap of the residuals, which keeps
the sizes that were run; a long test holds how often they cover. Does not cover where runs are read
from (`runs`).

Legend: S starts or samples, n runs, 5 parameters log A, log B, log E, alpha, beta.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError, check_range, check_whole
from lmstack.pipelines.scaling.laws import LossLaw

__all__ = ["DELTA", "Fit", "Floats", "Observations", "fit_law"]

Floats = npt.NDArray[np.float64]

DELTA = 1e-3  # where squares turn into absolute values, in log loss (Hoffmann)
_PARAMETERS = 5
_LEAST_RUNS = 9  # three sizes, each with three amounts of data
_LEAST_VALUES = 3
# Of log N and log D: below this spread across their common line, one says what the other does.
_LEAST_SPREAD = 0.1
_EXPONENTS = np.geomspace(0.05, 2.0, 10)
_STEPS, _LONGEST_STEP = 400, 2.0
_EXPONENT_RANGE = (1e-3, 10.0)


@dataclass(frozen=True)
class Observations:
    """The end of each run: ``sizes`` (parameters), ``data`` (tokens), ``losses`` (nats a token),
    (n,) each. Checks that a law can be told from them."""

    sizes: Floats
    data: Floats
    losses: Floats

    def __post_init__(self) -> None:
        for name in ("sizes", "data", "losses"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            object.__setattr__(self, name, values)
            bad = ~(np.isfinite(values) & (values > 0))
            if bad.any():
                raise InputError(
                    f"{name} hold {values[bad][0]:g}", hint="they are numbers above 0", param=name
                )
        self._check_counts()
        self._check_design()

    def __len__(self) -> int:
        return len(self.losses)

    def _check_counts(self) -> None:
        if len(self) < _LEAST_RUNS:
            raise InputError(
                f"{len(self)} runs cannot determine a law of {_PARAMETERS} constants",
                hint=f"train {_LEAST_RUNS} at least, of several sizes and amounts of data",
                param="runs",
            )
        for what, values in (("sizes", self.sizes), ("amounts of data", self.data)):
            if (found := len(np.unique(values))) < _LEAST_VALUES:
                raise InputError(
                    f"the runs have {found} different {what}, which determine no exponent",
                    hint=f"train with {_LEAST_VALUES} {what} at least, best over a factor of ten",
                    param="runs",
                )

    def _check_design(self) -> None:
        logs = np.log(np.stack([self.sizes, self.data]))
        spread = np.linalg.svd(logs - logs.mean(1, keepdims=True), compute_uv=False)
        if spread[-1] / np.sqrt(len(self)) < _LEAST_SPREAD:
            raise InputError(
                "size and data grow together over the runs, so that the effect of one cannot be"
                " told from that of the other",
                hint="train some sizes on less and on more data than the others",
                param="runs",
            )


@dataclass(frozen=True)
class Fit:
    """``law``: the best one. ``samples``: laws of the bootstrap. ``noise``: the standard deviation
    of log losses around the law, robust against outliers. ``level``: of the intervals."""

    law: LossLaw
    samples: tuple[LossLaw, ...]
    residuals: Floats
    noise: float
    level: float

    def interval(self, of: Callable[[LossLaw], float]) -> tuple[float, float]:
        """Where ``of`` (a law) lies at ``level``: percentiles of the bootstrap."""
        values = [of(law) for law in self.samples]
        low, high = np.quantile(values, [(1 - self.level) / 2, (1 + self.level) / 2])
        return float(low), float(high)

    def constants(self) -> Mapping[str, tuple[float, float, float]]:
        """Each constant, and the exponents of the frontier: value, low, high."""
        found: dict[str, Callable[[LossLaw], float]] = {
            "E": lambda law: law.E,
            "A": lambda law: law.A,
            "B": lambda law: law.B,
            "alpha": lambda law: law.alpha,
            "beta": lambda law: law.beta,
            "size exponent": lambda law: law.size_exponent,
        }
        return {name: (of(self.law), *self.interval(of)) for name, of in found.items()}

    def to_json(self) -> dict[str, Any]:
        """What `law_named` reads again, and the constants with their intervals."""
        return {
            "law": dataclasses.asdict(self.law),
            "constants": {
                name: dict(zip(("value", "low", "high"), values, strict=True))
                for name, values in self.constants().items()
            },
            "level": self.level,
            "noise": self.noise,
            "runs": len(self.residuals),
            "samples": [dataclasses.asdict(law) for law in self.samples],
        }


def fit_law(runs: Observations, *, samples: int = 1000, level: float = 0.9, seed: int = 0) -> Fit:
    """The law that fits ``runs`` best, and ``samples`` refits to its curve with residuals drawn
    anew."""
    check_whole("samples", samples, 100, 100_000)
    check_range("level", level, 0, 1, low_open=True, high_open=True)
    problem = _Problem.of(runs)
    wanted = np.log(runs.losses)
    starts = problem.starts(runs.losses)
    found, losses = problem.descend(starts, np.broadcast_to(wanted, (len(starts), len(runs))))
    best = found[losses.argmin()]
    curve = problem.values(best[None])[0]
    residuals = wanted - curve
    # Small Huber losses are almost absolute values, whose minimum goes through as many points as
    # there are parameters: those residuals say nothing about the noise.
    telling = residuals[np.argsort(np.abs(residuals))[_PARAMETERS:]]
    telling = telling * np.sqrt(len(runs) / (len(runs) - _PARAMETERS))
    drawn = np.random.default_rng(seed).choice(telling, (samples, len(runs)))
    again, _ = problem.descend(np.repeat(best[None], samples, 0), curve + drawn)
    noise = 1.4826 * float(np.median(np.abs(telling)))
    return Fit(problem.law(best), tuple(map(problem.law, again)), residuals, noise, level)


@dataclass(frozen=True)
class _Problem:
    """``logs`` (2, n): of N and D, counted from their means, which makes the constants nearly
    independent of the exponents."""

    logs: Floats
    means: Floats

    @classmethod
    def of(cls, runs: Observations) -> _Problem:
        logs = np.log(np.stack([runs.sizes, runs.data]))
        means = logs.mean(1)
        return cls(logs - means[:, None], means)

    def law(self, theta: Floats) -> LossLaw:
        a, b, e, alpha, beta = (float(value) for value in theta)
        shift_a, shift_b = alpha * self.means[0], beta * self.means[1]
        A, B, E = (float(np.exp(value)) for value in (a + shift_a, b + shift_b, e))
        return LossLaw(A, B, E, alpha, beta)

    def starts(self, losses: Floats) -> Floats:
        """(S, 5): a grid of exponents, with A, B and E by least squares of relative errors."""
        found = []
        for exponents in itertools.product(_EXPONENTS, _EXPONENTS):
            powers = np.exp(-np.array(exponents)[:, None] * self.logs)
            terms = np.stack([*powers, np.ones_like(losses)], 1) / losses[:, None]
            solved = np.linalg.lstsq(terms, np.ones_like(losses), rcond=None)[0]
            found.append([*np.log(np.maximum(solved, 1e-3 * losses.min())), *exponents])
        return np.array(found)

    def parts(self, theta: Floats) -> tuple[Floats, Floats]:
        """log L (S, n), and the share of A's, B's and E's term in it (3, S, n)."""
        a, b, e, alpha, beta = (column[:, None] for column in theta.T)
        terms = np.stack([a - alpha * self.logs[0], b - beta * self.logs[1], e + 0 * self.logs[:1]])
        top = terms.max(0)
        scaled = np.exp(terms - top)
        total = scaled.sum(0)
        return top + np.log(total), scaled / total

    def values(self, theta: Floats) -> Floats:
        return self.parts(theta)[0]

    def descend(self, theta: Floats, wanted: Floats) -> tuple[Floats, Floats]:
        """Each row of ``theta`` (S, 5) brought down to a minimum for its row of ``wanted`` (S, n);
        and the objective there (S,)."""
        theta, damping = theta.copy(), np.full(len(theta), 1e-2)
        losses = _huber(self.values(theta) - wanted)
        moving = np.arange(len(theta))
        for _ in range(_STEPS):
            step = self._step(theta[moving], wanted[moving], damping[moving])
            tried = theta[moving] + step
            tried[:, 3:] = np.clip(tried[:, 3:], *_EXPONENT_RANGE)
            after = _huber(self.values(tried) - wanted[moving])
            better = after < losses[moving]
            gain = losses[moving] - after
            done = (better & (gain <= 1e-10 * losses[moving])) | (damping[moving] > 1e8)
            kept = moving[better]
            theta[kept], losses[kept] = tried[better], after[better]
            damping[moving] *= np.where(better, 0.3, 4.0)
            moving = moving[~done]
            if not len(moving):
                break
        return theta, losses

    def _step(self, theta: Floats, wanted: Floats, damping: Floats) -> Floats:
        """The Levenberg-Marquardt step of the weighted squares that touch the Huber losses."""
        values, shares = self.parts(theta)
        residuals = values - wanted
        weights = DELTA / np.maximum(np.abs(residuals), DELTA)
        slopes = np.stack(
            [*shares, -shares[0] * self.logs[0], -shares[1] * self.logs[1]], -1
        )  # (S, n, 5)
        weighted = slopes * weights[..., None]
        curvature = weighted.transpose(0, 2, 1) @ slopes
        gradient = (weighted * residuals[..., None]).sum(1)
        diagonal = np.einsum("sii->si", curvature)
        diagonal += damping[:, None] * np.maximum(diagonal, 1e-9)
        solved = np.linalg.solve(curvature, -gradient[..., None])[..., 0]
        # A term that has vanished has no slope, and would be thrown anywhere.
        bounded: Floats = np.clip(solved, -_LONGEST_STEP, _LONGEST_STEP)
        return bounded


def _huber(residuals: Floats) -> Floats:
    size = np.abs(residuals)
    each = np.where(size <= DELTA, size**2 / 2, DELTA * (size - DELTA / 2))
    found: Floats = each.sum(-1)
    return found
