"""Scorers of tasks that ask a judge.

    scorer: {name: rubric, criteria: {accuracy: "Is all that the answer says true?"}}
    scorer: {name: pairwise, against: answer}

``rubric`` rates each answer, ``pairwise`` compares it with the text of a field of the row, in both
orders. ``reference`` names a field with an answer that is known to be right. What the judge's reply
does not say is NaN and counted, never guessed; where there is nothing but failures there is no
figure. Not covered: which model judges (`--judge` of `lmstack eval run`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from lmstack.core import ChatModel, Config, InputError, Message, allowed, check_text, shown
from lmstack.evals.judging.pairwise import CRITERION, PairJudge
from lmstack.evals.judging.rubric import RUBRIC, Criterion, RubricJudge, criteria_from
from lmstack.evals.statistics import mean_of
from lmstack.evals.task import Metric, ModelOutput, Sample

__all__ = ["JUDGED", "PairwiseScorer", "RubricScorer", "judged_scorer"]


@dataclass(frozen=True)
class RubricSettings(Config):
    """``reference``: the field with an answer that is known to be right, "" for none."""

    criteria: Any = None
    reference: str = ""
    retries: int = allowed(2, int, 0, 20)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text("reference", self.reference)


@dataclass(frozen=True)
class PairwiseSettings(Config):
    """``against``: the field with the answer to compare with; "" is the first target."""

    against: str = ""
    reference: str = ""
    criterion: str = CRITERION
    ties: bool = allowed(True, bool)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("against", "reference", "criterion"):
            check_text(name, getattr(self, name))


class RubricScorer:
    """``overall``: the mean over the criteria; a score for each of them; ``parse_failures``: 1
    where no reply could be read, and the rest is NaN."""

    name: ClassVar[str] = "rubric"
    version: ClassVar[int] = 1
    is_costly: ClassVar[bool] = True

    def __init__(self, judge: ChatModel, settings: RubricSettings | None = None) -> None:
        self.judge, self.settings = judge, settings or RubricSettings()
        given = self.settings.criteria
        self.criteria: tuple[Criterion, ...] = RUBRIC if given is None else criteria_from(given)
        if any(each.name in ("overall", "parse_failures") for each in self.criteria):
            raise InputError("a criterion has the name of a figure", param="criteria")
        self._rubric = RubricJudge(judge, self.criteria, retries=self.settings.retries)

    @property
    def protocol(self) -> Mapping[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "criteria": {each.name: each.question for each in self.criteria},
            "reference": self.settings.reference,
            "retries": self.settings.retries,
            **_judge_json(self.judge),
        }

    @property
    def metrics(self) -> tuple[Metric, ...]:
        names = ("overall", *(each.name for each in self.criteria))
        return (*(_mean(name, decimals=2) for name in names), _mean("parse_failures", "lower"))

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        reference = _field(sample, self.settings.reference, "reference")
        rating = await self._rubric.rate(_conversation(sample), output.text, reference=reference)
        overall = rating.overall
        scores = {
            each.name: float(rating.scores.get(each.name, math.nan)) for each in self.criteria
        }
        return {
            "overall": math.nan if overall is None else overall,
            **scores,
            "parse_failures": float(overall is None),
        }


class PairwiseScorer:
    """``win``: 1 where both orders name the subject's answer, 0 where both name the other one, else
    .5; ``flips``: 1 where both orders named the same place; ``parse_failures``: 1 where a reply
    could not be read, and the rest is NaN."""

    name: ClassVar[str] = "pairwise"
    version: ClassVar[int] = 1
    is_costly: ClassVar[bool] = True

    def __init__(self, judge: ChatModel, settings: PairwiseSettings | None = None) -> None:
        self.judge, self.settings = judge, settings or PairwiseSettings()
        self._pairs = PairJudge(judge, self.settings.criterion, ties=self.settings.ties)

    @property
    def protocol(self) -> Mapping[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            **{name: getattr(self.settings, name) for name in ("against", "reference", "ties")},
            "criterion": self.settings.criterion,
            **_judge_json(self.judge),
        }

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (_mean("win"), _mean("flips", "lower"), _mean("parse_failures", "lower"))

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        against = _field(sample, self.settings.against, "against")
        if against is None:
            if not sample.targets:
                raise InputError(
                    f"sample {sample.id} has no answer to compare with",
                    hint="name its field: against: FIELD, or targets: FIELD",
                    param="scorer",
                )
            against = sample.targets[0]
        verdict = await self._pairs.compare(
            _conversation(sample),
            output.text,
            against,
            reference=_field(sample, self.settings.reference, "reference"),
        )
        winner = verdict.winner
        if winner is None:
            return {"win": math.nan, "flips": math.nan, "parse_failures": 1.0}
        win = {"first": 1.0, "tie": 0.5, "second": 0.0}[winner]
        return {"win": win, "flips": float(verdict.is_flip), "parse_failures": 0.0}


JUDGED = (PairwiseScorer.name, RubricScorer.name)


def judged_scorer(
    name: str, parameters: Mapping[str, Any], judge: ChatModel | None
) -> RubricScorer | PairwiseScorer:
    """One of `JUDGED`; `InputError` without a judge, or for settings that it does not have."""
    if judge is None:
        raise InputError(
            f"the scorer {name} has no judge", hint="name a model: --judge MODEL", param="judge"
        )
    if name == RubricScorer.name:
        return RubricScorer(judge, RubricSettings.from_mapping(parameters))
    return PairwiseScorer(judge, PairwiseSettings.from_mapping(parameters))


def _mean(name: str, better: Literal["higher", "lower"] = "higher", decimals: int = 3) -> Metric:
    return Metric(name, (name,), mean_of, better, is_share=False, decimals=decimals)


def _conversation(sample: Sample) -> tuple[Message, ...]:
    asked = sample.input
    return (Message("user", asked),) if isinstance(asked, str) else asked


def _field(sample: Sample, name: str, role: str) -> str | None:
    if not name:
        return None
    value = sample.metadata.get(name)
    if not isinstance(value, str):
        raise InputError(
            f"the field {name} of sample {sample.id} is {shown(value)}, not text",
            hint=f"{role} names a field of the row that is text",
            param="scorer",
        )
    return value


def _judge_json(judge: ChatModel) -> dict[str, Any]:
    return {"judge": judge.info.name, "judge_digest": judge.info.digest, "temperature": 0}
