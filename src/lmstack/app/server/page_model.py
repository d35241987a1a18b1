"""The page's answers as a chat model, so that the guards of any model stand before them too.

An answer that is quoted from the documents never asks the language model; guarding that model
alone would leave such answers without a limit and without an audit record. Does not cover what
the page shows of an event (`page.answer_events`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from lmstack.core import Delta, InputError, ModelInfo, Request
from lmstack.rag import AnswerDone, Answerer, AnswerEvent, AnswerWishes, TextDelta
from lmstack.rag.filters import Filter
from lmstack.rag.retrieve.followup import Turn

__all__ = ["PageModel", "Question", "Told"]


@dataclass(frozen=True, slots=True)
class Question(Request):
    """``prompt`` is the question. ``past`` is not for the guards to refuse: answers in it may
    quote whatever a document holds. ``where`` narrows what it is answered from."""

    past: tuple[Turn, ...] = ()
    where: Filter | None = None


@dataclass(frozen=True, slots=True)
class Told(Delta):
    """A delta that carries the event it stands for."""

    event: AnswerEvent | None = None


class PageModel:
    """A `ChatModel` that is asked with a `Question` and answers with `Told`. ``answerers`` gives
    each client, with a filter or without, the one that answers it as it wishes."""

    def __init__(
        self,
        inner: ModelInfo,
        answerers: Callable[[str, Filter | None, AnswerWishes], Answerer],
        name: str,
    ) -> None:
        self.info = ModelInfo(name, inner.digest, inner.context_length)
        self._answerers = answerers

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        if not isinstance(request, Question) or not isinstance(request.prompt, str):
            raise InputError("the page's answers take a Question")
        wishes = AnswerWishes.from_mapping(request.wishes)
        answerer = self._answerers(request.client, request.where, wishes)
        events = answerer.stream(
            request.prompt, request.past, client=request.client, request_id=request.request_id
        )
        async with aclosing(events):
            async for event in events:
                if isinstance(event, AnswerDone):
                    usage = event.answer.usage
                    yield Told(finish_reason="stop", usage=usage, event=event)
                else:
                    text = event.text if isinstance(event, TextDelta) else ""
                    yield Told(text, event=event)
