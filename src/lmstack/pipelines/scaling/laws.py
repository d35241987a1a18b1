"""Scaling laws: what loss a model of N parameters reaches on D tokens, and which N and D are the
best use of C operations.

    C = 6 N D                            forward 2 N a token, backward 4 N (Kaplan, section 2.1)
    L = E + A / N^alpha + B / D^beta     Hoffmann, equation 2
    N = k C^a, D = C / (6 N)             the compute-optimal frontier

Constants are those that the papers print, so they hold for their data and tokenizers: the ratios
carry over, a loss of another text does not. `lmstack.pipelines.scaling.fit` finds constants for
runs of one's own. Losses are in nats a token. Loads no torch.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lmstack.core import FormatError, InputError, NotFoundError, check_range, nearest, shown

__all__ = ["LAWS", "Law", "LossLaw", "ScalingPlan", "law_named", "plan_scaling"]

FLOPS_PER_PARAMETER = 6
_PF_DAY = 1e15 * 24 * 3600
_MOST = 1e40


@dataclass(frozen=True)
class LossLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta, in nats a token."""

    A: float
    B: float
    E: float
    alpha: float
    beta: float

    def loss(self, size: float, data: float) -> float:
        """Of ``size`` parameters after ``data`` tokens."""
        return float(self.E + self.A / size**self.alpha + self.B / data**self.beta)

    @property
    def size_exponent(self) -> float:
        """a of the frontier N = k C^a (Hoffmann, equation 4)."""
        return self.beta / (self.alpha + self.beta)

    @property
    def size_coefficient(self) -> float:
        """k of the frontier."""
        ratio = (self.alpha * self.A) / (self.beta * self.B)
        scale = FLOPS_PER_PARAMETER**-self.size_exponent
        return float(ratio ** (1 / (self.alpha + self.beta)) * scale)


@dataclass(frozen=True)
class Law:
    """The frontier N = ``size_coefficient`` C^``size_exponent``, and the loss off and on it where
    the source gives one. ``counts``: which parameters N means. ``samples``: laws that fit nearly as
    well, of a law that was fitted here."""

    name: str
    source: str
    counts: Literal["all", "non-embedding"]
    size_coefficient: float
    size_exponent: float
    loss: Callable[[float, float], float] | None = None
    samples: tuple[LossLaw, ...] = ()

    @classmethod
    def of(cls, name: str, source: str, law: LossLaw, samples: tuple[LossLaw, ...] = ()) -> Law:
        """The one whose frontier follows from its loss."""
        return cls(name, source, "all", law.size_coefficient, law.size_exponent, law.loss, samples)

    def interval(self, of: Callable[[LossLaw], float], level: float = 0.9) -> tuple[float, float]:
        """Where ``of`` (a law) lies in the middle ``level`` of the samples."""
        values = sorted(of(law) for law in self.samples)
        last = len(values) - 1
        return values[round((1 - level) / 2 * last)], values[round((1 + level) / 2 * last)]

    def size(self, compute: float) -> float:
        """The best number of parameters for ``compute`` operations."""
        return float(self.size_coefficient * compute**self.size_exponent)

    def compute_for_size(self, size: float) -> float:
        """The operations for which ``size`` is the best number of parameters."""
        return float((size / self.size_coefficient) ** (1 / self.size_exponent))

    def compute_for_data(self, data: float) -> float:
        """The operations for which ``data`` is the best number of tokens."""
        # D = C^(1 - a) / (6 k)
        base = FLOPS_PER_PARAMETER * self.size_coefficient * data
        return float(base ** (1 / (1 - self.size_exponent)))


def _kaplan_loss(size: float, data: float) -> float:
    """Kaplan's learning curve (equation 1.6, table 3) for one pass over ``data`` tokens at the
    critical batch size of the loss that it ends with (equation 1.4, table 5), where twice the
    fewest steps are taken (equation 5.4)."""

    def curve(loss: float) -> float:
        batch = 2.1e8 / loss ** (1 / 0.21)
        fewest_steps = data / batch / 2
        return float((6.5e13 / size) ** 0.077 + (2.1e3 / fewest_steps) ** 0.76)

    low, high = 1e-3, 1e3
    for _ in range(100):  # the curve falls with the loss, so they cross once
        middle = math.sqrt(low * high)
        low, high = (middle, high) if curve(middle) > middle else (low, middle)
    return math.sqrt(low * high)


def _kaplan() -> Law:
    """Equation 6.1 with the constants of table 6: N = 1.3e9 C_min^0.73, C_min in PF-days. At the
    critical batch size C is twice C_min (equation 5.5)."""
    coefficient = 1.3e9 / (2 * _PF_DAY) ** 0.73
    source = "Kaplan et al., 2020, arXiv:2001.08361"
    return Law("kaplan", source, "non-embedding", coefficient, 0.73, _kaplan_loss)


def _hoffmann(approach: int, low: tuple[float, float], high: tuple[float, float]) -> Law:
    """A power law through the first and the last row of the table of an approach: (N, C)."""
    exponent = math.log(high[0] / low[0]) / math.log(high[1] / low[1])
    return Law(
        f"chinchilla-{approach}",
        f"Hoffmann et al., 2022, arXiv:2203.15556, approach {approach}",
        "all",
        low[0] / low[1] ** exponent,
        exponent,
    )


_SOURCE_3 = "Hoffmann et al., 2022, arXiv:2203.15556, approach 3"
_SOURCE = "Besiroglu et al., 2024, arXiv:2404.10102, which corrects Hoffmann's approach 3"
LAWS: Mapping[str, Law] = {
    law.name: law
    for law in (
        Law.of("chinchilla", _SOURCE, LossLaw(482.01, 2085.43, 1.8172, 0.3478, 0.3658)),
        _hoffmann(1, (0.4e9, 1.92e19), (10e12, 1.30e28)),  # table 3
        _hoffmann(2, (0.4e9, 1.84e19), (10e12, 1.75e28)),  # table A3
        Law.of("chinchilla-3", _SOURCE_3, LossLaw(406.4, 410.7, 1.6934, 0.3392, 0.2849)),
        _kaplan(),
    )
}


def law_named(name: str) -> Law:
    """One of `LAWS`, or the .json file that a fit wrote; an unknown name is an `InputError` that
    says the nearest."""
    if name in LAWS:
        return LAWS[name]
    if name.endswith(".json"):
        return _fitted(Path(name))
    guess = nearest(name, LAWS)
    raise InputError(
        f"there is no scaling law {shown(name)}",
        hint=f"did you mean {guess}?" if guess else f"one of {', '.join(LAWS)}",
        param="law",
    )


def _fitted(path: Path) -> Law:
    def law(values: Mapping[str, Any]) -> LossLaw:
        return LossLaw(*(float(values[name]) for name in ("A", "B", "E", "alpha", "beta")))

    try:
        values = json.loads(path.read_bytes())
        samples = tuple(law(sample) for sample in values["samples"])
        return Law.of(path.stem, f"fitted to {values['runs']} runs", law(values["law"]), samples)
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no file {shown(str(path))}",
            hint=f"lmstack scaling fit RUNS --out {shlex.quote(str(path))}",
            param="law",
        ) from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise FormatError(
            f"{path} is not a fitted scaling law: {error}",
            hint="write it with lmstack scaling fit RUNS --out FILE.json",
            param="law",
        ) from error


@dataclass(frozen=True)
class ScalingPlan:
    """``compute`` operations spent on ``size`` parameters and ``data`` tokens. ``loss``: None where
    the law gives none. ``best``: what the same compute would best be spent on, where size and data
    were chosen otherwise."""

    law: str
    compute: float
    size: float
    data: float
    loss: float | None
    best: ScalingPlan | None = None

    @property
    def tokens_per_parameter(self) -> float:
        return self.data / self.size


def plan_scaling(
    law: Law,
    *,
    compute: float | None = None,
    size: float | None = None,
    data: float | None = None,
    flops_per_token: float | None = None,
) -> ScalingPlan:
    """The rest, from one or two of ``compute`` (operations), ``size`` (parameters) and ``data``
    (tokens). ``flops_per_token``: of a model of ``size``, forward and backward, where it is known
    better than 6 N."""
    given = {"compute": compute, "size": size, "data": data}
    chosen = {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        check_range(name, value, 1, _MOST)
    if len(chosen) not in (1, 2):
        raise InputError(
            f"{' and '.join(chosen)} are given" if chosen else "nothing is given to plan from",
            hint="give one or two of compute, size and data; the rest follows",
            param="size",
        )
    if len(chosen) == 1:
        compute = (
            law.compute_for_size(size)
            if size is not None
            else law.compute_for_data(data)
            if data is not None
            else compute
        )
        assert compute is not None
        size = law.size(compute) if size is None else size
        data = compute / (FLOPS_PER_PARAMETER * size) if data is None else data
        if flops_per_token is None:
            return _point(law, compute, size, data)
        return _point(law, flops_per_token * data, size, data)
    if size is None:
        assert compute is not None
        assert data is not None
        size = compute / (FLOPS_PER_PARAMETER * data)
    each = flops_per_token or FLOPS_PER_PARAMETER * size
    if data is None:
        assert compute is not None
        data = compute / each
    spent = each * data
    best_size = law.size(spent)
    best = _point(law, spent, best_size, spent / (FLOPS_PER_PARAMETER * best_size))
    return _point(law, spent, size, data, best)


def _point(
    law: Law, compute: float, size: float, data: float, best: ScalingPlan | None = None
) -> ScalingPlan:
    loss = None if law.loss is None else law.loss(size, data)
    return ScalingPlan(law.name, compute, size, data, loss, best)
