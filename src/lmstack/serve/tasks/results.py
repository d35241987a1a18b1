"""What tasks give back: one frozen value for each input, ``to_json()`` for files and HTTP.

Scores are plain floats, positions are characters of the input. Vectors stay arrays until JSON
wants them. Does not cover how any of it is computed.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Classification",
    "Entities",
    "Entity",
    "ExtractedAnswer",
    "ExtractedAnswers",
    "Features",
    "Fill",
    "Filled",
    "Generated",
    "LabelRanking",
    "PredictedLabel",
    "Ranked",
    "Ranking",
    "RewardScore",
    "Rewritten",
    "TaskOutput",
    "TextEmbedding",
]

Floats = npt.NDArray[np.float32]


def _jsonable(value: Any) -> Any:
    if isinstance(value, TaskOutput):
        return value.to_json()
    if isinstance(value, tuple):
        return [_jsonable(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


@dataclass(frozen=True)
class TaskOutput:
    """Base of what tasks give back."""

    def to_json(self) -> dict[str, Any]:
        """Fields as JSON can hold them; what is None is left out."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: _jsonable(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class PredictedLabel(TaskOutput):
    label: str
    score: float


@dataclass(frozen=True)
class Classification(TaskOutput):
    """``labels``: the best first, as many as were asked for."""

    labels: tuple[PredictedLabel, ...]

    @property
    def label(self) -> str:
        return self.labels[0].label

    @property
    def score(self) -> float:
        return self.labels[0].score


@dataclass(frozen=True)
class LabelRanking(Classification):
    """Zero-shot: labels that came with the question, the likeliest first."""


@dataclass(frozen=True)
class Entity(TaskOutput):
    """``text[start:end]`` of the input. ``word`` is what the tokenizer makes of it (lower case
    for many models), ``index`` the token's place where tokens are not aggregated."""

    label: str
    score: float
    word: str
    start: int
    end: int
    index: int | None = None


@dataclass(frozen=True)
class Entities(TaskOutput):
    entities: tuple[Entity, ...]


@dataclass(frozen=True)
class Fill(TaskOutput):
    """``sequence``: the whole text with this token in place of the mask."""

    token: str
    score: float
    id: int
    sequence: str


@dataclass(frozen=True)
class Filled(TaskOutput):
    """``masks[i]``: what fits mask ``i`` of the text, the likeliest first."""

    masks: tuple[tuple[Fill, ...], ...]


@dataclass(frozen=True)
class ExtractedAnswer(TaskOutput):
    """``context[start:end]``; empty (0 to 0) says that the context holds no answer."""

    answer: str
    score: float
    start: int
    end: int


@dataclass(frozen=True)
class ExtractedAnswers(TaskOutput):
    """The best first; none at all where nothing in the context can be an answer."""

    answers: tuple[ExtractedAnswer, ...]

    @property
    def answer(self) -> str:
        return self.answers[0].answer if self.answers else ""


@dataclass(frozen=True, eq=False)
class Features(TaskOutput):
    """``vectors``: (tokens, D), the last hidden state; ``tokens`` as the vocabulary spells
    them, those that the tokenizer added included."""

    tokens: tuple[str, ...]
    vectors: Floats


@dataclass(frozen=True, eq=False)
class TextEmbedding(TaskOutput):
    """A vector of length 1, shape (D,)."""

    vector: Floats


@dataclass(frozen=True)
class Ranked(TaskOutput):
    """``index``: place of the document in the input."""

    index: int
    score: float
    text: str


@dataclass(frozen=True)
class Ranking(TaskOutput):
    """The most relevant first."""

    results: tuple[Ranked, ...]


@dataclass(frozen=True)
class RewardScore(TaskOutput):
    """How good an answer is; to be compared with that of others to the same prompt."""

    score: float


@dataclass(frozen=True)
class Generated(TaskOutput):
    """``finish_reason``: ``stop`` (the model ended) or ``length`` (the limit was reached).
    ``others``: the rest of several choices. ``completion_tokens``: of all choices."""

    text: str
    finish_reason: str
    completion_tokens: int
    others: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Rewritten(TaskOutput):
    """A summary or a translation. ``parts``: pieces that the input was split into."""

    text: str
    parts: int
