"""KTO: answers that are good or bad by themselves, without pairs (Ethayarajh et al., 2024,
arXiv:2402.01306).

    desirable    L = w+ (1 - s(beta (r(y) - z)))
    undesirable  L = w- (1 - s(beta (z - r(y))))
    z = max(0, mean over examples of the step of r(y'))

r(y) = log pi(y | x) - log pi_ref(y | x), s the sigmoid. y' is the answer to another prompt, so z
is an estimate of the KL divergence from the reference that no label moves; it has no gradient. All
passes and processes of a step share one z. Which y' stands beside an example never changes, so that
the reference of both is computed once.

Reads rated answers, and pairs, of which one is desirable and the other is not.

Legend: B examples, half a pair each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from lmstack.core import Message, allowed
from lmstack.model import ForwardContext, Transformer
from lmstack.registry import LoadedModel
from lmstack.registry.card import Kind
from lmstack.train.data.examples import IGNORED, Batch, Example, ExampleView
from lmstack.train.data.formats import preference_of, ratings_of
from lmstack.train.data.rows import Row
from lmstack.train.metric import TrainingMetric, falling
from lmstack.train.objectives.objective import (
    AllRows,
    Embed,
    Gather,
    Loss,
    Objective,
    Reading,
)
from lmstack.train.objectives.preferences import (
    OF_PAIRS,
    AnswerLogProbs,
    answer_log_probs,
    answers_batch,
    check_decoder,
    encoded_answer,
    joined,
    labels_of,
    parts_of,
    with_scores,
)

__all__ = ["KTO"]

_OTHER = "other_"  # before the names of what belongs to y'


@dataclass(frozen=True)
class KTO(Objective):
    """``beta``: how much it costs to leave the reference. ``desirable`` and ``undesirable``:
    weights w+ and w-, for data with more of one than of the other. ``threshold``: an answer that
    is rated higher is desirable."""

    beta: float = allowed(0.1, float, 0, 100, above=True)
    desirable: float = allowed(1.0, float, 0, 100)
    undesirable: float = allowed(1.0, float, 0, 100)
    threshold: float = allowed(0.5, float, -1e9, 1e9)

    reads: ClassVar[tuple[str, ...]] = ("rated", "preference")
    kind: ClassVar[Kind | None] = "generate"
    refers: ClassVar[bool] = True
    aligns: ClassVar[bool] = True

    def fitted(self, base: LoadedModel, rows: AllRows) -> Self:
        del rows
        check_decoder(base)
        return self

    def metrics(self) -> Sequence[TrainingMetric]:
        return (*super().metrics(), *OF_PAIRS, *falling("kl"))

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        """An answer each; ``scores``: 1 where it is desirable."""
        for prompt, answer, is_good in self._answers(row):
            example = encoded_answer(prompt, answer, reading)
            yield dataclasses.replace(example, scores=np.array([is_good], np.float32))

    def joined(self, examples: Sequence[Example]) -> Sequence[Example]:
        return ExampleView(len(examples), partial(_mismatched, examples))

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        """The answers; what belongs to y' is in ``more``, under names with `_OTHER`."""
        del reading
        own, others = zip(*(parts_of(example) for example in examples), strict=True)
        batch = with_scores(answers_batch(own, float(len(examples))), examples)
        other = answers_batch(others, 0.0)
        found = {
            "ids": other.inputs["input_ids"],
            "lengths": torch.tensor(other.inputs["lengths"]),
            "labels": other.labels,
            **other.more,
        }
        more = {_OTHER + name: value for name, value in found.items()}
        return dataclasses.replace(batch, more={**batch.more, **more})

    def referred(
        self, model: Transformer, batch: Batch, context: ForwardContext
    ) -> Sequence[Tensor]:
        sides = (answer_log_probs(model, side, context) for side in (batch, _other(batch)))
        return [torch.cat(pair) for pair in zip(*sides, strict=True)]

    def linked(self, batches: Sequence[Batch], embed: Embed, gather: Gather) -> Sequence[Batch]:
        found = [embed(place, _drift) * (b.weight > 0) for place, b in enumerate(batches)]
        own = torch.stack(found).sum(0)
        total, count = torch.stack(gather(own)).sum(0)
        kl = (total / count).clamp(min=0)
        return [dataclasses.replace(b, more={**b.more, "kl": kl}) for b in batches]

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        kl = batch.more.get("kl")
        if kl is None:  # a pass by itself
            with torch.no_grad():
                total, count = _drift(model, batch, context)
            kl = (total / count).clamp(min=0)
        answers = AnswerLogProbs.of(model, batch, context)
        is_good = batch.more["scores"][:, 0] > 0
        gaps = self.beta * (answers.ratios - kl)
        gaps = torch.where(is_good, gaps, -gaps)
        losses = torch.sigmoid(-gaps)
        losses = torch.where(is_good, self.desirable * losses, self.undesirable * losses)
        rewards = self.beta * answers.ratios.detach()
        figures = torch.stack([torch.ones_like(rewards), rewards, answers.log_probs.detach()])
        sides = torch.stack([(figures * of).sum(1) for of in (is_good, ~is_good)])
        sums = {"accuracy": (gaps > 0).sum(), "kl": kl * len(rewards)}
        return Loss(losses.sum(), sums, {"sides": sides})

    def reported(
        self, means: Mapping[str, float], counts: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """With the means of the desirable answers and of the others, ``chosen`` and ``rejected`` as
        for pairs, where a step has both."""
        found = dict(means)
        for name, side in zip(("chosen", "rejected"), counts["sides"].tolist(), strict=True):
            count, reward, log_prob = side
            if count:
                found[f"reward_{name}"] = reward / count
                found[f"log_prob_{name}"] = log_prob / count
        if "reward_chosen" in found and "reward_rejected" in found:
            found["margin"] = found["reward_chosen"] - found["reward_rejected"]
        return found

    def _answers(self, row: Row) -> Iterable[tuple[Sequence[Message], Sequence[Message], bool]]:
        if "chosen" in row.values:
            pair = preference_of(row)
            yield pair.prompt, pair.chosen, True
            yield pair.prompt, pair.rejected, False
            return
        for rated in ratings_of(row):
            yield rated.prompt, rated.answer, rated.rating > self.threshold


def _mismatched(examples: Sequence[Example], index: int) -> Example:
    """With a second sequence: its prompt and the answer of the example that stands half of all
    away, which in files that are sorted by prompts is one to another prompt."""
    count = len(examples)
    own, other = (examples[(index + away) % count] for away in (0, max(count // 2, 1)))
    return dataclasses.replace(joined([own, _answered(own, other)]), scores=own.scores)


def _answered(asked: Example, answered: Example) -> Example:
    """The prompt of ``asked`` with the answer of ``answered``, as long as the longer of both at
    most, so that it is within what the model reads."""
    prompt, answer = labels_of(asked), labels_of(answered)
    start, begin = (int((labels != IGNORED).argmax()) for labels in (prompt, answer))
    most = max(len(prompt), len(answer))
    ids = np.concatenate([asked.sequences[0][:start], answered.sequences[0][begin:]])
    labels = np.concatenate([prompt[:start], answer[begin:]])
    return Example((ids[:most],), labels[:most])


def _other(batch: Batch) -> Batch:
    """The batch of the answers y' of ``batch``."""
    found = {
        name.removeprefix(_OTHER): value
        for name, value in batch.more.items()
        if name.startswith(_OTHER)
    }
    inputs = {"input_ids": found.pop("ids"), "lengths": found.pop("lengths").tolist()}
    return Batch(inputs, found.pop("labels"), 0.0, 0, found)


def _drift(model: Transformer, batch: Batch, context: ForwardContext) -> Tensor:
    """(2,): the sum of log-ratios of the answers y' of ``batch``, and how many there are."""
    ratios = AnswerLogProbs.of(model, _other(batch), context).ratios
    return torch.stack([ratios.sum(), ratios.new_tensor(float(len(ratios)))])
