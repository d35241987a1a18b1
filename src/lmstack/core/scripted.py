"""A model that says what it was told to say: the fake that ships, for tests without weights."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence

from lmstack.core.errors import InputError, LmstackError, UnsupportedError
from lmstack.core.types import (
    Delta,
    FinishReason,
    Message,
    ModelInfo,
    Request,
    Timings,
    TokenLogprob,
    ToolCallDelta,
)
from lmstack.core.usage import Usage

__all__ = ["ScriptedModel"]

Said = str | Message
Reply = Said | LmstackError | Callable[[Request], Said]


class ScriptedModel:
    """Replies in turn from ``replies`` (the last one repeats); a `Message` has the calls of tools
    in it, a callable sees the request, an error is raised before the first event. A token is a
    word with the white space before it, and a call is one.
    It honours ``max_tokens``, ``n`` and ``logprobs`` and no other parameter, nor a grammar; it
    cannot score a prompt (``echo`` with ``logprobs``).

    ``requests`` records what was asked; ``open_streams`` counts streams not yet closed, so a
    test can see that a cancelled stream was let go."""

    def __init__(
        self,
        replies: Sequence[Reply] = ("ok",),
        *,
        name: str = "scripted",
        delay_s: float = 0.0,
        context_length: int = 8192,
    ) -> None:
        if not replies:
            raise InputError("a ScriptedModel needs at least one reply", param="replies")
        self.info = ModelInfo(name, "sha256:" + "0" * 64, context_length)
        self.requests: list[Request] = []
        self.open_streams = 0
        self._replies, self._delay_s = list(replies), delay_s

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        if request.echo and request.sampling.logprobs is not None:
            raise UnsupportedError(
                "a scripted model has no log-probabilities of a prompt",
                hint="leave out echo",
                param="echo",
            )
        reply = self._replies[min(len(self.requests), len(self._replies) - 1)]
        self.requests.append(request)
        if isinstance(reply, LmstackError):
            raise reply
        said = reply(request) if callable(reply) else reply
        message = Message("assistant", said) if isinstance(said, str) else said
        words = re.findall(r"\s*\S+|\s+$", message.content)
        limit = request.sampling.max_tokens
        kept = words if limit is None else words[:limit]
        loop = asyncio.get_running_loop()
        start = first = loop.time()
        self.open_streams += 1
        try:
            for index in range(request.sampling.n):
                for word in kept:
                    if self._delay_s:
                        await asyncio.sleep(self._delay_s)
                    if first == start:
                        first = loop.time()
                    yield Delta(word, index, self._logprobs(request, word))
                for number, call in enumerate(message.tool_calls if kept == words else ()):
                    part = ToolCallDelta(number, call.id, call.name, call.arguments)
                    yield Delta("", index, tool_call=part)
                ended: FinishReason = "tool_calls" if message.tool_calls else "stop"
                yield Delta("", index, finish_reason="length" if kept != words else ended)
            prompt = request.prompt
            if prompt is None:
                prompt = " ".join(message.content for message in request.messages)
            asked = len(prompt.split() if isinstance(prompt, str) else prompt)
            yield Delta(
                usage=Usage(asked, len(kept) * request.sampling.n),
                timings=Timings(first - start, loop.time() - start),
            )
        finally:
            self.open_streams -= 1

    @staticmethod
    def _logprobs(request: Request, word: str) -> tuple[TokenLogprob, ...]:
        if request.sampling.logprobs is None:
            return ()
        chosen = TokenLogprob(word, word.encode(), -0.5)
        top = (chosen,) * min(request.sampling.logprobs, 1)
        return (TokenLogprob(word, word.encode(), -0.5, top=top),)
