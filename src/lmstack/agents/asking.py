"""Asking the model for a turn: what comes of it is a step, an answer or an error alike.

Does not cover what is asked (`deciding`) or what the turn says (`protocols`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from lmstack.agents.calling import clean_text
from lmstack.agents.deciding import Ask
from lmstack.agents.steps import ModelStep, RequestDigests
from lmstack.core import (
    ChatModel,
    Choice,
    Delta,
    LmstackError,
    ModelInfo,
    Request,
    Usage,
    complete,
)
from lmstack.safety.limits import estimated_tokens, prompt_bytes

__all__ = ["ModelTurn"]


class ModelTurn:
    """``request``: that of ``ask``, with who asks. ``listener`` is given the text as it comes."""

    def __init__(
        self, model: ChatModel, ask: Ask, request: Request, listener: Callable[[str], None]
    ) -> None:
        self._model, self._request = _Heard(model, listener), request
        self._began = time.monotonic()
        self._step = ModelStep(
            "",
            model=model.info.name,
            digest=model.info.digest,
            asked=RequestDigests.of(ask.request),
            is_last=ask.is_last,
            is_cut=ask.is_cut,
        )
        self.first_token_s = 0.0

    async def run(self, seconds: float | None) -> tuple[ModelStep, Choice | None]:
        """The step, without the calls in it, and what the model said; None if it failed or the
        ``seconds`` were over."""
        timer = asyncio.timeout(seconds)
        try:
            async with timer:
                completion = await complete(self._model, self._request)
        except LmstackError as error:
            return self.broken(str(error), error.code), None
        except TimeoutError:
            if not timer.expired():  # one of the model's own, which it should not let out
                raise
            return self.broken("the time for this turn was used up", "timeout"), None
        choice = completion.choices[0]
        choice = replace(choice, text=clean_text(choice.text))
        usage = completion.usage
        step = replace(
            self._step,
            text=choice.text,
            usage=usage if usage.total_tokens else self._estimate(choice.text),
            seconds=time.monotonic() - self._began,
            model=completion.model.name,
            digest=completion.model.digest,
            finish_reason=choice.finish_reason,
        )
        self.first_token_s = completion.timings.first_token_s
        return step, choice

    def broken(self, error: str, code: str) -> ModelStep:
        """The step of a turn that came to nothing, with what had come by then."""
        text = clean_text(self._model.text)
        # Where nothing came, a provider that refused or failed has charged nothing either.
        is_free = not text and code not in ("timeout", "cancelled")
        return replace(
            self._step,
            text=text,
            usage=Usage() if is_free else self._estimate(text),
            seconds=time.monotonic() - self._began,
            error=clean_text(error),
            error_code=code,
        )

    def _estimate(self, text: str) -> Usage:
        """Where the model does not say what it used."""
        written = estimated_tokens(len(text.encode()))
        return Usage(estimated_tokens(prompt_bytes(self._request)), written)


class _Heard:
    """A `ChatModel` that keeps the text which has come so far."""

    def __init__(self, model: ChatModel, listener: Callable[[str], None]) -> None:
        self.text = ""
        self._model, self._listener = model, listener

    @property
    def info(self) -> ModelInfo:
        return self._model.info

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        deltas = self._model.stream(request)
        close = getattr(deltas, "aclose", None)
        try:
            async for delta in deltas:
                self.text += delta.text
                self._listener(delta.text)
                yield delta
        finally:
            if close is not None:
                await close()
