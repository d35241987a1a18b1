"""How to choose tokens: one request's sampling parameters and grammar, range-checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lmstack.core.config import Config, check_range, check_text, check_whole
from lmstack.core.errors import InputError, shown

__all__ = ["Grammar", "SamplingParams"]

GRAMMARS = ("json_object", "json_schema", "regex", "lark")
MAX_STOPS = 16
MAX_CHOICES = 16
MAX_TOP_LOGPROBS = 20
COLDEST = 1e-30


@dataclass(frozen=True)
class SamplingParams(Config):
    """Defaults are those of the OpenAI API where it has the field, otherwise neutral.

    ``max_tokens``: None means up to the end of the context window. ``temperature`` 0 is greedy.
    ``top_k`` 0 is off. ``logprobs``: how many alternatives to report a position (0 reports the
    chosen token alone), None for none. ``logit_bias``: token id to an amount in [-100, 100].
    ``seed``: the same request with the same seed gives the same tokens.
    ``stop``: strings that end a choice and are not part of it.
    ``ignore_eos``: go on past the end-of-text token, for benchmarks.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    n: int = 1
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        if self.max_tokens is not None:
            check_whole("max_tokens", self.max_tokens, 1, 2**31)
        check_range("temperature", self.temperature, 0, 2)
        check_range("top_p", self.top_p, 0, 1, low_open=True)
        check_whole("top_k", self.top_k, 0, 2**31)
        check_range("min_p", self.min_p, 0, 1)
        check_range("presence_penalty", self.presence_penalty, -2, 2)
        check_range("frequency_penalty", self.frequency_penalty, -2, 2)
        check_range("repetition_penalty", self.repetition_penalty, 0.01, 10)
        check_whole("n", self.n, 1, MAX_CHOICES)
        if self.seed is not None:
            check_whole("seed", self.seed, -(2**63), 2**64 - 1)
        if self.logprobs is not None:
            check_whole("logprobs", self.logprobs, 0, MAX_TOP_LOGPROBS)
        if not isinstance(self.ignore_eos, bool):
            raise InputError(
                f"ignore_eos is {shown(self.ignore_eos)}, not true or false", param="ignore_eos"
            )
        self._check_logit_bias()
        self._check_stop()

    def _check_logit_bias(self) -> None:
        if not isinstance(self.logit_bias, Mapping):
            raise InputError(
                f"logit_bias is {shown(self.logit_bias)}, not a mapping of token ids",
                param="logit_bias",
            )
        for token, amount in self.logit_bias.items():
            check_whole("a token id in logit_bias", token, 0, 2**31)
            check_range(f"logit_bias[{token}]", amount, -100, 100)
        # A copy, so that what was checked cannot be changed from outside.
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))

    def _check_stop(self) -> None:
        if isinstance(self.stop, str) or not isinstance(self.stop, Sequence):
            raise InputError(
                f"stop is {shown(self.stop)}, not a sequence of strings",
                hint="write a single one as a sequence too: ('END',)",
                param="stop",
            )
        if len(self.stop) > MAX_STOPS:
            raise InputError(
                f"stop has {len(self.stop)} strings, at most {MAX_STOPS}", param="stop"
            )
        for text in self.stop:
            check_text("stop", text)
            if not text:
                raise InputError(
                    "stop holds an empty string, which would stop at once", param="stop"
                )
        object.__setattr__(self, "stop", tuple(self.stop))

    @property
    def greedy(self) -> bool:
        # Smaller than float32 can divide by: the logits would no longer be numbers.
        return self.temperature < COLDEST


@dataclass(frozen=True)
class Grammar:
    """A language that the decoder is masked to.

    ``source`` is a JSON Schema as JSON text, a regular expression, or a Lark grammar in
    llguidance's dialect; for ``json_object`` it is empty.
    """

    kind: Literal["json_object", "json_schema", "regex", "lark"]
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
        try:
            return cls("json_schema", json.dumps(schema, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"the JSON Schema {shown(schema)} is not JSON: {error}", param="response_format"
            ) from error
