"""Request bodies of chat and plain completions, field by field.

Covers every parameter that the official SDK knows, and vLLM's sampling extensions; messages and
tools are in `chat_messages`. Does not cover what happens to them: see `mapping`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, create_model, model_validator

from lmstack.core import SamplingParams
from lmstack.core.config import Allowed
from lmstack.serve.http.chat_messages import (
    DEPRECATED,
    MAX_TOOLS,
    ChatMessage,
    ChatTool,
    ChatToolChoice,
)
from lmstack.serve.http.fields import (
    Body,
    FirstMistake,
    Hint,
    ModelName,
    StopStrings,
    Texts,
    TokenIds,
    Whole,
    about,
    at_most,
    problem,
    refused,
)

__all__ = [
    "MAX_MESSAGES",
    "ChatBody",
    "CompletionBody",
    "JsonSchemaFormat",
    "MaxTokens",
    "Metadata",
    "ResponseFormat",
    "SamplingBody",
    "StreamOptions",
]

MAX_MESSAGES = 1024
MAX_PROMPTS = 64
MAX_BIASES = 1024

LogitBias = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^[0-9]{1,9}$")],
        Annotated[float, Field(ge=-100, le=100)],
    ],
    Field(max_length=MAX_BIASES, json_schema_extra={"additionalProperties": False}),
    at_most(MAX_BIASES),
]


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
    at_most(16),
]


class StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: Any = refused("chunks are not padded to hide their size", False)


# Of OpenAI's API; all others are extensions.
OURS = "Extension."
OPENAI_SAMPLING = {"frequency_penalty", "n", "presence_penalty", "seed", "temperature", "top_p"}
# Fields that a body has in another form, or not at all.
OTHERWISE = {"max_tokens", "logprobs", "logit_bias", "forced_bos_id", "forced_eos_id"}


def _derived(name: str, allowed: Allowed) -> Any:
    """The type of a field in a body and its default, from what `SamplingParams` allows in it."""
    kind: Any = allowed.kind
    low, high = kind(allowed.low), kind(allowed.high)
    bounds = Field(gt=low, le=high) if allowed.above else Field(ge=low, le=high)
    if kind is str:
        field: Any = Texts
    elif kind is bool:
        field = bool | Literal[allowed.also] if allowed.also else bool
    else:
        field = Annotated[kind, bounds, Whole] if kind is int else Annotated[kind, bounds]
    text = None if name in OPENAI_SAMPLING else f"{OURS} {allowed.about}".strip()
    return field | None, about(text)


if TYPE_CHECKING:

    class SamplingFields(Body):
        """Those of `SamplingParams` that a body has under the same name, None unless stated."""

        n: int | None
        num_beams: int | None
else:
    SamplingFields = create_model(
        "SamplingFields",
        __base__=Body,
        **{
            each.name: _derived(each.name, each.metadata["rule"])
            for each in dataclasses.fields(SamplingParams)
            if each.name not in OTHERWISE
        },
    )


class SamplingBody(SamplingFields):
    """What chat and plain completions share: sampling parameters as `SamplingParams` declares
    them, and those that mean the same in another form."""

    model: ModelName
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logit_bias: LogitBias | None = None
    user: Hint = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1), Whole] | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31), Whole] | None = about(f"{OURS} 0 or -1 is off.")
    no_repeat_ngram_size: Annotated[int, Field(ge=0, le=1024), Whole] | None = about(
        f"{OURS} 0 is off."
    )
    stop: StopStrings | None = None
    stop_regex: StopStrings | None = about(f"{OURS} The text ends with a match and keeps it.")
    use_beam_search: bool | None = about(f"{OURS} The beams are num_beams, else best_of, else n.")

    @property
    def beams(self) -> int:
        """How many beams this asks for."""
        if self.num_beams is not None or not self.use_beam_search:
            return self.num_beams or 1
        return getattr(self, "best_of", None) or self.n or 1

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        if self.use_beam_search is not None and self.use_beam_search != (self.beams > 1):
            raise problem(
                f"is {str(self.use_beam_search).lower()}, but there would be {self.beams} beams",
                "use_beam_search",
                hint="say how many with num_beams",
            )
        if self.stream_options is not None and not self.stream:
            raise problem("only allowed with stream: true", "stream_options")
        return self


MaxTokens = Annotated[int, Field(ge=1, le=2**31), Whole] | None


class JsonSchemaFormat(Body):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Any = refused("the model is not shown a description; put it into a message")
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = about("The schema is enforced either way.")


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @model_validator(mode="after")
    def _schema_goes_with_its_type(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise problem("needed with type json_schema, and only there", "json_schema")
        return self


class CacheOptions(Body):
    mode: Any = refused("the prefix cache finds its own breakpoints", "implicit")
    ttl: Any = refused("cached prefixes live until their room is needed")


class ChatBody(SamplingBody):
    messages: Annotated[
        list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES), FirstMistake()
    ]
    max_tokens: MaxTokens = None
    max_completion_tokens: MaxTokens = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), Whole] | None = None
    response_format: ResponseFormat | None = None
    metadata: Metadata | None = about("Returned with a whole answer; not stored.")
    answers: Literal["quote", "write"] | None = about(
        f"{OURS} Of a folder's model: quote the documents, or write."
    )
    unsure: Literal["closest", "strict"] | None = about(
        f"{OURS} Of a folder's model: where no passage is certain to answer, show what comes"
        " closest in any case, or be strict and show nothing."
    )
    task: Literal["answer", "summarize", "compare", "list", "draft"] | None = about(
        f"{OURS} Of a folder's model: what is to be written. All but an answer are written from"
        " whole documents or many passages."
    )
    system: Literal["refuse", "note"] | None = about(
        f"{OURS} Of a folder's model: where it quotes, refuse a request with a system message, or"
        " answer and note at the end that the message was not applied."
    )
    safety_identifier: Hint = None
    prompt_cache_key: Hint = None
    tools: Annotated[list[ChatTool], Field(max_length=MAX_TOOLS), FirstMistake()] | None = None
    tool_choice: ChatToolChoice | None = None
    parallel_tool_calls: bool | None = about("Without tools it changes nothing.")
    service_tier: Any = refused("there is one service tier", "auto", "default")
    store: Any = refused("this server keeps no completions", False)
    modalities: Any = refused("the only modality is text", ["text"])
    verbosity: Any = refused("this model's verbosity cannot be set", "medium")
    reasoning_effort: Any = refused("this model does not reason apart from its answer", "none")
    prompt_cache_options: CacheOptions | None = None
    prompt_cache_retention: Any = refused("prefixes are kept in memory only", "in_memory")
    functions: Any = refused(DEPRECATED, [])
    function_call: Any = refused(DEPRECATED, "none")
    audio: Any = refused("audio is not supported")
    prediction: Any = refused("predicted outputs are not supported")
    moderation: Any = refused("there is no moderation model here")
    web_search_options: Any = refused("web search is not supported")

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise problem("only allowed with logprobs: true", "top_logprobs")
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) == 2:
            raise problem(
                "differs from max_completion_tokens", "max_tokens", hint="give one of the two"
            )
        return self


class CompletionBody(SamplingBody):
    prompt: (
        str
        | TokenIds
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS), FirstMistake()]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_PROMPTS), FirstMistake()]
    )
    max_tokens: MaxTokens = about("16 where absent, as in OpenAI's API.")
    logprobs: Annotated[int, Field(ge=0, le=5), Whole] | None = None
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=1, le=16), Whole] | None = about(
        "Must equal n, but in beam search."
    )
    suffix: Any = refused("insertion is not supported")

    @model_validator(mode="after")
    def _every_choice_is_returned(self) -> Self:
        if self.use_beam_search and (self.best_of or self.beams) == self.beams:
            return self
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise problem(f"{self.best_of} differs from n = {self.n or 1}", "best_of")
        return self
