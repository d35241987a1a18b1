"""One answer rated by a rubric: each criterion from 1 to 5, after a sentence that says why.

The reason comes before the score, so that the score follows from it (Liu et al. 2023,
arXiv:2303.16634; Zheng et al. 2023, arXiv:2306.05685). Models that take a JSON Schema are held to
it; of the others a reply is read as JSON. Every reply is validated. One that is not valid is asked
for again with what was wrong, a bounded number of times, and then counted as a failure: no score is
ever guessed. Not covered: ratings without reasons, weighted by probabilities (`pairwise`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmstack.core import (
    ChatModel,
    Completion,
    Config,
    Grammar,
    InputError,
    Message,
    Request,
    SamplingParams,
    UnsupportedError,
    check_text,
    check_whole,
    complete,
    shown,
)
from lmstack.core.json_text import parse_json
from lmstack.evals.judging.items import presented

__all__ = ["RUBRIC", "Criterion", "RubricJudge", "RubricRating", "criteria_from"]

LOWEST, HIGHEST = 1, 5
_REASON_CHARS = 240
# Of a reason as long as it may be, in tokens of a character each at worst, and of what is around.
_TOKENS = _REASON_CHARS + 40
_CODE_BLOCK = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


@dataclass(frozen=True)
class Criterion(Config):
    """``name``: as scores are called. ``question``: that a score answers."""

    name: str
    question: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", self.name):
            raise InputError(
                f"a criterion has the name {shown(self.name)}",
                hint="small letters, digits and _, at most 40, the first a letter",
                param="criteria",
            )
        check_text(f"the question of the criterion {self.name}", self.question)
        if not self.question.strip():
            raise InputError(f"the criterion {self.name} asks nothing", param="criteria")


RUBRIC = (
    Criterion("accuracy", "Is all that the answer says true?"),
    Criterion("completeness", "Does it answer everything that was asked?"),
    Criterion("clarity", "Is it easy to read and to the point?"),
    Criterion("reasoning", "Does each conclusion follow from what is said before it?"),
)


def criteria_from(values: Any) -> tuple[Criterion, ...]:
    """Of a mapping of names to questions, or a list of the usual names; `InputError` else."""
    usual = {each.name: each for each in RUBRIC}
    if isinstance(values, Mapping) and values:
        found = [Criterion(name, question) for name, question in values.items()]
    elif isinstance(values, list | tuple) and values and all(str(v) in usual for v in values):
        found = [usual[str(name)] for name in values]
    else:
        raise InputError(
            f"the criteria are {shown(values)}",
            hint=f"map names to questions, or list some of {', '.join(usual)}",
            param="criteria",
        )
    if len({each.name for each in found}) < len(found):
        raise InputError(f"a criterion is twice in {shown(values)}", param="criteria")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class RubricRating:
    """``scores`` and ``reasons`` by criterion; empty where no reply was valid. ``attempts``: how
    many replies were asked for. ``problem``: what was wrong with the last one, "" for a valid
    one."""

    scores: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    attempts: int = 1
    problem: str = ""

    @property
    def overall(self) -> float | None:
        """The mean over the criteria; None where there are no scores."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else None


class RubricJudge:
    """``criteria``: of which each gets a score. ``retries``: after a first reply that is not valid.
    ``temperature``: above 0 scores are drawn."""

    def __init__(
        self,
        model: ChatModel,
        criteria: Sequence[Criterion] = RUBRIC,
        *,
        retries: int = 2,
        temperature: float = 0.0,
    ) -> None:
        check_whole("retries", retries, 0, 20)
        if not criteria:
            raise InputError("a rubric needs a criterion", param="criteria")
        self.model, self.criteria = model, tuple(criteria)
        self.retries, self.temperature = retries, temperature
        self._takes_schema = True

    async def rate(
        self,
        prompt: Sequence[Message],
        answer: str,
        *,
        reference: str | None = None,
        seed: int | None = None,
    ) -> RubricRating:
        """Of an answer to the conversation ``prompt``. ``reference``: an answer that is known to be
        right. ``seed``: of scores that are drawn. The model's errors are raised."""
        messages = presented(prompt, {"answer": answer}, self._question(reference), reference)
        problem = ""
        for attempt in range(1, self.retries + 2):
            reply = await self._asked(messages, seed)
            cut = reply.choices[0].finish_reason == "length"
            try:
                scores, reasons = self._read(reply.text)
            except ValueError as error:
                problem = "the reply was cut at its limit" if cut else str(error)
                again = f"That is not the JSON object that was asked for: {problem}. Reply with it."
                messages += (Message("assistant", reply.text), Message("user", again))
                continue
            return RubricRating(scores, reasons, attempt)
        return RubricRating(attempts=self.retries + 1, problem=problem)

    async def _asked(self, messages: tuple[Message, ...], seed: int | None) -> Completion:
        sampling = SamplingParams(
            temperature=self.temperature,
            max_tokens=_TOKENS * len(self.criteria) + 16,
            seed=seed if self.temperature else None,
        )
        if self._takes_schema:
            grammar = Grammar.json_schema(self._schema())
            try:
                return await complete(
                    self.model, Request(messages, sampling=sampling, grammar=grammar)
                )
            except UnsupportedError:
                self._takes_schema = False
        return await complete(self.model, Request(messages, sampling=sampling))

    def _question(self, reference: str | None) -> str:
        beside = " beside the reference answer" if reference is not None else ""
        # No score in the form: small models copy it.
        form = ", ".join(f'"{c.name}": {{"reason": ..., "score": ...}}' for c in self.criteria)
        return (
            f"Rate the answer{beside} by each criterion: first the reason in one sentence, then a"
            f" whole score from {LOWEST}, the worst, to {HIGHEST}, the best.\n"
            + "\n".join(f"{each.name}: {each.question}" for each in self.criteria)
            + f"\nReply with a JSON object alone, in this form: {{{form}}}"
        )

    def _schema(self) -> dict[str, Any]:
        one = {
            "type": "object",
            "properties": {
                "reason": {"type": "string", "minLength": 1, "maxLength": _REASON_CHARS},
                "score": {"type": "integer", "enum": list(range(LOWEST, HIGHEST + 1))},
            },
            "required": ["reason", "score"],
            "additionalProperties": False,
        }
        names = [each.name for each in self.criteria]
        return {
            "type": "object",
            "properties": dict.fromkeys(names, one),
            "required": names,
            "additionalProperties": False,
        }

    def _read(self, text: str) -> tuple[dict[str, int], dict[str, str]]:
        """`ValueError` that says what is wrong with a reply."""
        block = _CODE_BLOCK.fullmatch(text)
        value = parse_json(block[1] if block else text)
        if not isinstance(value, dict):
            raise ValueError(f"it is {shown(value)}, not an object")
        names = [each.name for each in self.criteria]
        other = next((name for name in value if name not in names), None)
        if other is not None:
            raise ValueError(f"there is no criterion {shown(other)}")
        scores: dict[str, int] = {}
        reasons: dict[str, str] = {}
        for name in names:
            rated = value.get(name)
            if not isinstance(rated, dict) or set(rated) != {"reason", "score"}:
                raise ValueError(f"{name} needs a reason and a score")
            score, reason = rated["score"], rated["reason"]
            whole = isinstance(score, int) and not isinstance(score, bool)
            if not whole or not LOWEST <= score <= HIGHEST:
                raise ValueError(f"the score of {name} is {shown(score)}")
            if not isinstance(reason, str) or not reason.strip():
                raise ValueError(f"{name} has no reason")
            scores[name], reasons[name] = score, reason
        return scores, reasons
