"""A model writes from the passages; a sentence is shown once it has been checked against them.

The model is shown the passages that were read, numbered, and cites them. Each of its sentences is
compared with the sentences of the passages it cites, or of all where it cites none; one that none
of them bears out is dropped or marked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from lmstack.core import (
    ChatModel,
    ContextLengthError,
    Message,
    Request,
    SamplingParams,
    UnsupportedError,
    Usage,
)
from lmstack.rag.answer.answer import AnswerConfig, AnswerEvent
from lmstack.rag.answer.citing import NONE, ClaimReader, Written, writing_grammar
from lmstack.rag.answer.composing import Composer
from lmstack.rag.answer.prompting import EarlierTurn, build_messages, passage_texts
from lmstack.rag.answer.quoting import Passage, Quote
from lmstack.rag.answer.support import SupportScorer
from lmstack.rag.sentences import split_prose

__all__ = ["WritingTask", "write"]


@dataclass(frozen=True)
class WritingTask:
    """A question and the ``passages`` that the model is shown, numbered from 1. ``earlier`` turns
    are shown too, and the first passages are theirs."""

    question: str
    passages: Sequence[Passage]
    config: AnswerConfig
    model: ChatModel
    scorer: SupportScorer
    sampling: SamplingParams
    instructions: str = ""
    client: str = "local"
    request_id: str = ""
    earlier: Sequence[EarlierTurn] = ()


@dataclass(frozen=True, slots=True)
class _Claim:
    """A sentence that was written, and the one of a passage that bears it out, if any does."""

    text: str
    quote: Quote | None
    support: float


async def write(task: WritingTask, composer: Composer) -> AsyncGenerator[AnswerEvent, None]:
    """Say what the model writes. Nothing said: it found no answer, or nothing was supported."""
    reader = ClaimReader(len(task.passages))
    async with aclosing(_generate(task, composer, reader)) as deltas:
        async for text in deltas:
            for written in reader.feed(text):
                for event in _say(task, composer, await _check(task, written)):
                    yield event
    for written in reader.end():
        if written.text != NONE:
            for event in _say(task, composer, await _check(task, written)):
                yield event


async def _check(task: WritingTask, written: Written) -> list[_Claim]:
    texts = [written.text[a:b] for a, b in split_prose(written.text, 0, len(written.text))]
    pool = [
        (passage, n)
        for number, passage in enumerate(task.passages, 1)
        if not written.numbers or number in written.numbers
        for n in passage.readable
    ]
    evidence = [passage.point(passage.units[n]) for passage, n in pool]
    scores = await asyncio.to_thread(task.scorer.score, texts, evidence)
    claims = []
    for text, row in zip(texts, scores, strict=True):
        best = max(range(len(row)), key=row.__getitem__, default=None)
        if best is None or row[best] < task.config.min_support:
            claims.append(_Claim(text, None, row[best] if best is not None else 0.0))
        else:
            passage, n = pool[best]
            claims.append(_Claim(text, passage.quote(n, n, n), row[best]))
    return claims


def _say(task: WritingTask, composer: Composer, claims: Sequence[_Claim]) -> Iterator[AnswerEvent]:
    for claim in claims:
        if claim.quote is None and task.config.unsupported == "drop":
            continue
        yield from composer.begin_sentence()
        yield composer.say(claim.text)
        yield from composer.end_sentence(
            claim.text,
            [claim.quote] if claim.quote else [],
            support=claim.support,
            supported=claim.quote is not None,
        )


async def _generate(
    task: WritingTask, composer: Composer, reader: ClaimReader
) -> AsyncGenerator[str, None]:
    """The model's text. Earlier turns and then passages from the end are left out until the
    prompt fits, and a model that cannot be masked is asked without the grammar: the reader keeps
    to it all the same."""
    texts = passage_texts([passage.hit for passage in task.passages])
    earlier, masked = task.earlier, True
    limit = task.sampling.max_tokens or task.config.max_tokens
    while True:
        reader.numbers = len(texts)
        messages: tuple[Message, ...] = build_messages(
            task.question, texts, instructions=task.instructions, earlier=earlier
        )
        request = Request(
            messages,
            sampling=task.sampling.replace(n=1, max_tokens=limit),
            grammar=writing_grammar(len(texts)) if masked else None,
            client=task.client,
            request_id=task.request_id,
        )
        try:
            async with aclosing(_text(task.model, request, composer)) as deltas:
                async for text in deltas:
                    yield text
            return
        except ContextLengthError:
            if not earlier and len(texts) == 1:
                raise
            if earlier:
                earlier = ()
            else:
                texts.pop()
        except UnsupportedError:
            if not masked:
                raise
            masked = False


async def _text(
    model: ChatModel, request: Request, composer: Composer
) -> AsyncGenerator[str, None]:
    stream = model.stream(request)
    pieces, before = 0, composer.usage
    try:
        async for delta in stream:
            if delta.finish_reason is not None:
                composer.cut = delta.finish_reason == "length"
            if delta.text:
                pieces += 1
            # The model's own count replaces ours; a stream that is left early has none.
            composer.usage = before
            composer.spend(delta.usage or Usage(0, pieces))
            if delta.text:
                yield delta.text
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()
