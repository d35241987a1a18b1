"""Running a task: outputs asked for many at once, each kept the moment it is there, then scored.

    result = await run(task, subject, store, concurrency=16)

A run that was killed, or stopped with Ctrl-C, goes on where it was and gives the same result: what
is in the store is not asked for again. A sample whose output or scores cannot be had (a model's
error, no answer in time) is tried again, and then recorded as failed with its reason; a later run
tries it anew. What would fail for every sample (a model that cannot do the task, a wrong key, a
full disk) stops the run. Not covered: how long it takes and what it costs (`estimating`).
"""

from __future__ import annotations

import asyncio
import json
import platform
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

import lmstack
from lmstack.core import (
    AuthError,
    Config,
    ContextLengthError,
    ExtraMissingError,
    GuardError,
    InputError,
    LmstackError,
    NotFoundError,
    OverloadedError,
    StoreError,
    UnsupportedError,
    allowed,
    check_whole,
    shown,
)
from lmstack.evals.json_forms import canonical
from lmstack.evals.output_store import OutputKeys, OutputStore
from lmstack.evals.results import ANSWER_CHARS, SampleResult, TaskResult
from lmstack.evals.task import ModelOutput, Sample, Scorer, Subject, Task

__all__ = ["CostlyScorer", "EvaluationProgress", "Patience", "run", "run_sync", "samples_of"]

CONCURRENCY = 16
MAX_CONCURRENCY = 4096
_LONGEST_WAIT_S = 60.0
T = TypeVar("T")


@runtime_checkable
class CostlyScorer(Scorer, Protocol):
    """A scorer that asks a model: where ``is_costly`` is true, its scores are kept in the store as
    outputs are."""

    @property
    def is_costly(self) -> bool: ...


@dataclass(frozen=True)
class Patience(Config):
    """``retries``: after the first attempt of a sample. ``timeout_s``: of one attempt; None waits
    for ever. ``backoff_s``: before the first retry, twice as long before each further one."""

    retries: int = allowed(2, int, 0, 100)
    timeout_s: float | None = allowed(None, float, 0, 86_400, above=True)
    backoff_s: float = allowed(1.0, float, 0, 600)


@dataclass(frozen=True)
class EvaluationProgress:
    """Of ``total`` samples, ``done`` have an output and scores or ``failed``; of those, ``cached``
    had their output in the store. ``retries``: attempts beyond the first. ``seconds``: so far.
    Tokens: of all outputs, those from the store included."""

    total: int
    done: int = 0
    failed: int = 0
    cached: int = 0
    retries: int = 0
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def rate(self) -> float:
        """Samples a second, those from the store left out; 0 where none is done yet."""
        return (self.done - self.cached) / self.seconds if self.seconds > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds that are left at that rate; None where it is not known."""
        if self.done >= self.total:
            return 0.0
        return (self.total - self.done) / self.rate if self.rate > 0 else None


def _quiet(_progress: EvaluationProgress) -> None:
    """Nobody wants to know."""


async def run(
    task: Task,
    subject: Subject,
    store: OutputStore | None = None,
    *,
    concurrency: int = CONCURRENCY,
    limit: int | None = None,
    patience: Patience | None = None,
    on_progress: Callable[[EvaluationProgress], None] = _quiet,
) -> TaskResult:
    """The result of ``task`` for ``subject``. ``store``: None keeps nothing. ``limit``: only the
    first samples. ``on_progress``: called after each sample, in the event loop."""
    check_whole("concurrency", concurrency, 1, MAX_CONCURRENCY)
    samples = samples_of(task, limit)
    going = _Run(task, subject, store, patience or Patience(), on_progress, len(samples))
    rows = await going.rows(samples, concurrency)
    return TaskResult(
        task=task.name,
        version=task.version,
        protocol=json.loads(canonical(task.protocol, f"the protocol of {task.name}")),
        dataset=task.dataset.name,
        dataset_digest=task.dataset.digest,
        source=task.dataset.source,
        dataset_samples=len(task.dataset.samples),
        subject=subject.name,
        subject_digest=subject.digest,
        metrics=task.metrics,
        samples=tuple(rows),
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        versions={
            "lmstack": lmstack.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        seconds=time.monotonic() - going.began,
    )


def run_sync(
    task: Task, subject: Subject, store: OutputStore | None = None, **options: Any
) -> TaskResult:
    """`run` for code without an event loop. Ctrl-C stops it, and what is done is kept."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run(task, subject, store, **options))
    raise InputError("run_sync was called inside a running event loop", hint="use `await run(...)`")


def samples_of(task: Task, limit: int | None) -> tuple[Sample, ...]:
    """All samples, or the first ``limit``."""
    if limit is not None:
        check_whole("limit", limit, 1, 1 << 60)
    return task.dataset.samples[:limit]


class _FailedError(Exception):
    """A sample cannot be had."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Run:
    """One run: what was done so far, and how a sample is done."""

    def __init__(
        self,
        task: Task,
        subject: Subject,
        store: OutputStore | None,
        patience: Patience,
        on_progress: Callable[[EvaluationProgress], None],
        total: int,
    ) -> None:
        self.began = time.monotonic()
        self._task, self._subject, self._store = task, subject, store
        self._keys = OutputKeys(task, subject)
        scorer = task.scorer
        is_costly = isinstance(scorer, CostlyScorer) and scorer.is_costly
        self._scores_kept = store if is_costly else None
        self._patience, self._on_progress = patience, on_progress
        self._counts = dict.fromkeys(
            ("done", "failed", "cached", "retries", "prompt_tokens", "completion_tokens"), 0
        )
        self._total = total

    async def rows(self, samples: tuple[Sample, ...], concurrency: int) -> list[SampleResult]:
        found: list[SampleResult | None] = [None] * len(samples)
        waiting = iter(enumerate(samples))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(samples))):
                    group.create_task(self._work(waiting, found))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        return [row for row in found if row is not None]

    async def _work(
        self, waiting: Iterator[tuple[int, Sample]], found: list[SampleResult | None]
    ) -> None:
        for place, sample in waiting:
            row = await self._row(sample)
            found[place] = row
            self._counts["done"] += 1
            self._counts["failed"] += bool(row.failed)
            self._counts["prompt_tokens"] += row.prompt_tokens
            self._counts["completion_tokens"] += row.completion_tokens
            seconds = time.monotonic() - self.began
            self._on_progress(EvaluationProgress(self._total, seconds=seconds, **self._counts))
            await asyncio.sleep(0)  # so that samples from the store do not hold up the rest

    async def _row(self, sample: Sample) -> SampleResult:
        output, scores, failed = ModelOutput(), {}, ""
        try:
            output = await self._output(sample)
            scores = await self._scores(sample, output)
        except _FailedError as error:
            failed = error.reason
        return SampleResult(
            sample.id,
            sample.cluster,
            scores,
            failed,
            output.text[:ANSWER_CHARS],
            output.finish_reason,
            output.prompt_tokens,
            output.completion_tokens,
            output.seconds,
        )

    async def _output(self, sample: Sample) -> ModelOutput:
        key = self._keys.output(sample)
        if self._store is not None:
            kept = self._store.outputs([key]).get(key)
            if kept is not None:
                self._counts["cached"] += 1
                return kept
        output = await self._tried(lambda: self._task.solver(sample, self._subject))
        if self._store is None:
            return output
        try:
            return self._store.keep_output(key, output)
        except InputError as error:
            raise _FailedError(_reason(error)) from None

    async def _scores(self, sample: Sample, output: ModelOutput) -> dict[str, float]:
        store = self._scores_kept
        key = self._keys.scores(sample, output) if store is not None else ""
        scores = store.scores(key) if store is not None else None
        if scores is not None:
            return scores
        found = await self._tried(lambda: self._task.scorer(sample, output), "scoring: ")
        scores = self._checked(sample, found)
        return scores if store is None else store.keep_scores(key, scores)

    def _checked(self, sample: Sample, scores: Mapping[str, float]) -> dict[str, float]:
        """`InputError` for a scorer that does not give what the metrics read."""
        found = {}
        for name, value in scores.items():
            if not isinstance(value, int | float | np.number | np.bool_):
                raise InputError(
                    f"the scorer of {self._task.name} gave {name} {shown(value)} for {sample.id},"
                    " not a number",
                    param="scorer",
                )
            found[name] = float(value)
        for metric in self._task.metrics:
            for column in metric.columns:
                if column not in found:
                    raise InputError(
                        f"the metric {metric.name} reads {column}, and the scorer of"
                        f" {self._task.name} gives {', '.join(found) or 'nothing'}",
                        hint="choose a metric of that scorer",
                        param="metrics",
                    )
        return found

    async def _tried(self, attempt: Callable[[], Awaitable[T]], stage: str = "") -> T:
        """What ``attempt`` gives, tried again as patience allows."""
        number = 0
        while True:
            wait = min(self._patience.backoff_s * 2.0**number, _LONGEST_WAIT_S)
            try:
                async with asyncio.timeout(self._patience.timeout_s):
                    return await attempt()
            except TimeoutError:
                limit = self._patience.timeout_s
                reason = "timed out" if limit is None else f"no answer within {limit:g} s"
                is_final = False
            except LmstackError as error:
                if _stops_all(error):
                    raise
                reason, is_final = _reason(error), isinstance(error, InputError | GuardError)
                if isinstance(error, OverloadedError):
                    wait = max(wait, min(error.retry_after_s, _LONGEST_WAIT_S))
            if is_final or number >= self._patience.retries:
                raise _FailedError(stage + reason)
            number += 1
            self._counts["retries"] += 1
            await asyncio.sleep(wait)


def _stops_all(error: LmstackError) -> bool:
    """Whether the error is of the run rather than of a sample."""
    if isinstance(error, AuthError | ExtraMissingError | NotFoundError | StoreError):
        return True
    if isinstance(error, ContextLengthError):
        return False
    return isinstance(error, UnsupportedError) or (
        isinstance(error, InputError) and error.param == "model"
    )


def _reason(error: LmstackError) -> str:
    return error.message or type(error).__name__


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of workers that failed at once, the error of the first."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
