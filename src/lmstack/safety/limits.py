"""How much one request, and one client in a minute, may ask for.

`Limits` is the configuration; `check_size` holds one request to it before anything is read
closely, so that a huge request costs next to nothing. `most_tokens` bounds tokens without
a tokenizer.

Over time a client has token buckets. What a request will use is not known when it starts, so the
most it can use is taken out first (`RateLimiter.reserve`) and what it did not use is put back at
its end (`Reservation.settle`). Checking and taking are one step under one lock, so clients that
ask at the same moment cannot spend the same tokens twice. Nothing waits in here: threads and event
loops may share a limiter. Counts live in this process; several servers each keep their own.
"""

from __future__ import annotations

import dataclasses
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from lmstack.core import (
    Config,
    ContextLengthError,
    InputError,
    ModelInfo,
    OverloadedError,
    Request,
    Tool,
    check_range,
)

__all__ = [
    "MAX_LABEL",
    "Limits",
    "RateLimiter",
    "Reservation",
    "cap_output",
    "characters",
    "check_size",
    "estimated_tokens",
    "most_tokens",
    "prompt_bytes",
]

# What a chat template adds around a message, in tokens, at most: role markers and line ends.
TEMPLATE_TOKENS = 16
# And what it says about tools and how to call them.
TOOLS_TOKENS = 1024
MAX_LABEL = 256
# Tokens are read from and written to text of about this many UTF-8 bytes each. Used only where
# a model did not say how many there were.
BYTES_PER_TOKEN = 4
MINUTE = 60.0
PRUNE_EVERY_S = 1.0
ROUNDING = 1e-9  # so that waiting exactly as long as was said is enough


@dataclass(frozen=True)
class Limits(Config):
    """None switches a limit off.

    ``max_characters``: of everything in a request that the model reads, grammar included; a
    prompt of token ids counts one for each id. ``max_messages``: of a conversation.
    ``max_output_tokens``: the most a request may ask for in one choice; one that does not say
    gets this. ``requests_per_minute``, ``tokens_per_minute``: for each client; the bucket holds
    one minute's worth, so a client that was quiet may use it at once. ``max_clients``: how many
    clients are kept count of.
    """

    max_characters: int | None = 200_000
    max_messages: int | None = 500
    max_output_tokens: int | None = None
    requests_per_minute: float | None = 600.0
    tokens_per_minute: float | None = None
    max_clients: int = 10_000

    def __post_init__(self) -> None:
        for name in (f.name for f in dataclasses.fields(self)):
            value = getattr(self, name)
            if value is not None:
                check_range(name, value, 1, 2**53)
        if self.max_clients is None:
            problem, hint = "max_clients is None, it needs a number", "leave it out for 10,000"
            raise InputError(problem, hint=hint, param="max_clients")


def characters(request: Request) -> int:
    """Characters that the model, or the compiler of its grammar, has to read."""
    total = len(request.prompt or ()) + sum(map(len, request.sampling.stop))
    total += len(request.grammar.source) if request.grammar else 0
    for message in request.messages:
        total += len(message.content) + len(message.name or "") + len(message.tool_call_id or "")
        total += sum(len(c.id) + len(c.name) + len(c.arguments) for c in message.tool_calls)
    return total + sum(len(_written(tool, indent=None)) for tool in request.tools)


def check_size(request: Request, limits: Limits) -> None:
    """`InputError` when ``request`` is over a limit of size; of its text a `ContextLengthError`,
    whether characters or tokens say that it is too long."""
    for name, value in (("client", request.client), ("request_id", request.request_id)):
        if len(value) > MAX_LABEL:
            message = f"{name} has {len(value)} characters, at most {MAX_LABEL}"
            raise InputError(message, hint="give a shorter one", param=name)
    if limits.max_messages is not None and len(request.messages) > limits.max_messages:
        raise InputError(
            f"the conversation has {len(request.messages)} messages, at most {limits.max_messages}",
            hint="leave out older messages",
            param="messages",
        )
    size = characters(request)
    if limits.max_characters is not None and size > limits.max_characters:
        raise ContextLengthError(
            f"the request has {size} characters, at most {limits.max_characters}",
            hint="shorten it",
            param="messages" if request.messages else "prompt",
        )
    asked, cap = request.sampling.max_tokens, limits.max_output_tokens
    if asked is not None and cap is not None and asked > cap:
        raise InputError(
            f"max_tokens is {asked}, at most {cap}",
            hint=f"ask for {cap} or fewer",
            param="max_tokens",
        )


def cap_output(
    request: Request, limits: Limits, prompt_tokens: int | None, window: int | None
) -> Request:
    """``request`` with the cap filled in where it does not say how much it wants. With the
    prompt's exact length known, the cap never asks for more than the window has left."""
    cap = limits.max_output_tokens
    if cap is None or request.sampling.max_tokens is not None:
        return request
    if window is not None and prompt_tokens is not None:
        cap = min(cap, window - prompt_tokens)
        if cap < 1:  # the model refuses a prompt that fills the window, and says it better
            return request
    return dataclasses.replace(request, sampling=request.sampling.replace(max_tokens=cap))


def most_tokens(request: Request, info: ModelInfo, prompt_tokens: int | None) -> int:
    """The most tokens that ``request`` can use. Without an exact count, a token of the prompt is
    taken to be at least one byte of it, which holds for every byte-level vocabulary."""
    window, choices = info.context_length, request.sampling.n
    if prompt_tokens is None:
        prompt_tokens = prompt_bytes(request) + TEMPLATE_TOKENS * (len(request.messages) + 1)
        prompt_tokens += TOOLS_TOKENS * bool(request.tools)
    output = request.sampling.max_tokens
    if output is None and window is None:
        raise InputError(
            "max_tokens is not set, and without it this client's token budget cannot be kept",
            hint="set max_tokens",
            param="max_tokens",
        )
    most = [] if output is None else [prompt_tokens + output * choices]
    return min(most + ([] if window is None else [window * choices]))


def estimated_tokens(size: int) -> int:
    """About how many tokens ``size`` bytes of text are."""
    return math.ceil(size / BYTES_PER_TOKEN)


def prompt_bytes(request: Request) -> int:
    """Bytes of the prompt in UTF-8; a prompt of token ids counts one for each id."""
    if isinstance(request.prompt, tuple):
        return len(request.prompt)
    texts = [request.prompt] if request.prompt is not None else list(_spoken(request))
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def _spoken(request: Request) -> Iterator[str]:
    for message in request.messages:
        yield message.content
        yield message.name or ""
        yield message.tool_call_id or ""
        for call in message.tool_calls:
            yield call.id + call.name + call.arguments
    for tool in request.tools:
        yield _written(tool, indent=4)  # as templates write it at the longest


def _written(tool: Tool, indent: int | None) -> str:
    schema = json.dumps(tool.parameters, indent=indent, ensure_ascii=False)
    return tool.name + tool.description + schema


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
