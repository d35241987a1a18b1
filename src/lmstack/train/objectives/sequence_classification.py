"""Sequence classification: a label, several labels or a score for a text or a pair of texts.

    one label      L = - w_y log softmax(z)_y                       divided by the sum of w_y
    several        L = - sum_k (w_k y_k log s(z_k) + (1 - y_k) log(1 - s(z_k))) / K
    a score        L = (z - y)^2

z: the scores of the head for the pooled sequence; s: the sigmoid; w: ``class_weights``. Equal to
transformers' ``...ForSequenceClassification`` with its ``problem_type`` (Devlin et al., 2019).
Macro F1 is that of scikit-learn: the mean over the classes that occur, or that were predicted.

Legend: B sequences, K classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.core import InputError, shown
from lmstack.model import ForwardContext, Transformer
from lmstack.model.config import Head
from lmstack.registry import LoadedModel
from lmstack.registry.card import Kind
from lmstack.train.data.examples import Batch, Example
from lmstack.train.data.formats import Label, labelled_of
from lmstack.train.data.pairs import cut_tokens, encode_pairs, pair_inputs
from lmstack.train.data.rows import Row
from lmstack.train.measures import class_counts, correlation, macro_f1, moments
from lmstack.train.metric import ACCURACY, LOSS, TrainingMetric, rising
from lmstack.train.objectives.objective import (
    AllRows,
    Loss,
    Objective,
    Reading,
    logits_of,
    one_score,
)

__all__ = ["SequenceClassification"]

SINGLE, SEVERAL, SCORE = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
)
PROBLEMS = (SINGLE, SEVERAL, SCORE)
BALANCED = "balanced"


@dataclass(frozen=True)
class SequenceClassification(Objective):
    """``problem_type``: in transformers' names; unless given, a number with a fraction is a score,
    a list (``labels``) is several labels, anything else one. ``classes``: names of the labels in
    the order of the head, which numbers in the data count from 0; unless given, those found in
    the data, sorted. ``class_weights``: a weight for each name, 1 unless given; ``balanced``: rows
    / (classes * rows of the class), as in scikit-learn."""

    problem_type: str | None = None
    classes: tuple[str, ...] = ()
    class_weights: Any = None

    reads: ClassVar[tuple[str, ...]] = ("labelled",)
    kind: ClassVar[Kind | None] = "classify"
    heads: ClassVar[tuple[Head, ...]] = ("sequence",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.problem_type not in (None, *PROBLEMS):
            raise InputError(
                f"problem_type is {shown(self.problem_type)}",
                hint=f"one of {', '.join(PROBLEMS)}",
                param="problem_type",
            )
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))
        weights = self.class_weights
        is_mapping = isinstance(weights, Mapping) and all(
            isinstance(w, int | float) and w >= 0 for w in weights.values()
        )
        if not (weights is None or weights == BALANCED or is_mapping):
            raise InputError(
                f"class_weights is {shown(weights)}",
                hint="{name: weight, ...} or balanced",
                param="class_weights",
            )

    def fitted(self, base: LoadedModel, rows: AllRows) -> Self:
        values = [value for row in rows() if (value := _label(row)) is not None]
        problem = self.problem_type or _problem(values)
        if problem == SCORE:
            return self.replace(problem_type=problem)
        counts = Counter(
            name for value in values for name in self._names(value, problem) if name is not None
        )
        classes = self.classes or tuple(sorted(counts, key=_order))
        if not self.classes and set(base.labels) == set(classes):
            classes = base.labels  # the head of the base goes on
        if len(classes) < 2 and problem == SINGLE:
            raise InputError(
                f"the data has {len(classes)} classes: {', '.join(classes)}",
                hint="each row needs a label, and there must be two different ones",
                param="data",
            )
        weights = self.class_weights
        if weights == BALANCED:
            each = sum(counts.values()) / len(classes)
            weights = {name: each / counts[name] for name in classes if counts[name]}
        return self.replace(problem_type=problem, classes=classes, class_weights=weights)

    def metrics(self) -> Sequence[TrainingMetric]:
        of_scores, of_classes = rising("pearson"), (ACCURACY, *rising("f1"))
        if self.problem_type is None:
            return (LOSS, *of_classes, *of_scores)
        return (LOSS, *(of_scores if self.problem_type == SCORE else of_classes))

    def labels(self, base: LoadedModel) -> tuple[str, ...]:
        if self.problem_type == SCORE:
            return one_score(base)
        return self.classes

    def made_of(self, base: LoadedModel) -> LoadedModel:
        config = {**base.config, "problem_type": self.problem_type}
        return replace(base, kind="classify", config=config)

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        found = labelled_of(row)
        target = self._target(found.label)
        texts, longest = ([found.text], found.pair and [found.pair]), reading.max_length
        (pair,) = encode_pairs(reading.tokenizer, *texts, longest, segments=reading.segments)
        lengths = [sum(map(len, pair))]
        yield Example(pair, target, cut_tokens(reading.tokenizer, *texts, lengths, longest))

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        pairs = [(first, second) for first, second in (e.sequences for e in examples)]
        given = np.concatenate([e.labels for e in examples if e.labels is not None])
        labels = torch.from_numpy(given)
        weight = float(len(examples))
        if self.problem_type == SEVERAL:
            labels, weight = labels.view(len(examples), -1), float(labels.numel())
        elif self.problem_type == SINGLE:
            labels = labels.long()
            weight = float(self._weights()[labels].sum())
        tokens = sum(example.tokens for example in examples)
        return Batch(pair_inputs(pairs, segments=reading.segments), labels, weight, tokens)

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        scores = logits_of(model, batch, context).float()
        labels = batch.labels
        if self.problem_type == SCORE:
            scores = scores.squeeze(-1)
            total = F.mse_loss(scores, labels, reduction="sum")
            return Loss(total, counts={"moments": moments(scores.detach(), labels)})
        weights = self._weights().to(scores.device)
        if self.problem_type == SINGLE:
            total = F.cross_entropy(scores, labels, weight=weights, reduction="sum")
            actual = F.one_hot(labels, len(self.classes))
            predicted = F.one_hot(scores.argmax(-1), len(self.classes))
        else:
            total = F.binary_cross_entropy_with_logits(
                scores, labels, pos_weight=weights, reduction="sum"
            )
            actual, predicted = labels.long(), (scores > 0).long()
        right = (predicted == actual).all(-1).sum()
        rows = torch.stack([right, right.new_tensor(len(actual))])
        return Loss(total, counts={"classes": class_counts(predicted, actual), "rows": rows})

    def reported(
        self, means: Mapping[str, float], counts: Mapping[str, Tensor]
    ) -> dict[str, float]:
        if "moments" in counts:
            return {**means, "pearson": correlation(counts["moments"])}
        if not counts:
            return dict(means)
        right, rows = counts["rows"].tolist()
        return {
            **means,
            "accuracy": right / max(rows, 1),
            "f1": macro_f1(counts["classes"]),
        }

    def _weights(self) -> Tensor:
        given = self.class_weights or {}
        unknown = set(given) - set(self.classes)
        if unknown:
            raise InputError(
                f"class_weights names {shown(sorted(unknown)[0])}, which is no class",
                hint=f"the classes: {', '.join(self.classes)}",
                param="class_weights",
            )
        return torch.tensor([float(given.get(name, 1.0)) for name in self.classes])

    def _names(self, value: Label, problem: str) -> list[str | None]:
        """The names in the label of a row; None for what is of another kind."""
        if isinstance(value, tuple):
            return [self._name(each) for each in value] if problem == SEVERAL else [None]
        return [self._name(value)] if problem == SINGLE else [None]

    def _name(self, value: str | int | float) -> str:
        is_number = isinstance(value, int) and str(value) not in self.classes
        if is_number and 0 <= int(value) < len(self.classes):
            return self.classes[int(value)]
        return str(value)

    def _target(self, value: Label) -> np.ndarray[Any, np.dtype[Any]]:
        if self.problem_type == SCORE:
            if isinstance(value, tuple | str):
                raise InputError(f"the label is {shown(value)}, not a number")
            return np.array([value], np.float32)
        assert self.problem_type is not None
        names = self._names(value, self.problem_type)
        wrong = next((name for name in names if name not in self.classes), None)
        if None in names or wrong is not None:
            kind = "a list of labels" if self.problem_type == SEVERAL else "one of the classes"
            raise InputError(
                f"the label is {shown(value)}, not {kind}", hint=", ".join(self.classes[:20])
            )
        places = [self.classes.index(str(name)) for name in names]
        if self.problem_type == SINGLE:
            return np.array(places, np.int32)
        target = np.zeros(len(self.classes), np.float32)
        target[places] = 1
        return target


def _label(row: Row) -> Label | None:
    try:
        return labelled_of(row).label
    except InputError:  # reported where the row is encoded
        return None


def _problem(values: Sequence[Label]) -> str:
    if any(isinstance(value, tuple) for value in values):
        return SEVERAL
    return SCORE if any(isinstance(value, float) for value in values) else SINGLE


def _order(name: str) -> tuple[bool, int, str]:
    """Numbers as numbers, before names."""
    is_number = name.isascii() and name.isdigit()
    return (not is_number, int(name) if is_number else 0, name)
