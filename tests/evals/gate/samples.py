"""Scores for the gate's tests."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from lmstack.evals.gate import GateComparison, TaskScores
from lmstack.evals.statistics import ratio_of
from lmstack.evals.task import Metric

ACCURACY = Metric("accuracy", ("correct",))
TOXICITY = Metric("toxicity", ("toxic",), better="lower")
SECONDS = Metric("latency", ("seconds",), better="lower", is_share=False)
PER_TOKEN = Metric("nll", ("nats", "tokens"), ratio_of, better="lower", is_share=False)


def scores(values: Any, digest: str = "new", **more: Any) -> TaskScores:
    rows = np.asarray(values, float)
    settings: dict[str, Any] = {
        "task": "mmlu",
        "metric": ACCURACY,
        "ids": tuple(map(str, range(len(rows)))),
        "protocol": "p1",
        "data": "sha256:1",
    }
    return TaskScores(rows=rows, digest=digest, **{**settings, **more})


def comparison(candidate: Any, baseline: Any, **more: Any) -> GateComparison:
    return GateComparison(scores(candidate, **more), scores(baseline, "old", **more))


def pairs(gained: int, lost: int, total: int, **more: Any) -> GateComparison:
    """Of ``total`` samples that both got right but those."""
    candidate, baseline = np.ones(total), np.ones(total)
    baseline[:gained] = 0
    candidate[gained : gained + lost] = 0
    return comparison(candidate, baseline, **more)


@lru_cache(8)
def equal_clusters(count: int, size: int) -> tuple[str, ...]:
    """Names of ``count`` clusters of ``size`` samples each."""
    return tuple(f"c{number}" for number in range(count) for _ in range(size))
