"""From answers of two versions to rows of `live_store`, off the event loop.

`LiveRecorder` takes observations without waiting; a thread of its own hashes and writes them, many
in one transaction. What comes faster than it writes, or cannot be written, is counted: a
comparison is for looking at, and no answer fails or waits for it. `CanaryWatch` stops a canary that
is shown to fail more often than the stable version, and one that was stopped before. Not covered:
the test (`evals.live`).
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmstack.core import LmstackError, Request
from lmstack.evals.answers import is_refusal
from lmstack.evals.live import FailureWatch, LiveAnswer, Side
from lmstack.release.live_store import LOST, LiveComparison, LiveStore, now
from lmstack.safety import Observation, input_digest
from lmstack.safety.limits import characters

__all__ = ["CanaryWatch", "LiveRecorder"]

logger = logging.getLogger(__name__)

MAX_WAITING = 2_000
MAX_BATCH = 500
# A text that is kept is cut there.
MAX_KEPT_TEXT = 20_000
CLOSE_S = 2.0


class LiveRecorder:
    """Into ``comparison`` of ``store``. ``keeps_texts``: prompts and answers, too."""

    def __init__(
        self, store: LiveStore, comparison: LiveComparison, *, keeps_texts: bool = False
    ) -> None:
        self._store, self._comparison, self._keeps_texts = store, comparison, keeps_texts
        self._waiting: queue.Queue[Callable[[], Any] | None] = queue.Queue(MAX_WAITING)
        self._lost, self._losing = 0, threading.Lock()
        self._thread = threading.Thread(target=self._write, name="lmstack-live", daemon=True)
        self._thread.start()

    def record(self, *seen: Observation) -> None:
        """One answer, or both of a pair. Returns at once.

        The place is when the request came, in nanoseconds, so that answers of several servers and
        runs have one order; the last three digits are of its number, so that none have one place.
        """
        came = time.time() - max(each.total_s for each in seen)
        place, when = int(came * 1e6) * 1000 + seen[0].number % 1000, now()
        self._put(lambda: [self._row(each, place, when) for each in seen])

    def count(self, what: str) -> None:
        self._put(lambda: what)

    def stopped(self, reason: str) -> None:
        """The canary was stopped; kept even where nothing else can be."""
        self._put(lambda: self._store.stop(self._comparison.id, reason), waits=True)

    def close(self) -> None:
        """Write what waits, for two seconds at most."""
        try:
            self._waiting.put(None, timeout=CLOSE_S)
        except queue.Full:
            return
        self._thread.join(CLOSE_S)

    def _put(self, work: Callable[[], Any], *, waits: bool = False) -> None:
        try:
            self._waiting.put(work, block=waits, timeout=CLOSE_S if waits else None)
        except queue.Full:
            self._lose(1)

    def _lose(self, number: int) -> None:
        with self._losing:  # the loop's thread and the one that writes count
            self._lost += number

    def _write(self) -> None:
        is_open = True
        while is_open:
            batch = [self._waiting.get()]
            while len(batch) < MAX_BATCH and not self._waiting.empty():
                batch.append(self._waiting.get())
            is_open = None not in batch
            rows: list[Mapping[str, Any]] = []
            counts: Counter[str] = Counter()
            for work in batch:
                self._take(work, rows, counts)
            with self._losing:
                self._lost, lost = 0, self._lost
            counts[LOST] += lost
            try:
                self._store.write(self._comparison.id, rows, +counts)
            except LmstackError as error:
                self._lose(counts[LOST] + len(rows))
                logger.error("%d answers were not recorded: %s", len(rows), error)

    def _take(
        self,
        work: Callable[[], Any] | None,
        rows: list[Mapping[str, Any]],
        counts: Counter[str],
    ) -> None:
        try:
            found = None if work is None else work()
        except Exception as error:
            logger.error("an answer was not recorded: %s: %s", type(error).__name__, error)
            counts[LOST] += 1
            return
        if isinstance(found, str):
            counts[found] += 1
        elif found is not None:
            rows += found

    def _row(self, seen: Observation, place: int, when: str) -> dict[str, Any]:
        request, keeps = seen.request, self._keeps_texts
        return {
            "side": side_of(seen),
            "place": place,
            "unit": seen.unit,
            "share": seen.share,
            "time": when,
            "request": request.request_id,
            "outcome": seen.outcome,
            "error": seen.error,
            "first_token_s": seen.first_token_s,
            "total_s": seen.total_s,
            "prompt_tokens": seen.usage.prompt_tokens,
            "completion_tokens": seen.usage.completion_tokens,
            "finish": seen.finish_reason,
            "refusal": int(is_refusal(seen.text)),
            "input_digest": input_digest(request),
            "input_characters": characters(request),
            "output_digest": _digest(seen.text),
            "output_characters": len(seen.text),
            "prompt": _prompt(request) if keeps else None,
            "text": _kept(seen.text) if keeps else None,
        }


def side_of(seen: Observation) -> Side:
    return "stable" if seen.arm.name == "stable" else "candidate"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _prompt(request: Request) -> str:
    if request.prompt is not None:
        prompt = request.prompt
        return _kept(prompt if isinstance(prompt, str) else f"{len(prompt)} token ids")
    return _kept("\n".join(f"{m.role}: {m.content}" for m in request.messages))


def _kept(text: str) -> str:
    return text[:MAX_KEPT_TEXT].encode("utf-8", "replace").decode()


class CanaryWatch:
    """Told of each request and each answer of a canary; calls ``stop`` with the reason once the
    candidate is shown to fail more often. Thread-safe."""

    def __init__(
        self,
        share: float,
        stop: Callable[[str], None],
        before: Sequence[LiveAnswer] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``before``: answers of earlier runs, in their order."""
        self._watch, self._stop, self._clock = FailureWatch(share), stop, clock
        self._lock = threading.Lock()
        self._is_stopped = False
        self._first = max((each.order for each in before), default=-1) + 1
        for each in before:
            # A lot with other chances is another bet; its conversations are known all the same.
            self._watch.begun(each.order, each.unit, 0.0)
            failed = each.outcome == "failed" and each.share == share
            self._watch.ended(each.order, each.side, failed=failed, now=0.0)
        self._look()

    def begun(self, number: int, unit: str) -> None:
        with self._lock:
            self._watch.begun(self._first + number, unit, self._clock())

    def ended(self, seen: Observation) -> None:
        failed = seen.outcome == "failed"
        with self._lock:
            number = self._first + seen.number
            self._watch.ended(number, side_of(seen), failed=failed, now=self._clock())
            self._look()

    def _look(self) -> None:
        watch = self._watch
        if watch.is_worse and not self._is_stopped:
            self._is_stopped = True
            failures = watch.failures
            self._stop(
                f"it fails more often (p = {watch.p:.1g} at every look): {failures['candidate']}"
                f" failures, drawn for {watch.share:.3g} of requests, and"
                f" {failures['stable']} of the stable version"
            )
