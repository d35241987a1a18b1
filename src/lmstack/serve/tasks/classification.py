"""Text classification: a text, or a pair, to the labels of a sequence head.

Equal to transformers' ``text-classification`` pipeline. Does not cover labels that come with the
question: see `zero_shot`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from lmstack.core import Config, InputError, check_whole, shown
from lmstack.registry import LoadedModel
from lmstack.serve.activations import Activation, probabilities
from lmstack.serve.tasks.base import Task, text_of
from lmstack.serve.tasks.encoder import Encoder
from lmstack.serve.tasks.results import Classification, Label

__all__ = ["ClassifyOptions", "TextClassification", "activation_of"]

Pair = tuple[str, str | None]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ClassifyOptions(Config):
    """``top_k``: labels of each text, best first, None for all. ``activation``: what makes
    scores of logits; ``auto`` is what the model was trained for. ``truncate``: cut a text that
    is too long (of a pair the longer first) instead of an error."""

    top_k: int | None = 1
    activation: Activation = "auto"
    truncate: bool = False

    def __post_init__(self) -> None:
        if self.top_k is not None:
            check_whole("top_k", self.top_k, 1, 1 << 31)
        if self.activation not in ("auto", "softmax", "sigmoid", "none"):
            raise InputError(
                f"activation is {shown(self.activation)}",
                hint="auto, softmax, sigmoid or none",
                param="activation",
            )


class TextClassification(Task[Pair, ClassifyOptions, Classification]):
    """Inputs: texts, or mappings with ``text`` and ``text_pair``."""

    name = "text-classification"
    options_type: ClassVar[type[Config]] = ClassifyOptions

    def __init__(self, loaded: LoadedModel, **options: Any) -> None:
        super().__init__(loaded, **options)
        self.encoder = Encoder(loaded)

    def read(self, value: Any, name: str, _: ClassifyOptions, /) -> Pair:
        text = text_of(value, name, "text", "text_pair")
        pair = value.get("text_pair") if isinstance(value, Mapping) else None
        return text, None if pair is None else text_of(pair, f"text_pair of {name}")

    def run(self, items: Sequence[Pair], options: ClassifyOptions) -> list[Classification]:
        activation = activation_of(self.loaded, options.activation)
        rows = [probabilities(scores, activation) for scores in self.logits(items, options)]
        return [Classification(ranked(self.loaded.labels, row, options.top_k)) for row in rows]

    def logits(self, items: Sequence[Pair], options: ClassifyOptions) -> list[Floats]:
        """Scores of every label, before any activation."""
        alone = [text for text, pair in items if pair is None]
        paired = [(text, pair) for text, pair in items if pair is not None]
        windows = iter(self.encoder.encode_whole(alone, cut=self._cut(options)))
        pairs = iter(
            self.encoder.encode_whole(
                [text for text, _ in paired], [pair for _, pair in paired], cut=self._cut(options)
            )
        )
        ordered = [next(windows if pair is None else pairs) for _, pair in items]
        return [scores.numpy() for scores in self.encoder.logits(ordered)]

    @staticmethod
    def _cut(options: ClassifyOptions) -> Literal["longest", "error"]:
        return "longest" if options.truncate else "error"


def activation_of(loaded: LoadedModel, wanted: Activation) -> Activation:
    """``auto`` as transformers decides it: by the problem, else by the number of labels."""
    if wanted != "auto":
        return wanted
    problem = loaded.config.get("problem_type")
    if problem == "regression":
        return "none"
    single = len(loaded.labels) == 1
    return "sigmoid" if problem == "multi_label_classification" or single else "softmax"


def ranked(labels: Sequence[str], scores: Floats, top_k: int | None) -> tuple[Label, ...]:
    """The best labels; of equal ones the earlier first."""
    order = np.argsort(-scores, kind="stable")[:top_k]
    return tuple(Label(labels[i], float(scores[i])) for i in order)
