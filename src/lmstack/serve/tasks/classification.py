"""Text classification: a text, or a pair, to the labels of a sequence head, or to labels that come
with the question (zero-shot).

For zero-shot each label becomes a hypothesis ("This example is sports.") and an NLI model says how
far the text entails it. Yin et al. 2019 (arXiv:1909.00161). Both equal transformers' pipelines.
Does not cover models without an entailment label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from lmstack.core import (
    Config,
    InputError,
    UnsupportedError,
    allowed,
    check_text,
    check_whole,
    shown,
)
from lmstack.registry import LoadedModel
from lmstack.serve.activations import Activation, probabilities
from lmstack.serve.tasks.base import EncoderTask, text_of
from lmstack.serve.tasks.results import Classification, LabelRanking, PredictedLabel

__all__ = ["TextClassification", "ZeroShotClassification", "ZeroShotOptions", "activation_of"]

MAX_LABELS = 1000

Pair = tuple[str, str | None]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ClassifyOptions(Config):
    """``top_k``: labels of each text, best first, None for all. ``activation``: what makes
    scores of logits; ``auto`` is what the model was trained for. ``truncate``: cut a text that
    is too long (of a pair the longer first) instead of an error."""

    top_k: int | None = 1
    activation: Activation = allowed("auto", str, also=get_args(Activation))
    truncate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_k is not None:
            check_whole("top_k", self.top_k, 1, 1 << 31)


class TextClassification(EncoderTask[Pair, ClassifyOptions, Classification]):
    """Inputs: texts, or mappings with ``text`` and ``text_pair``."""

    name = "text-classification"
    options_type = ClassifyOptions

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


def ranked(labels: Sequence[str], scores: Floats, top_k: int | None) -> tuple[PredictedLabel, ...]:
    """The best labels; of equal ones the earlier first."""
    order = np.argsort(-scores, kind="stable")[:top_k]
    return tuple(PredictedLabel(labels[i], float(scores[i])) for i in order)


@dataclass(frozen=True)
class ZeroShotOptions(Config):
    """``labels``: a list, or text with commas. ``template``: the hypothesis, ``{}`` stands for
    the label. ``multi_label``: judge each label by itself; otherwise scores add up to 1."""

    labels: tuple[str, ...] = ()
    template: str = "This example is {}."
    multi_label: bool = False

    def __post_init__(self) -> None:
        given: Any = self.labels
        if isinstance(given, str):
            given = [part.strip() for part in given.split(",") if part.strip()]
        object.__setattr__(self, "labels", tuple(given))
        if len(self.labels) > MAX_LABELS:
            raise InputError(f"{len(self.labels)} labels, at most {MAX_LABELS}", param="labels")
        for label in self.labels:
            check_text("a label", label)
        check_text("template", self.template)
        if self.template.count("{}") != 1 or "{" in self.template.replace("{}", ""):
            raise InputError(
                f"the template is {shown(self.template)}",
                hint='put {} where the label goes: "This example is {}."',
                param="template",
            )


class ZeroShotClassification(EncoderTask[str, ZeroShotOptions, LabelRanking]):
    """Inputs: texts. What is too long of a text is cut, as transformers does; a hypothesis
    never is."""

    name = "zero-shot-classification"
    options_type = ZeroShotOptions

    def __init__(self, loaded: LoadedModel, **options: Any) -> None:
        super().__init__(loaded, **options)
        self._entailment = entailment_id(loaded)

    def run(self, items: Sequence[str], options: ZeroShotOptions) -> list[LabelRanking]:
        if not options.labels:
            raise InputError(
                "there are no labels to choose from", hint="labels=['urgent', ...]", param="labels"
            )
        hypotheses = [options.template.replace("{}", label) for label in options.labels]
        count = len(hypotheses)
        windows = self.encoder.encode_whole(
            [text for text in items for _ in hypotheses], hypotheses * len(items), cut="first"
        )
        logits = [scores.numpy() for scores in self.encoder.logits(windows)]
        return [
            self._ranking(np.stack(logits[i * count : (i + 1) * count]), options)
            for i in range(len(items))
        ]

    def _ranking(self, logits: Any, options: ZeroShotOptions) -> LabelRanking:
        """``logits``: (labels, classes of the NLI model)."""
        if options.multi_label or len(options.labels) == 1:
            contradiction = -1 if self._entailment == 0 else 0
            both = logits[:, [contradiction, self._entailment]]
            scores = probabilities(both, "softmax")[:, 1]
        else:
            scores = probabilities(logits[:, self._entailment], "softmax")
        return LabelRanking(ranked(options.labels, scores, None))


def entailment_id(loaded: LoadedModel) -> int:
    """Which class of the model says that the hypothesis follows."""
    found = [i for i, label in enumerate(loaded.labels) if label.lower().startswith("entail")]
    if not found:
        raise UnsupportedError(
            f"{loaded.name} has the labels {', '.join(loaded.labels)} and none for entailment",
            hint="zero-shot classification needs a model trained on NLI",
            param="model",
        )
    return found[0]
