"""The engine: requests in from any thread, tokens out through callbacks, one step at a time.

A step schedules chunks, runs the model, samples, and reports. `start` runs steps in a thread
of its own; without it a caller drives `step` by hand. What a request did wrong, or what goes
wrong for it, reaches that request alone: its blocks are freed and the others go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from collections.abc import Sequence as Seq

from lmstack.core import (
    EngineError,
    InputError,
    LmstackError,
    OverloadedError,
    shown,
)
from lmstack.engine.admission import Admission
from lmstack.engine.attention import KVPool
from lmstack.engine.blocks import BlockManager
from lmstack.engine.config import EngineConfig
from lmstack.engine.request import EngineRequest, EngineStats, TokenEvent
from lmstack.engine.runner import Runner
from lmstack.engine.sampler import Sampled, Sampler
from lmstack.engine.scheduler import Scheduler
from lmstack.engine.sequence import Chunk, Sequence
from lmstack.engine.vocabulary import Vocabulary
from lmstack.model import Transformer

__all__ = ["Engine"]

log = logging.getLogger("lmstack.engine")


class Engine:
    """Thread-safe: `submit`, `cancel`, `stats`, `close`. Callbacks run in the stepping thread.

    ``context_length``: tokens that one sequence may have, prompt and output together; the
    model's window, or the KV pool where that is smaller. ``after_events`` is called once the
    callbacks of a step are done.
    """

    def __init__(
        self,
        module: Transformer,
        vocabulary: Vocabulary,
        config: EngineConfig | None = None,
        *,
        after_events: Callable[[], None] = lambda: None,
    ) -> None:
        self.config = config = config or EngineConfig()
        model = module.config
        self._num_tokens = min(len(vocabulary), model.vocab_size)
        num_blocks = config.pool_blocks(
            KVPool.bytes_per_token(model, module.dtype), model.max_positions
        )
        self.context_length = min(model.max_positions, num_blocks * config.block_size)
        self._dtype = str(module.dtype).removeprefix("torch.")
        self._runner = Runner(module, num_blocks, config.block_size)
        self._blocks = BlockManager(num_blocks, config.block_size, prefix_cache=config.prefix_cache)
        self._scheduler = Scheduler(config, self._blocks)
        self._sampler = Sampler(self._num_tokens)
        self._admission = Admission(vocabulary, model, config, self.context_length)

        self._after_events = after_events
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._arrived: deque[Sequence] = deque()
        self._cancelled: set[str] = set()
        self._live: dict[str, Sequence] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

        self._num_steps = self._num_prompt = self._num_generated = 0
        self._num_invariant_failures = 0
        self._finished: Counter[str] = Counter()
        self._seconds_a_request = 1.0

    # -- from any thread ---------------------------------------------------------------------

    def submit(self, *requests: EngineRequest) -> None:
        """Queue all of ``requests`` or none. Raises `InputError` for what cannot be honoured,
        `ContextLengthError` for what cannot fit, `OverloadedError` when the queue is full."""
        sequences = [self._admission.sequence(r) for r in requests]
        with self._wake:
            if self._closed:
                raise EngineError("the engine is closed")
            waiting = len(self._arrived) + len(self._scheduler.waiting)
            places = max(0, self.config.max_sequences - len(self._scheduler.running))
            if waiting + len(requests) > places + self.config.max_waiting:
                raise OverloadedError(
                    f"{waiting} requests are waiting, at most {self.config.max_waiting} may",
                    hint="try again later, or raise max_waiting",
                    retry_after_s=self._retry_after(waiting),
                )
            for sequence in sequences:
                if sequence.request.id in self._live:
                    raise InputError(f"a request {shown(sequence.request.id)} is running already")
            for sequence in sequences:
                self._live[sequence.request.id] = sequence
                self._arrived.append(sequence)
            self._wake.notify_all()

    def cancel(self, request_id: str) -> None:
        """Stop a request without a further event; unknown or finished ids are ignored. Its
        blocks are free before the next step."""
        with self._wake:
            if request_id in self._live:
                self._cancelled.add(request_id)
                self._wake.notify_all()

    def stats(self) -> EngineStats:
        scheduler = self._scheduler
        with self._lock:
            return EngineStats(
                dtype=self._dtype,
                context_length=self.context_length,
                num_running=len(scheduler.running),
                num_waiting=len(scheduler.waiting) + len(self._arrived),
                num_blocks=self._blocks.num_blocks,
                num_blocks_used=self._blocks.num_used,
                num_blocks_cached=self._blocks.num_cached,
                num_prompt_tokens=self._num_prompt,
                num_generated_tokens=self._num_generated,
                num_prefix_queries=scheduler.num_prefix_queries,
                num_prefix_hits=scheduler.num_prefix_hits,
                num_preemptions=scheduler.num_preemptions,
                num_steps=self._num_steps,
                num_invariant_failures=self._num_invariant_failures,
                num_finished=dict(self._finished),
            )

    def start(self) -> None:
        """Run steps in a thread of the engine's own until `close`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="lmstack-engine", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop after the step that is running; what has not finished gets an `EngineError`."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._intake()
        for sequence in list(self._live.values()):
            self._fail(sequence, EngineError("the engine was closed before the answer was whole"))
        self._after_events()

    # -- the stepping thread -----------------------------------------------------------------

    def step(self) -> bool:
        """Advance every stream once; whether work remains."""
        self._intake()
        chunks = self._scheduler.schedule()
        if chunks:
            self._num_steps += 1
            self._advance(chunks)
            self._after_events()
            self._intake()
        if self._scheduler.idle:
            self._check_idle()
            return False
        return True

    def _loop(self) -> None:
        while True:
            with self._wake:
                while not (self._closed or self._arrived or self._cancelled):
                    if not self._scheduler.idle:
                        break
                    self._wake.wait()
                if self._closed:
                    return
            try:
                self.step()
            except Exception as error:  # a bug of ours: nobody may be left waiting
                log.exception("a step failed")
                self._fail_all(EngineError(f"the engine failed: {error}"))

    def _intake(self) -> None:
        """Take in what other threads asked for."""
        with self._lock:
            arrived, cancelled = list(self._arrived), set(self._cancelled)
            self._arrived.clear()
            self._cancelled.clear()
            for sequence in arrived:
                self._scheduler.add(sequence)
            for request_id in cancelled:
                sequence_or_none = self._live.pop(request_id, None)
                if sequence_or_none is not None:
                    self._scheduler.remove(sequence_or_none)
                    self._finished["cancelled"] += 1

    def _advance(self, chunks: Seq[Chunk]) -> None:
        """Compute ``chunks``; if that fails, one by one, to find whose fault it is. Nothing of
        a sequence has changed by then, and computing a slot twice is harmless."""
        try:
            sampled = self._compute(chunks)
        except Exception as error:
            if len(chunks) == 1:
                self._fail(chunks[0].sequence, _as_error(error))
                return
            for chunk in chunks:
                self._advance([chunk])
            return
        for chunk, token in zip(chunks, sampled, strict=True):
            try:
                self._commit(chunk, token)
            except Exception as error:
                self._fail(chunk.sequence, _as_error(error))

    def _compute(self, chunks: Seq[Chunk]) -> list[Sampled | None]:
        ordered = sorted(chunks, key=lambda c: c.count > 1)
        logits, scores = self._runner.run(ordered, self._num_tokens)
        sampling = [c.sequence for c in ordered if c.samples]
        tokens = iter(self._sampler(logits, sampling) if sampling else ())
        by_order = {c.sequence.order: next(tokens) if c.samples else None for c in ordered}
        for chunk, new in zip(ordered, scores, strict=True):
            chunk.sequence.prompt_scores += new
        return [by_order[c.sequence.order] for c in chunks]

    def _commit(self, chunk: Chunk, sampled: Sampled | None) -> None:
        sequence = chunk.sequence
        self._scheduler.computed(chunk)
        if sampled is None:
            return
        reason = sequence.append(sampled.token)
        first = sequence.num_output == 1
        self._num_generated += 1
        self._num_prompt += sequence.num_prompt if first else 0
        event = TokenEvent(
            request_id=sequence.request.id,
            token=sampled.token,
            score=sampled.score,
            safe_bytes=sequence.stops.safe_bytes,
            finish_reason=reason,
            cached_tokens=sequence.cached_tokens or 0,
            prompt=tuple(sequence.prompt_scores) if first else (),
        )
        if reason is not None:
            self._retire(sequence, reason)
        sequence.request.on_event(event)

    def _retire(self, sequence: Sequence, reason: str, *, forget: bool = False) -> None:
        with self._lock:
            self._scheduler.remove(sequence, forget=forget)
            self._live.pop(sequence.request.id, None)
            self._cancelled.discard(sequence.request.id)
            self._finished[reason] += 1
            taken = time.monotonic() - sequence.created
            self._seconds_a_request += 0.1 * (taken - self._seconds_a_request)

    def _fail(self, sequence: Sequence, error: LmstackError) -> None:
        if sequence.request.id not in self._live:
            log.warning("request %s: its callback failed: %s", sequence.request.id, error)
            return
        log.warning("request %s failed: %s", sequence.request.id, error)
        self._runner.wipe(sequence.table[self._first_own(sequence) :])
        self._retire(sequence, "error", forget=True)
        try:
            sequence.request.on_event(TokenEvent(sequence.request.id, error=error))
        except Exception:
            log.exception("request %s: its callback failed", sequence.request.id)

    @staticmethod
    def _first_own(sequence: Sequence) -> int:
        """Blocks before this one are published, so others may be reading them."""
        return sequence.num_published

    def _fail_all(self, error: EngineError) -> None:
        self._intake()
        for sequence in list(self._live.values()):
            self._fail(sequence, error)
        self._after_events()

    def _check_idle(self) -> None:
        """With nobody running, every block must be back."""
        try:
            self._blocks.check([])
        except AssertionError as error:
            self._num_invariant_failures += 1
            log.critical("KV blocks leaked, the pool is reset: %s", error)
            self._blocks.reset()

    def _retry_after(self, waiting: int) -> float:
        """Seconds until the queue has likely moved, from how long requests took lately."""
        rounds = waiting / self.config.max_sequences
        return min(60.0, max(1.0, rounds * self._seconds_a_request))


def _as_error(error: Exception) -> LmstackError:
    if isinstance(error, LmstackError):
        return error
    return EngineError(
        f"computing the answer failed: {type(error).__name__}: {error}",
        hint="try the request again; if it persists, look at the server's log",
    )
