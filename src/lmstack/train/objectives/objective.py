"""What an objective is: how it reads a row, makes a batch, and computes a loss from a pass.

An objective is one file here and a frozen config: its settings are those of a recipe's
``objective`` section. It holds no weights and no state.

Legend: N tokens of a varlen batch, D width, V vocabulary.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lmstack.core import Config
from lmstack.model import ForwardContext, Transformer
from lmstack.model.config import Head
from lmstack.registry import LoadedModel
from lmstack.registry.card import Kind
from lmstack.text import ChatTemplate, Tokenizer
from lmstack.train.cross_entropy import chunked_cross_entropy, chunked_log_probs
from lmstack.train.data.examples import IGNORED, Batch, Example
from lmstack.train.data.rows import Row
from lmstack.train.metric import ACCURACY, LOSS, TrainingMetric

__all__ = [
    "AllRows",
    "Loss",
    "Objective",
    "Reading",
    "logits_of",
    "one_score",
    "read_of",
    "token_log_probs",
    "token_loss",
]


@dataclass(frozen=True)
class Reading:
    """What rows are read with. ``max_length``: tokens of a sequence at most. ``decoder_start``:
    the first token that a decoder with an encoder is given. ``segments``: whether the model reads
    which of two texts a token belongs to."""

    tokenizer: Tokenizer
    template: ChatTemplate | None
    max_length: int
    decoder_start: int | None = None
    segments: bool = False

    @cached_property
    def token_bytes(self) -> npt.NDArray[np.int64]:
        """(V,): bytes of text that each token stands for; a control token stands for none."""
        tokenizer = self.tokenizer
        special = tokenizer.special_ids
        sizes = (
            0 if index in special else len(tokenizer.token_bytes(index))
            for index in range(tokenizer.vocab_size)
        )
        return np.fromiter(sizes, np.int64, tokenizer.vocab_size)


@dataclass(frozen=True)
class Loss:
    """``total``: the sum over the batch's ``weight`` predictions, with a gradient. ``sums``: of
    what is reported beside it (``accuracy``), each divided by the weight in the end. ``counts``:
    of any shape, summed over batches, for what is no mean over predictions (F1): see
    `Objective.reported`. ``largest``: numbers whose largest is reported."""

    total: Tensor
    sums: Mapping[str, Tensor] = field(default_factory=dict)
    counts: Mapping[str, Tensor] = field(default_factory=dict)
    largest: Mapping[str, Tensor] = field(default_factory=dict)


AllRows = Callable[[], Iterator[Row]]
Forward = Callable[[Transformer, Batch, ForwardContext], Tensor]
Embed = Callable[[int, Forward], Tensor]
Gather = Callable[[Tensor], list[Tensor]]


@dataclass(frozen=True)
class Objective(Config, abc.ABC):
    """Subclass it in a file of its own, and enter it in `lmstack.train.objectives.OBJECTIVES`.

    ``reads``: the data formats it takes (`lmstack.train.data.formats`). ``packs``: whether its
    examples are put together up to ``max_length`` tokens, which attention still keeps apart.
    ``kind``: of the model that it makes. ``metric``: the name of that by which evaluations are
    compared, unless the recipe says another (`metrics`). ``heads``: those
    that it can train, the first of which a base with another is given; empty: it trains the head
    that is there. ``refers``: whether its loss compares with the weights that the run starts
    from (`referred`). ``aligns``: whether it teaches what to prefer, so that a run ends in a
    comparison with its base.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    packs: ClassVar[bool] = False
    kind: ClassVar[Kind | None] = None
    metric: ClassVar[str] = "loss"
    heads: ClassVar[tuple[Head, ...]] = ()
    refers: ClassVar[bool] = False
    aligns: ClassVar[bool] = False

    def fitted(self, base: LoadedModel, rows: AllRows) -> Self:
        """With what the settings leave open, as the base and the data have it. ``rows``: reads all
        of them, training and validation, each time that it is called."""
        del base, rows
        return self

    def metrics(self) -> Sequence[TrainingMetric]:
        """All that it may report, as far as its settings say: once it is `fitted`, no others."""
        return (LOSS, ACCURACY)

    @property
    def models(self) -> Mapping[str, str | None]:
        """Digests of the further models that it learns from, by the setting that names each: a run
        resumes with the same."""
        return {}

    def extend(self, module: Transformer) -> None:
        """Add what is trained beside the model and its adapter; nothing, mostly."""
        del module

    def labels(self, base: LoadedModel) -> tuple[str, ...]:
        """The names of what the head gives a score for; those of ``base`` let it keep its head."""
        return base.labels

    def made_of(self, base: LoadedModel) -> LoadedModel:
        """``base``, which has the right head by now, as the model that comes out."""
        return replace(base, kind=self.kind or base.kind)

    @abc.abstractmethod
    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        """The examples in ``row``; `InputError` where it is not of a format that is read."""

    def joined(self, examples: Sequence[Example]) -> Sequence[Example]:
        """``examples``, those of training or of validation, where each needs others beside it."""
        return examples

    def noised(self, example: Example, rng: np.random.Generator, reading: Reading) -> Example:
        """``example`` as it is seen this time. ``rng``: follows from the run's seed, the epoch
        and the example alone."""
        del rng, reading
        return example

    @abc.abstractmethod
    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        """One batch of ``examples``."""

    def linked(self, batches: Sequence[Batch], embed: Embed, gather: Gather) -> Sequence[Batch]:
        """The passes of a step, told what their losses must know of each other: an objective that
        compares the rows of a step does. ``embed(place, f)``: f(model, batch, context) of a pass,
        as `loss` will see it. ``gather``: a tensor of every process, in their order."""
        del embed, gather
        return batches

    def referred(
        self, model: Transformer, batch: Batch, context: ForwardContext
    ) -> Sequence[Tensor]:
        """For each example of ``batch``, which has no reference yet, what its `Example.reference`
        is to be, (m,): asked for once, of the weights that the run starts from."""
        del model, batch, context
        return ()

    @abc.abstractmethod
    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        """Through ``model(...)``, whose hooks shard and reduce it."""

    def reported(
        self, means: Mapping[str, float], counts: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """What is said of ``means``, the loss and the other sums, a prediction, and of ``counts``,
        summed over a step or an evaluation (`Loss`)."""
        del counts
        return dict(means)


def one_score(base: LoadedModel) -> tuple[str, ...]:
    """The label of a head with one score: that of ``base`` where it has such a head."""
    return base.labels if len(base.labels) == 1 else ("LABEL_0",)


def logits_of(model: Transformer, batch: Batch, context: ForwardContext) -> Tensor:
    """What ``model`` gives for ``batch``; nothing of its blocks is kept for it."""
    logits: Tensor = model(**batch.inputs, context=context, output_hidden_states=False).logits
    return logits


def read_of(
    model: Transformer,
    batch: Batch,
    context: ForwardContext,
    readout: Callable[[Tensor], Tensor],
) -> Tensor:
    """What ``readout`` makes of the last states of ``batch``, instead of logits."""
    output = model(**batch.inputs, context=context, output_hidden_states=False, readout=readout)
    assert isinstance(output.readout, Tensor)
    return output.readout


def token_loss(
    model: Transformer, batch: Batch, context: ForwardContext, *, smoothing: float = 0.0
) -> Loss:
    """Cross-entropy of ``batch.labels`` at each of its places, those of `IGNORED` left out before
    the output layer. ``smoothing``: of the labels."""
    sums: dict[str, Tensor] = {}

    def readout(hidden: Tensor) -> Tensor:
        labels = batch.labels.flatten()
        places = (labels != IGNORED).nonzero().flatten()
        states = hidden.flatten(0, -2)[places]
        total, correct = chunked_cross_entropy(
            states,
            labels[places],
            lambda x: model.logits(x, context),
            model.output_parameters(),
            smoothing=smoothing,
        )
        sums["accuracy"] = correct
        return total

    return Loss(read_of(model, batch, context, readout), sums)


def token_log_probs(model: Transformer, batch: Batch, context: ForwardContext) -> Tensor:
    """The log-probability of each of ``batch.labels`` but those of `IGNORED`, (M,), with a gradient
    where one is wanted."""

    def readout(hidden: Tensor) -> Tensor:
        labels = batch.labels.flatten()
        places = (labels != IGNORED).nonzero().flatten()
        return chunked_log_probs(
            hidden.flatten(0, -2)[places],
            labels[places],
            lambda x: model.logits(x, context),
            model.output_parameters(),
        )

    return read_of(model, batch, context, readout)
