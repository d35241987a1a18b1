"""From a request's text to token ids, and from the tokens of a choice to text again.

In: the prompt, the words that it forbids and those that it demands. A decoder continues its prompt;
of an encoder-decoder the prompt is what its encoder reads. Out: exact bytes, whole characters, stop
strings held back. The engine says how many bytes of the output no stop string can take back; only
those are let out, so text that was streamed never has to be withdrawn. Bytes and not the
tokenizer's decoder, because a continuation has to read on from its prompt: joined, they are what
the model wrote.
"""

from __future__ import annotations

import codecs
import hashlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lmstack.core import (
    Delta,
    Grammar,
    InputError,
    Message,
    Request,
    SamplingParams,
    TokenLogprob,
    ToolCallDelta,
    UnsupportedError,
    shown,
)
from lmstack.engine import EngineRequest, TokenEvent, TokenScore
from lmstack.registry import GenerationDefaults
from lmstack.text import CallReader, ChatTemplate, Tokenizer
from lmstack.text.calls.reader import without_marks

__all__ = [
    "ChoiceText",
    "bad_words",
    "choices_of",
    "prompt_ids",
    "request_of",
    "token_logprob",
    "with_defaults",
]

Runs = tuple[tuple[int, ...], ...]


def request_of(
    prompt: str | Sequence[Any], sampling: SamplingParams, grammar: Grammar | None
) -> Request:
    """Of a text, token ids or messages."""
    if isinstance(prompt, str):
        return Request(prompt=prompt, sampling=sampling, grammar=grammar)
    items: tuple[Any, ...] = tuple(prompt)
    if items and all(isinstance(m, Message | Mapping) for m in items):
        messages = tuple(m if isinstance(m, Message) else Message(**m) for m in items)
        return Request(messages=messages, sampling=sampling, grammar=grammar)
    if all(isinstance(i, int) for i in items):
        return Request(prompt=items, sampling=sampling, grammar=grammar)
    raise InputError(
        f"the prompt is {shown(prompt)}", hint="give text, token ids or messages", param="prompt"
    )


def prompt_ids(
    request: Request, tokenizer: Tokenizer, template: ChatTemplate | None, *, encodes: bool
) -> tuple[int, ...]:
    """``encodes``: for an encoder. Without a chat template it reads the contents of the messages,
    in order, each on a line of its own: such models know no roles."""
    _check_names(request.messages, template)
    if request.messages and template is not None:
        return tuple(template.encode(request.messages, tokenizer, tools=request.tools))
    prompt = request.prompt
    if request.messages:
        if not encodes:
            raise UnsupportedError(
                "this model has no chat template",
                hint="send a prompt instead of messages (/v1/completions)",
                param="messages",
            )
        prompt = "\n".join(message.content for message in request.messages)
    if not isinstance(prompt, str):
        return prompt or ()
    # What others wrote holds no control tokens, unless it is a raw prompt.
    ids = tuple(tokenizer.encode(prompt, special=not request.messages))
    # Nothing at all to read: begin as a text begins.
    start = tokenizer.bos_id
    return ids if ids or start is None else (start,)


def _check_names(messages: Sequence[Message], template: ChatTemplate | None) -> None:
    """Refuse the first name that the model would not be shown."""
    named = (place for place, message in enumerate(messages) if message.name)
    place = next(named, None) if template is None else template.unread_name(messages)
    if place is not None:
        raise UnsupportedError(
            f"the prompt of this model has no place for the name {shown(messages[place].name)}",
            hint="put the name into the content of the message",
            param=f"messages.{place}.name",
        )


def bad_words(sampling: SamplingParams, tokenizer: Tokenizer, defaults: GenerationDefaults) -> Runs:
    """Each word as it begins a text and as it follows another, as vLLM does, and those that the
    model's makers exclude. An end token among them still ends, as in transformers."""
    never = (word for word in defaults.bad_words if not {*word} <= defaults.eos_ids)
    forms = [form for word in sampling.bad_words for form in (word.lstrip(), " " + word.lstrip())]
    return tuple(dict.fromkeys((*_runs(forms, tokenizer), *never)))


def _runs(texts: Iterable[str], tokenizer: Tokenizer) -> Iterable[tuple[int, ...]]:
    encoded = (tokenizer.encode(t, special=False, add_special_tokens=False) for t in texts)
    return (tuple(ids) for ids in encoded if ids)


def with_defaults(sampling: SamplingParams, defaults: GenerationDefaults) -> SamplingParams:
    """With the first and last tokens that the model's makers prescribe. What they merely
    recommend (beams, temperature) is for the caller to ask for."""
    forced = {
        name: getattr(defaults, name)
        for name in ("forced_bos_id", "forced_eos_id")
        if getattr(sampling, name) is None and getattr(defaults, name) is not None
    }
    return sampling.replace(**forced) if forced else sampling


def choices_of(first: EngineRequest, count: int) -> list[EngineRequest]:
    """A request for each choice, with a seed of its own."""
    number, sampling = first.id.partition("-")[0], first.sampling
    choices = [first]
    for index in range(1, count):
        seed = None if sampling.seed is None else _choice_seed(sampling.seed, index)
        own = sampling.replace(seed=seed)
        choices.append(replace(first, id=f"{number}-{index}", sampling=own))
    return choices


def _choice_seed(seed: int, index: int) -> int:
    """Of a choice but the first: far from ``seed``, which is that of the first."""
    data = (seed % 2**64).to_bytes(8, "little") + index.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def token_logprob(tokenizer: Tokenizer, score: TokenScore) -> TokenLogprob:
    """A score with the token's text and bytes. A control token has a name and no bytes."""

    def one(token: int, logprob: float | None, top: tuple[TokenLogprob, ...]) -> TokenLogprob:
        data = tokenizer.token_bytes(token)
        text = data.decode("utf-8", "replace") if data else tokenizer.token(token)
        return TokenLogprob(text, data, logprob, token, top)

    top = tuple(one(token, logprob, ()) for token, logprob in score.top)
    return one(score.token, score.logprob, top)


class _MarkedBytes:
    """The bytes of an output in which some control tokens have a text. The engine counts none for
    them."""

    def __init__(self, marks: Mapping[int, bytes]) -> None:
        self._marks = marks
        self._counted = self._length = 0
        self._places: list[tuple[int, int, int]] = []  # counted before, start, end

    def add(self, token: int, data: bytes) -> bytes:
        mark = self._marks.get(token)
        self._counted += len(data)
        if mark is None:
            self._length += len(data)
            return data
        self._places.append((self._counted, self._length, self._length + len(mark)))
        self._length += len(mark)
        return mark

    def reach(self, counted: int) -> int:
        """How far the first ``counted`` bytes of the engine reach."""
        return counted + sum(e - s for before, s, e in self._places if before <= counted)

    def within(self, start: int, end: int) -> list[tuple[int, int]]:
        return [(low, high) for _, low, high in self._places if start <= low and high <= end]


class ChoiceText:
    """Feed events to `push`; get what may be shown. ``num_tokens``: generated so far. ``digest``:
    of the weights that compute it.

    ``begins``: the output is a text of its own and continues nothing, so the space that some
    tokenizers put before a first word is left out, as their decoders do. ``scores_end``: the
    token that ends a text, and is no part of it, has a log-probability all the same, as in OpenAI's
    completions. ``calls``: the answer may call tools, which come out as parts of their own."""

    def __init__(
        self,
        index: int,
        tokenizer: Tokenizer,
        ends: frozenset[int],
        *,
        begins: bool = False,
        scores_end: bool = False,
        calls: CallReader | None = None,
    ) -> None:
        self.num_tokens = 0
        self.digest: str | None = None
        self._index, self._tokenizer, self._ends = index, tokenizer, ends
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = b""  # bytes from place ``_shown`` on
        self._shown = 0
        self._begins, self._scores_end = begins, scores_end
        self._dropped = False  # whether the first byte is not shown
        self._scores: deque[tuple[int, int, TokenScore]] = deque()  # start, end, score
        self._calls = calls
        self._marked = _MarkedBytes({} if calls is None else calls.marks)

    def deltas(self, event: TokenEvent) -> list[Delta]:
        """`push`, with calls of tools apart from the text around them."""
        delta = self.push(event)
        if delta is None or self._calls is None:
            return [] if delta is None else [delta]
        reason = delta.finish_reason
        parts = self._calls.push(delta.text, final=reason is not None)
        if reason == "stop" and self._calls.is_complete:
            reason = "tool_calls"
        found = [self._of(part, delta) for part in parts]
        if delta.logprobs or reason is not None:
            last = found.pop() if found else self._of("", delta)
            found.append(replace(last, logprobs=delta.logprobs, finish_reason=reason))
        return found

    @staticmethod
    def _of(part: str | ToolCallDelta, delta: Delta) -> Delta:
        if isinstance(part, str):
            return Delta(part, delta.index, digest=delta.digest)
        return Delta("", delta.index, digest=delta.digest, tool_call=part)

    def push(self, event: TokenEvent) -> Delta | None:
        """The delta that follows from ``event``, None if there is nothing to show yet."""
        assert event.token is not None, "an event without a token is an error, not text"
        self.num_tokens += 1
        reason = event.finish_reason
        # The token that ends a text is not part of it.
        if not (reason == "stop" and event.token in self._ends):
            start = self._shown + len(self._held)
            data = self._tokenizer.token_bytes(event.token)
            self._held += self._marked.add(event.token, data)
            if self._begins and data:
                self._begins = False
                plain = self._tokenizer.decode([event.token])
                self._dropped = data.startswith(b" ") and not plain.startswith(" ")
            if event.score is not None:
                self._scores.append((start, self._shown + len(self._held), event.score))
        elif self._scores_end and event.score is not None:
            end = self._marked.reach(event.safe_bytes)
            self._scores.append((end, end, event.score))
        safe = self._marked.reach(event.safe_bytes)
        count = safe - self._shown
        data, self._held = self._held[:count], self._held[count:]
        if self._dropped and self._shown == 0:
            data = data[1:]
        text = self._decoded(data, final=reason is not None)
        self._shown = safe
        logprobs = self._let_out(final=reason is not None)
        if not (text or logprobs or reason):
            return None
        return Delta(text, self._index, logprobs, reason, digest=self.digest)

    def _decoded(self, data: bytes, *, final: bool) -> str:
        if self._calls is None:
            return self._decoder.decode(data, final=final)
        first = start = self._shown
        text = ""
        for low, high in self._marked.within(first, first + len(data)):
            text += without_marks(self._decoder.decode(data[start - first : low - first]))
            text += data[low - first : high - first].decode()
            start = high
        return text + without_marks(self._decoder.decode(data[start - first :], final=final))

    def _let_out(self, *, final: bool) -> tuple[TokenLogprob, ...]:
        """Scores of tokens that are shown whole; at the end also of one that is cut, while
        those wholly within a stop string go with it."""
        out = []
        while self._scores:
            start, end, score = self._scores[0]
            if end > self._shown and not (final and start < self._shown):
                break
            self._scores.popleft()
            out.append(token_logprob(self._tokenizer, score))
        return tuple(out)
