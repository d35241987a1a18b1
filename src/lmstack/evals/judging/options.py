"""Which of a few short replies a model gives, each with its probability.

Covers local models, which are held to the replies by a grammar and give exact log-probabilities;
servers with OpenAI's API, whose listed log-probabilities of the first token count; models without
either, which are held to a JSON Schema and say one reply; and models that take no schema, whose
reply has to be an option and nothing else. A reply can also be drawn at a temperature, to see how
it varies. Does not cover what is asked (`pairwise`).
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmstack.core import (
    ChatModel,
    Choice,
    Grammar,
    InputError,
    Message,
    Request,
    SamplingParams,
    UnsupportedError,
    complete,
)
from lmstack.core.json_text import parse_json

__all__ = ["OptionReader", "Replies"]

# As many as OpenAI's API lists.
_LISTED = 20
_JSON_TOKENS, _PLAIN_TOKENS = 64, 8
_GREEDY = SamplingParams(temperature=0.0)


@dataclass(frozen=True, slots=True)
class Replies:
    """``logprobs``: of each option, normalized over them; one is 0 and the others are minus
    infinity where the model says its reply and no probability. None: it gave none of them."""

    logprobs: Mapping[str, float] | None

    def odds(self, one: str, other: str) -> float | None:
        """The log-odds of ``one`` against ``other``."""
        if self.logprobs is None:
            return None
        if self.logprobs[one] == self.logprobs[other]:
            return 0.0  # minus infinity both, of three options or more
        return self.logprobs[one] - self.logprobs[other]


class OptionReader:
    """``options``: replies of one token each, letters or digits. What ``model`` can do is found
    out by its first answer."""

    def __init__(self, model: ChatModel, options: Sequence[str]) -> None:
        if len(set(options)) < 2 or not all(re.fullmatch(r"[A-Za-z0-9]", o) for o in options):
            raise InputError("options are two or more letters or digits", param="options")
        self.model, self.options = model, tuple(options)
        self._ways = [self._held, self._listed, self._said, self._plain]
        self._draws = [self._drawn, self._said, self._plain]

    @property
    def gives_probabilities(self) -> bool:
        """Whether the model has said what log-probabilities are, as far as is known by now."""
        return self._ways[0] in (self._held, self._listed)

    async def ask(
        self, messages: Sequence[Message], *, temperature: float = 0.0, seed: int | None = None
    ) -> Replies:
        """What the model replies to ``messages``. At a ``temperature`` one reply is drawn, by
        ``seed``, and has no probability. The model's errors are raised."""
        ways = self._draws if temperature else self._ways
        sampling = SamplingParams(temperature=temperature, seed=seed) if temperature else _GREEDY
        while True:
            way = ways[0]
            try:
                return await way(tuple(messages), sampling)
            except UnsupportedError:
                if len(ways) == 1:
                    raise
                if ways[0] == way:  # and no other question has found out before
                    ways.pop(0)

    async def _held(self, messages: tuple[Message, ...], sampling: SamplingParams) -> Replies:
        """Held to the options; one that is not among the likeliest tokens is asked for alone,
        since log-probabilities are those before the grammar."""
        listing = sampling.replace(max_tokens=1, logprobs=_LISTED)
        choice = await self._reply(messages, listing, Grammar("regex", "|".join(self.options)))
        found = self._found(choice)
        missing = [option for option in self.options if option not in found]
        forced = await asyncio.gather(
            *(self._reply(messages, listing, Grammar("regex", option)) for option in missing)
        )
        for option, reply in zip(missing, forced, strict=True):
            if (logprob := self._found(reply).get(option)) is not None:
                found[option] = logprob
        if len(found) < len(self.options):
            return self._only(choice.text)
        return _normalized(found)

    async def _listed(self, messages: tuple[Message, ...], sampling: SamplingParams) -> Replies:
        """An option that is not listed is less likely than all that are, and no more is known: it
        counts as the least likely of them, so the odds are at least those that come out."""
        listing = sampling.replace(max_tokens=1, logprobs=_LISTED)
        choice = await self._reply(messages, listing)
        found = self._found(choice)
        if not found or not choice.logprobs[0].top:
            return self._only(choice.text)
        least = min(top.logprob for top in choice.logprobs[0].top if top.logprob is not None)
        least = min(least, *found.values())
        return _normalized({option: found.get(option, least) for option in self.options})

    async def _drawn(self, messages: tuple[Message, ...], sampling: SamplingParams) -> Replies:
        grammar = Grammar("regex", "|".join(self.options))
        return self._only(
            (await self._reply(messages, sampling.replace(max_tokens=1), grammar)).text
        )

    async def _said(self, messages: tuple[Message, ...], sampling: SamplingParams) -> Replies:
        schema = {
            "type": "object",
            "properties": {"reply": {"type": "string", "enum": list(self.options)}},
            "required": ["reply"],
            "additionalProperties": False,
        }
        held = sampling.replace(max_tokens=_JSON_TOKENS)
        text = (await self._reply(messages, held, Grammar.json_schema(schema))).text
        try:
            reply = parse_json(text)
        except ValueError:  # cut, or refused
            return Replies(None)
        return self._only(reply.get("reply") if isinstance(reply, dict) else None)

    async def _plain(self, messages: tuple[Message, ...], sampling: SamplingParams) -> Replies:
        choice = await self._reply(messages, sampling.replace(max_tokens=_PLAIN_TOKENS))
        return self._only(choice.text)

    async def _reply(
        self,
        messages: tuple[Message, ...],
        sampling: SamplingParams,
        grammar: Grammar | None = None,
    ) -> Choice:
        request = Request(messages, sampling=sampling, grammar=grammar)
        return (await complete(self.model, request)).choices[0]

    def _found(self, choice: Choice) -> dict[str, float]:
        """The log-probability of each option among the first tokens that are listed; tokens that
        differ in white space alone are one reply."""
        if not choice.logprobs:
            return {}
        first = choice.logprobs[0]
        tokens = {
            t.token: t.logprob
            for t in (*first.top, first)
            if t.logprob is not None and t.logprob > -math.inf
        }
        found: dict[str, float] = {}
        for token, logprob in tokens.items():
            option = token.strip()
            if option in self.options:
                found[option] = _either(found.get(option, -math.inf), logprob)
        return found

    def _only(self, text: object) -> Replies:
        reply = re.sub(r"\W", "", text) if isinstance(text, str) else ""
        if reply not in self.options:
            return Replies(None)
        return Replies({option: 0.0 if option == reply else -math.inf for option in self.options})


def _either(one: float, other: float) -> float:
    """The logarithm of the sum of two probabilities, ``other`` above 0."""
    high, low = max(one, other), min(one, other)
    return high + math.log1p(math.exp(low - high))


def _normalized(logprobs: Mapping[str, float]) -> Replies:
    total = -math.inf
    for logprob in logprobs.values():
        total = _either(total, logprob)
    return Replies({option: logprob - total for option, logprob in logprobs.items()})
