"""A question to a cited answer, or to an abstention that shows the nearest passages.

Retrieve, weigh the sentences, let a `Strategy` speak, close. Blocking work (search, embedding)
runs in threads, so one event loop serves many questions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from lmstack.core import ChatModel, InputError, NotFoundError, SamplingParams
from lmstack.rag.answers import (
    Abstained,
    Answer,
    AnswerConfig,
    AnswerDone,
    AnswerEvent,
    AnswerTimings,
    PassagesFound,
    TextDelta,
)
from lmstack.rag.composing import Composer
from lmstack.rag.documents import Document
from lmstack.rag.evidence import Candidate, read_sentences, unheard_names, weigh_sentences
from lmstack.rag.followup import Turn, retrieval_query
from lmstack.rag.lexical import content_words
from lmstack.rag.search import Hit, query_vector
from lmstack.rag.strategies import STRATEGIES, Task
from lmstack.rag.support import OverlapSupport, SupportScorer
from lmstack.rag.view import IndexView

__all__ = ["ABSTENTION", "Answerer", "Found"]

MAX_ABOVE = 20_000
ABSTENTION = "The documents do not answer this question."


@dataclass(frozen=True)
class Found:
    """What an answer starts from: the hits, those of them that are read, and their weighed
    sentences. ``unheard``: names in the question that no hit mentions."""

    query: str
    hits: list[Hit]
    read: list[Hit]
    sentences: list[Candidate]
    unheard: list[str]
    seconds: float

    @property
    def evidence(self) -> float:
        return max((s.evidence for s in self.sentences), default=0.0)


class Answerer:
    """Answers from one index with one model. ``scorer`` decides what a passage bears out.
    Keeps nothing between questions; safe to share between tasks."""

    def __init__(
        self,
        index: IndexView,
        model: ChatModel,
        config: AnswerConfig | None = None,
        *,
        scorer: SupportScorer | None = None,
    ) -> None:
        if index.embedder is None:
            raise InputError(
                "answers need an index that was opened with an embedding model",
                hint="pass embedder= to Index.open",
                param="index",
            )
        self.index = index
        self.model = model
        self.config = config or AnswerConfig()
        self._embedder = index.embedder
        self._scorer = scorer or OverlapSupport(index.embedder)

    async def answer(self, question: str, history: Sequence[Turn] = ()) -> Answer:
        """The whole answer: the last event of `stream`."""
        async with aclosing(self.stream(question, history)) as events:
            async for event in events:
                if isinstance(event, AnswerDone):
                    return event.answer
        raise AssertionError("an answer's stream ended without its last event")

    async def stream(
        self,
        question: str,
        history: Sequence[Turn] = (),
        *,
        sampling: SamplingParams | None = None,
        instructions: str = "",
        client: str = "local",
        request_id: str = "",
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Passages first, then text and citations as they are known, `AnswerDone` last.

        ``history`` holds (question, answer) pairs, oldest first. ``sampling`` defaults to
        greedy. ``instructions`` are trusted and follow ours. Closing the stream early stops the
        model.
        """
        started = time.monotonic()
        found = await asyncio.to_thread(self.find, question, history)
        yield PassagesFound(tuple(found.hits), found.query, found.evidence)
        composer = Composer()
        first_token_s = 0.0
        if found.sentences and found.evidence >= self.config.min_evidence:
            task = Task(
                question,
                found.read,
                found.sentences,
                self.config,
                self.model,
                self._scorer,
                sampling or SamplingParams(temperature=0),
                history=self._leaned_on(found, question, history),
                instructions=instructions,
                client=client,
                request_id=request_id,
            )
            events = STRATEGIES[self.config.strategy]().run(task, composer)
            try:
                async for event in events:
                    if isinstance(event, TextDelta):
                        first_token_s = first_token_s or time.monotonic() - started
                    yield event
            finally:
                await _close(events)
        abstained = not any(sentence.supported for sentence in composer.sentences)
        if abstained:
            yield Abstained(_reason(found, composer, self.config), tuple(found.hits))
            if not composer.text:
                first_token_s = time.monotonic() - started
                yield composer.say(ABSTENTION)
        timings = AnswerTimings(found.seconds, first_token_s, time.monotonic() - started)
        yield AnswerDone(self._answer(found, composer, timings, abstained=abstained))

    def _leaned_on(self, found: Found, question: str, history: Sequence[Turn]) -> Sequence[Turn]:
        return list(history)[-self.config.history_turns :] if found.query != question else ()

    def find(self, question: str, history: Sequence[Turn] = ()) -> Found:
        """Search and weigh, without answering. Blocks; for inspection and tuning."""
        started = time.monotonic()
        if not question.strip():
            raise InputError("the question is empty", hint="ask something", param="question")
        config = self.config
        query = retrieval_query(question, history, config.history_turns)
        vector = query_vector(self._embedder, query)
        hits = self.index.search(query, config.retrieve, vector=vector)
        read, sentences = read_sentences(
            hits, config.passages, config.max_sentence_chars, SectionText(self.index)
        )
        words = self.index.word_weights(content_words(query))
        weighed = weigh_sentences(sentences, vector, words, self._embedder, config)
        unheard = unheard_names(query, hits)
        if unheard:
            weighed = [replace(s, evidence=s.evidence - config.unheard_penalty) for s in weighed]
        return Found(query, hits, read, weighed, unheard, time.monotonic() - started)

    def _answer(
        self, found: Found, composer: Composer, timings: AnswerTimings, *, abstained: bool
    ) -> Answer:
        return Answer(
            composer.text,
            abstained,
            composer.cut,
            tuple(composer.citations),
            tuple(composer.sentences),
            tuple(found.hits),
            found.query,
            found.evidence,
            self.model.info,
            composer.usage,
            timings,
        )


def _reason(found: Found, composer: Composer, config: AnswerConfig) -> str:
    if not found.hits:
        return "nothing was found"
    if found.evidence < config.min_evidence:
        unheard = f"; none mentions {', '.join(found.unheard)}" if found.unheard else ""
        evidence = max(found.evidence, 0.0)
        return (
            f"the nearest passage bears on the question with {evidence:.2f}, less than "
            f"{config.min_evidence:.2f}{unheard}"
        )
    if composer.model_abstained:
        return "the model found no answer in the passages"
    return "no sentence of the answer was borne out by its passage"


class SectionText:
    """The text of a hit's section before it, where its table's header may stand. A document that
    has changed or gone since it was found gives nothing."""

    def __init__(self, index: IndexView) -> None:
        self._index = index
        self._documents: dict[int, Document | None] = {}

    def __call__(self, hit: Hit) -> str:
        document = self._document(hit.document_id)
        if document is None or document.text[hit.start : hit.end] != hit.text:
            return ""
        starts = (s.start for s in document.sections if s.start <= hit.start)
        start = max(max(starts, default=0), hit.start - MAX_ABOVE)
        return document.text[start : hit.start]

    def _document(self, number: int) -> Document | None:
        if number not in self._documents:
            try:
                self._documents[number] = self._index.document(number)
            except NotFoundError:
                self._documents[number] = None
        return self._documents[number]


async def _close(events: AsyncIterator[AnswerEvent]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()
