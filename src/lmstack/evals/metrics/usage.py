"""What answers took: seconds, tokens, and what they cost at given prices.

Latency is summed up by its median and 95th percentile, which `statistics.bootstrap` gives intervals
like any other figure. Not covered: load tests (benchmarks/load.py), where requests come at a rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from lmstack.core import InputError, Price, Usage
from lmstack.evals.metrics.scoring import ConfiguredScorer, share
from lmstack.evals.statistics import Floats, mean_of
from lmstack.evals.task import Metric, ModelOutput, Sample

__all__ = ["UsageScorer", "quantile"]


def quantile(rows: Floats, q: float) -> Floats:
    """(..., N, K) to (...): of the first column, between neighbours as numpy has it."""
    found: Floats = np.quantile(rows[..., 0], q, axis=-1)
    return found


@dataclass(frozen=True)
class UsageScorer(ConfiguredScorer):
    """``price``: a `Price`, or a mapping that makes one; without it there is no cost. It has no
    ``cached``, since an output does not say which tokens were."""

    name: ClassVar[str] = "usage"
    price: Price | None = None

    def __post_init__(self) -> None:
        if self.price is not None and not isinstance(self.price, Price):
            object.__setattr__(self, "price", Price.from_mapping(self.price))
        if self.price is not None and self.price.cached is not None:
            raise InputError(
                f"the price has cached={self.price.cached:g}, and an output does not say how many"
                " tokens were in the cache",
                hint="leave cached out: all tokens of a prompt cost input",
                param="price",
            )

    @property
    def protocol(self) -> Mapping[str, Any]:
        price = None if self.price is None else asdict(self.price)
        return {**super().protocol, "price": price}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        amounts = ("prompt_tokens", "completion_tokens", *(() if self.price is None else ("cost",)))
        return (
            _amount("median_seconds", "seconds", partial(quantile, q=0.5)),
            _amount("p95_seconds", "seconds", partial(quantile, q=0.95)),
            *(_amount(name, name, mean_of) for name in amounts),
            share("cut_off", "lower"),
        )

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:  # noqa: ARG002
        used = Usage(output.prompt_tokens, output.completion_tokens)
        return {
            "seconds": output.seconds,
            "prompt_tokens": float(output.prompt_tokens),
            "completion_tokens": float(output.completion_tokens),
            "cost": math.nan if self.price is None else self.price.of(used),
            "cut_off": float(output.finish_reason == "length"),
        }


def _amount(name: str, column: str, statistic: Callable[[Floats], Floats]) -> Metric:
    decimals = 6 if column == "cost" else 3
    return Metric(name, (column,), statistic, "lower", is_share=False, decimals=decimals)
