"""Two versions of a model behind one name: a canary answers a share of the conversations.

    CanaryModel   the candidate answers its share, the stable version the rest and what it fails at
    Canary        the share, and whether it was stopped; several models may have the same
    Arm           which version answered, and as what
    Observation   what came of one answer

A conversation stays with one version: a hash of who asks and of how it begins decides. An error of
the candidate before its first token, or none within `Canary.first_token_s`, is answered by the
stable version; after that it is passed on. Every `Delta` has the digest of the version that wrote
it. What is observed goes to a function, which can neither delay nor fail an answer. Not covered:
answers that nobody waits for (`shadow`), statistics of what is observed, and where it is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Protocol, runtime_checkable

from lmstack.core import (
    ChatModel,
    Delta,
    LmstackError,
    ModelInfo,
    OverloadedError,
    Request,
    Usage,
    check_range,
)

__all__ = [
    "AnswerWatch",
    "Arm",
    "ArmDelta",
    "ArmName",
    "ArmedModel",
    "Canary",
    "CanaryModel",
    "Observation",
    "Observer",
    "Outcome",
    "arm_of",
    "by_conversation",
    "by_request",
    "close_stream",
    "in_share",
    "opened",
]

logger = logging.getLogger(__name__)

ArmName = Literal["stable", "canary", "fallback", "shadow"]
Outcome = Literal["answered", "failed", "refused", "cancelled"]
# Of an answer, kept until it has been observed.
MAX_TEXT = 100_000
_FIELDS = tuple(each.name for each in fields(Delta))


@dataclass(frozen=True, slots=True)
class Arm:
    """``fallback`` is the stable version where the candidate failed. ``digest``: of ``model``, or
    ``model:NAME`` of one that has none, as models elsewhere."""

    name: ArmName
    model: str
    digest: str


def arm_of(name: ArmName, info: ModelInfo) -> Arm:
    return Arm(name, info.name, info.digest or f"model:{info.name}")


@dataclass(frozen=True, slots=True)
class ArmDelta(Delta):
    """A delta that says which version wrote it."""

    arm: Arm | None = None


@runtime_checkable
class ArmedModel(Protocol):
    """A model with several versions. ``arm_of``: the one that is asked first."""

    def arm_of(self, request: Request) -> Arm: ...


@dataclass(frozen=True, slots=True)
class Observation:
    """``number``: in the order in which requests came. ``share``: the probability with which the
    candidate was chosen. ``unit``: a hash of the conversation. ``outcome``: ``failed`` is the
    version's fault, ``refused`` (a limit, a field) the request's. ``error``: the name of its type.
    ``text``: of the first choice."""

    number: int
    arm: Arm
    share: float
    unit: str
    request: Request = field(repr=False)
    outcome: Outcome
    first_token_s: float | None
    total_s: float
    usage: Usage
    finish_reason: str | None = None
    error: str = ""
    text: str = field(default="", repr=False)


Observer = Callable[[Observation], None]


def by_conversation(request: Request) -> str:
    """A name for the conversation: everything up to the user's first message, and who asks. A raw
    prompt is no part of any, so that each request is one."""
    if request.prompt is not None:
        return by_request(request)
    beginning = []
    for message in request.messages:
        beginning.append([message.role, message.content])
        if message.role == "user":
            break
    return _hashed([request.client, beginning])


def by_request(request: Request) -> str:
    """A name for the request: what is asked of a model on the way to one answer shares it."""
    if request.request_id:
        return _hashed([request.client, request.request_id])
    asked = request.prompt if request.prompt is not None else [m.content for m in request.messages]
    return _hashed([request.client, asked])


def _hashed(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]


def in_share(unit: str, share: float, salt: str) -> bool:
    """Whether ``unit`` is in a ``share``, as if by lot; a larger share holds the smaller one."""
    drawn = hashlib.sha256(f"{salt}\0{unit}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") < share * 2**64


class Canary:
    """``candidate`` answers a ``share`` of the conversations, until `stop`. ``begun`` is told of
    every request that a lot was drawn for, with its number and its unit, and ``observe`` of what
    came of it. Thread-safe."""

    def __init__(
        self,
        candidate: ChatModel,
        share: float,
        *,
        observe: Observer = lambda _: None,
        begun: Callable[[int, str], None] = lambda *_: None,
        first_token_s: float = 60.0,
    ) -> None:
        check_range("share", share, 0, 1, low_open=True, high_open=True)
        check_range("first_token_s", first_token_s, 0, 86_400, low_open=True)
        self.candidate, self.share, self.first_token_s = candidate, share, first_token_s
        self.stopped: str | None = None
        self.num_asked = self.num_fallbacks = 0
        self._observe, self._begun = observe, begun
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def observed_by(self, begun: Callable[[int, str], None], observe: Observer) -> None:
        """Instead of by whom it was, for whoever stops it by what is observed."""
        self._begun, self._observe = begun, observe

    def stop(self, reason: str) -> None:
        """Ask the candidate nothing more; what it has begun to answer it ends."""
        with self._lock:
            if self.stopped is not None:
                return
            self.stopped = reason
        logger.warning("the canary %s was stopped: %s", self.candidate.info.name, reason)

    def takes(self, unit: str) -> bool:
        """Whether the candidate answers ``unit``. Drawn anew for each candidate."""
        arm = arm_of("canary", self.candidate.info)
        return self.stopped is None and in_share(unit, self.share, arm.digest)

    def watch(self, request: Request, unit: str, arm: Arm, number: int) -> AnswerWatch:
        """``number``: from `begin`."""
        is_drawn = self.stopped is None and arm.name != "fallback"
        observe = self._observe if is_drawn else lambda _: None
        return AnswerWatch(request, unit, arm, number, self.share, observe)

    def begin(self, unit: str) -> int:
        """The number of a request that has come."""
        number = next(self._numbers)
        if self.stopped is None:
            try:
                self._begun(number, unit)
            except Exception as error:  # as of `observe`
                logger.error("a request was not observed: %s: %s", type(error).__name__, error)
        return number


class CanaryModel:
    """``unit`` says what stays with one version."""

    def __init__(
        self,
        stable: ChatModel,
        canary: Canary,
        *,
        candidate: ChatModel | None = None,
        unit: Callable[[Request], str] = by_conversation,
    ) -> None:
        """``candidate``: that of ``canary`` where it is asked through something else."""
        self._stable, self._canary, self._unit = stable, canary, unit
        self._candidate = candidate or canary.candidate

    @property
    def info(self) -> ModelInfo:
        return self._stable.info

    def arm_of(self, request: Request) -> Arm:
        if self._canary.takes(self._unit(request)):
            return arm_of("canary", self._candidate.info)
        return arm_of("stable", self._stable.info)

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        canary, unit = self._canary, self._unit(request)
        number, failed = canary.begin(unit), None
        if canary.takes(unit):
            arm = arm_of("canary", self._candidate.info)
            failed = canary.watch(request, unit, arm, number)
            canary.num_asked += 1
            stream = opened(self._candidate, request)
            first = await _first_within(stream, failed, canary.first_token_s)
            if first is not None:
                async with aclosing(failed.follow(stream, first)) as deltas:
                    async for delta in deltas:
                        yield delta
                return
            canary.num_fallbacks += 1
        arm = arm_of("stable" if failed is None else "fallback", self._stable.info)
        watch, stream = canary.watch(request, unit, arm, number), opened(self._stable, request)
        async with aclosing(watch.follow(stream, told=failed)) as deltas:
            async for delta in deltas:
                yield delta


async def _first_within(
    stream: AsyncIterator[Delta], watch: AnswerWatch, seconds: float
) -> Delta | None:
    """The first event, or None where ``stream`` fails before it or takes too long."""
    try:
        async with asyncio.timeout(seconds):
            return await anext(stream)
    except Exception as error:  # also of a stream that ends without an event
        watch.error = error
        logger.warning(
            "request %s: %s failed before its first token: %s",
            watch.request.request_id,
            watch.arm.model,
            type(error).__name__,
        )
        await close_stream(stream)
        return None
    except BaseException:
        watch.end("cancelled")
        await close_stream(stream)
        raise


class AnswerWatch:
    """One answer of one version on its way: marks its deltas, and is observed once."""

    def __init__(
        self,
        request: Request,
        unit: str,
        arm: Arm,
        number: int,
        share: float,
        observe: Observer,
    ) -> None:
        self.request, self.arm, self.unit = request, arm, unit
        self.error: BaseException | None = None
        self._number, self._share, self._observe = number, share, observe
        self._start = time.monotonic()
        self._first_s: float | None = None
        self._usage: Usage | None = None
        self._finish: str | None = None
        self._text: list[str] = []
        self._characters = self._events = 0
        self.observed: Observation | None = None

    async def follow(
        self,
        stream: AsyncIterator[Delta],
        first: Delta | None = None,
        told: AnswerWatch | None = None,
    ) -> AsyncGenerator[Delta]:
        """The deltas of ``stream`` after ``first``. ``told``: of a candidate that failed at the
        same request, which is its fault unless this version refuses the request too."""
        try:
            if first is not None:
                yield self.see(first)
            async for delta in stream:
                if told is not None:
                    told.end("failed")
                yield self.see(delta)
            if told is not None:
                told.end("failed")
        except Exception as error:
            self.error = error
            outcome = outcome_of(error)
            if told is not None:
                told.end(outcome)
            self.end(outcome)
            raise
        except BaseException:  # cancelled, or closed by a client that went away
            if told is not None:
                told.end("failed")
            self.end("cancelled" if self._usage is None else "answered")
            raise
        finally:
            await close_stream(stream)
        self.end("failed" if self._finish is None else "answered")

    def see(self, delta: Delta) -> Delta:
        """``delta``, marked."""
        if delta.digest not in (None, self.arm.digest):  # of weights that were exchanged
            self.arm = replace(self.arm, digest=str(delta.digest))
        if self._first_s is None:
            self._first_s = time.monotonic() - self._start
        self._usage = delta.usage or self._usage
        self._finish = delta.finish_reason or self._finish
        self._events += bool(delta.text or delta.tool_call)
        if delta.index == 0 and delta.text and self._characters < MAX_TEXT:
            self._text.append(delta.text)
            self._characters += len(delta.text)
        values = {name: getattr(delta, name) for name in _FIELDS}
        return ArmDelta(**{**values, "digest": self.arm.digest}, arm=self.arm)

    def end(self, outcome: Outcome) -> None:
        """Told to the observer, the first time."""
        if self.observed is not None:
            return
        self.observed = Observation(
            self._number,
            self.arm,
            self._share,
            self.unit,
            self.request,
            outcome,
            self._first_s,
            time.monotonic() - self._start,
            self._usage or Usage(0, self._events),
            self._finish,
            type(self.error).__name__ if self.error is not None else "",
            "".join(self._text)[:MAX_TEXT],
        )
        try:
            self._observe(self.observed)
        except Exception as error:  # an answer does not fail for what is counted about it
            logger.error("an answer was not observed: %s: %s", type(error).__name__, error)


def outcome_of(error: Exception) -> Outcome:
    """Whose fault an error is. A version that is overloaded has failed."""
    if isinstance(error, LmstackError) and not isinstance(error, OverloadedError):
        return "refused" if error.http_status < 500 else "failed"
    return "failed"


async def opened(model: ChatModel, request: Request) -> AsyncIterator[Delta]:
    """What ``model`` says. It is not asked before somebody reads."""
    stream = model.stream(request)
    try:
        async for delta in stream:
            yield delta
    finally:
        await close_stream(stream)


async def close_stream(stream: AsyncIterator[Delta]) -> None:
    closer = getattr(stream, "aclose", None)
    if closer is not None:
        await closer()
