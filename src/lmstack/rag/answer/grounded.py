"""Cited answers behind the protocol of a language model, for `/v1/chat/completions`.

The last user message is the question, earlier ones the history. What a grounded answer cannot
honour (other choices, grammars, log-probabilities, stop strings, biases) is refused by name. Where
sentences are quoted and none is drawn, settings of sampling have nothing to decide and are
accepted; a system message could not be followed, so it is refused, unless the client asks to be
told in the answer that it was not applied.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Protocol

from lmstack.core import (
    Delta,
    InputError,
    ModelInfo,
    Request,
    SamplingParams,
    Timings,
    UnsupportedError,
    Usage,
)
from lmstack.rag.answer.answer import (
    Answer,
    AnswerDone,
    OutcomeKnown,
    PassagesFound,
    TextDelta,
)
from lmstack.rag.answer.answerer import Answerer
from lmstack.rag.answer.writing import passage_texts
from lmstack.rag.retrieve.rewriting import Turn, turns_of

__all__ = ["AnswerTokenizer", "AnswerTokens", "GroundedModel"]


class _Encoded(Protocol):
    @property
    def offsets(self) -> tuple[tuple[int, int], ...]: ...


class AnswerTokenizer(Protocol):
    """The part of `text.Tokenizer` that counting needs."""

    def encode_batch(
        self, texts: Sequence[str], *, special: bool = True, add_special_tokens: bool = True
    ) -> Sequence[_Encoded]: ...


class AnswerTokens:
    """Counts one answer. ``limit``: its ``max_tokens``, None for no limit. Text is counted as it
    comes, piece by piece, so that what was sent never has to be taken back."""

    def __init__(self, tokenizer: AnswerTokenizer, limit: int | None) -> None:
        self._tokenizer = tokenizer
        self._limit = limit
        self._prompt = 0
        self._answer = 0
        self.cut = False

    def read(self, texts: Sequence[str]) -> None:
        """Count ``texts`` as the prompt."""
        self._prompt += sum(len(encoded.offsets) for encoded in self._encoded(texts))

    def within(self, text: str) -> str:
        """As much of ``text`` as the limit leaves room for, in whole characters. Nothing after
        the first that had to be cut."""
        if self.cut:
            return ""
        offsets = self._encoded([text])[0].offsets
        room = len(offsets) if self._limit is None else self._limit - self._answer
        if len(offsets) <= room:
            self._answer += len(offsets)
            return text
        self.cut = True
        self._answer += room
        return text[: offsets[room][0]]

    @property
    def usage(self) -> Usage:
        return Usage(self._prompt, self._answer)

    def _encoded(self, texts: Sequence[str]) -> Sequence[_Encoded]:
        return self._tokenizer.encode_batch(texts, special=False, add_special_tokens=False)


# Before what is shown where nothing is certain to answer.
CLOSEST = "Closest in the documents, and it may not answer:\n\n"
# Sampling parameters that mean here what they mean elsewhere. With a seed the same question gets
# the same answer; it gets that without one, too.
HONOURED = ("max_tokens", "seed", "priority")
# Of what is drawn: a quotation is the same with any of them.
OF_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p")
NOT_APPLIED = (
    "\n\nNot applied: the system message. This answer is quoted from the documents as they stand."
)


class GroundedModel:
    """A `ChatModel` that answers from an index. ``list_sources``: the quotes follow the text,
    for clients that show nothing but text.

    ``tokenizer`` is that of the answerer's model. With it an answer that is quoted has a length:
    its usage counts the conversation and the passages that were read as the prompt and the text
    with its sources as the completion, and ``max_tokens`` cuts it. Without one ``max_tokens`` is
    refused there, and usage is what the model itself reports. An answer that the model writes is
    counted and cut by the model. ``notes_system``: a quoted answer to a conversation with a system
    message ends by saying that it was not applied, whatever ``max_tokens`` is."""

    def __init__(
        self,
        answerer: Answerer,
        name: str,
        *,
        list_sources: bool = True,
        tokenizer: AnswerTokenizer | None = None,
        notes_system: bool = False,
    ) -> None:
        inner = answerer.model.info
        self.info = ModelInfo(name, inner.digest, inner.context_length)
        self.answerer = answerer
        self._list_sources = list_sources
        self._tokenizer = tokenizer
        self._notes_system = notes_system
        self._writes = answerer.config.strategy == "write"

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self._refuse(request)
        question, history, instructions = _conversation(request)
        tokens = self._tokens(request)
        events = self.answerer.stream(
            question,
            history,
            sampling=_sampling(request.sampling),
            instructions=instructions,
            client=request.client,
            request_id=request.request_id,
        )
        async with aclosing(events):
            async for event in events:
                if isinstance(event, PassagesFound) and tokens is not None:
                    tokens.read([text for _, text in passage_texts(event.read)])
                elif isinstance(event, OutcomeKnown) and event.outcome == "closest":
                    yield Delta(_within(tokens, CLOSEST))
                elif isinstance(event, TextDelta):
                    yield Delta(_within(tokens, event.text), digest=event.digest)
                elif isinstance(event, AnswerDone):
                    for delta in self._end(event.answer, tokens, bool(instructions)):
                        yield delta

    def _end(
        self, answer: Answer, tokens: AnswerTokens | None, has_instructions: bool
    ) -> list[Delta]:
        """What follows the text: its sources, why it ended, what it took."""
        sources = _sources(answer) if self._list_sources and answer.citations else ""
        if answer.unread:
            sources = f"\n\nNot read, for there are too many: {answer.unread} passages.{sources}"
        listed = _within(tokens, sources)
        cut = answer.truncated or (tokens is not None and tokens.cut)
        usage = answer.usage if tokens is None else tokens.usage
        timings = Timings(answer.timings.first_token_s, answer.timings.total_s)
        digest = answer.model.digest
        if has_instructions and not self._writes:
            listed += NOT_APPLIED
        return [
            *([Delta(listed, digest=digest)] if listed else []),
            Delta(finish_reason="length" if cut else "stop", digest=digest),
            Delta(usage=usage, timings=timings, digest=digest),
        ]

    def _tokens(self, request: Request) -> AnswerTokens | None:
        """A count of what is about to be quoted, the conversation in it already."""
        if self._writes or self._tokenizer is None:
            return None
        tokens = AnswerTokens(self._tokenizer, request.sampling.max_tokens)
        asked = [m.content for m in request.messages] or [str(request.prompt)]
        tokens.read(asked)
        return tokens

    def _refuse(self, request: Request) -> None:
        for name in _settings(request):
            if name not in (*HONOURED, *OF_SAMPLING):
                raise self._unsupported(name, f"{name} cannot be used")
        for number, message in enumerate(request.messages):
            if message.name is not None:
                raise self._unsupported(f"messages.{number}.name", "names are not used")
            if message.tool_calls or message.role == "tool":
                what = "calls of tools and their results are not used"
                raise self._unsupported(f"messages.{number}", what)
            if message.role == "system" and not (self._writes or self._notes_system):
                error = self._unsupported(
                    f"messages.{number}.role", "system messages cannot be followed"
                )
                error.hint = (
                    '"answers": "write" follows it, "system": "note" says in the answer that it was'
                    f" not applied; or {error.hint}"
                )
                raise error
        countable = self._writes or self._tokenizer is not None
        if request.sampling.max_tokens is not None and not countable:
            raise UnsupportedError(
                "max_tokens cannot be kept: the tokenizer of the language model is not known here",
                hint="leave max_tokens out on /v1/chat/completions (/v1/completions has a default)",
                param="max_tokens",
            )

    def _unsupported(self, param: str, what: str) -> UnsupportedError:
        how = "their sentences are checked" if self._writes else "their sentences are quoted"
        inner = self.answerer.model.info.name
        return UnsupportedError(
            f"{what} in answers from documents ({how})",
            hint=f"leave it out, or ask the language model itself ({inner})",
            param=param,
        )


def _within(tokens: AnswerTokens | None, text: str) -> str:
    return text if tokens is None else tokens.within(text)


def _sampling(asked: SamplingParams) -> SamplingParams:
    """Greedy where nothing was asked for, unlike the API's default temperature of 1."""
    neutral = asked.temperature == 1.0 and asked.seed is None
    return asked.replace(temperature=0.0) if neutral else asked


def _settings(request: Request) -> list[str]:
    """The settings in ``request`` that ask for something."""
    default, sampling = SamplingParams(), request.sampling
    asked = {"response_format": request.grammar is not None, "echo": request.echo}
    asked["tools"] = bool(request.tools)
    asked |= {
        f.name: getattr(sampling, f.name) != getattr(default, f.name)
        for f in dataclasses.fields(default)
    }
    return [name for name, given in asked.items() if given]


def _conversation(request: Request) -> tuple[str, list[Turn], str]:
    if request.prompt is not None:
        if not isinstance(request.prompt, str):
            raise UnsupportedError(
                "answers from documents need the question as text, not as token ids",
                hint="send messages, or the prompt as text",
                param="prompt",
            )
        return request.prompt, [], ""
    turns = turns_of(request.messages)
    if not turns or turns[-1][1]:
        raise InputError(
            "the last message is not a question of the user",
            hint="end the conversation with a message of the role user",
            param="messages",
        )
    system = [message.content for message in request.messages if message.role == "system"]
    return turns[-1][0], turns[:-1], "\n\n".join(system)


def _sources(answer: Answer) -> str:
    lines = [
        f'[{c.id}] {c.path} ({c.start}-{c.end}): "{" ".join(c.point.split())}"'
        for c in answer.citations
    ]
    return "\n\nSources:\n" + "\n".join(lines)
