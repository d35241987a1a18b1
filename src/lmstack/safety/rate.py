"""Token buckets: how many requests and tokens each client may use over time.

What a request will use is not known when it starts, so the most it can use is taken out first
(`RateLimiter.reserve`) and what it did not use is put back at its end (`Reservation.settle`).
Checking and taking are one step under one lock, so clients that ask at the same moment cannot
spend the same tokens twice. Nothing waits in here: threads and event loops may share a limiter.
Counts live in this process; several servers each keep their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lmstack.core import InputError, OverloadedError
from lmstack.safety.limits import Limits

__all__ = ["RateLimiter", "Reservation"]

MINUTE = 60.0
PRUNE_EVERY_S = 1.0
ROUNDING = 1e-9  # so that waiting exactly as long as was said is enough


@dataclass(slots=True)
class _Bucket:
    """``level`` of ``capacity``, filled at ``capacity`` a minute. May be below zero when a
    request used more than it reserved."""

    capacity: float
    level: float
    at: float

    def refill(self, now: float) -> None:
        gained = max(0.0, now - self.at) * self.capacity / MINUTE
        self.level = min(self.capacity, self.level + gained)
        self.at = max(self.at, now)

    def wait_s(self, amount: float) -> float:
        """Seconds until ``amount`` can be taken; 0 means now."""
        missing = amount - self.level
        return missing * MINUTE / self.capacity if missing > ROUNDING else 0.0


@dataclass(slots=True)
class _Client:
    requests: _Bucket | None
    tokens: _Bucket | None

    def full(self, now: float) -> bool:
        for bucket in filter(None, (self.requests, self.tokens)):
            bucket.refill(now)
            if bucket.level < bucket.capacity:
                return False
        return True


@dataclass(slots=True)
class Reservation:
    """Tokens taken out for one request. `settle` once it is over; later calls do nothing."""

    client: str
    tokens: int
    _limiter: RateLimiter
    _settled: bool = field(default=False, init=False)

    def settle(self, used: int) -> None:
        """Put back what was reserved and not used, or take the rest of what was."""
        self._limiter._settle(self, used)


class RateLimiter:
    """Buckets for each client by the rates of ``limits``. ``clock``: seconds, monotonic."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._clients: dict[str, _Client] = {}
        self._pruned_at = float("-inf")

    def reserve(self, client: str, tokens: int = 0) -> Reservation:
        """Take one request and ``tokens`` from ``client``, both or neither. `OverloadedError`
        with the time to wait when there are not enough, `InputError` when there never will be.
        """
        most = self._limits.tokens_per_minute
        if most is not None and tokens > most:
            raise InputError(
                f"the request may use {tokens} tokens, the limit is {most:g} a minute",
                hint="ask for fewer with max_tokens, or shorten the prompt",
                param="max_tokens",
            )
        with self._lock:
            now = self._clock()
            state = self._clients.get(client) or self._add(client, now)
            for bucket, amount, unit in (
                (state.requests, 1, "requests"),
                (state.tokens, tokens, "tokens"),
            ):
                if bucket is None:
                    continue
                bucket.refill(now)
                wait = bucket.wait_s(amount)
                if wait > 0:
                    raise OverloadedError(
                        f"this client is over its limit of {bucket.capacity:g} {unit} a minute",
                        hint=f"try again in {max(wait, 0.1):.1f} s",
                        retry_after_s=wait,
                    )
            if state.requests is not None:
                state.requests.level -= 1
            if state.tokens is not None:
                state.tokens.level -= tokens
            return Reservation(client, tokens, self)

    def _settle(self, reservation: Reservation, used: int) -> None:
        with self._lock:
            if reservation._settled:
                return
            reservation._settled = True
            state = self._clients.get(reservation.client)
            if state is not None and state.tokens is not None:
                state.tokens.refill(self._clock())
                back = reservation.tokens - used
                state.tokens.level = min(state.tokens.capacity, state.tokens.level + back)

    def _add(self, client: str, now: float) -> _Client:
        """A new client, after forgetting those whose buckets have filled up again: a full
        bucket and none at all are the same."""
        if len(self._clients) >= self._limits.max_clients and (
            now - self._pruned_at >= PRUNE_EVERY_S
        ):
            self._pruned_at = now
            self._clients = {k: v for k, v in self._clients.items() if not v.full(now)}
        if len(self._clients) >= self._limits.max_clients:
            raise OverloadedError(
                f"{len(self._clients)} clients are active, the most that is kept count of",
                hint="try again in a minute",
                retry_after_s=MINUTE,
            )
        requests, tokens = self._limits.requests_per_minute, self._limits.tokens_per_minute
        state = _Client(
            None if requests is None else _Bucket(requests, requests, now),
            None if tokens is None else _Bucket(tokens, tokens, now),
        )
        self._clients[client] = state
        return state
