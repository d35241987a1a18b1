"""Distillation: a student learns the distribution of a teacher, token by token.

    L = alpha * CE + (1 - alpha) * T^2 * D

CE is the cross-entropy of the data's tokens. D compares the distributions of both models at
temperature T: forward, KL(teacher || student) (Hinton et al., 2015), which spreads the student
over all that the teacher may say; or reverse, KL(student || teacher), which keeps it to what the
teacher is sure of. Reverse is the divergence of MiniLLM (Gu et al., 2024), here on the data's own
tokens: nothing is sampled from the student.

Reads what `causal` and `sft` read: texts, or conversations, of which the assistant's turns count.
The teacher is any language model of the registry with the student's tokenizer. Its logits exist
for a chunk of labelled tokens at a time, beside the student's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.core import InputError, UnsupportedError, allowed, check_text, shown
from lmstack.model import ForwardContext, Transformer
from lmstack.model.config import Head
from lmstack.registry import LoadedModel, load
from lmstack.registry.card import Kind
from lmstack.text import Tokenizer
from lmstack.train.cross_entropy import chunked_loss, wide
from lmstack.train.data.examples import IGNORED, Batch, Example
from lmstack.train.data.rows import Row
from lmstack.train.metric import TrainingMetric, falling
from lmstack.train.objectives.causal import CausalLM, next_token_batch
from lmstack.train.objectives.objective import AllRows, Loss, Objective, Reading, read_of
from lmstack.train.objectives.sft import SupervisedFineTuning

__all__ = ["Distillation"]


@dataclass(frozen=True)
class Distillation(Objective):
    """``teacher``: a model. ``alpha``: the weight of the data's own tokens. ``divergence``:
    forward or reverse."""

    reads: ClassVar[tuple[str, ...]] = ("text", "chat", "instruction")
    packs: ClassVar[bool] = True
    kind: ClassVar[Kind | None] = "generate"
    heads: ClassVar[tuple[Head, ...]] = ("lm",)

    teacher: str
    temperature: float = allowed(2.0, float, 0.01, 100)
    alpha: float = allowed(0.5, float, 0, 1)
    divergence: str = allowed("forward", str, also=("forward", "reverse"))
    # Of the teacher. `fitted` puts them on the instance: they are no fields, so neither settings
    # nor part of what examples follow from.
    module: ClassVar[Transformer | None] = None
    digest: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text("teacher", self.teacher)

    def fitted(self, base: LoadedModel, rows: AllRows) -> Self:
        del rows
        teacher = load(self.teacher)
        _check_decoders(base, teacher)
        _check_vocabularies(base.tokenizer, teacher.tokenizer, teacher.name)
        found = dataclasses.replace(self)
        module = teacher.module.to(base.module.device).eval().requires_grad_(False)
        object.__setattr__(found, "module", module)
        object.__setattr__(found, "digest", teacher.digest)
        return found

    def metrics(self) -> Sequence[TrainingMetric]:
        return (*super().metrics(), *falling("cross_entropy", "divergence"))

    @property
    def models(self) -> Mapping[str, str | None]:
        return {"teacher": self.digest}

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        reader = CausalLM() if "text" in row.values else SupervisedFineTuning()
        return reader.encode(row, reading)

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        del reading
        return next_token_batch(examples)

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        teacher, plain = self.module, ForwardContext(ops=context.ops)
        assert teacher is not None, "fitted() loads the teacher"
        places = (batch.labels != IGNORED).nonzero().flatten()
        labels = batch.labels[places]
        with torch.no_grad():
            seen = teacher(
                **batch.inputs, context=plain, output_hidden_states=False, readout=_as_it_is
            )
            shown_states = seen.last_hidden_state[places]
        sums: dict[str, Tensor] = {}

        def loss_of(states: Tensor, place: slice) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                theirs = wide(teacher.logits(shown_states[place], plain))
            return self.mixed(wide(model.logits(states, context)), theirs, labels[place])

        def readout(hidden: Tensor) -> Tensor:
            parameters = model.output_parameters()
            total, figures = chunked_loss(hidden[places], loss_of, parameters, 3)
            sums.update(zip(("accuracy", "cross_entropy", "divergence"), figures, strict=True))
            return total

        return Loss(read_of(model, batch, context, readout), sums)

    def mixed(self, own: Tensor, theirs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of student logits ``own`` (n, V) beside the teacher's (n, W), and the figures:
        right predictions, cross-entropy, divergence. Rows of a table that pad it beyond the
        narrower one stand for no token."""
        width = min(own.shape[-1], theirs.shape[-1])
        student = F.log_softmax(own[:, :width] / self.temperature, dim=-1)
        teacher = F.log_softmax(theirs[:, :width] / self.temperature, dim=-1)
        if self.divergence == "reverse":
            student, teacher = teacher, student
        divergence = F.kl_div(student, teacher, reduction="sum", log_target=True)
        entropy = F.cross_entropy(own, labels, reduction="sum")
        loss = self.alpha * entropy + (1 - self.alpha) * self.temperature**2 * divergence
        right = (own.argmax(-1) == labels).sum()
        return loss, torch.stack([right, entropy, divergence]).detach()


def _as_it_is(hidden: Tensor) -> Tensor:
    return hidden


def _check_decoders(student: LoadedModel, teacher: LoadedModel) -> None:
    for name, config in ((s.name, s.module.config) for s in (student, teacher)):
        if config.head != "lm" or not config.causal or config.encoder is not None:
            raise UnsupportedError(
                f"{name} is no decoder with a language model's head",
                hint="distil a model such as smollm2-135m-instruct",
                param="teacher" if name == teacher.name else "base",
            )


def _check_vocabularies(student: Tokenizer, teacher: Tokenizer, name: str) -> None:
    """`InputError` unless each id stands for the same token in both."""
    sizes = student.vocab_size, teacher.vocab_size
    for index in range(min(sizes)):
        ours, theirs = student.token(index), teacher.token(index)
        if ours != theirs:
            raise InputError(
                f"token {index} is {shown(ours)} for the student and {shown(theirs)} for {name}",
                hint="a teacher with the student's tokenizer, or a fresh student with the"
                f" teacher's: tokenizer={name}",
                param="teacher",
            )
    if sizes[0] != sizes[1]:
        raise InputError(
            f"the student's tokenizer has {sizes[0]} tokens, that of {name} {sizes[1]}",
            hint=f"a fresh student with the teacher's: tokenizer={name}",
            param="teacher",
        )
