"""Scorers that compare a text with the targets: equal, included, extracted, or alike in words.

    exact_match      equal, after what is to be ignored is taken out (lm-evaluation-harness)
    squad            equal after SQuAD's normalization, and F1 over words (Rajpurkar et al., 2016)
    prefix_match     begins with the target, plain and normalized (HELM)
    includes         holds the target somewhere (inspect)
    extracted_match  what a strict and a lenient pattern find, side by side
    numeric_match    the same for a final number, by the patterns of GSM8K in lm-evaluation-harness

Of several targets the best counts. Not covered: overlap of longer texts (`rouge`, `bleu`).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from lmstack.core import InputError, allowed, shown
from lmstack.evals.metrics.scoring import ConfiguredScorer, average, best_of, needed_targets, share
from lmstack.evals.task import Metric, ModelOutput, Sample

__all__ = [
    "NO_MATCH",
    "ExactMatch",
    "ExtractedMatch",
    "Includes",
    "NumericMatch",
    "PrefixMatch",
    "Squad",
    "extracted",
    "normalized",
    "without",
    "word_f1",
]

NO_MATCH = "[invalid]"  # what lm-evaluation-harness compares where a pattern finds nothing
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_DIGITS = str.maketrans("", "", string.digits)
Pick = Literal["first", "last"]


def normalized(text: str) -> str:
    """SQuAD's normalization: lower case, no ASCII punctuation, no English articles, single
    spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def word_f1(text: str, target: str) -> tuple[float, float, float]:
    """Precision, recall and F1 over the words of both, normalized, as SQuAD 2.0 has it: where one
    is empty, 1 if both are."""
    ours, theirs = normalized(text).split(), normalized(target).split()
    if not ours or not theirs:
        alike = float(ours == theirs)
        return alike, alike, alike
    common = (Counter(ours) & Counter(theirs)).total()
    if not common:
        return 0.0, 0.0, 0.0
    precision, recall = common / len(ours), common / len(theirs)
    return precision, recall, 2 * precision * recall / (precision + recall)


def without(
    text: str,
    patterns: tuple[str, ...] = (),
    *,
    case: bool = False,
    punctuation: bool = False,
    numbers: bool = False,
) -> str:
    """``text`` without what ``patterns`` match, in lower case if its ``case`` is ignored, without
    ASCII punctuation and digits: in that order, as lm-evaluation-harness compares."""
    for pattern in patterns:
        text = re.sub(pattern, "", text)
    text = text.lower() if case else text
    text = text.translate(_PUNCTUATION) if punctuation else text
    return text.translate(_DIGITS) if numbers else text


def extracted(text: str, pattern: str, pick: Pick = "first") -> str | None:
    """The first or last match of ``pattern``, stripped; of a pattern with groups the first group
    that is not empty. None where there is none."""
    found = re.findall(pattern, text)
    if not found:
        return None
    match = found[0 if pick == "first" else -1]
    if isinstance(match, tuple):
        match = next((group for group in match if group), None)
    return None if match is None else match.strip()


def _check_patterns(name: str, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise InputError(
                f"{name} holds {shown(pattern)}, which is no regular expression: {error}",
                param=name,
            ) from None


@dataclass(frozen=True)
class _Comparing(ConfiguredScorer):
    """``regexes_to_ignore``: what they match is taken out of both texts first. ``ignore_...``: of
    ASCII alone, but for case."""

    ignore_case: bool = allowed(False, bool)
    ignore_punctuation: bool = allowed(False, bool)
    ignore_numbers: bool = allowed(False, bool)
    regexes_to_ignore: tuple[str, ...] = allowed((), str, 0, 100)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_patterns("regexes_to_ignore", self.regexes_to_ignore)

    def cleaned(self, text: str) -> str:
        return without(
            text,
            self.regexes_to_ignore,
            case=self.ignore_case,
            punctuation=self.ignore_punctuation,
            numbers=self.ignore_numbers,
        )

    def is_target(self, text: str, sample: Sample) -> float:
        ours = self.cleaned(text)
        return float(any(ours == self.cleaned(target) for target in needed_targets(sample)))


@dataclass(frozen=True)
class ExactMatch(_Comparing):
    """``strip``: white space around either text does not count."""

    name: ClassVar[str] = "exact_match"
    strip: bool = allowed(True, bool)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (share("exact_match"),)

    def cleaned(self, text: str) -> str:
        found = super().cleaned(text)
        return found.strip() if self.strip else found

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        return {"exact_match": self.is_target(output.text, sample)}


@dataclass(frozen=True)
class Squad(ConfiguredScorer):
    """Of a question without an answer the target is ""."""

    name: ClassVar[str] = "squad"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return average("f1"), share("quasi_exact_match")

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        targets = needed_targets(sample)
        best = max((word_f1(output.text, target) for target in targets), key=lambda each: each[2])
        ours = normalized(output.text)
        return {
            "f1": best[2],
            "quasi_exact_match": float(any(ours == normalized(target) for target in targets)),
            "word_precision": best[0],
            "word_recall": best[1],
        }


@dataclass(frozen=True)
class PrefixMatch(ConfiguredScorer):
    """For models that go on writing after the answer. An empty text begins with nothing."""

    name: ClassVar[str] = "prefix_match"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return share("quasi_prefix_match"), share("prefix_match")

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        targets = needed_targets(sample)
        return {
            "prefix_match": best_of(_begins(str.strip), output.text, targets),
            "quasi_prefix_match": best_of(_begins(normalized), output.text, targets),
        }


def _begins(form: Callable[[str], str]) -> Callable[[str, str], float]:
    return lambda text, target: float(bool(text) and form(text).startswith(form(target)))


@dataclass(frozen=True)
class Includes(ConfiguredScorer):
    name: ClassVar[str] = "includes"
    ignore_case: bool = allowed(True, bool)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (share("includes"),)

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        fold: Callable[[str], str] = str.lower if self.ignore_case else str
        text = fold(output.text)
        return {"includes": float(any(fold(target) in text for target in needed_targets(sample)))}


@dataclass(frozen=True)
class ExtractedMatch(_Comparing):
    """What ``strict`` finds and what ``lenient`` finds, each compared with the targets: a form of
    answer that a model does not keep must not look like a wrong answer. ``..._pick``: which match,
    "first" or "last". The scores ``..._found`` say whether a pattern matched at all."""

    name: ClassVar[str] = "extracted_match"
    strict: str = ""
    lenient: str = ""
    strict_pick: Pick = allowed("first", str, also=("first", "last"))
    lenient_pick: Pick = allowed("last", str, also=("first", "last"))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("strict", "lenient"):
            if not getattr(self, name):
                raise InputError(
                    f"extracted_match has no pattern {name}",
                    hint="give both patterns; the same one twice if there is but one",
                    param=name,
                )
            _check_patterns(name, (getattr(self, name),))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(
            share(name)
            for name in ("strict_match", "flexible_match", "strict_found", "flexible_found")
        )

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        scores = {}
        for name, pattern, pick in (
            ("strict", self.strict, self.strict_pick),
            ("flexible", self.lenient, self.lenient_pick),
        ):
            found = extracted(output.text, pattern, pick)
            text = NO_MATCH if found is None else found
            scores[f"{name}_match"] = self.is_target(text, sample)
            scores[f"{name}_found"] = float(found is not None)
        return scores


@dataclass(frozen=True)
class NumericMatch(ExtractedMatch):
    """GSM8K as lm-evaluation-harness 0.4.13 scores it (gsm8k.yaml, version 3): strict is the first
    number after ``####``, flexible the last number of the text. Targets may be whole solutions."""

    name: ClassVar[str] = "numeric_match"
    ignore_case: bool = allowed(True, bool)
    regexes_to_ignore: tuple[str, ...] = allowed((",", r"\$", r"(?s).*#### ", r"\.$"), str, 0, 100)
    strict: str = r"#### (\-?[0-9\.\,]+)"
    lenient: str = r"(-?[$0-9.,]{2,})|(-?[0-9]+)"
