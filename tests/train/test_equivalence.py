"""The same step computed in other ways: packed, in passes, with less memory, in chunks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.train import tiny
from torch import Tensor, nn

from lmstack.model import (
    ForwardContext,
    LoraConfig,
    Transformer,
    TransformerConfig,
    add_adapter,
)
from lmstack.train.cross_entropy import chunked_cross_entropy, chunked_log_probs
from lmstack.train.data.examples import IGNORED, Batch, Example, padded, varlen
from lmstack.train.loader import Loader
from lmstack.train.objectives.causal import CausalLM
from lmstack.train.objectives.objective import Loss, token_loss
from lmstack.train.parallel import Parallel

EXACT = {"rtol": 1e-9, "atol": 1e-11}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def summed(module: Transformer, batches: list[Batch]) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of all ``batches``."""
    module.zero_grad()
    total = 0.0
    for batch in batches:
        loss = token_loss(module, batch, ForwardContext())
        loss.total.backward()
        total += float(loss.total.detach())
    return total, tiny.gradients(module)


def assert_same(
    one: tuple[float, dict[str, Tensor]],
    two: tuple[float, dict[str, Tensor]],
    **bounds: float,
) -> None:
    assert one[0] == pytest.approx(two[0], rel=1e-6 if bounds else 1e-10)
    assert one[1].keys() == two[1].keys()
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, two[1][name], **(bounds or EXACT), msg=name)


def loader(found: list[Example], *, packs: bool, micro_tokens: int = 64) -> Loader:
    lengths = [example.tokens for example in found]
    return Loader(
        found,
        lengths,
        CausalLM(),
        tiny.reading(32),
        batch=100,
        micro_tokens=micro_tokens,
        seed=3,
        packs=packs,
    )


@pytest.mark.parametrize("family", tiny.DECODERS)
def test_packed_equals_unpacked(family: str) -> None:
    module, found = tiny.model(family), tiny.examples(11)
    packed = loader(found, packs=True).batches(0)
    alone = loader(found, packs=False, micro_tokens=1).batches(0)
    assert len(packed) < len(alone) == 11
    # Gemma's norms are in float32, whatever the rest is in.
    bounds = {"rtol": 1e-4, "atol": 1e-4} if family == "gemma2" else {}
    assert_same(summed(module, packed), summed(module, alone), **bounds)


@pytest.mark.parametrize("family", tiny.ENCODERS)
def test_an_encoder_packed_equals_padded(family: str) -> None:
    module, found = tiny.model(family), tiny.examples(6)
    rng = np.random.default_rng(1)
    wanted = [np.where(rng.random(e.tokens) < 0.4, e.sequences[0], IGNORED) for e in found]
    sequences = [example.sequences[0] for example in found]
    weight = float(sum((w != IGNORED).sum() for w in wanted))
    whole = torch.from_numpy(np.concatenate(wanted).astype(np.int64))
    packed = Batch(varlen(sequences), whole, weight, 0)
    ids, mask = padded(sequences, 0)
    labels = torch.full_like(ids, IGNORED)
    labels[mask] = whole
    batch = Batch({"input_ids": ids, "attention_mask": mask}, labels, weight, 0)
    assert_same(summed(module, [packed]), summed(module, [batch]))


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_a_batch_equals_several_passes(family: str, tmp_path: Path) -> None:
    found = tiny.examples(40)
    runs = []
    for micro_tokens in (10_000, 30, 1):
        module = tiny.model(family)
        trainer = tiny.trainer(
            module, tmp_path, found, micro_tokens=micro_tokens, batch=6, pack=False
        )
        assert (len(trainer.source.train.batches(0)) == 1) == (micro_tokens == 10_000)
        values = [trainer.step() for _ in range(3)]
        runs.append(([value["loss"] for value in values], tiny.weights(module)))
    for losses, weights in runs[1:]:
        assert losses == pytest.approx(runs[0][0], rel=1e-9)
        for name, weight in weights.items():
            torch.testing.assert_close(weight, runs[0][1][name], rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("family", ["llama", "gemma2", "t5"])
def test_checkpointing_with_dropout_changes_no_bit(family: str, tmp_path: Path) -> None:
    """Dropout of blocks and of adapters drops the same places when a block is computed again."""
    ends = []
    for checkpointing in (False, True):
        module = tiny.model(family, dtype=torch.float32)
        add_adapter(module, LoraConfig(r=4, dropout=0.3))
        if family == "t5":
            trainer = tiny.trainer(module, tmp_path, PAIRS, objective=Pairs(), checkpointing=True)
        else:
            trainer = tiny.trainer(module, tmp_path, tiny.examples(40))
        object.__setattr__(trainer.recipe, "dropout", 0.2)
        object.__setattr__(trainer.recipe, "checkpointing", checkpointing)
        ends.append(([trainer.step()["loss"] for _ in range(3)], tiny.weights(module)))
    assert ends[0][0] == ends[1][0]
    for name, weight in ends[0][1].items():
        assert torch.equal(weight, ends[1][1][name]), name


class Pairs(CausalLM):
    """The second sequence predicted from the first."""

    def collate(self, examples, reading):
        ids, mask = padded([e.sequences[0] for e in examples], 0)
        wanted, real = padded([e.sequences[1] for e in examples], 0)
        inputs = {"input_ids": ids, "attention_mask": mask}
        inputs |= {"decoder_input_ids": wanted, "decoder_attention_mask": real}
        labels = torch.where(real, wanted, IGNORED)
        return Batch(inputs, labels, float(real.sum()), int(real.sum()))


PAIRS = [
    Example((a.sequences[0], b.sequences[0]))
    for a, b in zip(tiny.examples(40), tiny.examples(40, seed=1), strict=True)
]


HEADS = {
    "untied": {},
    "tied": {"tie_embeddings": True},
    "softcap": {"logit_softcap": 3.0},
    "bias": {"head_bias": True, "tie_embeddings": True},
    "scale": {"logit_scale": 0.3},
    "transform": {"transform": "gelu", "transform_norm": True, "head_bias": True},
    "lora": {},
}


@pytest.mark.parametrize("head", HEADS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_chunked_cross_entropy_equals_plain(head: str, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 13), label="labels")
    chunk = data.draw(st.integers(1, 15), label="chunk")
    scale = data.draw(st.sampled_from([1.0, 0.25, 0.0]), label="scale")
    config = tiny.config_of("llama").replace(**{"tie_embeddings": False, **HEADS[head]})
    module = headed(config, lora=head == "lora")
    hidden = torch.randn(count, config.hidden_size, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(config.vocab_size, (count,))

    def logits(x: Tensor) -> Tensor:
        return module.logits(x)

    found = []
    for is_chunked in (False, True):
        module.zero_grad()
        hidden.grad = None
        if is_chunked:
            total, correct = chunked_cross_entropy(
                hidden, labels, logits, module.output_parameters(), chunk
            )
        else:
            scores = logits(hidden)
            total = F.cross_entropy(scores, labels, reduction="sum")
            correct = (scores.argmax(-1) == labels).sum()
        (total * scale).backward()
        assert hidden.grad is not None
        gradients = {**tiny.gradients(module), "hidden": hidden.grad.clone()}
        found.append((float(total.detach()), int(correct), gradients))
    assert found[0][:2] == pytest.approx(found[1][:2], rel=1e-12)
    assert found[0][2].keys() == found[1][2].keys()
    for name, gradient in found[0][2].items():
        torch.testing.assert_close(gradient, found[1][2][name], **EXACT, msg=name)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_chunked_log_probs_and_their_gradients_are_those_of_whole_logits(
    head: str, frozen: bool
) -> None:
    """Each has a weight of its own, as in a policy's loss; dropout is drawn alike both times."""
    config = tiny.config_of("llama").replace(**{"tie_embeddings": False, **HEADS[head]})
    module = headed(config, lora=head == "lora", dropout=0.5 if head == "lora" else 0.0)
    parameters, count = module.output_parameters(), 11
    for weight in parameters:
        weight.requires_grad_(weight.requires_grad and not frozen)
    hidden = torch.randn(count, config.hidden_size, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(config.vocab_size, (count,))
    found = []
    for chunk in (None, count) if head == "lora" else (None, 1, 4, count):
        module.zero_grad()
        hidden.grad = None
        torch.manual_seed(3)
        if chunk is None:
            log_probs = module.logits(hidden).log_softmax(-1)[range(count), labels]
        else:
            log_probs = chunked_log_probs(hidden, labels, module.logits, parameters, chunk)
        (log_probs.exp() @ torch.arange(float(count), dtype=torch.float64)).backward()
        assert hidden.grad is not None
        found.append({**tiny.gradients(module), "": hidden.grad.clone(), "log": log_probs.detach()})
    for others in found[1:]:
        assert others.keys() == found[0].keys()
        for name, value in others.items():
            torch.testing.assert_close(value, found[0][name], **EXACT, msg=name)
    with torch.no_grad():
        still = chunked_log_probs(hidden, labels, module.eval().logits, parameters, 4)
    assert not still.requires_grad
    none = chunked_log_probs(hidden[:0], labels[:0], module.logits, parameters)
    assert none.shape == (0,)


def headed(config: TransformerConfig, *, lora: bool, dropout: float = 0.0) -> Transformer:
    torch.manual_seed(0)
    module = Transformer(config).double()
    if lora:
        add_adapter(module, LoraConfig(r=2, dropout=dropout, targets=("lm_head",)))
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.0, 0.3)
    return module


def test_without_gradients_it_is_the_same_loss() -> None:
    module = headed(tiny.config_of("llama"), lora=False)
    hidden = torch.randn(10, module.config.hidden_size, dtype=torch.float64)
    labels = torch.randint(tiny.VOCAB, (10,))
    parts = (hidden, labels, module.logits, module.output_parameters(), 3)
    with torch.no_grad():
        still = chunked_cross_entropy(*parts)
    assert still[0].item() == pytest.approx(chunked_cross_entropy(*parts)[0].item(), rel=1e-12)
    assert still[1] == chunked_cross_entropy(*parts)[1]


class Losses(CausalLM):
    """Keeps the loss of each pass."""

    kept: ClassVar[list[float]] = []

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        found = super().loss(model, batch, context)
        self.kept.append(float(found.total.detach()))
        return found


def test_passes_of_a_step_drop_other_places_and_the_same_ones_when_it_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one row twice, which without dropout has one loss."""
    (row,) = tiny.examples(1, seed=4)
    runs = []
    for dropout in (0.3, 0.3, 0.0):
        monkeypatch.setattr(Losses, "kept", [])
        tiny.trainer(
            tiny.model("llama"),
            tmp_path,
            [row, row],
            objective=Losses(),
            dropout=dropout,
            micro_tokens=1,
            pack=False,
        ).step()
        runs.append(Losses.kept)
    one, again, without = runs
    assert len(one) == 2
    assert one[0] != one[1]
    assert one == again
    assert without[0] == without[1]


def test_what_is_dropped_follows_from_seed_step_pass_and_process(tmp_path: Path) -> None:
    """Each by itself: one that is forgotten drops the same places over and over."""

    def seed(step: int = 0, place: int = 0, rank: int = 0, seed: int = 0) -> int:
        parts = (tiny.model("llama"), tmp_path, tiny.examples(3))
        trainer = tiny.trainer(*parts, dropout=0.3, seed=seed)
        trainer.trained.parallel = Parallel(rank, 1)
        dropout = trainer.trained.context(step, place).dropout
        assert dropout is not None
        return dropout.seed

    seeds = [seed(), seed(step=1), seed(place=1), seed(rank=1), seed(seed=1)]
    assert len(set(seeds)) == 5
    assert seed() == seeds[0]
