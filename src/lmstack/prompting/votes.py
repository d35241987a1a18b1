"""Self-consistency: several answers to one prompt, and which of them the model gives most often.

All answers are one request, so that a local model reads the prompt once (Wang et al. 2022,
arXiv:2203.11171). Votes are over what an answer says: case, punctuation around it and how a number
is written do not count. A tie is called one. Does not cover how an answer is found in a text
(`thinking`).
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lmstack.core import (
    ChatModel,
    Choice,
    FinishReason,
    InputError,
    Request,
    UnsupportedError,
    Usage,
    check_whole,
    complete,
)
from lmstack.prompting.thinking import ChainOfThought
from lmstack.prompting.usages import total_usage

__all__ = ["Vote", "Votes", "normalized", "self_consistency"]

_MOST_SAMPLES = 16
_QUOTES = " \"'`*_()[]{}“”‘’«»"
_STOPS = " .,;:!?"
_NUMBER = re.compile(
    r"(?:(?P<minus>[-\u2212])|\+)?(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{0,100})"
    r"(?:\.(?P<fraction>[0-9]{0,100}))?"
)


@dataclass(frozen=True)
class Vote:
    """``answer``: as it was written first. ``share``: of all samples, those without an answer
    included."""

    answer: str
    count: int
    share: float


@dataclass(frozen=True)
class Votes:
    """``votes``: the most frequent first, then the one that came first. ``unparsed``: samples in
    which no answer was found. ``texts``: of all samples."""

    votes: tuple[Vote, ...]
    samples: int
    unparsed: int
    texts: tuple[str, ...]
    usage: Usage

    @property
    def leaders(self) -> tuple[str, ...]:
        """The answers that came most often."""
        return tuple(v.answer for v in self.votes if v.count == self.votes[0].count)

    @property
    def is_tied(self) -> bool:
        return len(self.leaders) > 1

    @property
    def answer(self) -> str | None:
        """The one that leads; None in a tie, and where no sample has an answer."""
        return self.leaders[0] if len(self.leaders) == 1 else None


def normalized(answer: str) -> str:
    """What an answer says, for comparing: without case, without punctuation and quotes around it,
    white space as one space, and a number without its commas and the noughts at its ends."""
    text = " ".join(unicodedata.normalize("NFKC", answer).casefold().split())
    # A sign and a point before a number belong to it.
    number = _NUMBER.fullmatch(text.strip(_QUOTES).rstrip(_STOPS).rstrip(_QUOTES))
    if number is None or not (number["whole"] or number["fraction"]):
        return text.strip(_QUOTES + _STOPS) or text
    whole = number["whole"].replace(",", "").lstrip("0") or "0"
    fraction = (number["fraction"] or "").rstrip("0")
    digits = f"{whole}.{fraction}" if fraction else whole
    return f"-{digits}" if number["minus"] and digits != "0" else digits


async def self_consistency(
    model: ChatModel,
    request: Request,
    n: int = 5,
    *,
    chain: ChainOfThought | None = None,
    extract: Callable[[str, FinishReason], str | None] | None = None,
    normalize: Callable[[str], str] = normalized,
) -> Votes:
    """The votes of ``n`` answers of ``model`` to ``request``, which has to draw them: a temperature
    above 0.

    ``chain``: what the prompt states, which finds the answer in a text. ``extract``: another way to
    find it, from the text and how it ended; without either the text is the answer, unless it was
    cut. ``normalize``: equal for answers that say the same."""
    check_whole("n", n, 2, _MOST_SAMPLES)
    if request.sampling.greedy:
        raise InputError(
            "the temperature is 0, so that all samples would be the same",
            hint="set a temperature, 0.7 for instance",
            param="temperature",
        )
    choices, usage = await _drawn(model, request, n)
    find = extract or (chain.extract if chain is not None else _whole)
    answers = [find(choice.text, choice.finish_reason) for choice in choices]
    counts: dict[str, list[str]] = {}
    for answer in answers:
        if answer is not None and (key := normalize(answer)):
            counts.setdefault(key, []).append(answer)
    votes = [Vote(said[0], len(said), len(said) / n) for said in counts.values()]
    votes.sort(key=lambda vote: -vote.count)
    unparsed = n - sum(vote.count for vote in votes)
    return Votes(tuple(votes), n, unparsed, tuple(choice.text for choice in choices), usage)


async def _drawn(model: ChatModel, request: Request, n: int) -> tuple[Sequence[Choice], Usage]:
    sampling = request.sampling.replace(n=n)
    try:
        completion = await complete(model, replace(request, sampling=sampling))
    except UnsupportedError as error:
        if error.param != "n":
            raise
    else:
        return completion.choices, completion.usage
    # A provider without a field for it is asked as often as needed, each time with another seed.
    seeds = [None if sampling.seed is None else sampling.seed + k for k in range(n)]
    asked = [replace(request, sampling=sampling.replace(n=1, seed=seed)) for seed in seeds]
    found = await asyncio.gather(*(complete(model, each) for each in asked))
    return [each.choices[0] for each in found], total_usage(each.usage for each in found)


def _whole(text: str, finish: FinishReason) -> str | None:
    return text.strip() or None if finish != "length" else None
