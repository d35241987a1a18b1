"""POST /v1/responses: OpenAI's Responses API, stateless, whole or as named events.

Shapes are those of the official SDK. A field that was not set is left out; one set to None is
null.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal

from fastapi import APIRouter, Response
from fastapi import Request as HttpRequest
from pydantic import BaseModel, RootModel

from lmstack.core import FinishReason, LmstackError, Request, TokenLogprob, Usage
from lmstack.serve.http.errors import error_body, in_words_of
from lmstack.serve.http.parts import CallPart, PartChange, PartShape, TextAnswerPart, answered
from lmstack.serve.http.responses import ChatTokenLogprob, Out, chat_logprobs
from lmstack.serve.http.responses_request import NAMES, ResponsesBody, responses_request
from lmstack.serve.http.routes import post
from lmstack.serve.http.state import caller_of, state_of

__all__ = ["router"]

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputText(Out):
    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[ChatTokenLogprob]


class OutputMessageItem(Out):
    id: str
    type: Literal["message"]
    status: Status
    role: Literal["assistant"]
    content: list[OutputText]


class FunctionCallItem(Out):
    id: str
    type: Literal["function_call"]
    status: Status
    call_id: str
    name: str
    arguments: str


AnswerItem = OutputMessageItem | FunctionCallItem


class InputTokens(Out):
    cached_tokens: int
    cache_write_tokens: int


class OutputTokens(Out):
    reasoning_tokens: int


class ResponseUsage(Out):
    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    output_tokens_details: OutputTokens
    total_tokens: int


class ResponseFailure(Out):
    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class IncompleteDetails(Out):
    reason: Literal["max_output_tokens", "content_filter"]


class ResponseAnswer(Out):
    """``temperature`` and ``top_p`` are those that were used. ``system_fingerprint`` is an
    addition: the digest of the weights."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Status
    error: ResponseFailure | None
    incomplete_details: IncompleteDetails | None
    model: str
    output: list[AnswerItem]
    usage: ResponseUsage | None
    instructions: str | None
    max_output_tokens: int | None
    temperature: float
    top_p: float
    top_logprobs: int
    text: dict[str, Any]
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel_tool_calls: bool
    reasoning: dict[str, None]
    metadata: dict[str, str]
    user: str | None
    safety_identifier: str | None
    prompt_cache_key: str | None
    store: Literal[False]
    background: Literal[False]
    previous_response_id: None
    truncation: Literal["disabled"]
    service_tier: Literal["default"]
    system_fingerprint: str | None


class Event(Out):
    sequence_number: int


class StateEvent(Event):
    type: Literal[
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    response: ResponseAnswer


class ItemEvent(Event):
    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: AnswerItem


class ContentEvent(Event):
    item_id: str
    output_index: int


class ContentPart(ContentEvent):
    type: Literal["response.content_part.added", "response.content_part.done"]
    content_index: int
    part: OutputText


class OutputTextDelta(ContentEvent):
    type: Literal["response.output_text.delta"]
    content_index: int
    delta: str
    logprobs: list[ChatTokenLogprob]


class TextDone(ContentEvent):
    type: Literal["response.output_text.done"]
    content_index: int
    text: str
    logprobs: list[ChatTokenLogprob]


class ArgumentsDelta(ContentEvent):
    type: Literal["response.function_call_arguments.delta"]
    delta: str


class ArgumentsDone(ContentEvent):
    type: Literal["response.function_call_arguments.done"]
    name: str
    arguments: str


class ResponseEvent(
    RootModel[
        StateEvent
        | ItemEvent
        | ContentPart
        | OutputTextDelta
        | TextDone
        | ArgumentsDelta
        | ArgumentsDone
    ]
):
    """An event of a stream. The last is response.completed, incomplete or failed."""


INCOMPLETE: dict[FinishReason, IncompleteDetails] = {
    "length": IncompleteDetails(reason="max_output_tokens"),
    "content_filter": IncompleteDetails(reason="content_filter"),
}


class ResponseShape(PartShape):
    """``asked``: what ``body`` became. Every event has the next number."""

    def __init__(self, body: ResponsesBody, asked: Request, digest: str | None) -> None:
        super().__init__()
        self._body, self._asked, self._digest = body, asked, digest
        self._created = int(time.time())
        self._number = -1
        self._failed = False

    def opening(self) -> Iterator[BaseModel]:
        for step in ("created", "in_progress"):
            yield self._state(step, "in_progress")

    def closing(self) -> Iterator[BaseModel]:
        yield self._state(self._status, self._status)

    def whole(self) -> ResponseAnswer:
        return self._answer(self._status)

    def failure(self, error: LmstackError) -> BaseModel:
        """A response that failed, with the items that it had so far."""
        self._failed, status = True, error.http_status
        caller = "rate_limit_exceeded" if status == 429 else "invalid_prompt"
        code: Any = caller if 400 <= status < 500 else "server_error"
        told = ResponseFailure(code=code, message=error_body(error).error.message)
        return StateEvent(
            type="response.failed",
            sequence_number=self._next(),
            response=self._answer("failed", error=told),
        )

    def changed(self, change: PartChange) -> Iterator[BaseModel]:
        part = change.part
        if isinstance(part, CallPart):
            yield from self._call_changed(change.step, part, change.piece)
        else:
            yield from self._text_changed(change, part)

    def _text_changed(self, change: PartChange, part: TextAnswerPart) -> Iterator[BaseModel]:
        place = {**self._place(part), "content_index": 0}
        if change.step == "begin":
            yield self._item("added", part, _message(self._id(part), "in_progress", []))
            added = ContentPart(
                type="response.content_part.added",
                sequence_number=self._next(),
                part=_output_text("", []),
                **place,
            )
            yield added
        elif change.step == "grow":
            yield OutputTextDelta(
                type="response.output_text.delta",
                sequence_number=self._next(),
                delta=change.piece,
                logprobs=_logprobs(change.logprobs),
                **place,
            )
        else:
            text = _output_text(part.text, part.logprobs)
            yield TextDone(
                type="response.output_text.done",
                sequence_number=self._next(),
                text=text.text,
                logprobs=text.logprobs,
                **place,
            )
            yield ContentPart(
                type="response.content_part.done",
                sequence_number=self._next(),
                part=text,
                **place,
            )
            yield self._item("done", part, self._output(part))

    def _call_changed(self, step: str, part: CallPart, piece: str) -> Iterator[BaseModel]:
        place = self._place(part)
        if step == "begin":
            yield self._item("added", part, _call(self._id(part), "in_progress", part, ""))
        elif step == "grow":
            yield ArgumentsDelta(
                type="response.function_call_arguments.delta",
                sequence_number=self._next(),
                delta=piece,
                **place,
            )
        else:
            yield ArgumentsDone(
                type="response.function_call_arguments.done",
                sequence_number=self._next(),
                name=part.name,
                arguments=part.arguments,
                **place,
            )
            yield self._item("done", part, self._output(part))

    @property
    def _status(self) -> Status:
        return "incomplete" if self.parts.finish_reason in INCOMPLETE else "completed"

    def _output(self, part: TextAnswerPart | CallPart) -> AnswerItem:
        """The item of ``part``; only the last can have been cut."""
        status: Status = self._status if part is self.parts.all[-1] else "completed"
        if not part.ended:
            status = "incomplete" if self._failed else "in_progress"
        if isinstance(part, CallPart):
            return _call(self._id(part), status, part, part.arguments)
        return _message(self._id(part), status, [_output_text(part.text, part.logprobs)])

    def _id(self, part: TextAnswerPart | CallPart) -> str:
        prefix = "fc" if isinstance(part, CallPart) else "msg"
        return f"{prefix}_{self._asked.request_id}_{part.number}"

    def _place(self, part: TextAnswerPart | CallPart) -> dict[str, Any]:
        return {"item_id": self._id(part), "output_index": part.number}

    def _item(self, step: str, part: TextAnswerPart | CallPart, item: AnswerItem) -> ItemEvent:
        kind: Any = f"response.output_item.{step}"
        return ItemEvent(
            type=kind, sequence_number=self._next(), output_index=part.number, item=item
        )

    def _state(self, step: str, status: Status) -> StateEvent:
        kind: Any = f"response.{step}"
        return StateEvent(type=kind, sequence_number=self._next(), response=self._answer(status))

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _answer(self, status: Status, error: ResponseFailure | None = None) -> ResponseAnswer:
        reason, over = self.parts.finish_reason, status != "in_progress"
        return ResponseAnswer(
            id=f"resp_{self._asked.request_id}",
            object="response",
            created_at=self._created,
            completed_at=int(time.time()) if status == "completed" else None,
            status=status,
            error=error,
            incomplete_details=INCOMPLETE.get(reason) if reason and over else None,
            output=[self._output(part) for part in self.parts.all],
            usage=_usage(self.parts.usage) if over and error is None else None,
            system_fingerprint=self.parts.digest or self._digest,
            **_echoed(self._body, self._asked),
        )


def _echoed(body: ResponsesBody, asked: Request) -> dict[str, Any]:
    """What of the request the response repeats."""
    text = body.text.model_dump(by_alias=True, exclude_unset=True) if body.text else {}
    choice = body.tool_choice or "auto"
    return {
        "model": body.model,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "temperature": asked.sampling.temperature,
        "top_p": asked.sampling.top_p,
        "top_logprobs": body.top_logprobs or 0,
        "text": {"format": {"type": "text"}, **{k: v for k, v in text.items() if v is not None}},
        "tools": [t.model_dump(by_alias=True, exclude_unset=True) for t in body.tools or ()],
        "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
        "parallel_tool_calls": asked.parallel_tool_calls,
        "reasoning": {"effort": None, "summary": None},
        "metadata": body.metadata or {},
        "user": body.user,
        "safety_identifier": body.safety_identifier,
        "prompt_cache_key": body.prompt_cache_key,
        "store": False,
        "background": False,
        "previous_response_id": None,
        "truncation": "disabled",
        "service_tier": "default",
    }


def _usage(usage: Usage) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokens(cached_tokens=usage.cached_tokens, cache_write_tokens=0),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokens(reasoning_tokens=0),
        total_tokens=usage.total_tokens,
    )


def _message(id: str, status: Status, content: list[OutputText]) -> OutputMessageItem:
    return OutputMessageItem(
        id=id, type="message", status=status, role="assistant", content=content
    )


def _call(id: str, status: Status, part: CallPart, arguments: str) -> FunctionCallItem:
    return FunctionCallItem(
        id=id,
        type="function_call",
        status=status,
        call_id=part.id,
        name=part.name,
        arguments=arguments,
    )


def _output_text(text: str, logprobs: list[TokenLogprob]) -> OutputText:
    listed = _logprobs(tuple(logprobs))
    return OutputText(type="output_text", text=text, annotations=[], logprobs=listed)


def _logprobs(tokens: tuple[TokenLogprob, ...]) -> list[ChatTokenLogprob]:
    return chat_logprobs(tokens).content


router = APIRouter()


@post(router, "/v1/responses", ResponsesBody, ResponseAnswer, ResponseEvent, named_events=True)
async def responses(request: HttpRequest, body: ResponsesBody) -> BaseModel | Response:
    """Answer a conversation, whole or as named server-sent events. Nothing is kept."""
    model = state_of(request).model(body.model)
    with in_words_of(NAMES):
        asked = responses_request(body, caller_of(request), model.info.default_sampling)
        shape = ResponseShape(body, asked, model.info.digest)
        return await answered(request, model, asked, shape, streamed=bool(body.stream))
