"""A model writes from the passages; a sentence is shown once it has been checked against them.

The model is shown the passages that were read and writes freely. Each of its sentences is compared
with the sentences of all of them; a model that writes well is itself asked whether these bear it
out, while it writes on. A sentence that nothing bears out is dropped or marked, and never the
others with it.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from lmstack.core import (
    ChatModel,
    ContextLengthError,
    Delta,
    InputError,
    Message,
    Request,
    SamplingParams,
    Usage,
)
from lmstack.rag.answer.answer import AnswerConfig, AnswerEvent
from lmstack.rag.answer.checking import Claim, Evidence, Source, check
from lmstack.rag.answer.composing import Composer
from lmstack.rag.answer.prompting import (
    NONE,
    EarlierTurn,
    Job,
    SentenceReader,
    WrittenSentence,
    build_messages,
    build_question,
)
from lmstack.rag.answer.support import SupportScorer

__all__ = ["WritingTask", "claims", "say", "text_of", "write"]

# Alternatives that a model is asked for, to find yes and no among.
ALTERNATIVES = 20


@dataclass(frozen=True)
class WritingTask:
    """A question and the ``sources`` that the model is shown, numbered from 1. ``earlier`` turns
    are shown too, and the first sources are theirs. ``job``: what is to be written; a source is
    shown with its path where that is more than an answer. ``capitals``: as of `Evidence`."""

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
    capitals: bool = True

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

    def request(self, messages: tuple[Message, ...], sampling: SamplingParams) -> Request:
        return Request(messages, sampling=sampling, client=self.client, request_id=self.request_id)


@dataclass
class _Writer:
    """One text while it is written. ``judges``: whether the model says what bears it out."""

    task: WritingTask
    composer: Composer
    evidence: Evidence = field(init=False)
    judges: bool = field(init=False)

    def __post_init__(self) -> None:
        task = self.task
        self.evidence = Evidence(task.sources, task.question, capitals=task.capitals)
        self.judges = task.config.judges

    async def claims(self) -> AsyncGenerator[Claim, None]:
        task = self.task
        async with aclosing(self._sentences()) as sentences:
            async for written in sentences:
                if _is_none(written.text):
                    self.composer.abstained = True
                    continue
                judge = self._judged if self.judges else None
                least = task.config.min_support
                yield await check(written, self.evidence, task.scorer, least, judge)

    async def _sentences(self) -> AsyncGenerator[WrittenSentence, None]:
        reader = SentenceReader(len(self.task.sources))
        async with aclosing(self._text()) as deltas:
            async for text in deltas:
                for written in reader.feed(text):
                    yield written
        for written in reader.end():
            yield written

    async def _text(self) -> AsyncGenerator[str, None]:
        """The model's text. Of an answer earlier turns and then passages from the end are left
        out until the prompt fits."""
        task = self.task
        texts, earlier = task.shown, task.earlier
        limit = task.sampling.max_tokens or task.config.max_tokens
        while True:
            messages = build_messages(
                task.question,
                texts,
                instructions=task.instructions,
                earlier=earlier,
                job=task.job,
            )
            request = task.request(messages, task.sampling.replace(n=1, max_tokens=limit))
            try:
                async with aclosing(text_of(task.model, request, self.composer)) as deltas:
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

    async def _judged(self, sentence: str, evidence: str) -> float | None:
        """How likely the model finds it that ``evidence`` bears ``sentence`` out."""
        sampling = SamplingParams(temperature=0, max_tokens=1, logprobs=ALTERNATIVES)
        request = self.task.request(build_question(sentence, evidence), sampling)
        try:
            found = await _yes(self.task.model, request, self.composer)
        except InputError:  # A model without log-probabilities.
            found = None
        self.judges = found is not None
        return found


def _is_none(text: str) -> bool:
    return text.strip(" .\"'*`").casefold() == NONE.strip(".").casefold()


async def _yes(model: ChatModel, request: Request, composer: Composer) -> float | None:
    """The probability of "yes" beside "no", 0 where neither is likely; None of a model that gives
    no log-probabilities."""
    odds = {"yes": 0.0, "no": 0.0}
    has_alternatives = False
    async with _streaming(model, request) as deltas:
        async for delta in deltas:
            composer.spend(delta.usage or Usage(0, 0))
            for other in (other for token in delta.logprobs for other in token.top):
                has_alternatives = True
                word = other.token.strip().casefold()
                if word in odds and other.logprob is not None:
                    odds[word] += math.exp(other.logprob)
    total = sum(odds.values())
    if not has_alternatives:
        return None
    return odds["yes"] / total if total else 0.0


@asynccontextmanager
async def _streaming(
    model: ChatModel, request: Request
) -> AsyncGenerator[AsyncIterator[Delta], None]:
    """Closed when it is left, so that the model is let go."""
    stream = model.stream(request)
    try:
        yield stream
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


async def write(
    task: WritingTask, composer: Composer, said: set[str] | None = None
) -> AsyncGenerator[AnswerEvent, None]:
    """Say what the model writes. Nothing said: it found no answer, or nothing was supported.
    ``said``: sentences that are not said again, in small letters; a small model repeats itself."""
    said = set() if said is None else said
    async with aclosing(claims(task, composer)) as found:
        async for claim in found:
            if claim.text.casefold() not in said:
                said.add(claim.text.casefold())
                for event in say(task, composer, claim):
                    yield event


async def claims(task: WritingTask, composer: Composer) -> AsyncGenerator[Claim, None]:
    """What the model writes, sentence by sentence, checked. An answer and an item may be a single
    word; of other texts nothing is kept that states nothing."""
    whole = task.job in ("summarize", "compare", "notes")
    async with aclosing(_Writer(task, composer).claims()) as found:
        async for claim in found:
            if claim.states or not whole:
                yield claim


def say(task: WritingTask, composer: Composer, claim: Claim) -> Iterator[AnswerEvent]:
    """``claim``, unless nothing bears it out and such are dropped. A text that somebody will send
    holds more than what documents say (a greeting, a question), so of that it is marked."""
    keeps = task.config.unsupported == "mark" or task.job == "draft"
    if not (claim.quotes or keeps):
        composer.drop(claim.text, claim.support, claim.reason)
        return
    yield from composer.begin_sentence(claim.apart)
    yield composer.say(claim.text)
    yield from composer.end_sentence(
        claim.text, claim.quotes, support=claim.support, supported=bool(claim.quotes)
    )


async def text_of(
    model: ChatModel, request: Request, composer: Composer
) -> AsyncGenerator[str, None]:
    """What ``model`` says, counted and timed in ``composer``."""
    pieces, took, begun = 0, composer.writing_s, 0.0
    counted = False
    try:
        async with _streaming(model, request) as deltas:
            async for delta in deltas:
                composer.digest = delta.digest or composer.digest
                if delta.finish_reason is not None:
                    composer.cut = delta.finish_reason == "length"
                if delta.usage is not None:
                    composer.spend(delta.usage)
                    counted = True
                if delta.text:
                    pieces += 1
                    begun = begun or time.monotonic()
                    composer.writing_s = took + time.monotonic() - begun
                    yield delta.text
    finally:
        # The model's own count comes last; a stream that is left early has none.
        if not counted:
            composer.spend(Usage(0, pieces))
