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
import dataclasses
import hashlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lmstack.core import (
    Delta,
    Grammar,
    InputError,
    Message,
    Request,
    SamplingParams,
    TokenLogprob,
    UnsupportedError,
    shown,
)
from lmstack.engine import EngineRequest, TokenEvent, TokenScore
from lmstack.registry import GenerationDefaults
from lmstack.text import ChatTemplate, Tokenizer

__all__ = [
    "ChoiceText",
    "bad_words",
    "choices_of",
    "force_words",
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
        return tuple(template.encode(request.messages, tokenizer))
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


def force_words(sampling: SamplingParams, tokenizer: Tokenizer) -> Runs:
    """Each phrase exactly as it is written, a leading space included."""
    return tuple(_runs(sampling.force_words, tokenizer))


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
        choices.append(dataclasses.replace(first, id=f"{number}-{index}", sampling=own))
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


class ChoiceText:
    """Feed events to `push`; get what may be shown. ``num_tokens``: generated so far. ``digest``:
    of the weights that compute it.

    ``begins``: the output is a text of its own and continues nothing, so the space that some
    tokenizers put before a first word is left out, as their decoders do."""

    def __init__(
        self, index: int, tokenizer: Tokenizer, ends: frozenset[int], *, begins: bool = False
    ) -> None:
        self.num_tokens = 0
        self.digest: str | None = None
        self._index, self._tokenizer, self._ends = index, tokenizer, ends
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = b""  # bytes from place ``_shown`` on
        self._shown = 0
        self._begins = begins
        self._dropped = False  # whether the first byte is not shown
        self._scores: deque[tuple[int, int, TokenScore]] = deque()  # start, end, score

    def push(self, event: TokenEvent) -> Delta | None:
        """The delta that follows from ``event``, None if there is nothing to show yet."""
        assert event.token is not None, "an event without a token is an error, not text"
        self.num_tokens += 1
        reason = event.finish_reason
        # The token that ends a text is not part of it.
        if not (reason == "stop" and event.token in self._ends):
            start = self._shown + len(self._held)
            data = self._tokenizer.token_bytes(event.token)
            self._held += data
            if self._begins and data:
                self._begins = False
                plain = self._tokenizer.decode([event.token])
                self._dropped = data.startswith(b" ") and not plain.startswith(" ")
            if event.score is not None:
                self._scores.append((start, self._shown + len(self._held), event.score))
        count = event.safe_bytes - self._shown
        data, self._held = self._held[:count], self._held[count:]
        if self._dropped and self._shown == 0:
            data = data[1:]
        self._shown = event.safe_bytes
        text = self._decoder.decode(data, final=reason is not None)
        logprobs = self._let_out(final=reason is not None)
        if not (text or logprobs or reason):
            return None
        return Delta(text, self._index, logprobs, reason, digest=self.digest)

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
