"""What judges said of items, as it is kept, and asking them for it.

A judgement is kept with the judge's name and the number of its repeat: 0 is the judgement at
temperature 0 that scores are made of; the others are drawn at a temperature, to see how they vary.
Not covered: files (`lmstack.app`), and what follows from judgements (`report`, `jury`).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmstack.core import ChatModel, ContextLengthError, FormatError, shown
from lmstack.evals.json_forms import checked, number_from_json, number_to_json
from lmstack.evals.judging.items import Item, Kind
from lmstack.evals.judging.pairwise import LabelJudge, PairJudge, Verdict, Winner
from lmstack.evals.judging.rubric import (
    HIGHEST,
    LOWEST,
    RUBRIC,
    Criterion,
    RubricJudge,
    RubricRating,
    criteria_from,
)

__all__ = ["TOO_LONG", "Asker", "JudgeRules", "Judgement", "judgement_from_json", "rules_from_json"]

TOO_LONG = "it is too long for the judge"
UNREAD = "its reply names none of the options"


@dataclass(frozen=True)
class JudgeRules:
    """What decides a judgement beside the item and the judge. ``kind``: pair, rubric or label.
    ``question``: of pairs and labels. ``labels``: the two of a label. ``ties``: of pairs."""

    kind: Kind
    question: str = ""
    labels: tuple[str, ...] = ()
    criteria: tuple[Criterion, ...] = RUBRIC
    ties: bool = True
    retries: int = 2

    def to_json(self) -> dict[str, Any]:
        if self.kind == "rubric":
            asked: dict[str, Any] = {each.name: each.question for each in self.criteria}
            return {"kind": self.kind, "criteria": asked, "retries": self.retries}
        if self.kind == "label":
            return {"kind": self.kind, "question": self.question, "labels": list(self.labels)}
        return {"kind": self.kind, "question": self.question, "ties": self.ties}


def rules_from_json(value: Any) -> JudgeRules:
    """`FormatError` for what `JudgeRules.to_json` does not write."""
    if not isinstance(value, dict) or value.get("kind") not in ("pair", "rubric", "label"):
        raise FormatError(f"the rules of a judgement are {shown(value)}")
    if value["kind"] == "rubric":
        checked(value, "the rules", {"kind": str, "criteria": dict, "retries": int})
        criteria = criteria_from(value["criteria"])
        return JudgeRules("rubric", criteria=criteria, retries=value["retries"])
    if value["kind"] == "label":
        checked(value, "the rules", {"kind": str, "question": str, "labels": list})
        return JudgeRules("label", value["question"], tuple(map(str, value["labels"])))
    checked(value, "the rules", {"kind": str, "question": str, "ties": bool})
    return JudgeRules("pair", value["question"], ties=value["ties"])


@dataclass(frozen=True)
class Judgement:
    """Of the item with the key ``item``. ``problem``: why there is none, "" where there is one."""

    item: str
    judge: str
    repeat: int = 0
    verdict: Verdict | None = None
    rating: RubricRating | None = None
    problem: str = ""

    def named(self, kind: Kind) -> Winner | None:
        """Of a pair the answer that both orders name, or a tie; of two labels the one that both
        orders together make likelier. None where there is none."""
        if self.problem or self.verdict is None:
            return None
        if kind == "pair":
            return self.verdict.winner
        probability = self.verdict.probability
        if math.isclose(probability, 0.5, abs_tol=1e-12):
            return None
        return "first" if probability > 0.5 else "second"

    @property
    def overall(self) -> float | None:
        return None if self.rating is None else self.rating.overall

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"item": self.item, "judge": self.judge, "repeat": self.repeat}
        if (verdict := self.verdict) is not None:
            odds = [
                None if each is None else number_to_json(each)
                for each in (verdict.forward, verdict.backward)
            ]
            found["verdict"] = {"odds": odds, "ties": list(verdict.ties)}
        if (rating := self.rating) is not None:
            found["rating"] = {
                "scores": dict(rating.scores),
                "reasons": dict(rating.reasons),
                "attempts": rating.attempts,
            }
        return found | ({"problem": self.problem} if self.problem else {})


def judgement_from_json(value: Mapping[str, Any]) -> Judgement:
    """`FormatError` for what `Judgement.to_json` does not write."""
    found = dict(value)
    verdict, rating = found.pop("verdict", None), found.pop("rating", None)
    problem = found.pop("problem", "")
    checked(found, "a judgement", {"item": str, "judge": str, "repeat": int})
    if not isinstance(problem, str):
        raise FormatError(f"the problem of a judgement is {shown(problem)}, not text")
    return Judgement(
        **found,
        verdict=None if verdict is None else _verdict(verdict),
        rating=None if rating is None else _rating(rating, problem),
        problem=problem,
    )


def _verdict(value: Any) -> Verdict:
    checked(value, "a verdict", {"odds": list, "ties": list})
    odds, ties = value["odds"], value["ties"]
    if len(odds) != 2 or len(ties) != 2 or not all(isinstance(tie, bool) for tie in ties):
        raise FormatError(f"a verdict is {shown(value)}", hint="it has two orders")
    forward, backward = (
        None if each is None else number_from_json(each, "the odds of a verdict") for each in odds
    )
    return Verdict(forward, backward, (ties[0], ties[1]))


def _rating(value: Any, problem: str) -> RubricRating:
    checked(value, "a rating", {"scores": dict, "reasons": dict, "attempts": int})
    for name, score in value["scores"].items():
        if isinstance(score, bool) or score not in range(LOWEST, HIGHEST + 1):
            raise FormatError(f"the score of {shown(name)} is {shown(score)}")
    return RubricRating(value["scores"], value["reasons"], value["attempts"], problem)


class Asker:
    """Asks the judge ``model``, called ``name``. ``temperature``: of repeats."""

    def __init__(
        self, model: ChatModel, name: str, rules: JudgeRules, *, temperature: float = 0.7
    ) -> None:
        self.name, self.rules = name, rules
        self._judges = [_made(model, rules, each) for each in (0.0, temperature)]

    async def ask(self, item: Item, repeat: int = 0) -> Judgement:
        """What is too long for the judge, or cannot be read, is a judgement with a problem; other
        errors of the model are raised."""
        judge = self._judges[repeat > 0]
        seed = zlib.crc32(f"{item.key}/{repeat}".encode()) if repeat else None
        try:
            if isinstance(judge, RubricJudge):
                rating = await judge.rate(
                    item.prompt, item.answers[0], reference=item.reference, seed=seed
                )
                return Judgement(item.key, self.name, repeat, None, rating, rating.problem)
            if isinstance(judge, LabelJudge):
                verdict = await judge.label(
                    item.prompt, item.answers[0], reference=item.reference, seed=seed
                )
            else:
                verdict = await judge.compare(
                    item.prompt, *item.answers, reference=item.reference, seed=seed
                )
        except ContextLengthError:
            return Judgement(item.key, self.name, repeat, problem=TOO_LONG)
        problem = UNREAD if verdict.failures else ""
        return Judgement(item.key, self.name, repeat, verdict, None, problem)


def _made(
    model: ChatModel, rules: JudgeRules, temperature: float
) -> RubricJudge | LabelJudge | PairJudge:
    if rules.kind == "rubric":
        return RubricJudge(model, rules.criteria, retries=rules.retries, temperature=temperature)
    if rules.kind == "label":
        return LabelJudge(model, rules.question, rules.labels, temperature=temperature)
    return PairJudge(model, rules.question, ties=rules.ties, temperature=temperature)
