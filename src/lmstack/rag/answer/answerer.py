"""A question to a cited answer, to what comes closest to one, or to nothing.

Retrieve as `lmstack search` does, see how certain the best passage is, then quote it or let the
model write, and close. Blocking work (search, reranking) runs in threads, so one event loop serves
many questions.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from lmstack.core import ChatModel, InputError, Reranker, SamplingParams
from lmstack.rag.answer.answer import (
    Answer,
    AnswerConfig,
    AnswerDone,
    AnswerEvent,
    AnswerTimings,
    ConflictFound,
    Outcome,
    OutcomeKnown,
    PassagesFound,
    ReadingProgress,
    TextDelta,
)
from lmstack.rag.answer.composing import Composer
from lmstack.rag.answer.confidence import Certainty, ScoreMeaning, calibration_of
from lmstack.rag.answer.conflicts import Edition, edition_of, find_conflicts, in_force
from lmstack.rag.answer.map_reduce import map_reduce
from lmstack.rag.answer.planning import AnswerPlan, candidates, hits_of, make_plan, read_all
from lmstack.rag.answer.quoting import Passage, Quote, choose_quotes, read_passage
from lmstack.rag.answer.support import OverlapSupport, SupportScorer, source_of
from lmstack.rag.answer.writing import EarlierTurn, WritingTask, write
from lmstack.rag.catalogue.snapshot import DocumentInfo
from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.retrieve.look_alikes import names_lacking
from lmstack.rag.retrieve.retrieval import HitDocuments, RetrievalConfig, preset
from lmstack.rag.retrieve.retriever import Retriever
from lmstack.rag.retrieve.rewriting import Turn, languages_to_ask, question_language, translated
from lmstack.rag.retrieve.stages import newest_first, reads, unless_named
from lmstack.rag.view import IndexView

__all__ = ["NOTHING", "Answerer", "Found"]

NOTHING = "Nothing about this was found in the documents."
# Passages that a wide search finds.
MANY = 60
# Passages that are shown where none is certain to answer.
CLOSEST = 3
# From this share of the first passage's odds on the second is quoted too (docs/decisions.md).
SECOND = 0.5
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")


@dataclass(frozen=True)
class Found:
    """What an answer starts from: the passages found, nearest first, and the first of them read.
    ``query`` is what was searched for, ``certainty`` how likely each passage is to answer.
    ``question``: as it was asked, or in full where the model wrote it so.
    ``editions``: of each document found; ``superseded``: those that another one found replaced.
    ``lacking``: as in `PassagesFound`. ``asked``: what documents in another
    language than the question are read for."""

    question: str
    query: str
    hits: tuple[Hit, ...]
    read: tuple[Passage, ...]
    certainty: Certainty
    editions: Mapping[int, Edition]
    superseded: Collection[int]
    lacking: tuple[str, ...] = ()
    asked: Mapping[int, str] = field(default_factory=dict)

    @property
    def confidence(self) -> float | None:
        """The probability that the first passage answers, None where nothing is known of it."""
        return self.certainty(self.read[0].hit) if self.read else None


@dataclass(frozen=True)
class _Asked:
    history: Sequence[Turn]
    sampling: SamplingParams
    instructions: str
    client: str
    request_id: str


class Answerer:
    """Answers from one index with one model. ``reranker`` orders the passages and the sentences
    in them, and says how certain they are; without one the embedder does, far less well.
    ``calibration`` makes its scores probabilities, and is that of the model by default; ``scorer``
    decides what a passage bears out. Keeps nothing of who asks; safe to share between tasks."""

    def __init__(
        self,
        index: IndexView,
        model: ChatModel,
        config: AnswerConfig | None = None,
        *,
        reranker: Reranker | None = None,
        calibration: ScoreMeaning | None = None,
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
        self._reranker = reranker
        own = calibration_of(index.embedder.info)
        self._of_embedder = calibration or own if reranker is None else own
        self._of_reranker = None
        if reranker is not None:
            self._of_reranker = calibration or calibration_of(reranker.info)
        self._scorer = scorer or OverlapSupport(index.embedder)
        self._retriever = Retriever(index, self._retrieval(), reranker=reranker, model=model)

    def _retrieval(self) -> RetrievalConfig:
        config = preset(
            "default", history_turns=self.config.history_turns, rewrite=self.config.rewrite
        )
        if self._reranker is None:
            return config.replace(rerank_depth=0)
        return config.replace(rerank_depth=max(config.rerank_depth, self.config.retrieve))

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
        found = await asyncio.to_thread(self.find, question, history)
        retrieval_s = time.monotonic() - started
        read = tuple(passage.hit for passage in found.read)
        yield PassagesFound(found.hits, found.query, found.confidence, read, found.lacking)
        composer = Composer()
        outcome: Outcome = "nothing"
        first_token_s = 0.0
        async with aclosing(self._speak(found, asked, composer)) as events:
            async for event in events:
                if isinstance(event, OutcomeKnown):
                    outcome = event.outcome
                elif isinstance(event, TextDelta):
                    first_token_s = first_token_s or time.monotonic() - started
                yield event
        total_s = time.monotonic() - started
        timings = AnswerTimings(retrieval_s, first_token_s, total_s, composer.writing_s)
        yield AnswerDone(
            Answer(
                composer.text,
                outcome,
                found.confidence,
                composer.cut,
                tuple(composer.citations),
                tuple(composer.sentences),
                composer.hits or found.hits,
                found.query,
                replace(self.model.info, digest=composer.digest or self.model.info.digest),
                composer.usage,
                timings,
                tuple(composer.conflicts),
                composer.task,
                composer.unread,
                tuple(composer.dropped),
                composer.quotes,
            )
        )

    async def _speak(
        self, found: Found, asked: _Asked, composer: Composer
    ) -> AsyncGenerator[AnswerEvent, None]:
        """What the documents say, the outcome, then what is said."""
        outcome, reason = self._outcome(found)
        many = await self._many(found, asked, composer, outcome)
        quotes, others = ([], []) if many else await self._quotes(found, outcome)
        if many or (outcome == "answer" and self.config.strategy == "write"):
            if quotes:
                yield composer.show(quotes)
            async with aclosing(self._write(found, asked, composer, many)) as events:
                async for event in events:
                    yield event
            if not composer.sentences:
                reason = _why(composer)
                certain = (found.confidence or 0) > self.config.certain
                if many or (composer.abstained and not certain):
                    outcome = "closest" if self._may_show(found.confidence) else "nothing"
                    quotes, others = await self._quotes(found, outcome)
        if not composer.sentences:
            yield OutcomeKnown(outcome, reason)
            if outcome == "nothing":
                yield composer.say(NOTHING)
            for quote in quotes:
                for event in _quoted(quote, composer):
                    yield event
        number = composer.number_of(quotes[0]) if outcome == "answer" and quotes else None
        if number is not None:
            composer.conflicts += find_conflicts(
                number, quotes[0], found.query, others, found.editions
            )
            for conflict in composer.conflicts:
                yield ConflictFound(conflict)

    async def _write(
        self, found: Found, asked: _Asked, composer: Composer, many: Sequence[Passage]
    ) -> AsyncGenerator[AnswerEvent, None]:
        """From ``many`` passages, or from those that are found for a question."""
        passages, earlier = many, list[EarlierTurn]()
        if not many:
            passages, earlier = await asyncio.to_thread(self._shown, found, asked.history)
        task = WritingTask(
            found.question,
            [source_of(passage) for passage in passages],
            self.config,
            self.model,
            self._scorer,
            asked.sampling,
            instructions=asked.instructions,
            client=asked.client,
            request_id=asked.request_id,
            earlier=earlier,
            job=composer.task,
            capitals=found.certainty.by_reranker and _has_names(found.question),
        )
        begun = False
        async with aclosing((map_reduce if many else write)(task, composer)) as events:
            async for event in events:
                if not begun and not isinstance(event, ReadingProgress):
                    yield OutcomeKnown("answer")
                    begun = True
                yield event

    async def _many(
        self, found: Found, asked: _Asked, composer: Composer, outcome: Outcome
    ) -> list[Passage]:
        """What is read for a task that is more than an answer; nothing for an answer. What a
        passage is certain to answer is a plain question, and the model is not asked what it is."""
        config = self.config
        plans = config.plans and (outcome != "answer" or found.confidence is None)
        is_answer = config.task == "answer" or not (config.task or plans)
        if config.strategy != "write" or is_answer:
            return []
        known = await asyncio.to_thread(candidates, self.index, found.question, found.hits)
        plan = AnswerPlan()
        if plans and known.documents:
            named = [f"{info.path}: {info.title}" for info in known.documents]
            plan = await make_plan(
                found.question,
                named,
                self.model,
                composer,
                client=asked.client,
                request_id=asked.request_id,
            )
        composer.task = config.task or plan.task
        if composer.task == "answer":
            return []
        chosen = known.chosen(plan.documents, composer.task)
        return await asyncio.to_thread(self._read, found, chosen, composer)

    def _read(
        self, found: Found, chosen: Sequence[DocumentInfo], composer: Composer
    ) -> list[Passage]:
        """All passages of the ``chosen`` documents, or those that a wide search finds certain
        enough to be shown. Passages that were found before keep their ranks."""
        if chosen:
            hits, composer.unread = hits_of(self.index, found.query, chosen)
        else:
            deep = self._retriever.config.replace(depth=MANY, rewrite="rules")
            if self._reranker is not None:
                deep = deep.replace(rerank_depth=MANY)
            wide = Retriever(self.index, deep, reranker=self._reranker)
            hits = list(wide.search(found.query, MANY).hits)
            certainty = Certainty(hits, self._of_reranker, self._of_embedder)
            hits = [hit for hit in hits if self._may_show(certainty(hit))]
        ranks = {hit.chunk_id: hit.rank for hit in found.hits}
        hits = [
            replace(hit, rank=ranks.get(hit.chunk_id, len(ranks) + n))
            for n, hit in enumerate(hits, 1)
        ]
        read = read_all(self.index, hits)
        composer.hits = tuple(passage.hit for passage in read)
        return read

    def may_answer(self, found: PassagesFound) -> bool:
        """Whether an answer follows, for whoever asks no further than the first event."""
        return bool(found.read) and not found.lacking and self._is_enough(found.confidence)

    def _may_show(self, confidence: float | None) -> bool:
        """Whether a passage that does not answer is shown as what comes closest."""
        least = self.config.min_closest
        return least < 1 if confidence is None else confidence >= least

    def _outcome(self, found: Found) -> tuple[Outcome, str]:
        """And why it is no answer."""
        config, confidence = self.config, found.confidence
        if not found.read:
            return "nothing", "no passage was found"
        if found.lacking:
            names = ", ".join(found.lacking)
            reason = f"no document that was found holds all of the names asked for: {names}"
            return "closest" if self._may_show(confidence) else "nothing", reason
        if confidence is None or self._is_enough(confidence):
            return "answer", ""
        reason = (
            f"the best passage answers with a probability of {confidence:.2f}, less than "
            f"{config.min_confidence:.2f}"
        )
        return "closest" if self._may_show(confidence) else "nothing", reason

    def find(self, question: str, history: Sequence[Turn] = ()) -> Found:
        """Search and read, without answering. Blocks; for inspection and tuning."""
        if not question.strip():
            raise InputError("the question is empty", hint="ask something", param="question")
        config = self.config
        retrieved = self._retriever.search(question, config.retrieve, history=history)
        translations: Mapping[str, str] = {}
        if config.rewrite == "model":
            question = retrieved.query
            translations = self._translations(question, retrieved.hits)
        if translations:
            retrieved = self._retriever.search(question, config.retrieve, translations=translations)
        documents = HitDocuments(self.index)
        editions = {
            hit.document_id: edition_of(document)
            for hit in retrieved.hits
            if (document := documents.of(hit)) is not None
        }
        certainty = Certainty(retrieved.hits, self._of_reranker, self._of_embedder)
        certain = {h.document_id for h in retrieved.hits if self._is_enough(certainty(h))}
        certain_editions = {number: e for number, e in editions.items() if number in certain}
        superseded = in_force(certain_editions, _year(retrieved.query))
        superseded = unless_named(superseded, retrieved.hits)
        ordered = newest_first(retrieved.hits, superseded)
        hits = [replace(hit, rank=rank) for rank, hit in enumerate(ordered, 1)]
        passages = (read_passage(hit, documents) for hit in hits)
        readable = [passage for passage in passages if passage.readable]
        # A reranker is left out where most passages are in languages that it does not read.
        lacking = names_lacking(
            question,
            [passage.hit for passage in readable],
            documents,
            list(retrieved.trace.passages.values()),
            capitals=certainty.by_reranker and _has_names(question),
        )
        named = [p for p, names in zip(readable, lacking, strict=True) if not names]
        return Found(
            question,
            retrieved.query,
            tuple(hits),
            tuple((named or readable)[: config.passages]),
            certainty,
            editions,
            frozenset(superseded),
            lacking[0] if readable and not named else (),
            {
                hit.document_id: translations[document.language]
                for hit in hits
                if (document := documents.of(hit)) and document.language in translations
            },
        )

    def _translations(self, question: str, hits: Sequence[Hit]) -> dict[str, str]:
        """``question`` in the other languages of the documents, by code, where no passage that was
        found as it stands is certain to answer. A reranker takes anything for an answer in a
        language that it does not read, so where one has read, it has to."""
        certainty = Certainty(hits, self._of_reranker, self._of_embedder)
        best = max((certainty(hit) or 0.0 for hit in hits), default=0.0)
        if best > self.config.certain:
            return {}
        codes = languages_to_ask(question, self.index.languages())
        if certainty.by_reranker and self._reranker is not None:
            codes = [code for code in codes if reads(self._reranker.info, code)]
        written = ((code, translated(self.model, question, code)) for code in codes)
        return {code: text for code, text in written if text and text != question}

    def _is_enough(self, confidence: float | None) -> bool:
        return confidence is None or confidence >= self.config.min_confidence

    async def _quotes(self, found: Found, outcome: Outcome) -> tuple[list[Quote], list[Quote]]:
        if outcome == "nothing":
            return [], []
        return await asyncio.to_thread(self._choose_quotes, found, outcome)

    def _choose_quotes(self, found: Found, outcome: Outcome) -> tuple[list[Quote], list[Quote]]:
        """What is shown: of the passage that answers and of the second if it may well; or of the
        closest. And what could say otherwise: of other documents that may answer."""
        first, *rest = found.read
        rivals: list[Passage] = []
        if outcome == "closest":
            shown = found.read[:CLOSEST]
        else:
            rivals = [
                passage
                for passage in rest
                if passage.hit.document_id != first.hit.document_id
                and self._is_enough(found.certainty(passage.hit))
            ]
            second = [p for p in rest[:1] if p.hit.document_id not in found.superseded]
            shown = (first, *(passage for passage in second if self._is_near(found, passage)))
        numbers = {passage.hit.chunk_id for passage in shown}
        read = [*shown, *(passage for passage in rivals if passage.hit.chunk_id not in numbers)]
        score = partial(self._score, by_reranker=found.certainty.by_reranker)
        asked = found.asked.get(first.hit.document_id, found.query)
        quotes = choose_quotes(asked, read, score, self.config.max_quote_chars)
        others = {passage.hit.chunk_id for passage in rivals}
        return (
            [quote for quote in quotes if quote.hit.chunk_id in numbers],
            [quote for quote in quotes if quote.hit.chunk_id in others],
        )

    def _is_near(self, found: Found, second: Passage) -> bool:
        """Whether ``second`` is nearly as likely to answer as the first, or likelier, or nobody
        knows."""
        ours = found.certainty.odds(found.read[0].hit)
        others = found.certainty.odds(second.hit)
        return ours is None or others is None or others >= SECOND * ours

    def _score(
        self, question: str, texts: Sequence[str], *, by_reranker: bool
    ) -> npt.NDArray[np.floating]:
        """Of sentences, by the model that found the passages certain."""
        if by_reranker and self._reranker is not None:
            return self._reranker.score(question, texts)
        vectors = np.asarray(self._embedder.embed(list(texts), "passage"), np.float32)
        asked = np.asarray(self._embedder.embed([question], "query"), np.float32)[0]
        scores: npt.NDArray[np.float32] = vectors @ asked
        return scores

    def _shown(
        self, found: Found, history: Sequence[Turn]
    ) -> tuple[list[Passage], list[EarlierTurn]]:
        """What a model that writes is shown: the passages of earlier turns in their places, then
        those that are new, and the earlier turns. An earlier turn's passages are found again,
        which needs no memory of it. Nothing earlier where the question was written in full."""
        most = 0 if self.config.rewrite == "model" else self.config.history_turns
        turns = list(history)[-most:] if most else []
        places: dict[int, Passage] = {}
        earlier: list[EarlierTurn] = []
        begun = len(history) - len(turns)
        for n, (question, answer) in enumerate(turns):
            before = len(places)
            for passage in self.find(question, history[: begun + n]).read[: self.config.shown]:
                places.setdefault(passage.hit.chunk_id, passage)
            earlier.append(EarlierTurn(question, answer, len(places) - before))
        for passage in found.read[: self.config.shown]:
            places.setdefault(passage.hit.chunk_id, passage)
        return list(places.values()), earlier


def _why(composer: Composer) -> str:
    """Why nothing that was written is shown."""
    if composer.abstained:
        return "the model found no answer in the passages"
    return "nothing that the model wrote is borne out by a passage"


def _quoted(quote: Quote, composer: Composer) -> Iterator[AnswerEvent]:
    """A quotation is borne out by the passage it was copied from."""
    yield from composer.begin_sentence("\n\n")
    yield composer.say(quote.shown)
    yield from composer.end_sentence(quote.shown, [quote], support=1.0, supported=True)


def _has_names(question: str) -> bool:
    """Whether words with capitals are names: in German all nouns have one."""
    return question_language(question) in ("", "en")


def _year(question: str) -> int | None:
    """The year that ``question`` names, if it names one: the edition of that year is meant."""
    years = {int(year) for year in _YEAR.findall(question)}
    return years.pop() if len(years) == 1 else None
