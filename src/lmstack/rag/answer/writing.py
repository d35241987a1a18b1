"""A model writes from the passages; a sentence is shown once it has been checked against them.

The model is shown the passages that were read, numbered, and cites them. Each of its sentences is
compared with the sentences of the passages it cites, or of all where it cites none; one that none
of them bears out is dropped or marked.
"""

from __future__ import annotations

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
from lmstack.rag.answer.checking import Claim, Source, check
from lmstack.rag.answer.composing import Composer
from lmstack.rag.answer.prompting import (
    NONE,
    ClaimReader,
    EarlierTurn,
    Job,
    Written,
    build_messages,
    writing_grammar,
)
from lmstack.rag.answer.support import SupportScorer

__all__ = ["WritingTask", "claims", "say", "text_of", "write"]


@dataclass(frozen=True)
class WritingTask:
    """A question and the ``sources`` that the model is shown, numbered from 1. ``earlier`` turns
    are shown too, and the first sources are theirs. ``job``: what is to be written; a source is
    shown with its path where that is more than an answer."""

    question: str
    sources: Sequence[Source]
    config: AnswerConfig
    model: ChatModel
    scorer: SupportScorer
    sampling: SamplingParams
    instructions: str = ""
    client: str = "local"
    request_id: str = ""
    earlier: Sequence[EarlierTurn] = ()
    job: Job = "answer"

    @property
    def shown(self) -> list[tuple[str, str]]:
        """(path, numbered text) of each source."""
        named = self.job != "answer"
        return [
            (
                source.path,
                f"[{n}] {source.path}: {source.text}" if named else f"[{n}] {source.text}",
            )
            for n, source in enumerate(self.sources, 1)
        ]


async def write(
    task: WritingTask, composer: Composer, said: set[str] | None = None
) -> AsyncGenerator[AnswerEvent, None]:
    """Say what the model writes. Nothing said: it found no answer, or nothing was supported.
    ``said``: sentences that are not said again, in small letters; a small model repeats itself."""
    said = set() if said is None else said
    async with aclosing(claims(task, composer)) as found:
        async for claim in found:
            if claim.text.casefold() not in said:
                if task.job != "answer":
                    said.add(claim.text.casefold())
                for event in say(task, composer, claim):
                    yield event


async def claims(task: WritingTask, composer: Composer) -> AsyncGenerator[Claim, None]:
    """What the model writes, sentence by sentence, checked. An answer and an item may be a single
    word; of other texts nothing is kept that states nothing."""
    whole = task.job in ("summarize", "compare", "notes")
    async with aclosing(_runs(task, composer)) as runs:
        async for written in runs:
            for claim in await check(written, task.sources, task.scorer, task.config.min_support):
                if claim.states or not whole:
                    yield claim


async def _runs(task: WritingTask, composer: Composer) -> AsyncGenerator[Written, None]:
    reader = ClaimReader(len(task.sources))
    async with aclosing(_generate(task, composer, reader)) as deltas:
        async for text in deltas:
            for written in reader.feed(text):
                yield written
    for written in reader.end():
        if written.text != NONE:
            yield written


def say(task: WritingTask, composer: Composer, claim: Claim) -> Iterator[AnswerEvent]:
    """``claim``, unless nothing bears it out and such are dropped. A text that somebody will send
    holds more than what documents say (a greeting, a question), so of that it is marked."""
    keeps = task.config.unsupported == "mark" or task.job == "draft"
    if claim.quotes or keeps:
        yield from composer.begin_sentence(claim.apart)
        yield composer.say(claim.text)
        yield from composer.end_sentence(
            claim.text, claim.quotes, support=claim.support, supported=bool(claim.quotes)
        )


async def _generate(
    task: WritingTask, composer: Composer, reader: ClaimReader
) -> AsyncGenerator[str, None]:
    """The model's text. Of an answer earlier turns and then passages from the end are left out
    until the prompt fits, and a model that cannot be masked is asked without the grammar: the
    reader keeps to it all the same."""
    texts = task.shown
    earlier, masked = task.earlier, True
    limit = task.sampling.max_tokens or task.config.max_tokens
    while True:
        reader.numbers = len(texts)
        messages: tuple[Message, ...] = build_messages(
            task.question,
            texts,
            instructions=task.instructions,
            earlier=earlier,
            job=task.job,
        )
        request = Request(
            messages,
            sampling=task.sampling.replace(n=1, max_tokens=limit),
            grammar=writing_grammar(len(texts)) if masked else None,
            client=task.client,
            request_id=task.request_id,
        )
        try:
            async with aclosing(text_of(task.model, request, composer)) as deltas:
                async for text in deltas:
                    yield text
            return
        except ContextLengthError:
            if task.job != "answer" or (not earlier and len(texts) == 1):
                raise
            if earlier:
                earlier = ()
            else:
                texts.pop()
        except UnsupportedError:
            if not masked:
                raise
            masked = False


async def text_of(
    model: ChatModel, request: Request, composer: Composer
) -> AsyncGenerator[str, None]:
    """What ``model`` says, counted in ``composer``."""
    stream = model.stream(request)
    pieces, before = 0, composer.usage
    try:
        async for delta in stream:
            composer.digest = delta.digest or composer.digest
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
