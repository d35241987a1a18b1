"""A letter that a model names, as simple-evals reads it, and the figures that benchmarks share.

Not covered: everything else, which `lmstack.evals.metrics` has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmstack.evals.benchmarks.prompts import LETTERS
from lmstack.evals.dataset import Sample
from lmstack.evals.metrics import calibration_metrics
from lmstack.evals.task import Metric, ModelOutput

__all__ = ["ACCURACY", "CALIBRATION", "PARSED", "LetterScorer"]

ACCURACY = Metric("acc", ("acc",))
PARSED = Metric("parsed", ("parsed",))
(CALIBRATION,) = (metric for metric in calibration_metrics() if metric.name == "ece")


@dataclass(frozen=True)
class LetterScorer:
    """``acc``: whether the first match of ``pattern`` is the letter of a gold choice. ``parsed``:
    whether there was one."""

    pattern: str

    @property
    def protocol(self) -> dict[str, Any]:
        return {"scores": "letter", "pattern": self.pattern}

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        match = re.search(self.pattern, output.text)
        letter = match.group(1).upper() if match else ""
        right = {LETTERS[place] for place in sample.gold}
        return {"acc": float(letter in right), "parsed": float(match is not None)}
