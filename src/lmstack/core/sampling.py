"""How to choose tokens: one request's sampling parameters and grammar, range-checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lmstack.core.config import Config, allowed, check_range, check_text, check_whole
from lmstack.core.errors import InputError, shown
from lmstack.core.schemas import check_keywords

__all__ = ["Grammar", "SamplingParams"]

GRAMMARS = ("json_object", "json_schema", "regex", "lark", "tool_calls")
MAX_BEAMS, TOKENS, COLDEST = 32, (0, 2**31), 1e-30


@dataclass(frozen=True)
class SamplingParams(Config):
    """Defaults are those of OpenAI's API, or neutral; a model's own: `ModelInfo.default_sampling`.

    ``max_tokens``: None is the model's own limit or the context's end. ``temperature`` 0 is greedy.
    ``logprobs``: how many alternatives to report a position (0 reports the chosen token alone),
    None for none. ``logit_bias``: token id to an amount in [-100, 100]. ``seed``: the same request
    with the same seed gives the same tokens. ``stop``: strings that end a choice and are not part
    of it. ``num_beams`` > 1 is beam search: docs/decoding.md."""

    max_tokens: int | None = allowed(None, int, 1, 2**31)
    temperature: float = allowed(1.0, float, 0, 2)
    top_p: float = allowed(1.0, float, 0, 1, above=True)
    top_k: int = allowed(0, int, *TOKENS, "0 or -1 is off.")
    min_p: float = allowed(0.0, float, 0, 1)
    typical_p: float = allowed(1.0, float, 0, 1, above=True)
    presence_penalty: float = allowed(0.0, float, -2, 2)
    frequency_penalty: float = allowed(0.0, float, -2, 2)
    repetition_penalty: float = allowed(1.0, float, 0.01, 10)
    no_repeat_ngram_size: int = allowed(0, int, *TOKENS, "0 is off.")
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    bad_words: tuple[str, ...] = allowed((), str, 0, 256, "Words that may not come.")
    seed: int | None = allowed(None, int, -(2**63), 2**64 - 1)
    min_tokens: int = allowed(0, int, *TOKENS, "No end before so many.")
    stop: tuple[str, ...] = allowed((), str, 0, 16)
    stop_regex: tuple[str, ...] = allowed((), str, 0, 4, "The text ends with a match and keeps it.")
    logprobs: int | None = allowed(None, int, 0, 20)
    n: int = allowed(1, int, 1, 16)
    ignore_eos: bool = allowed(False, bool, about="Go on past the end of text, for benchmarks.")
    forced_bos_id: int | None = allowed(None, int, *TOKENS)
    forced_eos_id: int | None = allowed(None, int, *TOKENS)
    num_beams: int = allowed(1, int, 1, MAX_BEAMS, "1 is off.")
    length_penalty: float = allowed(1.0, float, -10, 10, "With beams.")
    early_stopping: bool | Literal["never"] = allowed(
        False, bool, about="With beams.", also=("never",)
    )
    priority: int = allowed(0, int, -(2**31), 2**31 - 1, "Lower starts first, within one key.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_logit_bias()
        self._check_search()

    def _check_search(self) -> None:
        """Settings that contradict each other, or that would change nothing."""
        beams = self.num_beams > 1
        drawn = self.temperature not in (0, 1) or self.top_p < 1 or self.min_p or self.typical_p < 1
        for wrong, param, problem in (
            (beams and drawn, "temperature", "and top_p ... draw, this search does not"),
            (beams and self.top_k, "top_k", "draws, beam search does not"),
            (beams and self.n > self.num_beams, "n", "is above num_beams"),
            (not beams and self.early_stopping is not False, "early_stopping", "needs num_beams"),
            (not beams and self.length_penalty != 1, "length_penalty", "needs num_beams"),
            (self.min_tokens > (self.max_tokens or 2**31), "min_tokens", "is above max_tokens"),
        ):
            if wrong:
                raise InputError(f"{param} {shown(getattr(self, param))} {problem}", param=param)

    def _check_logit_bias(self) -> None:
        if not isinstance(self.logit_bias, Mapping):
            message = f"logit_bias is {shown(self.logit_bias)}, not a mapping of token ids"
            raise InputError(message, param="logit_bias")
        for token, amount in self.logit_bias.items():
            check_whole("a token id in logit_bias", token, 0, 2**31)
            check_range(f"logit_bias[{token}]", amount, -100, 100)
        # A copy, so that what was checked cannot be changed from outside.
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))

    @property
    def greedy(self) -> bool:
        # Smaller than float32 can divide by: the logits would no longer be numbers.
        return self.temperature < COLDEST


@dataclass(frozen=True)
class Grammar:
    """A language that the decoder is masked to. ``source``: a JSON Schema as JSON text, a regular
    expression, or a Lark grammar in llguidance's dialect; for ``json_object`` it is empty.
    ``tool_calls``: the calls of a request's tools in its model's language, made of its tools."""

    kind: Literal["json_object", "json_schema", "regex", "lark", "tool_calls"]
    source: str = ""

    def __post_init__(self) -> None:
        if self.kind not in GRAMMARS:
            raise InputError(
                f"a grammar is of the kind {shown(self.kind)}",
                hint=f"kinds are {', '.join(GRAMMARS)}",
                param="response_format",
            )
        check_text("a grammar", self.source)
        if (self.kind == "json_object") != (not self.source):
            state = "has a source, it takes none" if self.source else "has an empty source"
            raise InputError(f"a grammar of the kind {self.kind} {state}", param="response_format")

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any]) -> Grammar:
        """Of ``schema``, whose keywords have to be known."""
        try:
            source = json.dumps(schema, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"the JSON Schema {shown(schema)} is not JSON: {error}", param="response_format"
            ) from error
        check_keywords(schema)
        return cls("json_schema", source)
