"""The model as a judge: how likely it finds one text after another.

A small model follows instructions poorly, but it knows which sentence makes a question expected.
One forward pass a sentence scores the question's tokens after the sentence in its context
(query likelihood; Ponte and Croft, 1998); nothing is generated. In the same way a sentence that
was written is checked against a passage: one that the passage does not make likelier does not
come from it. Covers the scores; `strategies` chooses by them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from lmstack.core import (
    ChatModel,
    ContextLengthError,
    Request,
    SamplingParams,
    TokenLogprob,
    UnsupportedError,
    Usage,
)
from lmstack.rag.answers.evidence import Candidate

__all__ = ["question_likelihoods", "sentence_lifts", "suffix_likelihoods"]

_SCORING = SamplingParams(max_tokens=1, temperature=0, logprobs=0)


async def question_likelihoods(
    model: ChatModel,
    question: str,
    candidates: Sequence[Candidate],
    *,
    client: str = "local",
    request_id: str = "",
    priority: int = 0,
) -> tuple[list[float], Usage] | None:
    """The mean log-probability of a token of ``question`` after each of ``candidates``, and what
    it took; None where the model cannot score a prompt."""
    pairs = [(f"{c.in_context}\n\nQuestion:", f" {question}") for c in candidates]
    return await suffix_likelihoods(
        model, pairs, client=client, request_id=request_id, priority=priority
    )


async def sentence_lifts(
    model: ChatModel,
    pairs: Sequence[tuple[str, str]],
    *,
    client: str = "local",
    request_id: str = "",
    priority: int = 0,
) -> tuple[list[float], Usage] | None:
    """Of each (passage, sentence) how much likelier the passage makes the sentence: the
    difference of the mean log-probabilities of its tokens with and without it."""
    asked = [(f"{passage}\n\nSo:", f" {sentence}") for passage, sentence in pairs]
    asked += [("So:", f" {sentence}") for _, sentence in pairs]
    scored = await suffix_likelihoods(
        model, asked, client=client, request_id=request_id, priority=priority
    )
    if scored is None:
        return None
    scores, usage = scored
    return [scores[n] - scores[n + len(pairs)] for n in range(len(pairs))], usage


async def suffix_likelihoods(
    model: ChatModel,
    pairs: Sequence[tuple[str, str]],
    *,
    client: str = "local",
    request_id: str = "",
    priority: int = 0,
) -> tuple[list[float], Usage] | None:
    """Of each (before, after) the mean log-probability of a token of ``after``, and what it took
    (the token that each request must write is no part of an answer and not counted); None where
    the model cannot score a prompt. What was ``before`` in an earlier call is in the model's
    cache. The requests run side by side."""
    requests = [
        Request(
            prompt=_harmless(before) + _harmless(after),
            echo=True,
            echo_from=len(_harmless(before)),
            sampling=_SCORING.replace(priority=priority),
            client=client,
            request_id=request_id,
        )
        for before, after in pairs
    ]
    tasks = [asyncio.ensure_future(_score(model, request)) for request in requests]
    try:
        scored = await asyncio.gather(*tasks)
    except (UnsupportedError, ContextLengthError):
        return None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    scores = [score for score, _ in scored if score is not None]
    if len(scores) < len(scored):
        return None
    usages = [usage for _, usage in scored]
    return scores, Usage(
        sum(u.prompt_tokens for u in usages), 0, sum(u.cached_tokens for u in usages)
    )


def _harmless(text: str) -> str:
    """A prompt is read with control tokens; those that a document or a question spells
    out must not be any."""
    return text.replace("<|", "< |").replace("</s>", "< /s>")


async def _score(model: ChatModel, request: Request) -> tuple[float | None, Usage]:
    assert isinstance(request.prompt, str)
    suffix = request.prompt[request.echo_from :]
    prompt: tuple[TokenLogprob, ...] | None = None
    usage = Usage()
    async with aclosing(model.stream(request)) as stream:  # type: ignore[type-var]
        async for delta in stream:
            if prompt is None and delta.text == request.prompt:
                prompt = delta.logprobs
            usage = delta.usage or usage
    return _mean_of_last(prompt or (), len(suffix.encode())), usage


def _mean_of_last(tokens: Sequence[TokenLogprob], size: int) -> float | None:
    """Over the tokens that hold the last ``size`` bytes."""
    scores: list[float] = []
    for token in reversed(tokens):
        if size <= 0 or token.logprob is None:
            break
        scores.append(token.logprob)
        size -= len(token.bytes)
    return sum(scores) / len(scores) if scores and size <= 0 else None
