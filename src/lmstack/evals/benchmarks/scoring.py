"""What outputs are worth by the benchmarks' own rules: choices by likelihood, and answers that are
extracted from text.

    ChoiceScorer       acc, acc_norm and acc_bytes of lm-evaluation-harness, the choice's confidence
    TrueMassScorer     the share of probability that true choices hold (TruthfulQA MC2)
    ExtractionScorer   exact match of what regular expressions find, several readings side by side
    LetterScorer       a letter that is found by a regular expression (simple-evals)

Not covered: metrics of texts (BLEU, ROUGE), code (`humaneval`) and judges (`mt_bench`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError
from lmstack.evals.benchmarks.prompts import LETTERS
from lmstack.evals.calibration import calibration_error
from lmstack.evals.dataset import Sample
from lmstack.evals.task import Metric, Output

__all__ = [
    "ACCURACY",
    "CALIBRATION",
    "ChoiceScorer",
    "ExtractionScorer",
    "LetterScorer",
    "Reading",
    "TrueMassScorer",
    "pass_at_k",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ChoiceScorer:
    """Of the likeliest choice: ``acc`` by log-likelihood and, where choices are scored as texts
    and not as letters (``by_length``), ``acc_norm`` by that over the choice's characters and
    ``acc_bytes`` over its bytes; a tie goes to the first, as numpy's argmax has it.
    ``confidence``: the probability of the choice of ``acc`` among them all."""

    by_length: bool = False

    @property
    def protocol(self) -> dict[str, Any]:
        return {"scores": "likeliest choice", "by_length": self.by_length, "ties": "the first"}

    async def __call__(self, sample: Sample, output: Output) -> Mapping[str, float]:
        logprobs = _logprobs(sample, output)
        sizes = {"acc": [1] * len(logprobs)}
        if self.by_length:
            sizes["acc_norm"] = [len(choice) or 1 for choice in sample.choices]
            sizes["acc_bytes"] = [len(choice.encode()) or 1 for choice in sample.choices]
        found = {}
        for name, size in sizes.items():
            best = int(np.argmax(logprobs / np.array(size)))
            found[name] = float(best in sample.gold)
        found["confidence"] = float(_softmax(logprobs).max())
        return found


@dataclass(frozen=True)
class TrueMassScorer:
    """``acc``: the probability of the gold choices over that of all, by exponents of their
    log-likelihoods (Lin et al., 2021, MC2)."""

    @property
    def protocol(self) -> dict[str, Any]:
        return {"scores": "normalized probability of the true choices"}

    async def __call__(self, sample: Sample, output: Output) -> Mapping[str, float]:
        share = _softmax(_logprobs(sample, output))
        return {"acc": float(share[list(sample.gold)].sum())}


def _logprobs(sample: Sample, output: Output) -> Floats:
    if len(output.likelihoods) != len(sample.choices) or not sample.choices:
        raise InputError(
            f"sample {sample.id} has {len(sample.choices)} choices and"
            f" {len(output.likelihoods)} likelihoods",
            hint="a solver gives the likelihood of each choice",
            param="likelihoods",
        )
    return np.array([each.logprob for each in output.likelihoods], np.float64)


def _softmax(logprobs: Floats) -> Floats:
    top = logprobs.max()
    if not math.isfinite(top):
        return np.full(len(logprobs), 1 / len(logprobs))
    mass = np.exp(logprobs - top)
    found: Floats = mass / mass.sum()
    return found


@dataclass(frozen=True)
class Reading:
    """One way to read an answer out of a text, as lm-evaluation-harness's filter ``regex`` does:
    match number ``select`` of ``pattern`` (-1 the last), of several groups the first that matched,
    without white space around it. ``ignored``: regular expressions that are taken out of answer
    and target before they are compared. ``ignore_case``: compared without regard to case."""

    pattern: str
    select: int = 0
    ignored: tuple[str, ...] = ()
    ignore_case: bool = False

    def found(self, text: str) -> str | None:
        """None where nothing matches."""
        matches = re.findall(self.pattern, text)
        if not matches or not -len(matches) <= self.select < len(matches):
            return None
        match = matches[self.select]
        if isinstance(match, tuple):
            match = next((group for group in match if group), None)
        return None if match is None else str(match).strip()

    def plain(self, text: str) -> str:
        for pattern in self.ignored:
            text = re.sub(pattern, "", text)
        return text.lower() if self.ignore_case else text

    def matches(self, text: str, targets: Sequence[str]) -> bool:
        answer = self.found(text)
        # lm-evaluation-harness compares "[invalid]" then, which no target is.
        return answer is not None and any(
            self.plain(answer) == self.plain(target) for target in targets
        )


@dataclass(frozen=True)
class ExtractionScorer:
    """1 or 0 for each of ``readings``, by name, and ``<name>_found``: whether it found an answer
    at all, right or wrong."""

    readings: Mapping[str, Reading]

    @property
    def protocol(self) -> dict[str, Any]:
        return {
            "scores": "exact match",
            "readings": {
                name: {**vars(reading), "ignored": list(reading.ignored)}
                for name, reading in self.readings.items()
            },
        }

    async def __call__(self, sample: Sample, output: Output) -> Mapping[str, float]:
        found = {}
        for name, reading in self.readings.items():
            found[name] = float(reading.matches(output.text, sample.targets))
            found[f"{name}_found"] = float(reading.found(output.text) is not None)
        return found


@dataclass(frozen=True)
class LetterScorer:
    """``acc``: whether the first match of ``pattern`` is the letter of a gold choice. ``parsed``:
    whether there was one."""

    pattern: str

    @property
    def protocol(self) -> dict[str, Any]:
        return {"scores": "letter", "pattern": self.pattern}

    async def __call__(self, sample: Sample, output: Output) -> Mapping[str, float]:
        match = re.search(self.pattern, output.text)
        letter = match.group(1).upper() if match else ""
        right = {LETTERS[place] for place in sample.gold}
        return {"acc": float(letter in right), "parsed": float(match is not None)}


def pass_at_k(drafts: int, correct: int, k: int) -> float:
    """The unbiased estimate of the chance that one of ``k`` drafts is correct, from ``correct`` of
    ``drafts`` (Chen et al., 2021); NaN where there are fewer drafts than ``k``."""
    if not 0 <= correct <= drafts or k < 1:
        raise InputError(f"pass@{k} of {correct} correct drafts among {drafts}", param="k")
    if drafts < k:
        return math.nan
    if drafts - correct < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(drafts - correct + 1, drafts + 1))


def _calibration(rows: Floats) -> Floats:
    """(..., N, 2) to (...): of confidence and whether that was right."""
    flat = rows.reshape(-1, *rows.shape[-2:])
    found = np.array([calibration_error(each[:, 0], each[:, 1]) for each in flat])
    return found.reshape(rows.shape[:-2])


ACCURACY = Metric("acc", ("acc",))
CALIBRATION = Metric("ece", ("confidence", "acc"), _calibration, better="lower", is_share=False)
