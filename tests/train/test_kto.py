"""KTO: TRL's loss and gradients, one z for a step, and answers that are rated by themselves."""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.train import tiny
from torch import Tensor

from lmstack.model import ForwardContext
from lmstack.text import ChatTemplate, VocabularyConfig, train_tokenizer
from lmstack.text.training import CHATML
from lmstack.train.data.examples import IGNORED, Example, ExampleView
from lmstack.train.data.rows import Row
from lmstack.train.objectives.kto import KTO
from lmstack.train.objectives.objective import Reading
from lmstack.train.objectives.preferences import labels_of, parts_of

BETA = 0.3
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def rated(count: int, seed: int = 0, likely: float = -6.0) -> ExampleView:
    """Answers to prompts of two to five tokens, good and bad ones, with a reference in which a
    token has a log-probability of ``likely`` or so."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        asked, answer = (rng.integers(3, tiny.VOCAB, rng.integers(2, 6)) for _ in range(2))
        ids = np.concatenate([asked, answer]).astype(np.int32)
        labels = np.where(np.arange(len(ids)) < len(asked), IGNORED, ids).astype(np.int32)
        found.append(Example((ids,), labels, scores=rng.integers(0, 2, 1).astype(np.float32)))
    both = KTO().joined(found)
    drawn = [
        rng.normal(likely, 1, int((labels_of(example) != IGNORED).sum())).astype(np.float32)
        for example in both
    ]

    def made(index: int) -> Example:
        one = both[index]
        return Example(one.sequences, one.labels, scores=one.scores, reference=drawn[index])

    return ExampleView(count, made)


def of_trl(module: Any, found: list[Example], objective: KTO) -> tuple[Tensor, float]:
    """`KTOTrainer`'s loss, and its estimate of the divergence, for log-probabilities of the plain
    forward pass, one sequence at a time."""
    from trl.trainer.kto_trainer import KTOTrainer

    sides = list(zip(*(parts_of(example) for example in found), strict=True))
    ours, references = [], []
    for side in sides:
        log_probs = []
        for part in side:
            ids = torch.from_numpy(part.sequences[0].astype(np.int64))
            scores = module(ids[None]).logits[0].log_softmax(-1)
            places = np.flatnonzero(part.labels != IGNORED)
            log_probs.append(scores[places - 1, ids[places]])
        ours.append(log_probs)
        references.append(torch.stack([torch.from_numpy(p.reference).double().sum() for p in side]))
    longest = max(map(len, ours[0]))
    rows = torch.stack([torch.nn.functional.pad(x, (0, longest - len(x))) for x in ours[0]])
    other = torch.stack([x.sum() for x in ours[1]])
    nothing = torch.zeros(len(found), longest)
    one = torch.ones(len(found), longest + 1, dtype=torch.long)
    trainer = SimpleNamespace(
        **{"beta": objective.beta, "loss_type": "kto", "calculate_KL": True},
        **{"desirable_weight": objective.desirable, "undesirable_weight": objective.undesirable},
        **{"model": module, "aux_loss_enabled": False, "precompute_ref_logps": True},
        **{"_compute_kl_logps": lambda _model, _batch: other.detach()},
        **{"_metrics": defaultdict(lambda: defaultdict(list)), "_total_train_tokens": 0},
        **{"_tp_size": 1},
        accelerator=SimpleNamespace(
            device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x
        ),
    )
    inputs = {
        "label": torch.tensor([example.scores[0] > 0 for example in found]),
        "input_ids": one,
        "attention_mask": one,
        "completion_mask": one,
        "ref_logps": references[0],
        "ref_KL_logps": references[1],
    }
    output = SimpleNamespace(log_probs=rows, entropy=nothing, mean_logits=nothing)
    loss = KTOTrainer._compute_loss(trainer, lambda **_: output, inputs, False)
    (kl,) = trainer._metrics["train" if module.training else "eval"]["kl"]
    return loss, kl


@pytest.mark.parametrize(("seed", "likely"), [(0, -6.0), (1, -6.0), (2, -4.0), (3, -2.0)])
def test_loss_and_gradients_are_those_of_trl(seed: int, likely: float) -> None:
    """The policy is likelier than the reference, or not, where the divergence is cut at 0."""
    module = tiny.model("llama", seed)
    objective = KTO(beta=BETA, desirable=1.5, undesirable=0.5)
    found = [*rated(7, seed, likely)]
    batch = objective.collate(found, tiny.reading())
    loss = objective.loss(module, batch, ForwardContext())
    (loss.total / batch.weight).backward()
    ours = {"loss": loss.total.detach() / batch.weight, **tiny.gradients(module)}
    module.zero_grad()
    theirs, kl = of_trl(module, found, objective)
    theirs.backward()
    assert (kl > 0) == (likely < -4)
    assert float(loss.sums["kl"]) / 7 == pytest.approx(kl, rel=1e-9, abs=1e-12)
    wanted = {"loss": theirs.detach(), **tiny.gradients(module)}
    assert ours.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(ours[key], value, **CLOSE, msg=key)


def test_all_passes_and_processes_of_a_step_share_one_divergence() -> None:
    """Cut into passes of any size, dealt to two processes, one of which has a pass too many."""
    module, objective = tiny.model("llama", 2).eval(), KTO(beta=BETA)
    found = [*rated(9, 1)]

    def embed(batches):
        return lambda place, forward: forward(module, batches[place], ForwardContext()).detach()

    (whole,) = objective.linked(
        [objective.collate(found, tiny.reading())],
        embed([objective.collate(found, tiny.reading())]),
        lambda tensor: [tensor],
    )
    wanted = objective.loss(module, whole, ForwardContext())
    cuts = [found[:2], found[2:5], found[5:], found[:1]]
    batches = [objective.collate(cut, tiny.reading()) for cut in cuts]
    batches[3] = type(batches[3])(batches[3].inputs, batches[3].labels, 0.0, 0, batches[3].more)
    shares = [batches[:2], batches[2:]]
    own: list[Tensor] = []
    for share in shares:
        objective.linked(share, embed(share), lambda tensor: [own.append(tensor) or tensor])
    total = 0.0
    for share in shares:
        linked = objective.linked(share, embed(share), lambda _: own)
        assert all(torch.equal(b.more["kl"], linked[0].more["kl"]) for b in linked)
        for batch in linked:
            loss = objective.loss(module, batch, ForwardContext())
            total += float(loss.total.detach()) * (batch.weight > 0)
    assert total == pytest.approx(float(wanted.total.detach()), rel=1e-10)


def test_no_label_moves_the_divergence_and_it_has_no_gradient() -> None:
    module, objective = tiny.model("llama", 3), KTO(beta=BETA)
    found = [*rated(6, 2)]
    kls = []
    for is_good in (0.0, 1.0):
        relabelled = [
            Example(
                e.sequences, e.labels, scores=np.array([is_good], np.float32), reference=e.reference
            )
            for e in found
        ]
        loss = objective.loss(
            module, objective.collate(relabelled, tiny.reading()), ForwardContext()
        )
        assert not loss.sums["kl"].requires_grad
        kls.append(float(loss.sums["kl"]))
    assert kls[0] == kls[1]


def test_the_other_answer_is_one_to_another_prompt() -> None:
    """In pairs, two rows of which share a prompt; no longer than what the model reads."""
    asked = [np.arange(10 * n, 10 * n + 3, dtype=np.int32) for n in range(1, 5)]
    found = []
    for prompt in asked:
        for length in (2, 6):
            ids = np.concatenate([prompt, np.arange(length) + prompt[0] + 3]).astype(np.int32)
            labels = np.where(np.arange(len(ids)) < 3, IGNORED, ids).astype(np.int32)
            found.append(Example((ids,), labels, scores=np.ones(1, np.float32)))
    for place, example in enumerate(KTO().joined(found)):
        own, other = parts_of(example)
        assert np.array_equal(own.sequences[0], found[place].sequences[0])
        assert np.array_equal(other.sequences[0][:3], own.sequences[0][:3])
        answer = other.sequences[0][3:]
        assert len(answer)
        first = int(own.sequences[0][0])
        assert not set(answer.tolist()) & set(range(first, first + 10))
        assert len(other.sequences[0]) <= 9
        assert np.array_equal(other.labels[3:], answer)
    (alone,) = KTO().joined(found[:1])
    assert np.array_equal(*alone.sequences)


def test_pairs_and_ratings_are_read() -> None:
    controls = VocabularyConfig(vocab_size=300, special_tokens=CHATML.special_tokens)
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 9, controls)
    reading = Reading(tokenizer, ChatTemplate(CHATML.template), 100)

    def read(objective: KTO, **values: Any) -> list[tuple[str, float]]:
        found = objective.encode(Row(values, ""), reading)
        return [
            (tokenizer.decode(e.labels[e.labels != IGNORED].tolist()), float(e.scores[0]))
            for e in found
        ]

    pair = {"prompt": "cat?", "chosen": "sat", "rejected": "mat"}
    assert read(KTO(), **pair) == [("sat<|im_end|>", 1.0), ("mat<|im_end|>", 0.0)]
    good, bad = ({"prompt": "cat?", "completion": "sat", "label": x} for x in (True, False))
    assert read(KTO(), **good) == [("sat<|im_end|>", 1.0)]
    assert read(KTO(), **bad) == [("sat<|im_end|>", 0.0)]
    stars = {"prompt": "cat?", "completions": ["sat", "mat"], "ratings": [2, 5]}
    assert [score for _, score in read(KTO(threshold=3), **stars)] == [0.0, 1.0]


def test_metrics_are_means_of_either_side() -> None:
    sides = torch.tensor([[2.0, 3.0, -8.0], [1.0, -0.5, -9.0]], dtype=torch.float64)
    found = KTO().reported({"loss": 0.4, "accuracy": 1.0, "kl": 0.1}, {"sides": sides})
    wanted = {"reward_chosen": 1.5, "log_prob_chosen": -4, "reward_rejected": -0.5, "margin": 2.0}
    assert found == {"loss": 0.4, "accuracy": 1.0, "kl": 0.1, "log_prob_rejected": -9, **wanted}
    sides[1] = 0
    assert "margin" not in KTO().reported({"loss": 1.0}, {"sides": sides})
    assert math.isfinite(found["margin"])


def test_the_point_of_reference_of_a_step_of_several_passes_is_never_below_zero() -> None:
    """Where the policy has moved away from all answers, which their reference finds likely."""
    module, objective = tiny.model("llama", 2).eval(), KTO(beta=BETA)
    found = [*rated(6, 1, likely=-0.1)]
    batches = [objective.collate(cut, tiny.reading()) for cut in (found[:2], found[2:])]
    drifts = []

    def embed(place: int, forward: Any) -> Tensor:
        drifts.append(forward(module, batches[place], ForwardContext()).detach())
        return drifts[-1]

    linked = objective.linked(batches, embed, lambda tensor: [tensor])
    assert sum(float(drift[0]) for drift in drifts) < 0
    assert [float(batch.more["kl"]) for batch in linked] == [0.0, 0.0]


@pytest.mark.parametrize(("rating", "is_good"), [(2.9, 0.0), (3, 0.0), (3.1, 1.0)])
def test_an_answer_is_desirable_above_the_threshold_alone(rating: float, is_good: float) -> None:
    row = {"prompt": "cat?", "completion": "sat", "rating": rating}
    reading = Reading(
        tiny.reading().tokenizer,
        ChatTemplate("{% for m in messages %}{{ m['content'] }}{% endfor %}"),
        100,
    )
    (example,) = KTO(threshold=3).encode(Row(row, ""), reading)
    assert example.scores.tolist() == [is_good]


@pytest.mark.parametrize("sizes", [[(9, 1), (2, 3)], [(2, 3), (9, 1)], [(1, 9), (9, 2)]])
def test_a_mismatched_answer_is_cut_to_the_longer_of_both(sizes: list[tuple[int, int]]) -> None:
    """A short answer to a long prompt beside a longer answer to a short one, and the reverse."""
    found = []
    for asked, answered in sizes:
        ids = np.arange(asked + answered, dtype=np.int32)
        labels = np.where(ids < asked, IGNORED, ids).astype(np.int32)
        found.append(Example((ids,), labels, scores=np.ones(1, np.float32)))
    most = max(map(sum, sizes))
    for place, example in enumerate(KTO().joined(found)):
        other = parts_of(example)[1]
        asked, answered = sizes[place][0], sizes[1 - place][1]
        assert len(other.sequences[0]) == len(other.labels) == min(asked + answered, most)
    assert max(one[0] + two[1] for one, two in (sizes, sizes[::-1])) > most
