"""Judges that reply with one letter or digit: which of two answers is better, which of two labels
fits an answer, in both orders; and how good one answer is, from 1 to 5.

Judges favour a place (Zheng et al. 2023, arXiv:2306.05685), so each question is asked twice with
the order turned round. Where the judge gives log-probabilities they are the label, as in Bai et al.
2022 (arXiv:2212.08073), and both orders are averaged as log-odds: what a place is worth is added in
one order and taken away in the other, so it cancels. A winner takes both orders; anything else is a
tie, as in MT-Bench. A rating is the mean over the digits, weighted by their probabilities (Liu et
al. 2023, arXiv:2303.16634). Not covered: ratings by criterion with reasons (`rubric`), and
statistics over many verdicts (`biases`, `report`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lmstack.core import ChatModel, InputError, Message, shown
from lmstack.evals.judging.items import presented
from lmstack.evals.judging.options import OptionReader, Replies

__all__ = ["CRITERION", "RATED", "LabelJudge", "PairJudge", "RatingJudge", "Verdict", "Winner"]

CRITERION = "Which answer is more helpful, correct and to the point?"
Winner = Literal["first", "second", "tie"]
RATED = "How helpful, correct and to the point is the answer?"
_RATINGS = ("1", "2", "3", "4", "5")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of two answers (of two labels, for a `LabelJudge`). ``forward``: the log-odds that the first
    is better when it is shown first; ``backward``: when it is shown second. Infinite where the
    judge named one without a probability, None where it named none. ``ties``: whether it called
    that order a tie."""

    forward: float | None
    backward: float | None
    ties: tuple[bool, bool] = (False, False)

    @property
    def probability(self) -> float:
        """That the first answer is the better one; .5 where nothing is known."""
        orders = [0.0 if odds is None else odds for odds in (self.forward, self.backward)]
        if all(map(math.isfinite, orders)):
            return _sigmoid(sum(orders) / 2)
        return sum(map(_sigmoid, orders)) / 2

    @property
    def named(self) -> tuple[Winner | None, Winner | None]:
        """What each order named; None where nothing could be read."""
        return _winner(self.forward, self.ties[0]), _winner(self.backward, self.ties[1])

    @property
    def failures(self) -> int:
        """Orders whose reply could not be read."""
        return sum(each is None for each in self.named)

    @property
    def winner(self) -> Winner | None:
        """The answer that both orders name; a tie where they do not, None where a reply could not
        be read."""
        one, other = self.named
        if one is None or other is None:
            return None
        return one if one == other else "tie"

    @property
    def agrees(self) -> bool:
        """Whether both orders name the same answer."""
        return self.winner in ("first", "second")

    @property
    def is_flip(self) -> bool:
        """Whether both orders name the same place, which is not the same answer."""
        return set(self.named) == {"first", "second"}

    @property
    def first_place(self) -> float | None:
        """How much more often the place shown first was named than the other: 1 in both orders, -1
        in neither, 0 where each order named the same answer. None where a reply is missing."""
        values = {"first": 1.0, "tie": 0.0, "second": -1.0}
        one, other = self.named
        return None if one is None or other is None else (values[one] - values[other]) / 2

    @property
    def place(self) -> float | None:
        """The log-odds that the place shown first is worth; None where they are not known."""
        if self.forward is None or self.backward is None:
            return None
        if not (math.isfinite(self.forward) and math.isfinite(self.backward)):
            return None
        return (self.forward - self.backward) / 2


class PairJudge:
    """``model``: any chat model. ``criterion``: the question that it answers of two answers.
    ``ties``: whether it may call them equally good. ``temperature``: above 0 verdicts are drawn,
    and have no probabilities."""

    def __init__(
        self,
        model: ChatModel,
        criterion: str = CRITERION,
        *,
        ties: bool = False,
        temperature: float = 0.0,
    ) -> None:
        self.criterion, self.ties, self.temperature = criterion, ties, temperature
        self._reader = OptionReader(model, ("A", "B", "C") if ties else ("A", "B"))

    @property
    def gives_probabilities(self) -> bool:
        return self._reader.gives_probabilities

    async def compare(
        self,
        prompt: Sequence[Message],
        first: str,
        second: str,
        criterion: str | None = None,
        *,
        reference: str | None = None,
        seed: int | None = None,
    ) -> Verdict:
        """Of two answers to the conversation ``prompt``. ``criterion``: another question than the
        judge's own, of a principle for instance. ``reference``: an answer known to be right.
        ``seed``: of verdicts that are drawn. The model's errors are raised."""
        asked = f"{criterion or self.criterion} Reply with the letter alone: A or B."
        if self.ties:
            asked = (
                f"{criterion or self.criterion} Reply with the letter alone: A, B, or C where they"
                " are equally good."
            )

        async def order(a: str, b: str) -> Replies:
            shown_as = {"answer A": a, "answer B": b}
            messages = presented(prompt, shown_as, asked, reference)
            return await self._reader.ask(messages, temperature=self.temperature, seed=seed)

        return _verdict(*await asyncio.gather(order(first, second), order(second, first)))


class LabelJudge:
    """Which of two ``labels`` fits an answer, by the ``question`` asked of it; they are listed in
    both orders, since a letter may be liked for its own sake."""

    def __init__(
        self, model: ChatModel, question: str, labels: Sequence[str], *, temperature: float = 0.0
    ) -> None:
        if len(labels) != 2 or len(set(labels)) != 2 or not all(each.strip() for each in labels):
            raise InputError(
                f"the labels are {shown(list(labels))}", hint="give two that differ", param="labels"
            )
        self.question, self.labels, self.temperature = question, tuple(labels), temperature
        self._reader = OptionReader(model, ("A", "B"))

    async def label(
        self,
        prompt: Sequence[Message],
        answer: str,
        *,
        reference: str | None = None,
        seed: int | None = None,
    ) -> Verdict:
        """``first``: the first label fits. The model's errors are raised."""

        async def order(a: str, b: str) -> Replies:
            asked = f"{self.question}\nA: {a}\nB: {b}\nReply with the letter alone: A or B."
            messages = presented(prompt, {"answer": answer}, asked, reference)
            return await self._reader.ask(messages, temperature=self.temperature, seed=seed)

        one, other = self.labels
        # One after the other: both prompts are alike up to the labels, which a prefix cache shares.
        return _verdict(await order(one, other), await order(other, one))


def _verdict(one: Replies, other: Replies) -> Verdict:
    return Verdict(one.odds("A", "B"), other.odds("B", "A"), (_is_tie(one), _is_tie(other)))


def _is_tie(replies: Replies) -> bool:
    found = replies.logprobs
    return found is not None and max(found, key=found.__getitem__) == "C"


def _winner(odds: float | None, tie: bool) -> Winner | None:
    if odds is None:
        return None
    if tie or odds == 0:
        return "tie"
    return "first" if odds > 0 else "second"


def _sigmoid(odds: float) -> float:
    if odds < 0:
        return math.exp(odds) / (1 + math.exp(odds))
    return 1 / (1 + math.exp(-odds))


class RatingJudge:
    """Rates answers from 1 to 5, 5 the best. ``criterion``: the question that it answers."""

    def __init__(self, model: ChatModel, criterion: str = RATED) -> None:
        self.criterion = criterion
        self._reader = OptionReader(model, _RATINGS)

    async def rate(self, prompt: Sequence[Message], answer: str) -> float | None:
        """The mean rating; None where the judge gave none. The model's errors are raised."""
        asked = f"{self.criterion} Reply with a digit alone, from 1, the worst, to 5, the best."
        messages = presented(prompt, {"answer": answer}, asked)
        replies = (await self._reader.ask(messages)).logprobs
        if replies is None:
            return None
        return sum(int(rating) * math.exp(logprob) for rating, logprob in replies.items())
