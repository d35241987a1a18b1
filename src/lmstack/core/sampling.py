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
MAX_STOPS = MAX_CHOICES = 16
MAX_BEAMS, MAX_WORDS = 32, 256
MAX_TOP_LOGPROBS = 20
COLDEST, TOKEN = 1e-30, (0, 2**31)

WHOLE: dict[str, tuple[int, int]] = {
    **{"max_tokens": (1, 2**31), "seed": (-(2**63), 2**64 - 1), "logprobs": (0, MAX_TOP_LOGPROBS)},
    **{"top_k": TOKEN, "n": (1, MAX_CHOICES), "min_tokens": TOKEN, "no_repeat_ngram_size": TOKEN},
    **{"num_beams": (1, MAX_BEAMS), "num_beam_groups": (1, MAX_BEAMS)},
    **{"forced_bos_id": TOKEN, "forced_eos_id": TOKEN, "priority": (-(2**31), 2**31 - 1)},
}
RANGES: dict[str, tuple[float, float]] = {
    **{"temperature": (0, 2), "min_p": (0, 1), "top_p": (0, 1), "typical_p": (0, 1)},
    **{"presence_penalty": (-2, 2), "frequency_penalty": (-2, 2), "repetition_penalty": (0.01, 10)},
    **{"length_penalty": (-10, 10), "diversity_penalty": (0, 100), "penalty_alpha": (0, 1)},
}
OPTIONAL = ("max_tokens", "seed", "logprobs", "forced_bos_id", "forced_eos_id")
TEXTS = {"stop": MAX_STOPS, "stop_regex": 4, "bad_words": MAX_WORDS, "force_words": MAX_STOPS}


@dataclass(frozen=True)
class SamplingParams(Config):
    """Defaults are those of OpenAI's API, or neutral; a model's own: `ModelInfo.default_sampling`.

    ``max_tokens``: None is the model's own limit or the context's end. ``temperature`` 0 is greedy.
    ``top_k`` 0 is off. ``logprobs``: how many alternatives to report a position (0 reports the
    chosen token alone), None for none. ``logit_bias``: token id to an amount in [-100, 100].
    ``seed``: the same request with the same seed gives the same tokens.
    ``stop``: strings that end a choice and are not part of it. ``stop_regex``: expressions that
    end it and are. ``ignore_eos``: go on past the end-of-text token, for benchmarks.
    ``priority``: of one client's requests the lower start first; it changes no token.

    ``num_beams`` > 1 is beam search, ``penalty_alpha`` contrastive search: docs/decoding.md.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    bad_words: tuple[str, ...] = ()
    seed: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_regex: tuple[str, ...] = ()
    logprobs: int | None = None
    n: int = 1
    ignore_eos: bool = False
    forced_bos_id: int | None = None
    forced_eos_id: int | None = None
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    num_beam_groups: int = 1
    diversity_penalty: float = 0.0
    force_words: tuple[str, ...] = ()
    penalty_alpha: float = 0.0
    priority: int = 0

    def __post_init__(self) -> None:
        for name, bounds in WHOLE.items():
            if getattr(self, name) is not None or name not in OPTIONAL:
                check_whole(name, getattr(self, name), *bounds)
        for name, (low, high) in RANGES.items():
            open_ = name in ("top_p", "typical_p")
            check_range(name, getattr(self, name), low, high, low_open=open_)
        for name, also in (("ignore_eos", ""), ("early_stopping", "never")):
            value = getattr(self, name)
            if not isinstance(value, bool) and (value != also or not also):
                known = " or 'never'" if also else ""
                raise InputError(f"{name} is {shown(value)}, not true or false{known}", param=name)
        self._check_logit_bias()
        for name, most in TEXTS.items():
            self._check_texts(name, most)
        self._check_search()

    def _check_search(self) -> None:
        """Settings that contradict each other, or that would change nothing."""
        beams, ranks = self.num_beams > 1, self.penalty_alpha > 0
        drawn = self.temperature not in (0, 1) or self.top_p < 1 or self.min_p or self.typical_p < 1
        groups, top_k = self.num_beam_groups, self.top_k
        for wrong, param, problem in (
            (beams and ranks, "penalty_alpha", "is of contrastive search, num_beams of another"),
            ((beams or ranks) and drawn, "temperature", "and top_p ... draw, this search does not"),
            (beams and top_k, "top_k", "draws, beam search does not"),
            (ranks and not 2 <= top_k <= MAX_BEAMS, "top_k", f"is not from 2 to {MAX_BEAMS}"),
            (ranks and self.n > 1, "n", "is above 1, contrastive search finds one text"),
            (beams and self.n > self.num_beams, "n", "is above num_beams"),
            (not beams and self.early_stopping is not False, "early_stopping", "needs num_beams"),
            (not beams and self.length_penalty != 1, "length_penalty", "needs num_beams"),
            (not beams and self.force_words, "force_words", "needs num_beams"),
            (self.num_beams % groups, "num_beam_groups", "does not divide num_beams"),
            (self.diversity_penalty and groups < 2, "diversity_penalty", "needs num_beam_groups"),
            (self.force_words and groups > 1, "force_words", "excludes num_beam_groups"),
            (self.min_tokens > (self.max_tokens or 2**31), "min_tokens", "is above max_tokens"),
        ):
            if wrong:
                raise InputError(f"{param} {shown(getattr(self, param))} {problem}", param=param)

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

    def _check_texts(self, name: str, most: int) -> None:
        texts = getattr(self, name)
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise InputError(
                f"{name} is {shown(texts)}, not a sequence of strings",
                hint="write a single one as a sequence too: ('END',)",
                param=name,
            )
        if len(texts) > most:
            raise InputError(f"{name} has {len(texts)} strings, at most {most}", param=name)
        for text in texts:
            check_text(name, text)
            if not text:
                raise InputError(f"{name} holds an empty string", param=name)
        object.__setattr__(self, name, tuple(texts))

    @property
    def greedy(self) -> bool:
        # Smaller than float32 can divide by: the logits would no longer be numbers.
        return self.temperature < COLDEST


@dataclass(frozen=True)
class Grammar:
    """A language that the decoder is masked to. ``source``: a JSON Schema as JSON text, a regular
    expression, or a Lark grammar in llguidance's dialect; for ``json_object`` it is empty."""

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
