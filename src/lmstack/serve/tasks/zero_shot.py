"""Zero-shot classification: labels that come with the question, judged by entailment.

Each label becomes a hypothesis ("This example is sports.") and an NLI model says how far the
text entails it. Yin et al. 2019 (arXiv:1909.00161); equal to transformers' pipeline. Does not
cover models without an entailment label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lmstack.core import Config, InputError, UnsupportedError, check_text, shown
from lmstack.registry import LoadedModel
from lmstack.serve.activations import probabilities
from lmstack.serve.tasks.base import Task, text_of
from lmstack.serve.tasks.encoder import Encoder
from lmstack.serve.tasks.results import Label, LabelRanking

__all__ = ["ZeroShotClassification", "ZeroShotOptions", "entailment_id"]

MAX_LABELS = 1000


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


class ZeroShotClassification(Task[str, ZeroShotOptions, LabelRanking]):
    """Inputs: texts. What is too long of a text is cut, as transformers does; a hypothesis
    never is."""

    name = "zero-shot-classification"
    options_type: ClassVar[type[Config]] = ZeroShotOptions

    def __init__(self, loaded: LoadedModel, **options: Any) -> None:
        super().__init__(loaded, **options)
        self.encoder = Encoder(loaded)
        self._entailment = entailment_id(loaded)

    def read(self, value: Any, name: str, _: ZeroShotOptions, /) -> str:
        return text_of(value, name, "text")

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
        order = np.argsort(-scores, kind="stable")
        return LabelRanking(tuple(Label(options.labels[i], float(scores[i])) for i in order))


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
