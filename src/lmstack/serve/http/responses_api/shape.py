"""From the parts of an answer to a response of OpenAI's API and to its events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from lmstack.core import FinishReason, LmstackError, Request, TokenLogprob, Usage
from lmstack.serve.http.errors import error_body
from lmstack.serve.http.parts import CallPart, PartChange, PartShape, TextAnswerPart
from lmstack.serve.http.responses import ChatTokenLogprob, chat_logprobs
from lmstack.serve.http.responses_api.answer import (
    ArgumentsDelta,
    ArgumentsDone,
    ContentPart,
    FunctionCallItem,
    IncompleteDetails,
    InputTokens,
    ItemEvent,
    OutputItem,
    OutputMessageItem,
    OutputText,
    OutputTextDelta,
    OutputTokens,
    ResponseAnswer,
    ResponseFailure,
    ResponseUsage,
    StateEvent,
    Status,
    TextDone,
)
from lmstack.serve.http.responses_api.body import ResponsesBody

__all__ = ["ResponseShape"]

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

    def _output(self, part: TextAnswerPart | CallPart) -> OutputItem:
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

    def _item(self, step: str, part: TextAnswerPart | CallPart, item: OutputItem) -> ItemEvent:
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
