"""Request bodies of the OpenAI routes and of /tokenize, /detokenize, field by field.

Covers every parameter that the official SDK knows, and vLLM's sampling extensions. Does not
cover what happens to them: see `mapping`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, create_model, model_validator

from lmstack.core import SamplingParams
from lmstack.core.sampling import Allowed
from lmstack.serve.http.fields import (
    AnyTokenIds,
    Body,
    FirstMistake,
    Refused,
    StopStrings,
    Texts,
    TokenIds,
    Whole,
    at_most,
    problem,
    unsupported,
)

__all__ = [
    "ChatBody",
    "ChatMessage",
    "CompletionBody",
    "DetokenizeBody",
    "EmbeddingBody",
    "JsonSchemaFormat",
    "ResponseFormat",
    "SamplingBody",
    "StreamOptions",
    "TextPart",
    "TokenizeBody",
]

MAX_MESSAGES = 1024
MAX_PARTS = 256
MAX_PROMPTS = 64
MAX_EMBEDDINGS = 2048
MAX_BIASES = 1024
NO_TOOLS = "tools are not supported by this version"
NO_STORE = "this server keeps no completions"

Hint = Annotated[
    str | None,
    Field(max_length=512, description="Accepted; it changes nothing here."),
]


LogitBias = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^[0-9]{1,9}$")],
        Annotated[float, Field(ge=-100, le=100)],
    ],
    Field(max_length=MAX_BIASES, json_schema_extra={"additionalProperties": False}),
    at_most(MAX_BIASES),
]


class StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: Annotated[
        Any, Refused("chunks are not padded to hide their size", False)
    ] = None


# Of OpenAI's API; all others are extensions.
OPENAI_SAMPLING = {"frequency_penalty", "n", "presence_penalty", "seed", "temperature", "top_p"}
# Fields that a body has in another form, or not at all.
OTHERWISE = {"max_tokens", "logprobs", "logit_bias", "forced_bos_id", "forced_eos_id"}


def _derived(name: str, allowed: Allowed) -> Any:
    """The type of a field in a body, from what `SamplingParams` allows in it."""
    about = None if name in OPENAI_SAMPLING else f"Extension. {allowed.about}".strip()
    kind: Any = allowed.kind
    if kind is str:
        return Annotated[Texts, Field(description=about)] | None
    if kind is bool:
        flag = Annotated[bool, Field(description=about)]
        return (flag | Literal[allowed.also] if allowed.also else flag) | None
    low, high = kind(allowed.low), kind(allowed.high)
    bounds = Field(gt=low, le=high, description=about) if allowed.above else None
    bounds = bounds or Field(ge=low, le=high, description=about)
    return (Annotated[kind, bounds, Whole] if kind is int else Annotated[kind, bounds]) | None


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
            each.name: (_derived(each.name, each.metadata["allowed"]), None)
            for each in dataclasses.fields(SamplingParams)
            if each.name not in OTHERWISE
        },
    )


class SamplingBody(SamplingFields):
    """What chat and plain completions share: sampling parameters as `SamplingParams` declares
    them, and those that mean the same in another form."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logit_bias: LogitBias | None = None
    user: Hint = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1), Whole] | None = None
    top_k: (
        Annotated[int, Field(ge=-1, le=2**31, description="Extension. 0 or -1 is off."), Whole]
        | None
    ) = None
    no_repeat_ngram_size: (
        Annotated[int, Field(ge=0, le=1024, description="Extension. 0 is off."), Whole] | None
    ) = None
    stop: StopStrings | None = None
    stop_regex: (
        Annotated[
            StopStrings,
            Field(description="Extension: the text ends with the first match, which it keeps."),
        ]
        | None
    ) = None
    use_beam_search: (
        Annotated[
            bool, Field(description="Extension. The beams are num_beams, else best_of, else n.")
        ]
        | None
    ) = None

    @property
    def beams(self) -> int:
        """How many beams this asks for."""
        if self.num_beams is not None or not self.use_beam_search:
            return self.num_beams or 1
        return getattr(self, "best_of", None) or self.n or 1

    @model_validator(mode="after")
    def _beams_are_asked_for_once(self) -> Self:
        if self.use_beam_search is not None and self.use_beam_search != (self.beams > 1):
            raise problem(
                f"is {str(self.use_beam_search).lower()}, but there would be {self.beams} beams",
                "use_beam_search",
                hint="say how many with num_beams",
            )
        return self

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise problem("only allowed with stream: true", "stream_options")
        return self


MaxTokens = Annotated[int, Field(ge=1, le=2**31), Whole] | None


class TextPart(Body):
    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: Annotated[
        Any, Refused("the prefix cache finds its own breakpoints")
    ] = None

    @classmethod
    def refuse_kind(cls, data: dict[str, Any]) -> None:
        if data.get("type") in ("image_url", "input_audio", "file", "refusal"):
            raise unsupported(f"{data['type']} parts are not supported, only text", "type")


class ChatMessage(Body):
    """``developer`` is read as ``system``. Text only."""

    role: Literal["developer", "system", "user", "assistant"]
    content: (
        str | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_PARTS), FirstMistake()]
    )
    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    refusal: Annotated[
        Any, Refused("refusals of earlier answers cannot be given back to the model")
    ] = None
    audio: Annotated[Any, Refused("audio is not supported")] = None
    tool_calls: Annotated[Any, Refused(NO_TOOLS, [])] = None
    function_call: Annotated[Any, Refused(NO_TOOLS)] = None
    tool_call_id: Annotated[Any, Refused(NO_TOOLS)] = None

    @classmethod
    def refuse_kind(cls, data: dict[str, Any]) -> None:
        if data.get("role") in ("tool", "function"):
            raise unsupported(NO_TOOLS, "role")


class JsonSchemaFormat(Body):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Annotated[
        Any, Refused("the model is not shown a description; put it into a message")
    ] = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: Annotated[bool, Field(description="The schema is enforced either way.")] | None = None


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @model_validator(mode="after")
    def _schema_goes_with_its_type(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise problem("needed with type json_schema, and only there", "json_schema")
        return self


class CacheOptions(Body):
    mode: Annotated[Any, Refused("the prefix cache finds its own breakpoints", "implicit")] = None
    ttl: Annotated[Any, Refused("cached prefixes live until their room is needed")] = None


class ChatBody(SamplingBody):
    messages: Annotated[
        list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES), FirstMistake()
    ]
    max_tokens: MaxTokens = None
    max_completion_tokens: MaxTokens = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), Whole] | None = None
    response_format: ResponseFormat | None = None
    metadata: (
        Annotated[
            dict[
                Annotated[str, Field(max_length=64)],
                Annotated[str, Field(max_length=512)],
            ],
            Field(max_length=16, description="Returned with a whole answer; not stored."),
            at_most(16),
        ]
        | None
    ) = None
    answers: (
        Annotated[
            Literal["quote", "write"],
            Field(description="Extension, of a folder's model: quote the documents, or write."),
        ]
        | None
    ) = None
    unsure: (
        Annotated[
            Literal["closest", "strict"],
            Field(
                description="Extension, of a folder's model: where no passage is certain to answer,"
                " show what comes closest in any case, or be strict and show nothing."
            ),
        ]
        | None
    ) = None
    task: (
        Annotated[
            Literal["answer", "summarize", "compare", "list", "draft"],
            Field(
                description="Extension, of a folder's model: what is to be written. All but an"
                " answer are written from whole documents or many passages."
            ),
        ]
        | None
    ) = None
    safety_identifier: Hint = None
    prompt_cache_key: Hint = None
    parallel_tool_calls: (
        Annotated[bool, Field(description="Accepted; without tools it changes nothing.")] | None
    ) = None
    service_tier: Annotated[Any, Refused("there is one service tier", "auto", "default")] = None
    store: Annotated[Any, Refused(NO_STORE, False)] = None
    modalities: Annotated[Any, Refused("the only modality is text", ["text"])] = None
    verbosity: Annotated[Any, Refused("this model's verbosity cannot be set", "medium")] = None
    reasoning_effort: Annotated[
        Any, Refused("this model does not reason apart from its answer", "none")
    ] = None
    prompt_cache_options: CacheOptions | None = None
    prompt_cache_retention: Annotated[
        Any, Refused("prefixes are kept in memory only", "in_memory")
    ] = None
    tools: Annotated[Any, Refused(NO_TOOLS, [])] = None
    tool_choice: Annotated[Any, Refused(NO_TOOLS, "none")] = None
    functions: Annotated[Any, Refused(NO_TOOLS, [])] = None
    function_call: Annotated[Any, Refused(NO_TOOLS, "none")] = None
    audio: Annotated[Any, Refused("audio is not supported")] = None
    prediction: Annotated[Any, Refused("predicted outputs are not supported")] = None
    moderation: Annotated[Any, Refused("there is no moderation model here")] = None
    web_search_options: Annotated[Any, Refused("web search is not supported")] = None

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
    max_tokens: Annotated[MaxTokens, Field(description="16 where absent, as in OpenAI's API.")] = (
        None
    )
    logprobs: Annotated[int, Field(ge=0, le=5), Whole] | None = None
    echo: bool | None = None
    best_of: (
        Annotated[int, Field(ge=1, le=16, description="Must equal n, but in beam search."), Whole]
        | None
    ) = None
    suffix: Annotated[Any, Refused("insertion is not supported")] = None

    @model_validator(mode="after")
    def _every_choice_is_returned(self) -> Self:
        if self.use_beam_search and (self.best_of or self.beams) == self.beams:
            return self
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise problem(f"{self.best_of} differs from n = {self.n or 1}", "best_of")
        return self


class EmbeddingBody(Body):
    model: Annotated[str, Field(min_length=1, max_length=256)]
    input: (
        str
        | TokenIds
        | Annotated[list[str], Field(min_length=1, max_length=MAX_EMBEDDINGS), FirstMistake()]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_EMBEDDINGS), FirstMistake()]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: (
        Annotated[int, Field(ge=1, le=2**16, description="Must equal the model's own."), Whole]
        | None
    ) = None
    user: Hint = None


class TokenizeBody(Body):
    """``model`` may be left out where the server has one tokenizer."""

    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    prompt: str
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeBody(Body):
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    tokens: Annotated[AnyTokenIds, Field(max_length=2**20)]
