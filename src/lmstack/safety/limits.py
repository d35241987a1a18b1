"""How much one request, and one client in a minute, may ask for.

`Limits` is the configuration; `check_size` holds one request to it before anything is read
closely, so that a huge request costs next to nothing. `most_tokens` bounds tokens without
a tokenizer. Rates over time are in `rate`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from lmstack.core import Config, ContextLengthError, InputError, ModelInfo, Request, check_range

__all__ = [
    "MAX_LABEL",
    "Limits",
    "cap_output",
    "characters",
    "check_size",
    "estimated_tokens",
    "most_tokens",
    "prompt_bytes",
]

# What a chat template adds around a message, in tokens, at most: role markers and line ends.
TEMPLATE_TOKENS = 16
MAX_LABEL = 256
# Tokens are read from and written to text of about this many UTF-8 bytes each. Used only where
# a model did not say how many there were.
BYTES_PER_TOKEN = 4


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
            raise InputError("max_clients is None, it needs a number", param="max_clients")


def characters(request: Request) -> int:
    """Characters that the model, or the compiler of its grammar, has to read."""
    total = len(request.prompt or ()) + sum(map(len, request.sampling.stop))
    total += len(request.grammar.source) if request.grammar else 0
    for message in request.messages:
        total += len(message.content) + len(message.name or "")
        total += sum(len(c.name) + len(c.arguments) for c in message.tool_calls)
    return total


def check_size(request: Request, limits: Limits) -> None:
    """`InputError` when ``request`` is over a limit of size; of its text a `ContextLengthError`,
    whether characters or tokens say that it is too long."""
    for name, value in (("client", request.client), ("request_id", request.request_id)):
        if len(value) > MAX_LABEL:
            raise InputError(f"{name} has {len(value)} characters, at most {MAX_LABEL}", param=name)
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
    texts = [m.content for m in request.messages] if request.prompt is None else [request.prompt]
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
