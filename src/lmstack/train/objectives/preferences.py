"""What preference objectives share: answers to a prompt, and their log-probabilities in one pass.

    log pi(y | x) = sum over tokens t of y of log pi(y_t | x, y_<t)

The tokens of an answer are those that supervised fine-tuning learns (`ChatTemplate.encode_turns`);
nothing of the prompt is. Logits exist for a chunk of these tokens at a time. The reference is what
the weights that the run starts from give to the same tokens (`lmstack.train.reference`): kept token
by token, so that a difference of two long sums loses no digits.

Legend: B pairs, S answers, M tokens of all answers.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from lmstack.core import InputError, Message, UnsupportedError
from lmstack.model import ForwardContext, Transformer
from lmstack.registry import LoadedModel
from lmstack.registry.card import Kind
from lmstack.train.data.examples import IGNORED, Batch, Example, Floats, Ints, by_length
from lmstack.train.data.formats import Preference, preference_of
from lmstack.train.data.rows import Row
from lmstack.train.metric import TrainingMetric, falling, rising
from lmstack.train.objectives.causal import next_token_batch
from lmstack.train.objectives.objective import (
    AllRows,
    Loss,
    Objective,
    Reading,
    token_log_probs,
)

__all__ = [
    "OF_PAIRS",
    "AnswerLogProbs",
    "Preferences",
    "answers_batch",
    "check_decoder",
    "encoded_answer",
    "parts_of",
    "with_scores",
]

OF_PAIRS = (
    *rising("margin", "reward_chosen", "log_prob_chosen"),
    *falling("reward_rejected", "log_prob_rejected"),
)


@dataclass(frozen=True)
class AnswerLogProbs:
    """Of a pass. ``log_probs``, ``tokens`` (S,): of each answer. ``log_ratios`` (S,): its
    log-probability less that of the reference. ``drift``: the sum over the M tokens of half the
    square of that, which near the reference is an estimate of the KL divergence from it (k2 of
    Schulman, 2020). Without a reference both are None."""

    log_probs: Tensor
    tokens: Tensor
    log_ratios: Tensor | None = None
    drift: Tensor | None = None

    @classmethod
    def of(cls, model: Transformer, batch: Batch, context: ForwardContext) -> Self:
        """Those of ``batch`` (`answers_batch`), in the order that it was given them."""
        found, counts = token_log_probs(model, batch, context), batch.more["counts"]
        places = batch.more["places"]

        def summed(values: Tensor) -> Tensor:
            parts = values.split_with_sizes(counts.tolist())
            return torch.stack([part.sum() for part in parts])[places]

        if "reference" not in batch.more:
            return cls(summed(found), counts[places])
        apart = found - batch.more["reference"]
        drift = (apart.detach() ** 2).sum() / 2
        return cls(summed(found), counts[places], summed(apart), drift)

    @property
    def means(self) -> Tensor:
        """(S,): the log-probability of a token."""
        return self.log_probs / self.tokens

    @property
    def ratios(self) -> Tensor:
        """``log_ratios``, where there is a reference."""
        assert self.log_ratios is not None, "the reference is computed before the first step"
        return self.log_ratios


@dataclass(frozen=True)
class Preferences(Objective):
    """An objective over pairs: what is chosen is to be likelier than what is rejected."""

    reads: ClassVar[tuple[str, ...]] = ("preference",)
    kind: ClassVar[Kind | None] = "generate"
    aligns: ClassVar[bool] = True

    def metrics(self) -> Sequence[TrainingMetric]:
        return (*super().metrics(), *OF_PAIRS, *(falling("kl") if self.refers else ()))

    @abc.abstractmethod
    def losses(
        self, chosen: AnswerLogProbs, rejected: AnswerLogProbs, scores: Tensor | None
    ) -> Tensor:
        """(B,), with a gradient. ``scores`` (B, n): those of the pairs, where `scores` has any."""

    @abc.abstractmethod
    def rewards(self, answers: AnswerLogProbs) -> Tensor:
        """(B,): what the loss takes for the reward of ``answers``, for the metrics."""

    def scores(self, pair: Preference) -> Floats | None:
        """What the loss needs to know of ``pair`` beside its answers, (n,) float32."""
        del pair
        return None

    def fitted(self, base: LoadedModel, rows: AllRows) -> Self:
        del rows
        check_decoder(base)
        return self

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        """One example: the sequences of the chosen answer and of the rejected one."""
        pair = preference_of(row)
        found = [encoded_answer(pair.prompt, way, reading) for way in (pair.chosen, pair.rejected)]
        (chosen, rejected) = (example.sequences[0] for example in found)
        if np.array_equal(chosen, rejected):
            raise InputError(
                f"chosen and rejected are alike within max_length, {reading.max_length}",
                hint="raise max_length, or leave the row out",
            )
        yield dataclasses.replace(joined(found), scores=self.scores(pair))

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        """The answers of `answers_batch` are chosen, rejected, chosen, rejected, ..."""
        del reading
        parts = [part for example in examples for part in parts_of(example)]
        return with_scores(answers_batch(parts, float(len(examples))), examples)

    def referred(
        self, model: Transformer, batch: Batch, context: ForwardContext
    ) -> Sequence[Tensor]:
        parts = answer_log_probs(model, batch, context)
        return [torch.cat(parts[at : at + 2]) for at in range(0, len(parts), 2)]

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        both = AnswerLogProbs.of(model, batch, context)
        chosen, rejected = _every_other(both, 0), _every_other(both, 1)
        good, bad = (self.rewards(side).detach() for side in (chosen, rejected))
        sums = {
            "accuracy": (good > bad).sum(),
            "margin": (good - bad).sum(),
            "reward_chosen": good.sum(),
            "reward_rejected": bad.sum(),
            "log_prob_chosen": chosen.log_probs.detach().sum(),
            "log_prob_rejected": rejected.log_probs.detach().sum(),
        }
        counts = {}
        if both.drift is not None:
            counts["kl"] = torch.stack([both.drift, both.tokens.sum()])
        losses = self.losses(chosen, rejected, batch.more.get("scores"))
        return Loss(losses.sum(), sums, counts)

    def reported(
        self, means: Mapping[str, float], counts: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """``kl``: a token (`AnswerLogProbs.drift`)."""
        if "kl" not in counts:
            return dict(means)
        drift, tokens = counts["kl"].tolist()
        return {**means, "kl": drift / max(tokens, 1.0)}


def check_decoder(base: LoadedModel) -> None:
    """`UnsupportedError` unless ``base`` is a language model of one stack."""
    config = base.module.config
    if config.head != "lm" or not config.causal or config.encoder is not None:
        raise UnsupportedError(
            f"{base.name} is no decoder with a language model's head",
            hint="align a chat model, such as smollm2-135m-instruct",
            param="base",
        )


def encoded_answer(
    prompt: Sequence[Message], answer: Sequence[Message], reading: Reading
) -> Example:
    """The conversation of both in one sequence, cut at its end to ``max_length``. Labels are the
    tokens of the assistant in ``answer``."""
    if reading.template is None:
        raise InputError(
            "the model has no chat template", hint="take a chat model, or give the base a template"
        )
    ids, spans = reading.template.encode_turns(
        [*prompt, *answer], reading.tokenizer, after=len(prompt)
    )
    whole = np.array(ids, np.int32)
    labels = np.full(len(ids), IGNORED, np.int32)
    for start, stop in spans:
        labels[start:stop] = whole[start:stop]
    labels[:1] = IGNORED  # nothing comes before it
    left_out = max(len(ids) - reading.max_length, 0)
    whole, labels = whole[: reading.max_length], labels[: reading.max_length]
    if (labels == IGNORED).all():
        raise InputError(
            f"no token of an answer is within max_length, {reading.max_length}",
            hint="raise max_length, or shorten the prompt",
        )
    return Example((whole,), labels, left_out)


def joined(parts: Sequence[Example]) -> Example:
    """One example of the sequences of ``parts``, with the labels of one after those of the
    other."""
    return Example(
        tuple(ids for part in parts for ids in part.sequences),
        np.concatenate([labels_of(part) for part in parts]),
        sum(part.left_out for part in parts),
    )


def parts_of(example: Example) -> list[Example]:
    """The sequences of ``example`` (`joined`), each with its own labels and its own part of the
    reference."""
    labels = np.split(labels_of(example), np.cumsum([len(ids) for ids in example.sequences])[:-1])
    references: Sequence[np.ndarray | None] = [None] * len(labels)
    if example.reference is not None:
        counts = [int((part != IGNORED).sum()) for part in labels]
        references = np.split(example.reference, np.cumsum(counts)[:-1])
    return [
        Example((ids,), own, reference=reference)
        for ids, own, reference in zip(example.sequences, labels, references, strict=True)
    ]


def labels_of(example: Example) -> Ints:
    """Those of `encoded_answer` or `joined`."""
    return np.asarray(example.labels, np.int32)


def answers_batch(parts: Sequence[Example], weight: float) -> Batch:
    """A varlen batch of ``parts``, an answer each, by their length, with ``weight`` predictions.

    ``more``: ``counts`` (S,), the tokens of each answer, and ``reference`` (M,), where there is
    one, in the order of the batch; ``places`` (S,): where each of ``parts`` stands in it."""
    order, places = by_length([part.tokens for part in parts])
    found = [parts[place] for place in order]
    batch = next_token_batch(found)
    counts = [int((labels_of(part) != IGNORED).sum()) for part in found]
    more = {"counts": torch.tensor(counts), "places": places}
    references = [part.reference for part in found if part.reference is not None]
    if references:
        more["reference"] = torch.from_numpy(np.concatenate(references))
    return dataclasses.replace(batch, weight=weight, more=more)


def with_scores(batch: Batch, examples: Sequence[Example]) -> Batch:
    """``batch`` with ``scores`` (B, n) of its ``examples``, where they have any."""
    scores = [example.scores for example in examples if example.scores is not None]
    if not scores:
        return batch
    return dataclasses.replace(
        batch, more={**batch.more, "scores": torch.from_numpy(np.stack(scores))}
    )


def answer_log_probs(model: Transformer, batch: Batch, context: ForwardContext) -> list[Tensor]:
    """Of each answer of ``batch``, in the order that it was given them: the log-probabilities of
    its tokens."""
    parts = token_log_probs(model, batch, context).split_with_sizes(batch.more["counts"].tolist())
    return [parts[place] for place in batch.more["places"].tolist()]


def _every_other(answers: AnswerLogProbs, first: int) -> AnswerLogProbs:
    ratios = answers.log_ratios
    return AnswerLogProbs(
        answers.log_probs[first::2],
        answers.tokens[first::2],
        None if ratios is None else ratios[first::2],
    )
