"""How good answers are, as a language model sees it: which of two is better, and a rating of one.

Two answers are shown in both orders, because judges favour a place (Zheng et al. 2023,
arXiv:2306.05685). Where the judge gives log-probabilities they are the label, as in Bai et al.
2022 (arXiv:2212.08073), and both orders are averaged as log-odds: what a place is worth is added
in one order and taken away in the other, so it cancels. A rating is the mean over the digits,
weighted by their probabilities (Liu et al. 2023, arXiv:2303.16634). What is judged is fenced as
untrusted data, which keeps it apart and does not make the judge immune to it. Does not cover
statistics over many verdicts.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from lmstack.core import ChatModel, Message, Prompt, Span
from lmstack.evals.options import OptionReader

__all__ = ["CRITERION", "RATED", "PairJudge", "RatingJudge", "Verdict"]

CRITERION = "Which answer is more helpful, correct and to the point?"
RATED = "How helpful, correct and to the point is the answer?"
_RATINGS = ("1", "2", "3", "4", "5")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of two answers. ``forward``: the log-odds that the first is better when it is shown first;
    ``backward``: when it is shown second. Infinite where the judge named one without a
    probability, None where it named neither."""

    forward: float | None
    backward: float | None

    @property
    def probability(self) -> float:
        """That the first answer is the better one; .5 where nothing is known."""
        orders = [0.0 if odds is None else odds for odds in (self.forward, self.backward)]
        if all(map(math.isfinite, orders)):
            return _sigmoid(sum(orders) / 2)
        return sum(map(_sigmoid, orders)) / 2

    @property
    def agrees(self) -> bool:
        """Whether both orders name the same answer."""
        if self.forward is None or self.backward is None:
            return False
        return self.forward * self.backward > 0

    @property
    def place(self) -> float | None:
        """The log-odds that the place shown first is worth; None where they are not known."""
        if self.forward is None or self.backward is None:
            return None
        if not (math.isfinite(self.forward) and math.isfinite(self.backward)):
            return None
        return (self.forward - self.backward) / 2


class PairJudge:
    """``model``: any chat model. ``criterion``: the question that it answers of two answers."""

    def __init__(self, model: ChatModel, criterion: str = CRITERION) -> None:
        self.criterion = criterion
        self._reader = OptionReader(model, ("A", "B"))

    @property
    def gives_probabilities(self) -> bool:
        return self._reader.gives_probabilities

    async def compare(
        self, prompt: Sequence[Message], first: str, second: str, criterion: str | None = None
    ) -> Verdict:
        """Of two answers to the conversation ``prompt``. ``criterion``: another question than the
        judge's own, of a principle for instance. The model's errors are raised."""
        asked = criterion or self.criterion
        forward, backward = await asyncio.gather(
            self._reader.ask(_compared(prompt, first, second, asked)),
            self._reader.ask(_compared(prompt, second, first, asked)),
        )
        return Verdict(forward.odds("A", "B"), backward.odds("B", "A"))


class RatingJudge:
    """Rates answers from 1 to 5, 5 the best. ``criterion``: the question that it answers."""

    def __init__(self, model: ChatModel, criterion: str = RATED) -> None:
        self.criterion = criterion
        self._reader = OptionReader(model, _RATINGS)

    async def rate(self, prompt: Sequence[Message], answer: str) -> float | None:
        """The mean rating; None where the judge gave none. The model's errors are raised."""
        replies = (await self._reader.ask(_rated(prompt, answer, self.criterion))).logprobs
        if replies is None:
            return None
        return sum(int(rating) * math.exp(logprob) for rating, logprob in replies.items())


def _compared(
    prompt: Sequence[Message], first: str, second: str, criterion: str
) -> tuple[Message, ...]:
    text = Prompt.of(
        "Here are a conversation and two answers to its last turn, A and B.\n\n",
        Span(_told(prompt), untrusted=True, label="conversation"),
        "\n\n",
        Span(first, untrusted=True, label="answer A"),
        "\n\n",
        Span(second, untrusted=True, label="answer B"),
    )
    # Not a span: by whichever criterion, a prompt begins alike, which a prefix cache can share.
    asked = f"{criterion} Reply with the letter alone: A or B."
    return (Message("user", f"{text.render()}\n\n{asked}"),)


def _rated(prompt: Sequence[Message], answer: str, criterion: str) -> tuple[Message, ...]:
    text = Prompt.of(
        "Here are a conversation and an answer to its last turn.\n\n",
        Span(_told(prompt), untrusted=True, label="conversation"),
        "\n\n",
        Span(answer, untrusted=True, label="answer"),
        f"\n\n{criterion} Reply with a digit alone, from 1, the worst, to 5, the best.",
    )
    return (Message("user", text.render()),)


def _told(prompt: Sequence[Message]) -> str:
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in prompt)


def _sigmoid(odds: float) -> float:
    if odds < 0:
        return math.exp(odds) / (1 + math.exp(odds))
    return 1 / (1 + math.exp(-odds))
