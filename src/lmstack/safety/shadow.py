"""A shadow: a candidate answers requests that the stable version has answered, unseen.

    ShadowModel   the stable version, whose answers go out; a share of requests is offered
    Shadow        the queue of the candidate: what waits, runs, and was dropped, and why

Nobody waits for a shadow, and nothing of it can reach who asked. A request is offered when it has
been answered. It waits in a short queue; a candidate that shares its processor with the stable
version (``yields``) begins only while no request is being answered, and leaves off, to begin again
later, as soon as one comes. What does not fit the bounds is dropped and counted, so that a
comparison can say what it does not hold. For one event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace

from lmstack.core import ChatModel, Config, Delta, ModelInfo, Request, check_range, check_whole
from lmstack.safety.limits import characters
from lmstack.safety.traffic import (
    AnswerWatch,
    Arm,
    Observation,
    arm_of,
    by_conversation,
    in_share,
    opened,
)

__all__ = ["Shadow", "ShadowBounds", "ShadowModel"]

logger = logging.getLogger(__name__)

# After an answer: what follows it, such as its record and its last event, goes first.
GRACE_S = 0.05
PairObserver = Callable[[Observation, Observation], None]


@dataclass(frozen=True)
class ShadowBounds(Config):
    """``queue``: requests that wait at most. ``at_once``: that run. ``max_tokens``: of an answer;
    what the stable version said more than that to is dropped. ``max_characters``: of a prompt.
    ``seconds``: for an answer. ``tries``: beginnings, where requests of people interrupt it.
    ``yields``: whether they do."""

    queue: int = 32
    at_once: int = 1
    max_tokens: int = 1024
    max_characters: int = 100_000
    seconds: float = 120.0
    tries: int = 4
    yields: bool = True

    def __post_init__(self) -> None:
        for name in ("queue", "at_once", "max_tokens", "max_characters", "tries"):
            check_whole(name, getattr(self, name), 1, 2**31)
        check_range("seconds", self.seconds, 0, 86_400, low_open=True)


@dataclass
class _Job:
    request: Request
    stable: Observation
    candidate: ChatModel
    tries: int = 0
    is_admitted: bool = False


class Shadow:
    """``admit`` is called in a thread before a request is sent to the candidate, which is asked
    only if it returns: what cannot be recorded is not sent. ``observe`` is told of both answers to
    a request, the stable version's first; ``dropped`` of each request that has none, with the
    reason."""

    def __init__(
        self,
        candidate: ChatModel,
        share: float,
        *,
        admit: Callable[[Request, Arm], None] = lambda *_: None,
        observe: PairObserver = lambda *_: None,
        dropped: Callable[[str], None] = lambda _: None,
        bounds: ShadowBounds | None = None,
    ) -> None:
        check_range("share", share, 0, 1, low_open=True)
        self.candidate, self.share, self.bounds = candidate, share, bounds or ShadowBounds()
        self.dropped: Counter[str] = Counter()
        self.num_offered = self.num_answered = 0
        self._admit, self._observe, self._on_drop = admit, observe, dropped
        self._numbers = itertools.count()
        self._waiting: deque[_Job] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._live = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def takes(self, unit: str) -> bool:
        arm = arm_of("shadow", self.candidate.info)
        return not self._closed and in_share(unit, self.share, arm.digest)

    def next_number(self) -> int:
        return next(self._numbers)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Around an answer that somebody waits for."""
        self._live += 1
        if self.bounds.yields:
            self._idle.clear()
            for task in self._running:
                task.cancel()
        try:
            yield
        finally:
            self._live -= 1
            if not self._live:
                self._idle.set()

    def offer(self, stable: Observation, candidate: ChatModel) -> None:
        """Ask ``candidate`` what ``stable`` was asked, when there is time. Never fails."""
        try:
            self._offer(stable, candidate)
        except Exception as error:
            logger.error("a request was not shadowed: %s: %s", type(error).__name__, error)
            self._drop("error")

    def _offer(self, stable: Observation, candidate: ChatModel) -> None:
        self.num_offered += 1
        request, bounds = stable.request, self.bounds
        asked = request.sampling.max_tokens
        if stable.outcome not in ("answered", "failed"):
            return self._drop(f"the request was {stable.outcome}")
        if stable.usage.completion_tokens > bounds.max_tokens:
            return self._drop("the answer is too long")
        if characters(request) > bounds.max_characters:
            return self._drop("the prompt is too long")
        if len(self._waiting) >= bounds.queue:
            return self._drop("the queue is full")
        most = bounds.max_tokens if asked is None else min(asked, bounds.max_tokens)
        request = replace(request, sampling=request.sampling.replace(max_tokens=most))
        self._waiting.append(_Job(request, stable, candidate))
        if len(self._workers) < bounds.at_once:
            self._workers.add(asyncio.get_running_loop().create_task(self._worker()))
        return None

    def _drop(self, reason: str) -> None:
        self.dropped[reason] += 1
        try:
            self._on_drop(reason)
        except Exception as error:
            logger.error("a dropped shadow was not counted: %s", type(error).__name__)

    async def _worker(self) -> None:
        """Leaves in the same turn of the loop in which it found nothing to do: one that was still
        counted a turn later would leave what is offered in between to nobody."""
        worker = asyncio.current_task()
        assert worker is not None
        try:
            await self._work()
        finally:
            self._workers.discard(worker)

    async def _work(self) -> None:
        while self._waiting and not self._closed:
            if self.bounds.yields:
                await self._idle.wait()
                await asyncio.sleep(GRACE_S)
                if self._live or not self._waiting:
                    continue
            job = self._waiting.popleft()
            job.tries += 1
            attempt = asyncio.get_running_loop().create_task(self._attempt(job))
            self._running.add(attempt)
            try:
                await asyncio.wait({attempt})
            finally:
                self._running.discard(attempt)
                if not attempt.done():
                    attempt.cancel()
            if not attempt.cancelled():
                continue
            if job.tries < self.bounds.tries and not self._closed:
                self._waiting.appendleft(job)
            elif not self._closed:
                self._drop("interrupted too often")

    async def _attempt(self, job: _Job) -> None:
        """Ask the candidate once; its failure is an observation, being interrupted is none."""
        arm, found = arm_of("shadow", job.candidate.info), list[Observation]()
        if not job.is_admitted:
            try:
                await asyncio.to_thread(self._admit, job.request, arm)
            except Exception as error:
                logger.error("a request was not shadowed: %s: %s", type(error).__name__, error)
                return self._drop("it could not be recorded")
            job.is_admitted = True
        number, unit = job.stable.number, job.stable.unit
        watch = AnswerWatch(job.request, unit, arm, number, self.share, found.append)
        try:
            async with asyncio.timeout(self.bounds.seconds):
                stream = opened(job.candidate, job.request)
                async with aclosing(watch.follow(stream)) as deltas:
                    async for _ in deltas:
                        pass
        except TimeoutError:
            found = [replace(each, outcome="failed", error="TimeoutError") for each in found]
        except Exception as error:
            logger.info("the shadow %s failed: %s", arm.model, type(error).__name__)
        if not found:
            return self._drop("error")
        self.num_answered += found[0].outcome == "answered"
        try:
            self._observe(job.stable, found[0])
        except Exception as error:
            logger.error("a shadow was not observed: %s: %s", type(error).__name__, error)
        return None

    def close(self) -> None:
        """Drop what waits and runs; in any thread."""
        self._closed = True
        for _ in range(len(self._waiting) + len(self._running)):
            self._drop("the server stopped")
        self._waiting.clear()
        for task in (*self._workers, *self._running):
            loop = task.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)


class ShadowModel:
    """Answers are those of ``stable``."""

    def __init__(
        self,
        stable: ChatModel,
        shadow: Shadow,
        *,
        candidate: ChatModel | None = None,
        unit: Callable[[Request], str] = by_conversation,
    ) -> None:
        """``candidate``: that of ``shadow`` where it is asked through something else."""
        self._stable, self._shadow, self._unit = stable, shadow, unit
        self._candidate = candidate or shadow.candidate

    @property
    def info(self) -> ModelInfo:
        return self._stable.info

    def arm_of(self, request: Request) -> Arm:  # noqa: ARG002 - one version answers them all
        return arm_of("stable", self._stable.info)

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        shadow, unit = self._shadow, self._unit(request)
        arm = arm_of("stable", self._stable.info)
        found = list[Observation]()
        watch = AnswerWatch(request, unit, arm, shadow.next_number(), shadow.share, found.append)
        try:
            with shadow.answering():
                async with aclosing(watch.follow(opened(self._stable, request))) as deltas:
                    async for delta in deltas:
                        yield delta
        finally:
            if found and shadow.takes(unit):
                shadow.offer(found[0], self._candidate)
