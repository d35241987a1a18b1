"""What goes into a language model and what comes out, for local and remote models alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lmstack.core.config import check_text
from lmstack.core.errors import InputError, shown
from lmstack.core.sampling import Grammar, SamplingParams

__all__ = [
    "Choice",
    "Completion",
    "Delta",
    "FinishReason",
    "Message",
    "ModelInfo",
    "Request",
    "Role",
    "Timings",
    "TokenLogprob",
    "ToolCall",
    "Usage",
]

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
ROLES = ("system", "user", "assistant", "tool")


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
        if self.role not in ROLES:
            raise InputError(
                f"a message has the role {shown(self.role)}",
                hint=f"roles are {', '.join(ROLES)}",
                param="messages",
            )
        check_text("the content of a message", self.content)
        if self.name is not None:
            check_text("the name in a message", self.name)


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to generate: a conversation (``messages``) or a raw ``prompt``, never both.

    ``prompt`` is text or token ids and skips the chat template. ``echo`` returns it before the
    completion, with log-probabilities if ``sampling.logprobs`` is set: of a text those from
    character ``echo_from`` on. ``client`` and ``request_id`` are for limits and audit, never shown
    to the model. What a prompt computed serves its ``cache_scope`` only; nobody else can tell.
    ``wishes`` are for models that answer from documents."""

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
    ``parameters``: how many; 0: unknown. ``parent``: name of the model that this adapts."""

    name: str
    digest: str | None = None
    context_length: int | None = None
    default_sampling: Mapping[str, float] = field(default_factory=dict, hash=False)
    languages: tuple[str, ...] = ()
    lexical_weight: float | None = None
    parameters: int = 0
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """One event of a stream. ``index`` is the choice. The last event of each choice carries
    ``finish_reason``; the very last event of the stream carries ``usage`` and ``timings``
    (and may have empty text)."""

    text: str = ""
    index: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timings: Timings | None = None


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
