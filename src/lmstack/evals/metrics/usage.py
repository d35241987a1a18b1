"""What answers took: seconds, tokens, and what they cost at given prices.

Latency is summed up by its median and 95th percentile, which `statistics.bootstrap` gives intervals
like any other figure. Not covered: load tests (`app.loadgen`), where requests come at a rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from lmstack.core import allowed
from lmstack.evals.dataset import Sample
from lmstack.evals.metrics.scoring import ConfiguredScorer, share
from lmstack.evals.statistics import Floats, mean_of
from lmstack.evals.task import Metric, Output

__all__ = ["Usage", "quantile"]


def quantile(rows: Floats, q: float) -> Floats:
    """(..., N, K) to (...): of the first column, between neighbours as numpy has it."""
    found: Floats = np.quantile(rows[..., 0], q, axis=-1)
    return found


@dataclass(frozen=True)
class Usage(ConfiguredScorer):
    """``prompt_price``, ``completion_price``: of a million tokens, in one currency; without either
    there is no cost."""

    name: ClassVar[str] = "usage"
    prompt_price: float | None = allowed(None, float, 0, 1e6)
    completion_price: float | None = allowed(None, float, 0, 1e6)

    @property
    def has_prices(self) -> bool:
        return self.prompt_price is not None or self.completion_price is not None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        amounts = ("prompt_tokens", "completion_tokens", *(("cost",) if self.has_prices else ()))
        return (
            _amount("median_seconds", "seconds", partial(quantile, q=0.5)),
            _amount("p95_seconds", "seconds", partial(quantile, q=0.95)),
            *(_amount(name, name, mean_of) for name in amounts),
            share("cut_off", "lower"),
        )

    def score(self, sample: Sample, output: Output) -> Mapping[str, float]:  # noqa: ARG002
        prices = (self.prompt_price or 0.0, self.completion_price or 0.0)
        tokens = (output.prompt_tokens, output.completion_tokens)
        cost = sum(price * count for price, count in zip(prices, tokens, strict=True)) / 1e6
        return {
            "seconds": output.seconds,
            "prompt_tokens": float(output.prompt_tokens),
            "completion_tokens": float(output.completion_tokens),
            "cost": cost if self.has_prices else math.nan,
            "cut_off": float(output.finish_reason == "length"),
        }


def _amount(name: str, column: str, statistic: Callable[[Floats], Floats]) -> Metric:
    decimals = 6 if column == "cost" else 3
    return Metric(name, (column,), statistic, "lower", is_share=False, decimals=decimals)
