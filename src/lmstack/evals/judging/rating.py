"""How good one answer is, as a number from 1 to 5: the mean over the digits, weighted by their
probabilities (Liu et al. 2023, arXiv:2303.16634). Not covered: ratings by criterion with reasons
(`rubric`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lmstack.core import ChatModel, Message
from lmstack.evals.judging.options import OptionReader
from lmstack.evals.judging.presentation import presented

__all__ = ["RATED", "RatingJudge"]

RATED = "How helpful, correct and to the point is the answer?"
_RATINGS = ("1", "2", "3", "4", "5")


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
