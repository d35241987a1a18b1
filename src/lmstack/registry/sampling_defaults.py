"""What holds where a request does not state how to sample.

Four layers, the first that states a field decides: the request, the model's card in the store, the
model's own files, and `DEFAULT_SAMPLING`. The last three are joined when a model is loaded and
stand in its `ModelInfo`. Remote models have no defaults here: what is not stated is not sent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lmstack.core import Config, SamplingParams

__all__ = ["DEFAULT_SAMPLING", "SamplingDefaults"]


@dataclass(frozen=True)
class SamplingDefaults(Config):
    """Fields of `SamplingParams`; None where nothing is stated."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        SamplingParams.from_mapping(self.stated())

    def stated(self) -> dict[str, Any]:
        """The fields that are."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}

    def over(self, lower: Self) -> Self:
        """This layer over ``lower``. How to choose tokens is tuned as a whole, so of ``lower``
        only ``max_tokens`` remains beside any such setting here."""
        chooses = self.stated().keys() - {"max_tokens"}
        base = lower if not chooses else type(self)(max_tokens=lower.max_tokens)
        return base.replace(**self.stated())

    def resolve(self, stated: Mapping[str, Any]) -> SamplingParams:
        """What a request states, and these defaults for the rest."""
        return SamplingParams.from_mapping({**self.beside(stated), **stated})

    def beside(self, stated: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults that hold beside what a request states. None does beside a temperature,
        with which the request decides how tokens are chosen: 0 is the likeliest token, 1 the
        distribution as it is. Nor does one beside a search (``num_beams``), which draws no token.
        ``max_tokens`` is left to the engine, which knows how many fit."""
        searches = stated.get("num_beams", 1) != 1
        if searches or stated.get("temperature") is not None:
            return {}
        return {k: v for k, v in self.stated().items() if k != "max_tokens"}


# benchmarks/chat_defaults.py compares candidates; docs/decisions.md says why these.
DEFAULT_SAMPLING = SamplingDefaults(temperature=0.0, frequency_penalty=0.6, max_tokens=1024)
