"""What tests score: samples and outputs in a line, and metrics over a list of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lmstack.core import Likelihood
from lmstack.evals.task import Metric, ModelOutput, Sample

__all__ = ["asked", "figure", "likely", "rows", "wrote"]


def asked(*targets: str, **fields: Any) -> Sample:
    return Sample("one", "a question", targets, **fields)


def wrote(text: str, **fields: Any) -> ModelOutput:
    return ModelOutput(text, **fields)


def likely(
    *logprobs: float, tokens: int = 1, greedy: Sequence[int] = (), **fields: Any
) -> ModelOutput:
    found = tuple(
        Likelihood(logprob, tokens, place in greedy) for place, logprob in enumerate(logprobs)
    )
    return ModelOutput(likelihoods=found, **fields)


def rows(metric: Metric, scores: Sequence[Mapping[str, float]]) -> np.ndarray:
    """(N, K): what a metric sums up."""
    return np.array([[each[column] for column in metric.columns] for each in scores], np.float64)


def figure(metric: Metric, scores: Sequence[Mapping[str, float]]) -> float:
    return float(metric.statistic(rows(metric, scores)))
