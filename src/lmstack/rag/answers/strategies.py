"""Ways from evidence to an answer. Each yields events through one `Composer`.

`Likelihood`: the model's forward pass chooses what is quoted. `Extractive`: the model writes
quotations, masked to them. `Similarity`: no model. `Generative`: the model writes; every sentence
is checked. Thresholds and prompts are data
(`AnswerConfig`, `prompting`); a new way is a new class in `STRATEGIES`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from lmstack.core import (
    ChatModel,
    ContextLengthError,
    Grammar,
    Message,
    Request,
    SamplingParams,
    UnsupportedError,
    Usage,
)
from lmstack.rag.answers.answer import AnswerConfig, AnswerEvent
from lmstack.rag.answers.citing import (
    NONE,
    Chosen,
    ClaimReader,
    QuotationReader,
    Unit,
    generative_grammar,
    quotation_grammar,
)
from lmstack.rag.answers.composing import Composer
from lmstack.rag.answers.conflicts import find_conflicts
from lmstack.rag.answers.editions import Edition
from lmstack.rag.answers.evidence import Candidate, choose_candidates
from lmstack.rag.answers.likelihood import question_likelihoods, sentence_lifts
from lmstack.rag.answers.prompting import EarlierTurn, build_messages, passage_texts
from lmstack.rag.answers.support import SupportScorer
from lmstack.rag.search.followup import Turn
from lmstack.rag.search.hybrid import Hit
from lmstack.rag.sentences import split_prose

Earlier = Sequence[EarlierTurn]
RequestParts = tuple[tuple[Message, ...], Grammar]
__all__ = ["STRATEGIES", "Extractive", "Generative", "Likelihood", "Similarity", "Strategy", "Task"]


@dataclass(frozen=True)
class Task:
    """One question with what was found for it. ``sentences`` are of ``hits``, weighed.
    ``history`` is what the question leans on; ``earlier`` turns are shown to a model that writes,
    and the first of ``hits`` are theirs."""

    question: str
    hits: Sequence[Hit]
    sentences: Sequence[Candidate]
    config: AnswerConfig
    model: ChatModel
    scorer: SupportScorer
    sampling: SamplingParams
    history: Sequence[Turn] = ()
    instructions: str = ""
    client: str = "local"
    request_id: str = ""
    earlier: Sequence[EarlierTurn] = ()
    editions: Mapping[int, Edition] = field(default_factory=dict)


class Strategy(Protocol):
    """``writes``: the model writes the text, so that sampling settings and instructions for it
    change the answer. Otherwise sentences are chosen and quoted."""

    writes: ClassVar[bool]

    def run(self, task: Task, composer: Composer) -> AsyncIterator[AnswerEvent]:
        """Say the answer. Nothing said, or nothing supported, is an abstention."""
        ...


class Similarity:
    """The sentences with the most merit, best first."""

    writes: ClassVar[bool] = False

    async def run(self, task: Task, composer: Composer) -> AsyncIterator[AnswerEvent]:
        chosen = choose_candidates(task.sentences, task.config)
        for event in _quote_all(task, composer, [(c.merit, c) for c in chosen]):
            yield event


class Likelihood:
    """The sentences with the most merit, where several are close those after which the model
    finds the question likeliest. A model that cannot score a prompt chooses by writing
    (`Extractive`)."""

    writes: ClassVar[bool] = False

    async def run(self, task: Task, composer: Composer) -> AsyncIterator[AnswerEvent]:
        chosen = choose_candidates(task.sentences, task.config)
        if len(chosen) <= task.config.max_sentences:
            ranked = [(c.merit, c) for c in chosen]
        else:
            asked = " ".join([*(earlier for earlier, _ in task.history), task.question])
            scored = await question_likelihoods(
                task.model,
                asked,
                chosen,
                client=task.client,
                request_id=task.request_id,
                priority=task.sampling.priority,
            )
            if scored is None:
                async with aclosing(Extractive().run(task, composer)) as events:
                    async for event in events:
                        yield event
                return
            scores, usage = scored
            composer.spend(usage)
            weight = task.config.likelihood_weight
            ranked = [(c.merit + weight * s, c) for c, s in zip(chosen, scores, strict=True)]
        for event in _quote_all(task, composer, ranked):
            yield event


def _quote_all(
    task: Task, composer: Composer, scored: Sequence[tuple[float, Candidate]]
) -> Iterator[AnswerEvent]:
    ranked = sorted(scored, key=lambda pair: -pair[0])
    for _, candidate in ranked[: task.config.max_sentences]:
        yield from composer.begin_sentence()
        yield composer.say(candidate.shown)
        yield from _quoted(task, composer, candidate)


class Extractive:
    """The model quotes; if it manages to say nothing, the best evidence speaks for itself."""

    writes: ClassVar[bool] = True

    async def run(self, task: Task, composer: Composer) -> AsyncGenerator[AnswerEvent, None]:
        config = task.config
        candidates = choose_candidates(task.sentences, config)
        if not candidates:
            return
        reader = QuotationReader(candidates, config.max_sentences)

        def request(hits: Sequence[Hit], earlier: Earlier) -> RequestParts | None:
            reader.candidates = [c for c in candidates if c.number <= len(hits)]
            if not reader.candidates:
                return None
            none = NONE if config.model_may_abstain else None
            grammar = quotation_grammar(
                reader.candidates, config.max_sentences, none=config.model_may_abstain
            )
            passages = (
                [(c.hit.path, f"[{c.number}] {c.shown}") for c in reader.candidates]
                if config.prompt_sentences
                else passage_texts(hits)
            )
            if config.prompt_sentences:
                earlier = ()
            return _messages(task, passages, earlier, generative=False, none=none), grammar

        sampling = task.sampling.replace(n=1)
        started = False
        async with aclosing(_generate(task, composer, request, sampling)) as deltas:
            async for text in deltas:
                for item in reader.feed(text):
                    for event in _quotation_events(task, composer, item, started=started):
                        yield event
                    started = isinstance(item, str)
                if reader.full or (config.finish_early and _last(reader) and started):
                    break
        for item in reader.end_line():
            for event in _quotation_events(task, composer, item, started=started):
                yield event
            started = isinstance(item, str)
        if reader.said_none:
            composer.model_abstained = True
        elif not reader.chosen:
            async for event in Similarity().run(task, composer):
                yield event


def _last(reader: QuotationReader) -> bool:
    return reader.only is not None and len(reader.chosen) == reader.max_sentences - 1


def _quotation_events(
    task: Task, composer: Composer, item: str | Chosen, *, started: bool
) -> Sequence[AnswerEvent]:
    if isinstance(item, Chosen):
        return list(_quoted(task, composer, item.candidate))
    return [*(() if started else composer.begin_sentence()), composer.say(item)]


def _quoted(task: Task, composer: Composer, candidate: Candidate) -> list[AnswerEvent]:
    """A quotation is borne out by the passage it was copied from."""
    events = list(
        composer.end_sentence(
            candidate.shown,
            [candidate],
            support=1.0,
            supported=True,
            evidence=candidate.evidence,
        )
    )
    _note_conflicts(task, composer, candidate)
    return events


def _note_conflicts(task: Task, composer: Composer, quote: Candidate) -> None:
    """What other passages say otherwise than the sentence that was just closed."""
    number = composer.sentences[-1].citations[-1]
    composer.conflicts += find_conflicts(
        number, quote, task.question, task.sentences, task.editions
    )


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence that was written, and the one of a passage that bears it out, if any does."""

    text: str
    quote: Candidate | None
    support: float


class Generative:
    """The model writes; a sentence is shown once it has been checked."""

    writes: ClassVar[bool] = True

    async def run(self, task: Task, composer: Composer) -> AsyncIterator[AnswerEvent]:
        config = task.config
        reader = ClaimReader(len(task.hits))

        def request(hits: Sequence[Hit], earlier: Earlier) -> RequestParts:
            reader.numbers = len(hits)
            none = NONE if config.model_may_abstain else None
            grammar = generative_grammar(len(hits), none=config.model_may_abstain)
            texts = passage_texts(hits)
            return _messages(task, texts, earlier, generative=True, none=none), grammar

        units: list[Unit] = []
        limit = task.sampling.max_tokens or config.max_tokens
        sampling = task.sampling.replace(n=1, max_tokens=limit)
        async with aclosing(_generate(task, composer, request, sampling)) as deltas:
            async for text in deltas:
                for unit in reader.feed(text):
                    if config.unsupported == "abstain":
                        units.append(unit)
                        continue
                    for event in self._say(task, composer, await self._check(task, composer, unit)):
                        yield event
        for unit in reader.end():
            if unit.text == NONE:
                composer.model_abstained = True
            else:
                units.append(unit)
        checked = [claim for unit in units for claim in await self._check(task, composer, unit)]
        if config.unsupported != "abstain" or not composer.num_unsupported:
            for event in self._say(task, composer, checked):
                yield event

    async def _check(self, task: Task, composer: Composer, unit: Unit) -> list[Claim]:
        """Each sentence against the sentences of the passages it cites, without a number against
        all of them; only those that bear on the question, so that nothing else a passage holds
        can be talked out of the model."""
        config = task.config
        texts = [unit.text[a:b] for a, b in split_prose(unit.text, 0, len(unit.text))]
        pool = [
            s
            for s in task.sentences
            if s.evidence >= config.min_evidence and (not unit.numbers or s.number in unit.numbers)
        ]
        scores = await asyncio.to_thread(task.scorer.score, texts, [s.in_context for s in pool])
        claims: list[Claim] = []
        for text, row in zip(texts, scores, strict=True):
            best = max(range(len(row)), key=row.__getitem__, default=None)
            if best is None or row[best] < config.min_support:
                claims.append(Claim(text, None, row[best] if best is not None else 0.0))
            else:
                claims.append(Claim(text, pool[best], row[best]))
        if config.min_lift is not None:
            claims = await self._lifted(task, composer, claims, config.min_lift)
        composer.num_unsupported += sum(claim.quote is None for claim in claims)
        return claims

    async def _lifted(
        self, task: Task, composer: Composer, claims: list[Claim], least: float
    ) -> list[Claim]:
        """Without the quotes that do not make their sentence ``least`` likelier. A model that
        cannot score a prompt decides nothing."""
        quoted = [claim for claim in claims if claim.quote is not None]
        pairs = [(claim.quote.in_context, claim.text) for claim in quoted if claim.quote]
        scored = await sentence_lifts(
            task.model, pairs, client=task.client, request_id=task.request_id
        )
        if scored is None:
            return claims
        lifts, usage = scored
        composer.spend(usage)
        fallen = {id(c) for c, lift in zip(quoted, lifts, strict=True) if lift < least}
        return [Claim(c.text, None, c.support) if id(c) in fallen else c for c in claims]

    def _say(
        self, task: Task, composer: Composer, claims: Sequence[Claim]
    ) -> Iterator[AnswerEvent]:
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
                evidence=claim.quote.evidence if claim.quote else 0.0,
            )
            if claim.quote is not None:
                _note_conflicts(task, composer, claim.quote)


STRATEGIES: Mapping[str, type[Strategy]] = {
    "likelihood": Likelihood,
    "extractive": Extractive,
    "similarity": Similarity,
    "generative": Generative,
}


def _messages(
    task: Task,
    passages: Sequence[tuple[str, str]],
    earlier: Earlier,
    *,
    generative: bool,
    none: str | None,
) -> tuple[Message, ...]:
    return build_messages(
        task.question,
        passages,
        generative=generative,
        fence_each=task.config.fence_each,
        none=none,
        instructions=task.instructions,
        earlier=earlier,
    )


async def _generate(
    task: Task,
    composer: Composer,
    parts: Callable[[Sequence[Hit], Earlier], RequestParts | None],
    sampling: SamplingParams,
) -> AsyncGenerator[str, None]:
    """The model's text. Earlier turns and then passages from the end are left out until the
    prompt fits, and a model that cannot be masked is asked without the grammar: the readers keep
    to it all the same."""
    hits, earlier = list(task.hits), task.earlier
    masked = True
    while True:
        made = parts(hits, earlier)
        if made is None:
            return
        messages, grammar = made
        request = Request(
            messages,
            sampling=sampling,
            grammar=grammar if masked else None,
            client=task.client,
            request_id=task.request_id,
        )
        try:
            async with aclosing(_text(task.model, request, composer)) as texts:
                async for text in texts:
                    yield text
            return
        except ContextLengthError:
            if earlier:
                earlier = ()
                continue
            if len(hits) == 1:
                raise
            hits.pop()
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
