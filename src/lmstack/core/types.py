"""What goes into models and what comes out, and the protocols between the two halves.

A chat model has one primitive, `ChatModel.stream`; `complete` and `complete_sync` are derived from
it, so streamed and whole answers cannot differ."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt

from lmstack.core.config import check_text
from lmstack.core.errors import EngineError, InputError, shown
from lmstack.core.sampling import Grammar, SamplingParams
from lmstack.core.schemas import check_schema
from lmstack.core.usage import Usage

__all__ = [
    "ChatModel",
    "ChatRenderer",
    "Choice",
    "Completion",
    "Delta",
    "Embedder",
    "FinishReason",
    "Likelihood",
    "LikelihoodModel",
    "Message",
    "ModelInfo",
    "Request",
    "Reranker",
    "Role",
    "TextKind",
    "TextLikelihoodModel",
    "TextWindows",
    "Timings",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "close_model",
    "complete",
    "complete_sync",
]

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
TextKind = Literal["query", "passage"]

_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
TOOL_CHOICES = ("auto", "none", "required")
# What every provider takes as the name of a tool.
TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may ask for. ``parameters``: the JSON Schema of its arguments, an
    object. A local model's arguments always follow it; ``strict`` asks a provider's for the same.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: dict(_NO_ARGUMENTS), hash=False)
    strict: bool = False

    def __post_init__(self) -> None:
        name = self.name
        if not isinstance(name, str) or not TOOL_NAME.fullmatch(name) or name in TOOL_CHOICES:
            raise InputError(
                f"a tool has the name {shown(name)}",
                hint="a name has 1 to 64 letters, digits, _ and -, and is not auto, none or"
                " required",
                param="tools",
            )
        check_text(f"the description of the tool {name}", self.description)
        check_schema(f"the parameters of the tool {name}", self.parameters, param="tools")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for; ``arguments`` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of a choice's call number ``index``: with its first delta comes all of its ``id`` and
    ``name``; ``arguments`` are joined."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


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
    ``tool_choice``: ``auto``, ``none``, ``required``, or the name of the one that has to be called.
    ``client`` and ``request_id`` are for limits and audit, never shown to the model. What a prompt
    computed serves its ``cache_scope`` only. ``wishes``: of models that answer from documents.
    ``prompt_name`` and ``prompt_digest``: of the prompt file that it was made from, for audit."""

    messages: tuple[Message, ...] = ()
    prompt: str | tuple[int, ...] | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    grammar: Grammar | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True
    echo: bool = False
    echo_from: int = 0
    client: str = "local"
    request_id: str = ""
    cache_scope: str = ""
    wishes: Mapping[str, str] = field(default_factory=dict, hash=False)
    prompt_name: str = ""
    prompt_digest: str = ""

    def __post_init__(self) -> None:
        if bool(self.messages) == (self.prompt is not None):
            state = "needs either messages or" if self.prompt is None else "has both messages and"
            raise InputError(f"a request {state} a prompt", param="messages")
        if isinstance(self.prompt, str):
            check_text("prompt", self.prompt)
        for message in self.messages:
            if not isinstance(message, Message):
                raise InputError(f"a message is {shown(message)}, not a Message", param="messages")
        self._check_tools()

    def _check_tools(self) -> None:
        names = [tool.name for tool in self.tools]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"two tools have the name {twice}", param="tools")
        if self.tools and self.prompt is not None:
            raise InputError("a raw prompt cannot have tools", hint="send messages", param="tools")
        if self.tool_choice not in (*TOOL_CHOICES, *names):
            raise InputError(
                f"tool_choice is {shown(self.tool_choice)}, and no tool has that name",
                hint=f"it is {', '.join((*TOOL_CHOICES, *names))}",
                param="tool_choice",
            )
        if not names and self.tool_choice == "required":
            raise InputError("tool_choice is required, and there are no tools", param="tool_choice")
        if self.grammar is not None and self.called_tools:
            raise InputError(
                "response_format and tools hold one answer to two forms",
                hint="leave one out, or set tool_choice to none",
                param="response_format",
            )

    @property
    def called_tools(self) -> tuple[Tool, ...]:
        """Those that the answer may call."""
        if self.tool_choice in ("auto", "required"):
            return self.tools
        return tuple(tool for tool in self.tools if tool.name == self.tool_choice)


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
class Likelihood:
    """Of a continuation after its context: ``logprob``, summed over its ``num_tokens`` tokens
    (natural logarithm), and whether greedy decoding would have written each of them."""

    logprob: float
    num_tokens: int
    is_greedy: bool


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
    ``shared_norm``: of a reader, its temperature and null score. ``reacts``: best by ReAct."""

    name: str
    digest: str | None = None
    context_length: int | None = None
    default_sampling: Mapping[str, float] = field(default_factory=dict, hash=False)
    languages: tuple[str, ...] = ()
    lexical_weight: float | None = None
    parameters: int = 0
    parent: str | None = None
    shared_norm: tuple[float, float] | None = None
    reacts: bool = False


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
    tool_call: ToolCallDelta | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    index: int
    text: str
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def message(self) -> Message:
        """The turn to give back to the model in the next request."""
        return Message("assistant", self.text, tool_calls=self.tool_calls)


@dataclass(frozen=True, slots=True)
class Completion:
    choices: tuple[Choice, ...]
    usage: Usage
    model: ModelInfo
    timings: Timings = Timings()

    @property
    def text(self) -> str:
        return self.choices[0].text

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return self.choices[0].tool_calls


@runtime_checkable
class ChatModel(Protocol):
    """A language model, local, remote, guarded or scripted."""

    @property
    def info(self) -> ModelInfo: ...

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        """Generate. Errors about the request are raised before the first event. Closing the
        iterator early (``aclose``) cancels the request and frees what it held."""


def close_model(model: ChatModel) -> None:
    """Free a model that holds threads or memory; others have nothing to free."""
    close = getattr(model, "close", None)
    if close is not None:
        close()


@runtime_checkable
class LikelihoodModel(Protocol):
    """A model that says how likely texts are, by the forward pass that also writes."""

    @property
    def info(self) -> ModelInfo: ...

    async def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """Of each (context, continuation). The continuation's tokens are those of both texts
        together after as many as the context has alone, as lm-evaluation-harness counts them; an
        empty context stands for the beginning of a text. `ContextLengthError` where one does not
        fit."""
        ...


# Of a text of so many tokens, by a model that reads at most so many at once: places of tokens in
# the text, (where the model begins to read, the first that is scored, the first that no longer is).
# The place -1 is the token that stands before a text: BOS, or EOS where there is none.
TextWindows = Callable[[int, int], Sequence[tuple[int, int, int]]]


@runtime_checkable
class TextLikelihoodModel(Protocol):
    """A model that says how likely a text is that may be longer than what it reads at once."""

    async def text_likelihoods(
        self, text: str, windows: TextWindows, *, add_special_tokens: bool = False
    ) -> list[Likelihood]:
        """Of each window, in order. ``windows`` is told how many tokens ``text`` has, and how many
        the model was made to read. ``add_special_tokens``: those that the tokenizer adds to any
        text are tokens of this one. `ContextLengthError` where a window does not fit."""
        ...


@runtime_checkable
class ChatRenderer(Protocol):
    """A model with a chat template."""

    def render_chat(self, messages: Sequence[Message]) -> str:
        """The prompt of a conversation as text, up to where the assistant's answer begins.
        `UnsupportedError` where there is no template, `InputError` (``param`` "messages") where it
        refuses these messages."""
        ...


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
    calls: dict[int, dict[int, ToolCall]] = {}
    finished: dict[int, FinishReason] = {}
    usage, timings, digest = Usage(), Timings(), model.info.digest
    async for delta in model.stream(request):
        texts.setdefault(delta.index, []).append(delta.text)
        logprobs.setdefault(delta.index, []).extend(delta.logprobs)
        if (part := delta.tool_call) is not None:
            of_choice = calls.setdefault(delta.index, {})
            so_far = of_choice.get(part.index, ToolCall("", "", ""))
            of_choice[part.index] = ToolCall(
                so_far.id + part.id, so_far.name + part.name, so_far.arguments + part.arguments
            )
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
    choices = []
    for i in sorted(finished):
        called = tuple(calls.get(i, {}).values())
        choices.append(Choice(i, "".join(texts[i]), finished[i], tuple(logprobs[i]), called))
    return Completion(tuple(choices), usage, replace(model.info, digest=digest), timings)


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
