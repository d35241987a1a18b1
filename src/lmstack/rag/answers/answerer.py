"""A question to a cited answer, or to an abstention that shows the nearest passages.

Retrieve, weigh the sentences, let a `Strategy` speak, close. Blocking work (search, embedding)
runs in threads, so one event loop serves many questions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from lmstack.core import ChatModel, InputError, Reranker, SamplingParams
from lmstack.rag.answers.answer import (
    Abstained,
    Answer,
    AnswerConfig,
    AnswerDone,
    AnswerEvent,
    AnswerTimings,
    ConflictFound,
    PassagesFound,
    TextDelta,
)
from lmstack.rag.answers.asked import question_parts, read_question
from lmstack.rag.answers.composing import Composer
from lmstack.rag.answers.editions import Edition, edition_of, in_force
from lmstack.rag.answers.evidence import (
    Candidate,
    questions_to_embed,
    read_sentences,
    reread_sentences,
    texts_to_embed,
    unheard_names,
    weigh_sentences,
)
from lmstack.rag.answers.hit_documents import HitDocuments
from lmstack.rag.answers.prompting import EarlierTurn
from lmstack.rag.answers.strategies import STRATEGIES, Task
from lmstack.rag.answers.support import OverlapSupport, SupportScorer
from lmstack.rag.search.followup import Turn, retrieval_query
from lmstack.rag.search.hybrid import Hit, query_vector
from lmstack.rag.search.lexical import content_words
from lmstack.rag.vectors.remembering import RememberingEmbedder
from lmstack.rag.view import IndexView

__all__ = ["ABSTENTION", "Answerer", "Found"]

MAX_FOUND = 100
# Passages of superseded documents that are read beside those in force.
SUPERSEDED_READ = 2
ABSTENTION = "The documents do not answer this question."
UNANSWERED = "The documents do not answer this:"


@dataclass(frozen=True)
class Found:
    """What an answer to one part of a question starts from: the hits, those of them that are
    read, and their weighed sentences; ``nearby`` are all passages that were found. ``question`` is
    what the sentences are weighed for, ``query`` what was searched for. ``unheard``: names in the
    question that no hit mentions. ``editions``: of each document found."""

    question: str
    query: str
    hits: list[Hit]
    read: list[Hit]
    nearby: list[Hit]
    sentences: list[Candidate]
    unheard: list[str]
    editions: Mapping[int, Edition]
    seconds: float

    @property
    def evidence(self) -> float:
        return max((s.evidence for s in self.sentences), default=0.0)


@dataclass(frozen=True)
class _Asked:
    history: Sequence[Turn]
    sampling: SamplingParams
    instructions: str
    client: str
    request_id: str


class Answerer:
    """Answers from one index with one model. ``scorer`` decides what a passage bears out;
    ``reranker`` has a say in which sentence answers. Keeps nothing of who asks; safe to share
    between tasks. ``read_ahead``: embed the other sentences of the passages found while
    nobody asks, so that a further question about them finds that done; not for an embedder that
    is paid by the text. `close` ends that."""

    def __init__(
        self,
        index: IndexView,
        model: ChatModel,
        config: AnswerConfig | None = None,
        *,
        reranker: Reranker | None = None,
        scorer: SupportScorer | None = None,
        read_ahead: bool = False,
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
        self._reranker = reranker
        self._reads_ahead = read_ahead
        self._embedder = RememberingEmbedder(index.embedder)
        self._scorer = scorer or OverlapSupport(self._embedder)

    def close(self) -> None:
        """Read ahead no further."""
        self._embedder.close()

    def wait(self, timeout: float | None = None) -> bool:
        """Until there is nothing to read ahead; whether that came within ``timeout`` s."""
        return self._embedder.wait(timeout)

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
        sampling = sampling or SamplingParams(temperature=0)
        asked = _Asked(history, sampling, instructions, client, request_id)
        parts = await asyncio.to_thread(self.find_parts, question, history)
        hits = tuple(merge_hits([part.hits for part in parts]))
        parts = [_ranked_as(part, hits) for part in parts]
        retrieval_s = time.monotonic() - started
        best = max(part.evidence for part in parts)
        read = {hit.chunk_id: hit for part in parts for hit in part.read}
        yield PassagesFound(hits, parts[0].query, best, tuple(read.values()))
        composer = Composer()
        first_token_s = 0.0
        unanswered: list[str] = []
        for part in parts:
            said = len(composer.sentences)
            async with aclosing(self._speak(part, asked, composer)) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        first_token_s = first_token_s or time.monotonic() - started
                    yield event
            if not any(sentence.supported for sentence in composer.sentences[said:]):
                unanswered.append(part.question)
        abstained = len(unanswered) == len(parts) or (
            self.config.unsupported == "abstain" and composer.num_unsupported > 0
        )
        if abstained:
            yield Abstained(_reason(parts, composer, self.config), hits)
            if not composer.text:
                first_token_s = time.monotonic() - started
                yield composer.say(ABSTENTION)
        elif unanswered:
            yield composer.say(f" {UNANSWERED} {' '.join(unanswered)}")
        for conflict in composer.conflicts:
            yield ConflictFound(conflict)
        if self._reads_ahead:
            self._embedder.look_ahead(partial(self._texts_nearby, parts))
        timings = AnswerTimings(retrieval_s, first_token_s, time.monotonic() - started)
        yield AnswerDone(
            Answer(
                composer.text,
                abstained,
                composer.cut,
                tuple(composer.citations),
                tuple(composer.sentences),
                hits,
                parts[0].query,
                best,
                self.model.info,
                composer.usage,
                timings,
                tuple(composer.conflicts),
                () if abstained else tuple(unanswered),
            )
        )

    async def _speak(
        self, part: Found, asked: _Asked, composer: Composer
    ) -> AsyncGenerator[AnswerEvent, None]:
        """What the strategy says to one part of the question, if there is evidence for it."""
        if not part.sentences or part.evidence < self.config.min_evidence:
            return
        read, sentences, earlier = await asyncio.to_thread(self._shown, part, asked.history)
        task = Task(
            part.question,
            read,
            sentences,
            self.config,
            self.model,
            self._scorer,
            asked.sampling,
            history=self._leaned_on(part, asked.history),
            instructions=asked.instructions,
            client=asked.client,
            request_id=asked.request_id,
            earlier=earlier,
            editions=part.editions,
        )
        events = STRATEGIES[self.config.strategy]().run(task, composer)
        try:
            async for event in events:
                yield event
        finally:
            await _close(events)

    def _leaned_on(self, found: Found, history: Sequence[Turn]) -> Sequence[Turn]:
        if found.query == found.question or not self.config.history_turns:
            return ()
        return list(history)[-self.config.history_turns :]

    def _shown(
        self, part: Found, history: Sequence[Turn]
    ) -> tuple[list[Hit], list[Candidate], list[EarlierTurn]]:
        """What a model that writes is shown: the passages of earlier turns in their places, then
        those that are new, the sentences numbered accordingly, and the earlier turns. An earlier
        turn's passages are found again, which is cheap and needs no memory of it."""
        turns = list(history)[-self.config.history_turns :] if self.config.history_turns else []
        if self.config.strategy not in ("extractive", "generative") or not turns:
            return part.read, part.sentences, []
        places: dict[int, Hit] = {}
        earlier: list[EarlierTurn] = []
        begun = len(history) - len(turns)
        for n, (question, answer) in enumerate(turns):
            before = len(places)
            for found in self.find_parts(question, history[: begun + n]):
                for hit in found.read:
                    places.setdefault(hit.chunk_id, hit)
            earlier.append(EarlierTurn(question, answer, len(places) - before))
        for hit in part.read:
            places.setdefault(hit.chunk_id, hit)
        numbers = {chunk_id: number for number, chunk_id in enumerate(places, 1)}
        sentences = [replace(s, number=numbers[s.hit.chunk_id]) for s in part.sentences]
        return list(places.values()), sentences, earlier

    def _texts_nearby(self, parts: Sequence[Found]) -> list[str]:
        """What a further question about the same documents will be compared with."""
        texts = []
        for part in parts:
            above, longest = HitDocuments(self.index).above, self.config.max_sentence_chars
            _, sentences = read_sentences(part.nearby, len(part.nearby), longest, above)
            texts += texts_to_embed(sentences, part.query)
        return texts

    def find_parts(self, question: str, history: Sequence[Turn] = ()) -> list[Found]:
        """`find` for each question in ``question``."""
        asked = read_question(question)
        return [self._find(part, asked.year, history) for part in question_parts(asked.text)]

    def find(self, question: str, history: Sequence[Turn] = ()) -> Found:
        """Search and weigh, without answering. Blocks; for inspection and tuning."""
        asked = read_question(question)
        return self._find(asked.text, asked.year, history)

    def _find(self, question: str, year: int | None, history: Sequence[Turn]) -> Found:
        started = time.monotonic()
        if not question.strip():
            raise InputError("the question is empty", hint="ask something", param="question")
        config = self.config
        query = retrieval_query(question, history, config.history_turns)
        self._embedder.embed(questions_to_embed(query), "query")  # together, and remembered
        vector = query_vector(self._embedder, query)
        found = self.index.search(query, min(2 * config.retrieve, MAX_FOUND), vector=vector)
        documents = HitDocuments(self.index)
        editions = {
            hit.document_id: edition_of(document)
            for hit in found
            if (document := documents.of(hit)) is not None
        }
        superseded = in_force(editions, year)
        hits = in_order(found, superseded, config.retrieve, config.passages)
        read, sentences = read_sentences(
            hits, config.passages, config.max_sentence_chars, documents.above
        )
        weighed = weigh_sentences(
            sentences,
            query,
            self.index.word_weights(content_words(query)),
            self._embedder,
            config,
            superseded,
        )
        unheard = unheard_names(query, hits)
        if unheard:
            penalty = config.unheard_penalty
            weighed = [
                replace(s, evidence=s.evidence - penalty, merit=s.merit - penalty) for s in weighed
            ]
        if self._reranker is not None and _may_answer(weighed, config):
            weighed = reread_sentences(weighed, query, self._reranker, config)
        weighed = [replace(s, page=documents.page(s.hit, s.start)) for s in weighed]
        seconds = time.monotonic() - started
        return Found(question, query, hits, read, found, weighed, unheard, editions, seconds)


def _may_answer(sentences: Sequence[Candidate], config: AnswerConfig) -> bool:
    """Whether one has evidence enough: where none has, their order is of no use."""
    return any(s.evidence >= config.min_evidence for s in sentences)


def in_order(
    hits: Sequence[Hit], superseded: Mapping[int, int], count: int, passages: int
) -> list[Hit]:
    """The first ``count``, those of superseded documents behind the others but for a few of them
    among the first ``passages``, to be compared with what replaced them, if that is there too.
    ``superseded``: of each document that another replaced, that one."""
    first = [hit for hit in hits if hit.document_id not in superseded]
    behind = [hit for hit in hits if hit.document_id in superseded]
    read = {hit.document_id for hit in first[: max(1, passages - SUPERSEDED_READ)]}
    compared = [hit for hit in behind if superseded[hit.document_id] in read][:SUPERSEDED_READ]
    room = max(1, passages - len(compared))
    kept = {hit.chunk_id for hit in compared}
    rest = [hit for hit in behind if hit.chunk_id not in kept]
    ordered = [*first[:room], *compared, *first[room:], *rest]
    return [replace(hit, rank=rank) for rank, hit in enumerate(ordered[:count], 1)]


def merge_hits(lists: Sequence[Sequence[Hit]]) -> list[Hit]:
    """The hits of several searches by turns, each once, ranked anew."""
    found: dict[int, Hit] = {}
    for turn in range(max(map(len, lists), default=0)):
        for hits in lists:
            if turn < len(hits):
                found.setdefault(hits[turn].chunk_id, hits[turn])
    return [replace(hit, rank=rank) for rank, hit in enumerate(found.values(), 1)]


def _ranked_as(found: Found, hits: Sequence[Hit]) -> Found:
    """With the ranks of ``hits``, which are those that an answer shows."""
    ranked = {hit.chunk_id: hit for hit in hits}
    return replace(
        found,
        read=[ranked[hit.chunk_id] for hit in found.read],
        sentences=[replace(s, hit=ranked[s.hit.chunk_id]) for s in found.sentences],
    )


def _reason(parts: Sequence[Found], composer: Composer, config: AnswerConfig) -> str:
    found = max(parts, key=lambda part: part.evidence)
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


async def _close(events: AsyncIterator[AnswerEvent]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()
