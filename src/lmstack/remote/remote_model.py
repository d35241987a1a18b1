"""What remote models share: a client for each stream, and the SDK's errors in our words.

The two providers are in `providers`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import math
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any, ClassVar, cast

from lmstack.core import (
    AuthError,
    ContextLengthError,
    Delta,
    FinishReason,
    InputError,
    LmstackError,
    ModelInfo,
    NotFoundError,
    OverloadedError,
    RemoteError,
    Request,
    SamplingParams,
    Timings,
    UnsupportedError,
    Usage,
    require,
    shown,
)

log = logging.getLogger("lmstack.remote")

__all__ = ["NEUTRAL", "IncomingAnswer", "RemoteModel", "refuse", "schema_of"]

# Sampling parameters and the value at which each does nothing.
NEUTRAL: dict[str, Any] = {
    name: value
    for name, value in dataclasses.asdict(SamplingParams()).items()
    if name not in ("max_tokens", "temperature", "top_p", "stop")
}


class IncomingAnswer(ABC):
    """An answer while it arrives: SDK events in, deltas out."""

    reasons: ClassVar[dict[str, FinishReason]]

    def __init__(self, model: str, choices: int) -> None:
        self.model = model
        self.unfinished = set(range(choices))
        self.usage: Usage | None = None

    @abstractmethod
    def read(self, event: Any) -> list[Delta]: ...

    def understood(self, event: Any) -> list[Delta]:
        """`read`, where an event that lacks what the API promises is the provider's fault. The
        SDKs do not check what servers send."""
        try:
            return self.read(event)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise RemoteError(
                f"{self.model} sent an event that is not of its API: {type(error).__name__}",
                hint="check that base_url is a server with this API",
            ) from error

    def finish(self, index: int, reason: str) -> FinishReason:
        if reason not in self.reasons:
            raise RemoteError(
                f"{self.model} ended with the reason {shown(reason)}, which is not known here",
                hint="update lmstack, or try another model",
            )
        self.unfinished.discard(index)
        return self.reasons[reason]

    def check_ended(self) -> None:
        if self.unfinished:
            raise RemoteError(
                f"the answer of {self.model} broke off before its end", hint="try the request again"
            )


class RemoteModel(ABC):
    """A client per stream, and its errors in our words."""

    sdk: ClassVar[str]
    client: ClassVar[str]
    key_variable: ClassVar[str]
    default_url: ClassVar[str]
    answer: ClassVar[type[IncomingAnswer]]

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        context_length: int | None = None,
        timeout_s: float = 600.0,
        max_retries: int = 2,
        may_draw: bool = False,
    ) -> None:
        """``name``: the provider's name of the model. ``timeout_s``: longest wait for the next
        piece of an answer. ``max_retries``: tries again before the first event, by the SDK.
        ``may_draw``: a model that refuses the temperature 0, as some that reason do, is asked
        without one from then on, and that is logged; unless so, its refusal is an `InputError`,
        since an evaluation that says 0 would not be what it says."""
        self.info = ModelInfo(name, None, context_length)
        self.base_url = base_url or self.default_url
        self._retries, self._timeout_s, self._refuses_greedy = max_retries, timeout_s, False
        self._may_draw = may_draw
        self._make_client = getattr(require(self.sdk, "remote"), self.client)
        self.__key = os.environ.get(self.key_variable, "")
        if not self.__key:
            raise AuthError(
                f"{self.key_variable} is not set",
                hint=f"export {self.key_variable}=... before the start"
                + (" (any text, if the server takes no key)" if base_url else ""),
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.info.name!r}, base_url={self.base_url!r})"

    def __getstate__(self) -> Any:
        raise InputError(f"{self!r} cannot be pickled or copied: it holds a key")

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        drawn = dataclasses.replace(request, sampling=request.sampling.replace(temperature=1.0))
        greedy = request.sampling.temperature == 0 and not self._refuses_greedy
        body = self._body(request if greedy or request.sampling.temperature else drawn)
        loop = asyncio.get_running_loop()
        start, first = loop.time(), None
        answer = self.answer(self.info.name, request.sampling.n)
        options = {"base_url": self.base_url, "timeout": self._timeout_s}
        options |= {"api_key": self.__key, "max_retries": self._retries}
        async with self._make_client(**options) as client:
            events = None
            try:
                try:
                    events = await self._sent(self._open(client, body))
                except InputError as error:
                    if not greedy or error.param != "temperature":
                        raise
                    if not self._may_draw:
                        error.hint = (
                            "it only draws its answers, so that they differ from time to time: ask"
                            " at the temperature 1, or another model"
                        )
                        raise
                    log.warning(
                        "%s refuses the temperature 0: from now on its answers are drawn, and"
                        " differ from time to time",
                        self.info.name,
                    )
                    self._refuses_greedy, body = True, self._body(drawn)
                    events = await self._sent(self._open(client, body))
                iterator = aiter(events)
                while (event := await self._sent(anext(iterator, None))) is not None:
                    for delta in answer.understood(event):
                        first = loop.time() if first is None else first
                        yield delta
            finally:
                if events is not None:
                    await events.close()
        answer.check_ended()
        now = loop.time()
        yield Delta(usage=answer.usage, timings=Timings((first or now) - start, now - start))

    async def _sent(self, call: Any) -> Any:
        """The result of an SDK call. The SDK's error is not chained: it holds the request, and
        some providers' messages quote the key."""
        try:
            return await call
        except Exception as error:
            mapped = _mapped(error, self, secret=self.__key)
        raise mapped

    @abstractmethod
    def _body(self, request: Request) -> dict[str, Any]: ...

    @abstractmethod
    def _open(self, client: Any, body: dict[str, Any]) -> Any: ...


def refuse(request: Request, model: str, fields: tuple[str, ...]) -> None:
    """Refuse what the provider has no field for."""
    asked: dict[str, bool] = {
        name: getattr(request.sampling, name) != NEUTRAL[name] for name in fields
    }
    asked |= {"prompt": request.prompt is not None, "echo": request.echo}
    for name, is_asked in asked.items():
        if is_asked:
            raise UnsupportedError(
                f"{model} has no parameter {name}", hint=f"leave {name} out", param=name
            )


def schema_of(request: Request, model: str) -> Any:
    assert request.grammar is not None
    if request.grammar.kind != "json_schema":
        raise UnsupportedError(
            f"{model} cannot be held to a grammar of the kind {request.grammar.kind}",
            hint="use json_schema, or a local model",
            param="response_format",
        )
    try:
        return json.loads(request.grammar.source)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the JSON Schema is not JSON: {error}", param="response_format") from None


def _mapped(error: Exception, model: RemoteModel, *, secret: str) -> LmstackError:
    """An SDK's error as one of ours, without the key even if the provider quoted it."""
    status = getattr(error, "status_code", None)
    body = getattr(error, "body", None)
    body = body.get("error", body) if isinstance(body, dict) else {}
    body = body if isinstance(body, dict) else {}
    kinds = {str(body.get("type")), str(body.get("code"))}
    said = str(body.get("message") or error).replace(secret, "***")
    name = model.info.name
    if status in (401, 403) or kinds & {"authentication_error", "permission_error"}:
        return AuthError(
            f"{model.base_url} refused the key in {model.key_variable}",
            hint="check that it is right and may use this model",
        )
    if status in (429, 503, 529) or kinds & {"rate_limit_error", "overloaded_error"}:
        wait = _retry_after(error)
        return OverloadedError(
            f"{name} is over a limit: {shown(said, 200)}",
            hint=f"try again in {wait:g} s",
            retry_after_s=wait,
        )
    if status == 404:
        return NotFoundError(
            f"{model.base_url} has no model {name!r}: {shown(said, 200)}",
            hint="check the name, and base_url",
        )
    if status in (400, 413, 422) or "invalid_request_error" in kinds:
        too_long = "context_length_exceeded" in kinds or "too long" in said
        kind = ContextLengthError if too_long else InputError
        param = body.get("param") or ("temperature" if "temperature" in said else None)
        return kind(f"{name} refused the request: {shown(said, 300)}", param=param and str(param))
    what = f"status {status}" if status else type(error).__name__
    return RemoteError(
        f"{model.base_url} failed ({what}): {shown(said, 200)}",
        hint="check the connection and the provider's status, then try again",
    )


def _retry_after(error: Exception) -> float:
    """Seconds from the Retry-After header; 1 without one. A date there is not read."""
    try:
        wait = float(cast(Any, error).response.headers["retry-after"])
    except (AttributeError, KeyError, ValueError):
        return 1.0
    return wait if 0 <= wait < math.inf else 1.0
