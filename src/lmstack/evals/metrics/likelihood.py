"""Figures of likelihoods: which choice a model finds likeliest and how sure it is, and perplexity.

    multiple_choice   accuracy by the whole choice's log-probability, and divided by its characters,
                      bytes or tokens, as in lm-evaluation-harness
    next_token        MMLU's: the log-probabilities of the letters as next token
    mc1, mc2          TruthfulQA: the best choice is true; the share of probability on true ones
    perplexity        exp(-sum of log-probabilities / sum of tokens, words or bytes) of a whole data
                      set, and bits per byte

Of choices that tie, the first is chosen, as numpy's argmax does. Accuracy moves only where the best
choice changes, and a small model is often close to chance; the bits that a byte of the right choice
costs move with every weight, so that a hundred questions show what thousands would be needed for
(Heineman et al., 2025, arXiv:2508.13144). A word is what lm-evaluation-harness counts, a part of
``re.split(r"\\s+", text)``; bytes are those of UTF-8. By words and bytes models with different
tokenizers can be compared, by tokens not. Not covered: how a text is cut (`windows`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lmstack.core import InputError
from lmstack.evals.metrics.scoring import ConfiguredScorer, average, share
from lmstack.evals.statistics import Floats
from lmstack.evals.task import Metric, ModelOutput, Sample

__all__ = [
    "GOLD_BITS",
    "MISSING",
    "Mc1",
    "Mc2",
    "MultipleChoiceScorer",
    "NextToken",
    "Perplexity",
    "bits_each",
    "perplexity_of",
    "probabilities",
]


def perplexity_of(rows: Floats) -> Floats:
    """(..., N, 2) to (...): the columns being a log-probability (natural logarithm) and how many
    tokens, words or bytes it is of."""
    sums = rows.sum(-2)
    found: Floats = np.exp(-sums[..., 0] / sums[..., 1])
    return found


def bits_each(rows: Floats) -> Floats:
    """As `perplexity_of`, its logarithm to base 2."""
    sums = rows.sum(-2)
    found: Floats = -sums[..., 0] / (sums[..., 1] * math.log(2))
    return found


@dataclass(frozen=True)
class Perplexity(ConfiguredScorer):
    """Reads the likelihoods of an output as those of the sample's targets or, where it has none, of
    the windows of its text. ``counted``: the name of another text in the sample's metadata whose
    words and bytes count, such as that before it was detokenized."""

    name: ClassVar[str] = "perplexity"
    version: ClassVar[int] = 2
    counted: str = ""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        by = {"token": "tokens", "word": "words", "byte": "bytes"}
        return (
            *(
                Metric(
                    f"{unit}_perplexity",
                    ("logprob", column),
                    perplexity_of,
                    "lower",
                    is_share=False,
                )
                for unit, column in by.items()
            ),
            Metric("bits_per_byte", ("logprob", "bytes"), bits_each, "lower", is_share=False),
        )

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        texts: tuple[Any, ...] = sample.targets or (sample.text,)
        if self.counted:
            texts = (sample.metadata.get(self.counted),)
        if not all(isinstance(text, str) and text for text in texts):
            raise InputError(
                f"sample {sample.id} has no text to count words and bytes of",
                param=self.counted or "input",
            )
        tokens = sum(each.num_tokens for each in output.likelihoods)
        if not tokens:
            raise InputError(
                f"the output of sample {sample.id} has the likelihood of no token",
                hint="perplexity needs a solver that scores texts",
                param="likelihoods",
            )
        return {
            "logprob": math.fsum(each.logprob for each in output.likelihoods),
            "tokens": float(tokens),
            "words": float(sum(len(re.split(r"\s+", text)) for text in texts)),
            "bytes": float(sum(len(text.encode()) for text in texts)),
        }


MISSING = -100.0  # MMLU's log-probability of a letter that is not among the likeliest tokens
GOLD_BITS = Metric(
    "bits_per_byte", ("gold_logprob", "gold_bytes"), bits_each, "lower", is_share=False
)


def probabilities(logprobs: Sequence[float] | Floats) -> Floats:
    """Softmax: of choices, given that one of them is written. Also where all underflow."""
    values = np.asarray(logprobs, np.float64)
    found = np.exp(values - values.max())
    normed: Floats = found / found.sum()
    return normed


def _logprobs(sample: Sample, output: ModelOutput) -> Floats:
    _check_gold(sample)
    if len(output.likelihoods) != len(sample.choices):
        raise InputError(
            f"sample {sample.id} has {len(sample.choices)} choices, and the output"
            f" {len(output.likelihoods)} likelihoods",
            hint="multiple choice needs a solver that scores each choice",
            param="likelihoods",
        )
    return np.array([each.logprob for each in output.likelihoods], np.float64)


def _check_gold(sample: Sample) -> None:
    if not sample.gold:
        raise InputError(
            f"sample {sample.id} does not say which choice is right",
            hint="gold holds the places of right choices, counted from 0",
            param="gold",
        )


def _accuracy(sample: Sample, scores: Floats) -> float:
    return float(int(np.argmax(scores)) in sample.gold)


def _certainty(sample: Sample, logprobs: Floats) -> dict[str, float]:
    """``confidence``: the probability of what was chosen. ``gold_probability``: of the right
    choices together. ``margin``: nats, of the best right choice over the best wrong one; NaN where
    no choice is wrong."""
    p = probabilities(logprobs)
    gold = np.isin(np.arange(len(p)), sample.gold)
    wrong = logprobs[~gold]
    margin = float(logprobs[gold].max() - wrong.max()) if len(wrong) else math.nan
    return {
        "confidence": float(p.max()),
        "gold_probability": float(p[gold].sum()),
        "margin": margin,
    }


@dataclass(frozen=True)
class MultipleChoiceScorer(ConfiguredScorer):
    """``exact_match``: greedy decoding writes a right choice. ``acc_tied``: the share of right ones
    among the choices that tie for the best (HELM). ``acc_mutual_info``: by how much the question
    makes a choice likelier, where ``facts["unconditional_logprobs"]`` has them without it.
    ``gold_logprob``, ``gold_bytes``: of the likeliest of the right choices."""

    name: ClassVar[str] = "multiple_choice"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        shares = (share(name) for name in ("acc", "acc_norm", "acc_bytes"))
        return (*shares, average("gold_probability"), average("margin"), GOLD_BITS)

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        logprobs = _logprobs(sample, output)
        if not all(sample.choices):
            raise InputError(
                f"sample {sample.id} has an empty choice, whose log-probability has no length",
                param="choices",
            )
        best = np.flatnonzero(logprobs >= logprobs.max())
        characters = np.array([len(each) for each in sample.choices], np.float64)
        num_bytes = np.array([len(each.encode()) for each in sample.choices], np.float64)
        tokens = np.array([max(each.num_tokens, 1) for each in output.likelihoods], np.float64)
        greedy = any(output.likelihoods[place].is_greedy for place in sample.gold)
        gold = max(sample.gold, key=logprobs.__getitem__)
        return {
            "acc": _accuracy(sample, logprobs),
            "acc_norm": _accuracy(sample, logprobs / characters),
            "acc_bytes": _accuracy(sample, logprobs / num_bytes),
            "acc_tokens": _accuracy(sample, logprobs / tokens),
            "acc_tied": float(np.isin(best, sample.gold).mean()),
            "acc_mutual_info": _mutual_information(sample, output, logprobs),
            "exact_match": float(greedy),
            "gold_logprob": float(logprobs[gold]),
            "gold_bytes": float(num_bytes[gold]),
            **_certainty(sample, logprobs),
        }


def _mutual_information(sample: Sample, output: ModelOutput, logprobs: Floats) -> float:
    without = output.facts.get("unconditional_logprobs")
    if without is None:
        return math.nan
    if len(without) != len(logprobs):
        raise InputError(
            f"sample {sample.id} has {len(logprobs)} choices, and {len(without)} unconditional"
            " log-probabilities",
            param="unconditional_logprobs",
        )
    return _accuracy(sample, logprobs - np.asarray(without, np.float64))


@dataclass(frozen=True)
class NextToken(ConfiguredScorer):
    """Letters from A, as many as there are choices. The likelihoods of an output are those of the
    letters; an output without any has ``facts["next_token_logprobs"]``, a log-probability for each
    of the likeliest tokens. ``before``: what stands before the letter in such a token."""

    name: ClassVar[str] = "next_token"
    before: str = " "

    @property
    def metrics(self) -> tuple[Metric, ...]:
        missing = average("letters_missing", "lower")
        return share("acc"), average("gold_probability"), missing, average("margin")

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        if output.likelihoods:
            logprobs, missing = _logprobs(sample, output), 0.0
        else:
            logprobs, missing = self._looked_up(sample, output)
        return {
            "acc": _accuracy(sample, logprobs),
            "letters_missing": missing,
            **_certainty(sample, logprobs),
        }

    def _looked_up(self, sample: Sample, output: ModelOutput) -> tuple[Floats, float]:
        """Log-probabilities of the letters, and the share that was not there."""
        _check_gold(sample)
        table = output.facts.get("next_token_logprobs")
        if not isinstance(table, Mapping):
            raise InputError(
                f"the output of sample {sample.id} has no log-probabilities of the next token",
                hint="use a solver that scores the letters, or a model that returns them",
                param="next_token_logprobs",
            )
        letters = [f"{self.before}{chr(ord('A') + n)}" for n in range(len(sample.choices))]
        found = np.array([float(table.get(letter, MISSING)) for letter in letters])
        return found, sum(letter not in table for letter in letters) / len(letters)


@dataclass(frozen=True)
class Mc1(ConfiguredScorer):
    name: ClassVar[str] = "mc1"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (share("mc1"),)

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        logprobs = _logprobs(sample, output)
        return {"mc1": _accuracy(sample, logprobs), **_certainty(sample, logprobs)}


@dataclass(frozen=True)
class Mc2(ConfiguredScorer):
    name: ClassVar[str] = "mc2"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (average("mc2"),)

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        logprobs = _logprobs(sample, output)
        return {"mc2": _certainty(sample, logprobs)["gold_probability"]}
