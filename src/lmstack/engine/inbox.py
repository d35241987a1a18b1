"""Between the threads that ask and the one that steps: what is asked, and what is not over yet.

Requests come in, are cancelled or evicted from a full queue at any time; the engine takes in what
has happened between two steps. Not covered: whether a request can be honoured (`admission`),
whose turn it is (`scheduler`), and the callbacks, which run without the lock (`engine`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from lmstack.core import EngineError, InputError, OverloadedError, shown
from lmstack.engine.config import EngineConfig
from lmstack.engine.policy.fairness import evicted
from lmstack.engine.scheduler import Scheduler
from lmstack.engine.sequence import Sequence
from lmstack.model.formats.assembly import Weight

__all__ = ["Inbox", "WeightUpdate", "members_of"]


@dataclass
class WeightUpdate:
    """Asked for by one thread, which waits for ``done``; then ``error`` says what was wrong."""

    weights: Mapping[str, Weight]
    version: str = ""
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class Inbox:
    """`submit` and `cancel` from any thread, the rest from the one that steps. ``live``: the
    sequences of requests that are not over, by id; ``finished``: how often others ended how;
    ``lock``: held while the scheduler's queues and these change."""

    def __init__(self, config: EngineConfig, scheduler: Scheduler) -> None:
        self._config, self._scheduler = config, scheduler
        self.lock = threading.Lock()
        self._wake = threading.Condition(self.lock)
        self._arrived: deque[Sequence] = deque()
        self._cancelled: set[str] = set()
        self._evicted: dict[str, OverloadedError] = {}
        self.live: dict[str, Sequence] = {}
        self.finished: Counter[str] = Counter()
        self._closed: EngineError | None = None
        self._updates: deque[WeightUpdate] = deque()
        self._seconds_a_request = 1.0

    def submit(self, sequences: Seq[Sequence]) -> None:
        """Queue all of ``sequences`` or none."""
        with self._wake:
            self._check_open()
            for sequence in sequences:
                if sequence.request.id in self.live:
                    raise InputError(
                        f"a request {shown(sequence.request.id)} is running already",
                        hint="give each request an id of its own",
                    )
            self._evict_for(sequences)
            for sequence in sequences:
                self.live[sequence.request.id] = sequence
                self._arrived.append(sequence)
            self._wake.notify_all()

    def _check_open(self) -> None:
        if self._closed is not None:
            raise EngineError(self._closed.message, hint=self._closed.hint)

    def _evict_for(self, sequences: Seq[Sequence]) -> None:
        """Where the queue is full, evict requests of clients that have more in it than that of
        ``sequences`` would have, or raise."""
        waiting = self.num_waiting - len(self._evicted)
        places = max(0, self._config.max_sequences - len(self._scheduler.running))
        excess = waiting + len(sequences) - places - self._config.max_waiting
        if excess <= 0:
            return
        error = OverloadedError(
            f"{waiting} requests are waiting, at most {self._config.max_waiting} may",
            hint="try again later",
            retry_after_s=self._retry_after(waiting),
        )
        queued = [
            s for s in self.live.values() if not s.has_begun and s.request.id not in self._evicted
        ]
        victims = evicted(queued, sequences, excess)
        if len(victims) < excess:
            raise error
        for victim in victims:
            self._evicted[victim.request.id] = error

    def _retry_after(self, waiting: int) -> float:
        """Seconds until the queue has likely moved, from how long requests took lately."""
        rounds = waiting / self._config.max_sequences
        return min(60.0, max(1.0, rounds * self._seconds_a_request))

    def cancel(self, request_id: str) -> None:
        with self._wake:
            if request_id in self.live:
                self._cancelled.add(request_id)
                self._wake.notify_all()

    def ask(self, update: WeightUpdate) -> None:
        """Queue other weights."""
        with self._wake:
            self._check_open()
            self._updates.append(update)
            self._wake.notify_all()

    @property
    def update(self) -> WeightUpdate | None:
        """The next weights that are asked for."""
        with self.lock:
            return self._updates[0] if self._updates else None

    def updated(self, error: Exception | None = None) -> None:
        """The next weights are there, or cannot be."""
        with self.lock:
            update = self._updates.popleft()
        update.error = error
        update.done.set()

    def close(self, reason: EngineError) -> None:
        """Nothing more comes in, for the first ``reason`` that is given, and `wait` ends."""
        with self._wake:
            self._closed = self._closed or reason
            self._wake.notify_all()

    @property
    def num_waiting(self) -> int:
        """Under the lock."""
        return len(self._scheduler.waiting) + len(self._arrived)

    def is_going_on(self, sequence: Sequence) -> bool:
        """Its request is not over, and nobody has cancelled it."""
        request_id = sequence.request.id
        return self.live.get(request_id) is sequence and request_id not in self._cancelled

    def wait(self) -> bool:
        """Until there is something to do; False once all is closed."""
        with self._wake:
            while not (self._closed or self._arrived or self._cancelled or self._updates):
                if not self._scheduler.idle:
                    break
                self._wake.wait()
            return self._closed is None

    def take(self) -> list[tuple[Sequence, OverloadedError]]:
        """Hand to the scheduler what came, and take from it what was cancelled; what was evicted
        from the queue, each with its error."""
        with self.lock:
            arrived, cancelled = list(self._arrived), set(self._cancelled)
            refused = dict(self._evicted)
            self._arrived.clear()
            self._cancelled.clear()
            self._evicted.clear()
            for sequence in arrived:
                self._scheduler.add(sequence)
            for gone in filter(None, (self.live.pop(each, None) for each in cancelled)):
                for member in members_of(gone):
                    self._scheduler.remove(member)
                self.finished["cancelled"] += 1
            found = [(self.live[i], error) for i, error in refused.items() if i in self.live]
        # One that began meanwhile may go on: its place in the queue is free as well.
        return [(sequence, error) for sequence, error in found if not sequence.has_begun]

    def over(self, sequence: Sequence, reason: str) -> None:
        """Its request has its last event, or is about to."""
        with self.lock:
            self._scheduler.remove(sequence)
            self.live.pop(sequence.request.id, None)
            self._cancelled.discard(sequence.request.id)
            self._evicted.pop(sequence.request.id, None)
            self.finished[reason] += 1
            if sequence.has_begun:  # else it says nothing about how long answers take
                taken = time.monotonic() - sequence.created
                self._seconds_a_request += 0.1 * (taken - self._seconds_a_request)


def members_of(sequence: Sequence) -> list[Sequence]:
    """All that is computed for the request of ``sequence``."""
    return [sequence] if sequence.search is None else sequence.search.members
