"""How likely continuations are after their contexts: core's `LikelihoodModel` over the engine.

    EncodedContext    pairs of texts to token ids, as lm-evaluation-harness splits them
    Likelihoods       pairs, or windows of one long text, to requests of the engine, so many at a
                      time, and their scores

Continuations that differ in their last token alone (" A" to " D") are one request, since one row of
logits scores them all. Others of one context share its keys and values through the prefix cache.
Neither changes a figure. Not covered: encoder-decoders, where a text's windows lie (its caller says
so), and contexts that do not fit, which are an error and never cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from lmstack.core import (
    ContextLengthError,
    EngineError,
    InputError,
    Likelihood,
    OverloadedError,
    SamplingParams,
    TextWindows,
    check_text,
    shown,
)
from lmstack.engine import Engine, EngineAdapter, EngineRequest, TokenEvent
from lmstack.serve.threads import Bridge, Mailbox, Slots
from lmstack.text import Tokenizer

__all__ = ["EncodedContext", "Likelihoods"]

Pairs = Sequence[tuple[str, str]]

# Pairs that are encoded at once; those of a context are not parted if there are no more of them.
PORTION = 256
# The likeliest token at each place, to compare with; after what the same client asks otherwise.
SCORING = SamplingParams(temperature=0.0, logprobs=1, priority=1)
LONGEST_PAUSE_S = 5.0


class EncodedContext:
    """``context`` and what may follow it, with the ids of `TemplateLM.loglikelihood` and
    `HFLM.tok_encode` of lm-evaluation-harness 0.4.13 for causal models: both texts are encoded
    together, and the continuation is what comes after as many tokens as the context has alone,
    without the white space at its end. The tokenizer adds what it adds to any text, unless the text
    begins with BOS already. Instead of an empty context stands BOS, or EOS where there is none.

    One difference: a context of nothing but white space counts as empty where the tokenizer adds
    nothing, and is no error.
    """

    def __init__(self, tokenizer: Tokenizer, context: str) -> None:
        self._tokenizer, self._context = tokenizer, context
        self._start = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
        self._ids = self._encode(context.rstrip()) if context else []

    def followed_by(self, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of the context, at least one, and of ``continuation``, of which there may be none."""
        if self._context:
            whole = self._encode(self._context + continuation)
            rest = whole[len(self._ids) :]
        else:
            rest = self._tokenizer.encode(continuation, add_special_tokens=False)
        if self._ids:
            return self._ids, rest
        if self._start is None:
            raise InputError(
                "the context is empty, and the tokenizer has neither BOS nor EOS to begin with",
                hint="give each continuation a context",
            )
        begins = not self._context and rest[:1] == [self._start]
        return [self._start], rest[1:] if begins else rest

    def _encode(self, text: str) -> list[int]:
        start = self._start
        begins = start is not None and text.startswith(self._tokenizer.token(start))
        return self._tokenizer.encode(text, add_special_tokens=not begins)


@dataclass(slots=True)
class _Reading:
    """One request: ``ids`` of a context and, from ``start`` on, of a continuation without its last
    token, for which ``targets`` are the candidates; ``places``: of their pairs."""

    ids: tuple[int, ...]
    start: int
    targets: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def likelihoods(self, event: TokenEvent) -> Iterator[tuple[int, Likelihood]]:
        """By the place of the pair."""
        before = event.prompt[self.start :]
        summed = 0.0
        for score in before:
            summed += score.logprob or 0.0
        greedy = all(score.top[0][0] == score.token for score in before)
        for place, score in zip(self.places, event.targets, strict=True):
            logprob = summed + (score.logprob or 0.0)
            if math.isnan(logprob):
                raise EngineError(
                    f"the model gave no usable logits for pairs[{place}]: its logprob is {logprob}",
                    hint="check the weights, or load them in float32",
                )
            is_greedy = greedy and score.top[0][0] == score.token
            yield place, Likelihood(logprob, len(before) + 1, is_greedy)


class Likelihoods:
    """Of one engine, for any number of calls and event loops at once. At most half of the engine's
    streams are theirs, so that others find a place."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, bridge: Bridge) -> None:
        self.engine, self.tokenizer, self._bridge = engine, tokenizer, bridge
        self.slots = Slots(max(1, engine.config.max_sequences // 2))
        self.numbers = itertools.count()

    async def of(
        self, pairs: Pairs, adapter: EngineAdapter | None, client: str, cache_scope: str
    ) -> list[Likelihood]:
        """Of each pair, in order."""
        _check(pairs)
        portions = (partial(self._readings, pairs, portion) for portion in _portions(pairs))
        call = _Call(self, self._bridge.mailbox(), adapter, client, cache_scope)
        return await call.run(portions, len(pairs))

    async def of_text(
        self,
        text: str,
        windows: TextWindows,
        max_length: int,
        adapter: EngineAdapter | None,
        client: str,
        cache_scope: str,
        *,
        add_special_tokens: bool,
    ) -> list[Likelihood]:
        """Of each window of ``text``. ``max_length``: what ``windows`` is told."""
        check_text("text", text)
        tokens = await asyncio.to_thread(
            self.tokenizer.encode, text, add_special_tokens=add_special_tokens
        )
        chosen = windows(len(tokens), max_length)
        portions = (
            partial(self._windows, tokens, list(enumerate(chosen))[first : first + PORTION])
            for first in range(0, len(chosen), PORTION)
        )
        call = _Call(self, self._bridge.mailbox(), adapter, client, cache_scope)
        return await call.run(portions, len(chosen))

    def _readings(self, pairs: Pairs, portion: Sequence[int]) -> list[_Reading]:
        """Those of the pairs at the places of ``portion``."""
        made: dict[tuple[int, tuple[int, ...]], _Reading] = {}
        context: tuple[str, EncodedContext] | None = None
        for place in portion:
            text, continuation = pairs[place]
            try:
                if context is None or context[0] != text:
                    context = text, EncodedContext(self.tokenizer, text)
                before, after = context[1].followed_by(continuation)
            except InputError as error:
                message = f"pairs[{place}]: {error.message}"
                raise InputError(message, hint=error.hint, param="pairs") from error
            if not after:
                raise InputError(
                    f"pairs[{place}]: the continuation {shown(continuation)} adds no token to its"
                    " context",
                    hint="give a longer continuation, or one that begins with a space",
                    param="pairs",
                )
            self._check_length(f"pairs[{place}]", before, after)
            ids = (*before, *after[:-1])
            reading = made.setdefault((len(before), ids), _Reading(ids, len(before)))
            reading.targets.append(after[-1])
            reading.places.append(place)
        return list(made.values())

    def _windows(
        self, tokens: Sequence[int], portion: Sequence[tuple[int, tuple[int, int, int]]]
    ) -> list[_Reading]:
        """Those of the windows of ``tokens`` in ``portion``, each with its place."""
        found = []
        for place, (context, start, end) in portion:
            if not -1 <= context < start < end <= len(tokens):
                raise InputError(
                    f"the window {shown((context, start, end))} does not lie in a text of"
                    f" {len(tokens)} tokens",
                    hint="give places of tokens: context, start, end, in rising order",
                    param="windows",
                )
            before = [self._start(), *tokens[:start]] if context < 0 else tokens[context:start]
            self._check_length(f"windows[{place}]", before, tokens[start:end])
            ids = (*before, *tokens[start : end - 1])
            found.append(_Reading(ids, len(before), [tokens[end - 1]], [place]))
        return found

    def _start(self) -> int:
        start = self.tokenizer.bos_id
        start = self.tokenizer.eos_id if start is None else start
        if start is None:
            raise InputError(
                "the tokenizer has neither BOS nor EOS to begin a text with",
                hint="score strided windows, whose first token is not scored",
                param="windows",
            )
        return start

    def _check_length(self, name: str, before: Sequence[int], after: Sequence[int]) -> None:
        # The last token is scored and not read.
        most = self.engine.context_length
        if len(before) + len(after) - 1 > most:
            raise ContextLengthError(
                f"{name} has {len(before)} tokens of context and {len(after)} of"
                f" continuation, and {most} can be read",
                hint="shorten the context or the windows, or give fewer examples",
                param=name.partition("[")[0],
            )


class _Call:
    """One call of `Likelihoods`. ``running``: requests that are with the engine, by id."""

    def __init__(
        self,
        shared: Likelihoods,
        events: Mailbox[TokenEvent],
        adapter: EngineAdapter | None,
        client: str,
        cache_scope: str,
    ) -> None:
        self._shared, self._events = shared, events
        self._adapter, self._client, self._cache_scope = adapter, client, cache_scope
        self._waiting: deque[_Reading] = deque()
        self._running: dict[str, _Reading] = {}
        self._found: dict[int, Likelihood] = {}

    async def run(
        self, portions: Iterable[Callable[[], list[_Reading]]], count: int
    ) -> list[Likelihood]:
        """The ``count`` likelihoods of all readings that ``portions`` make."""
        try:
            for portion in portions:
                # While these are encoded, the engine goes on with those of before.
                self._waiting += await asyncio.to_thread(portion)
                while self._waiting:
                    if not await self._begin():
                        await self._end()
            while self._running or self._waiting:
                if not (self._waiting and await self._begin()):
                    await self._end()
        finally:
            for request_id in self._running:
                self._shared.engine.cancel(request_id)
                self._shared.slots.give()
        return [self._found[place] for place in range(count)]

    async def _begin(self) -> bool:
        """Hand the next request to the engine; False where another has to end before."""
        slots = self._shared.slots
        if not slots.take():
            if self._running:
                return False
            await slots.wait()
        reading = self._waiting.popleft()
        request = self._request(reading)
        self._running[request.id] = reading
        try:
            self._shared.engine.submit(request)
        except OverloadedError as error:
            await self._put_back(request.id, error)
            return False
        return True

    async def _end(self) -> None:
        """Take in the scores of a request, if any is with the engine."""
        if not self._running:
            return
        event = await self._events.get()
        if isinstance(event.error, OverloadedError):  # evicted from the queue
            await self._put_back(event.request_id, event.error)
            return
        reading = self._running.pop(event.request_id)
        self._shared.slots.give()
        if event.error is not None:
            raise event.error
        self._found.update(reading.likelihoods(event))

    async def _put_back(self, request_id: str, error: OverloadedError) -> None:
        """The queue is full of what others ask: wait until something has moved."""
        self._waiting.appendleft(self._running.pop(request_id))
        self._shared.slots.give()
        if not self._running:
            await asyncio.sleep(min(error.retry_after_s or 1.0, LONGEST_PAUSE_S))

    def _request(self, reading: _Reading) -> EngineRequest:
        def on_event(event: TokenEvent) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._events.post(event)

        return EngineRequest(
            id=f"likelihood-{next(self._shared.numbers)}",
            prompt_ids=reading.ids,
            on_event=on_event,
            sampling=SCORING,
            echo=True,
            score_from=reading.start,
            targets=tuple(reading.targets),
            client=self._client,
            cache_scope=self._cache_scope,
            adapter=self._adapter,
        )


def _check(pairs: Pairs) -> None:
    for place, pair in enumerate(pairs):
        if isinstance(pair, str) or len(pair) != 2:
            raise InputError(
                f"pairs[{place}] is {shown(pair)}",
                hint="give a context and a continuation",
                param="pairs",
            )
        for name, text in zip(("context", "continuation"), pair, strict=True):
            check_text(f"pairs[{place}], the {name}", text)


def _portions(pairs: Pairs) -> Iterator[list[int]]:
    """Places of pairs, those of one context together, contexts as they first come."""
    by_context: dict[str, list[int]] = {}
    for place, (context, _) in enumerate(pairs):
        by_context.setdefault(context, []).append(place)
    portion: list[int] = []
    for places in by_context.values():
        for first in range(0, len(places), PORTION):
            portion += places[first : first + PORTION]
            if len(portion) >= PORTION:
                yield portion
                portion = []
    if portion:
        yield portion
