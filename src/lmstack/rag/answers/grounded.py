"""Cited answers behind the protocol of a language model, for `/v1/chat/completions`.

The last user message is the question, earlier ones the history. What a grounded answer cannot
honour (other choices, grammars, log-probabilities, stop strings, biases) is refused by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import aclosing

from lmstack.core import (
    Delta,
    InputError,
    ModelInfo,
    Request,
    SamplingParams,
    Timings,
    UnsupportedError,
)
from lmstack.rag.answers.answer import Answer, AnswerDone, TextDelta
from lmstack.rag.answers.answerer import Answerer
from lmstack.rag.search.followup import Turn, turns_of

__all__ = ["GroundedModel"]

# Sampling parameters that mean here what they mean elsewhere.
HONOURED = (
    *("max_tokens", "temperature", "top_p", "top_k", "min_p", "typical_p", "seed"),
    "priority",
)


class GroundedModel:
    """A `ChatModel` that answers from an index. ``list_sources``: the quotes follow the text,
    for clients that show nothing but text."""

    def __init__(self, answerer: Answerer, name: str, *, list_sources: bool = True) -> None:
        inner = answerer.model.info
        self.info = ModelInfo(name, inner.digest, inner.context_length)
        self.answerer = answerer
        self._list_sources = list_sources

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        _refuse(request)
        question, history, instructions = _conversation(request)
        events = self.answerer.stream(
            question,
            history,
            sampling=_sampling(request.sampling),
            instructions=instructions,
            client=request.client,
            request_id=request.request_id,
        )
        async with aclosing(events):
            async for event in events:
                if isinstance(event, TextDelta):
                    yield Delta(event.text)
                elif isinstance(event, AnswerDone):
                    if self._list_sources and event.answer.citations:
                        yield Delta(_sources(event.answer))
                    cut = event.answer.truncated
                    yield Delta(finish_reason="length" if cut else "stop")
                    timings = event.answer.timings
                    yield Delta(
                        usage=event.answer.usage,
                        timings=Timings(timings.first_token_s, timings.total_s),
                    )


def _sampling(asked: SamplingParams) -> SamplingParams:
    """Greedy where nothing was asked for: the API's default temperature of 1 would draw lots
    for the sentence to quote."""
    neutral = asked.temperature == 1.0 and asked.seed is None
    return asked.replace(temperature=0.0) if neutral else asked


def _refuse(request: Request) -> None:
    default = SamplingParams()
    sampling = request.sampling
    unsupported = {"response_format": request.grammar is not None, "echo": request.echo}
    unsupported |= {
        f.name: getattr(sampling, f.name) != getattr(default, f.name)
        for f in dataclasses.fields(default)
        if f.name not in HONOURED
    }
    for name, asked in unsupported.items():
        if asked:
            raise UnsupportedError(
                f"{name} cannot be used with answers from documents",
                hint=f"leave out {name}, or ask the language model itself",
                param=name,
            )


def _conversation(request: Request) -> tuple[str, list[Turn], str]:
    if request.prompt is not None:
        if not isinstance(request.prompt, str):
            raise UnsupportedError(
                "answers from documents need the question as text, not as token ids",
                hint="send messages, or the prompt as text",
                param="prompt",
            )
        return request.prompt, [], ""
    turns = turns_of(request.messages)
    if not turns or turns[-1][1]:
        raise InputError(
            "the last message is not a question of the user",
            hint="end the conversation with a message of the role user",
            param="messages",
        )
    system = [message.content for message in request.messages if message.role == "system"]
    return turns[-1][0], turns[:-1], "\n\n".join(system)


def _sources(answer: Answer) -> str:
    lines = [
        f'[{c.id}] {c.path} ({c.start}-{c.end}): "{" ".join(c.quote.split())}"'
        for c in answer.citations
    ]
    return "\n\nSources:\n" + "\n".join(lines)
