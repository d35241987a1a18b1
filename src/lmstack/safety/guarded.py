"""A model behind its guards: sizes, rates, checks on the text, and an audit record of it all.

In order: the request's size, the client's rate (the most it can use is reserved), the guards on
its text, the audit record ``accepted``; only then is the model asked. At the end the budget is
settled and ``finished``, ``cancelled`` or ``failed`` is recorded; the last event of a stream, the
one with the usage, is held back until that record is written.

It fails closed: a guard that raises refuses (`GuardError`), a log that cannot be written refuses
(`StoreError`). Text is not logged, only its SHA-256 and length, unless asked for.

Does not cover checks on text on its way out.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
import logging
import traceback
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any

from lmstack.core import ChatModel, Delta, GuardError, LmstackError, ModelInfo, Request
from lmstack.safety.audit import AuditLog
from lmstack.safety.guards import GUARDS, Guard, guards_named
from lmstack.safety.limits import (
    MAX_LABEL,
    Limits,
    RateLimiter,
    Reservation,
    cap_output,
    check_size,
    most_tokens,
)
from lmstack.safety.recorder import (
    RecordedAnswer,
    Recorder,
    RefusalThrottle,
    accepted_record,
    request_record,
)
from lmstack.safety.traffic import ArmedModel

__all__ = ["GuardedModel"]

logger = logging.getLogger(__name__)


class GuardedModel:
    """Wraps ``model``; is a `ChatModel` itself.

    ``guards``: names from `GUARDS`, or a mapping of names to functions of your own. ``audit``:
    None keeps no log. ``limiter``: share one between models so that a client has one budget;
    by default made from ``limits``. ``count_tokens``: exact length of a request's prompt, if
    somebody knows it; makes reservations and the output cap exact. ``keep_content``: also log
    the text of requests and answers.
    """

    def __init__(
        self,
        model: ChatModel,
        *,
        limits: Limits | None = None,
        guards: Iterable[str] | Mapping[str, Guard] = tuple(GUARDS),
        audit: AuditLog | None = None,
        limiter: RateLimiter | None = None,
        count_tokens: Callable[[Request], int] | None = None,
        keep_content: bool = False,
    ) -> None:
        self._model = model
        self._limits = limits or Limits()
        self._guards = dict(guards) if isinstance(guards, Mapping) else guards_named(guards)
        self._limiter = limiter or RateLimiter(self._limits)
        self._count_tokens = count_tokens
        self._keep_content = keep_content
        self._recorder = Recorder(audit)
        self._refusals = RefusalThrottle()

    def around(self, model: ChatModel) -> GuardedModel:
        """The same guards, limits, counts and log around another ``model``, which a
        ``count_tokens`` has to suit as well. What this one has begun it ends with its own."""
        other = copy.copy(self)
        other._model = model
        return other

    @property
    def info(self) -> ModelInfo:
        return self._model.info

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        if not request.request_id:
            request = dataclasses.replace(request, request_id=uuid.uuid4().hex)
        request, reservation = await self._admit(request)
        arm = self._model.arm_of(request) if isinstance(self._model, ArmedModel) else None
        run = RecordedAnswer(request, self.info, keep_content=self._keep_content, arm=arm)
        await self._accept(run, reservation)
        inner: AsyncIterator[Delta] | None = None
        held: Delta | None = None
        try:
            run.asked = True
            inner = self._model.stream(request)
            async for delta in inner:
                run.see(delta)
                if held is not None:
                    yield held
                held = delta if delta.usage is not None else None
                if held is None:
                    yield delta
        except Exception as error:
            reservation.settle(run.spent(failed=True).total_tokens)
            await _close(inner)
            await self._recorder.write(run.record("failed", error))
            raise
        except BaseException:  # cancelled, or closed by a client that went away
            reservation.settle(run.spent().total_tokens)
            try:
                await _close(inner)
            finally:
                self._record_cancelled(run)
            raise
        reservation.settle(run.spent().total_tokens)
        await self._recorder.write(run.record("finished"))
        if held is not None:
            yield held

    async def _admit(self, request: Request) -> tuple[Request, Reservation]:
        """The request as it will be asked, and what it may use; or the refusal, recorded."""
        reservation: Reservation | None = None
        try:
            check_size(request, self._limits)
            request, most = self._bounded(request)
            reservation = self._limiter.reserve(request.client, most)
            self._check_text(request)
        except Exception as error:
            if reservation is not None:
                reservation.settle(0)
            refusal = error if isinstance(error, LmstackError) else _failed_guard(error)
            await self._record_refusal(request, refusal)
            if refusal is error:
                raise
            raise refusal from error
        return request, reservation

    def _bounded(self, request: Request) -> tuple[Request, int]:
        """The request with the output cap filled in, and the most tokens it can use."""
        budgeted = self._limits.tokens_per_minute is not None
        capped = self._limits.max_output_tokens is not None
        count = self._count_tokens
        prompt_tokens = count(request) if count and (budgeted or capped) else None
        info = self.info
        request = cap_output(request, self._limits, prompt_tokens, info.context_length)
        return request, most_tokens(request, info, prompt_tokens) if budgeted else 0

    def _check_text(self, request: Request) -> None:
        texts = list(_texts(request))
        for name, guard in self._guards.items():
            for where, text in texts:
                findings = guard(text)
                if findings:
                    first = findings[0]
                    raise GuardError(
                        f"{where} holds {first.what} at character {first.start}",
                        hint=f"remove it and ask again (found by the guard {name})",
                        param=where,
                    )

    async def _accept(self, run: RecordedAnswer, reservation: Reservation) -> None:
        """Record that the model is about to be asked."""
        guards, keeps = list(self._guards), self._keep_content
        record = accepted_record(run.request, run.info, guards, keeps, run.arm)
        try:
            await self._recorder.write(self._refusals.counted(record))
        except BaseException as error:
            reservation.settle(0)
            if isinstance(error, asyncio.CancelledError):  # the record is written all the same
                self._record_cancelled(run)
            raise

    async def _record_refusal(self, request: Request, refusal: LmstackError) -> None:
        if not self._refusals.passes(request.client, refusal.code):
            return
        client, id_ = request.client[:MAX_LABEL], request.request_id[:MAX_LABEL]
        request = dataclasses.replace(request, client=client, request_id=id_)
        record = request_record("refused", request, self.info)
        record["error"] = {"type": type(refusal).__name__, "code": refusal.code}
        record["param"] = refusal.param
        await self._recorder.write(self._refusals.counted(record))

    def _record_cancelled(self, run: RecordedAnswer) -> None:
        """Nobody is left to hear of an error: the log keeps the record and writes nothing else
        before it, so the next request is refused instead."""
        try:
            self._recorder.write_now(run.record("cancelled"))
        except Exception as error:
            logger.error("the end of request %s: %s", run.request.request_id, error)


def _texts(request: Request) -> Iterator[tuple[str, str]]:
    """Every text in ``request`` that the model reads, with the name of its field: results and
    descriptions of tools are what somebody else wrote."""
    if isinstance(request.prompt, str):
        yield "prompt", request.prompt
    for i, message in enumerate(request.messages):
        yield f"messages[{i}]", message.content
        if message.name:
            yield f"messages[{i}].name", message.name
        if message.tool_call_id:
            yield f"messages[{i}].tool_call_id", message.tool_call_id
        for call in message.tool_calls:
            for text in (call.id, call.name, call.arguments, *_decoded(call.arguments)):
                yield f"messages[{i}].tool_calls", text
    for i, tool in enumerate(request.tools):
        for text in (tool.name, tool.description, *_strings(tool.parameters)):
            yield f"tools[{i}]", text


def _decoded(arguments: str) -> Iterator[str]:
    """The strings in ``arguments``, in which escapes may hide what the model then reads."""
    try:
        value = json.loads(arguments)
    except ValueError:
        return
    yield from _strings(value)


def _strings(value: Any) -> Iterator[str]:
    """Names and texts in what JSON can hold."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def _failed_guard(error: Exception) -> GuardError:
    """Says where, not what: the error's message may quote the text."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    logger.error("a guard raised %s at %s:%s", type(error).__name__, where.filename, where.lineno)
    return GuardError(
        f"a guard failed ({type(error).__name__}), so the request is refused",
        hint="this is a fault of the guard, not of the request; the server's log says where",
    )


async def _close(stream: AsyncIterator[Delta] | None) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
