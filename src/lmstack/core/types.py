"""What goes into models and what comes out, and the protocols between the two halves.

A chat model has one primitive, `ChatModel.stream`; `complete` and `complete_sync` are derived from
it, so streamed and whole answers cannot differ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt

from lmstack.core.config import check_text
from lmstack.core.errors import EngineError, InputError, shown
from lmstack.core.sampling import Grammar, SamplingParams

__all__ = [
    "ChatModel",
    "Choice",
    "Completion",
    "Delta",
    "Embedder",
    "FinishReason",
    "Message",
    "ModelInfo",
    "Request",
    "Reranker",
    "Role",
    "TextKind",
    "Timings",
    "TokenLogprob",
    "ToolCall",
    "Usage",
    "complete",
    "complete_sync",
]

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
TextKind = Literal["query", "passage"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for; ``arguments`` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise InputError(
                f"a message has the role {shown(self.role)}",
                hint=f"roles are {', '.join(get_args(Role))}",
                param="messages",
            )
        check_text("the content of a message", self.content)
        if self.name is not None:
            check_text("the name in a message", self.name)


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to generate: a conversation (``messages``) or a raw ``prompt``, never both.
    ``prompt`` is text or token ids and skips the chat template. ``echo`` returns it before the
    completion, with log-probabilities (``sampling.logprobs``) from character ``echo_from`` on.
    ``client`` and ``request_id`` are for limits and audit, never shown to the model. What a prompt
    computed serves its ``cache_scope`` only. ``wishes``: of models that answer from documents."""

    messages: tuple[Message, ...] = ()
    prompt: str | tuple[int, ...] | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    grammar: Grammar | None = None
    echo: bool = False
    echo_from: int = 0
    client: str = "local"
    request_id: str = ""
    cache_scope: str = ""
    wishes: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if bool(self.messages) == (self.prompt is not None):
            state = "needs either messages or" if self.prompt is None else "has both messages and"
            raise InputError(f"a request {state} a prompt", param="messages")
        if isinstance(self.prompt, str):
            check_text("prompt", self.prompt)
        for message in self.messages:
            if not isinstance(message, Message):
                raise InputError(f"a message is {shown(message)}, not a Message", param="messages")


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """``token`` may hold replacement characters; ``bytes`` are exact. Natural logarithm;
    None where nothing precedes a token of an echoed prompt, and before ``echo_from``."""

    token: str
    bytes: bytes
    logprob: float | None
    id: int = -1
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. ``cached_tokens``: prompt tokens taken from the prefix cache."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds since the request was submitted."""

    first_token_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """``digest``: content digest (``sha256:...``) of a local model. ``default_sampling``: fields of
    `SamplingParams` where a request leaves them out. ``languages``: all that it reads (ISO 639-1);
    empty: many or unknown. ``lexical_weight``: of words beside an embedder's cosines, if measured.
    ``parameters``: how many, or 0. ``parent``: the name of the model that this adapts.
    ``shared_norm``: of a reader (training objective), its temperature and null score."""

    name: str
    digest: str | None = None
    context_length: int | None = None
    default_sampling: Mapping[str, float] = field(default_factory=dict, hash=False)
    languages: tuple[str, ...] = ()
    lexical_weight: float | None = None
    parameters: int = 0
    parent: str | None = None
    shared_norm: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """One event of a stream. ``index`` is the choice. The last event of each choice carries
    ``finish_reason``; the very last of the stream ``usage`` and ``timings`` (and maybe no text).
    ``digest``: of the weights that computed it, if those of `ModelInfo` may be others by now."""

    text: str = ""
    index: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    index: int
    text: str
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    choices: tuple[Choice, ...]
    usage: Usage
    model: ModelInfo
    timings: Timings = Timings()

    @property
    def text(self) -> str:
        return self.choices[0].text


@runtime_checkable
class ChatModel(Protocol):
    """A language model, local, remote, guarded or scripted."""

    @property
    def info(self) -> ModelInfo: ...

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        """Generate. Errors about the request are raised before the first event. Closing the
        iterator early (``aclose``) cancels the request and frees what it held."""


@runtime_checkable
class Embedder(Protocol):
    """Text to vectors. Thread-safe."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def dimensions(self) -> int: ...

    @property
    def max_tokens(self) -> int:
        """Tokens of one text, special tokens included, that are seen; the rest is cut."""

    def embed(self, texts: Sequence[str], kind: TextKind = "passage") -> npt.NDArray[np.float32]:
        """Unit vectors, shape (len(texts), dimensions)."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens included, before any cut."""


@runtime_checkable
class Reranker(Protocol):
    @property
    def info(self) -> ModelInfo: ...

    def score(self, query: str, passages: Sequence[str]) -> npt.NDArray[np.float32]:
        """Relevance of each passage, higher is better, shape (len(passages),)."""


async def complete(model: ChatModel, request: Request) -> Completion:
    """The whole answer of ``model``, gathered from its stream."""
    texts: dict[int, list[str]] = {}
    logprobs: dict[int, list[TokenLogprob]] = {}
    finished: dict[int, FinishReason] = {}
    usage, timings, digest = Usage(), Timings(), model.info.digest
    async for delta in model.stream(request):
        texts.setdefault(delta.index, []).append(delta.text)
        logprobs.setdefault(delta.index, []).extend(delta.logprobs)
        if delta.finish_reason is not None:
            finished[delta.index] = delta.finish_reason
        usage = delta.usage or usage
        timings = delta.timings or timings
        digest = delta.digest or digest
    if sorted(finished) != list(range(request.sampling.n)):
        raise EngineError(
            f"{model.info.name} ended the choices {sorted(finished)} of {request.sampling.n}",
            hint="try the request again; if it persists, look at the server's log",
        )
    choices = tuple(
        Choice(i, "".join(texts[i]), finished[i], tuple(logprobs[i])) for i in sorted(finished)
    )
    return Completion(choices, usage, replace(model.info, digest=digest), timings)


def complete_sync(model: ChatModel, request: Request) -> Completion:
    """`complete` for code without an event loop; inside of one (a notebook has one) it is an
    `InputError`."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(complete(model, request))
    raise InputError(
        "complete_sync was called inside a running event loop", hint="use `await complete(...)`"
    )
