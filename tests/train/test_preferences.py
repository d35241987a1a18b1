"""DPO and its relatives: losses and gradients of TRL and of plain float64, and what is learned."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import defaultdict
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about
from tests.train import tiny
from torch import Tensor

from lmstack.core import InputError, UnsupportedError
from lmstack.model import ForwardContext, Transformer
from lmstack.text import ChatTemplate, Tokenizer, VocabularyConfig, train_tokenizer
from lmstack.text.training import CHATML
from lmstack.train.data.examples import IGNORED, Batch, Example
from lmstack.train.data.rows import Row
from lmstack.train.objectives import objective_named
from lmstack.train.objectives.objective import Objective, Reading
from lmstack.train.objectives.pairwise import DPO, IPO, ORPO, SimPO
from lmstack.train.objectives.preferences import AnswerLogProbs, Preferences, parts_of

CLOSE = {"rtol": 1e-9, "atol": 1e-12}
BETA, GAMMA = 0.3, 0.7


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def pairs(count: int, seed: int = 0, *, prompt: int = 3, alike: bool = False) -> list[Example]:
    """Prompts of ``prompt`` tokens with two answers of one to nine, and a reference. ``alike``: of
    five."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        asked = rng.integers(3, tiny.VOCAB, prompt)
        sizes = (5, 5) if alike else rng.integers(1, 10, 2)
        ways = [rng.integers(3, tiny.VOCAB, n) for n in sizes]
        ids = tuple(np.concatenate([asked, way]).astype(np.int32) for way in ways)
        labels = [np.concatenate([np.full(prompt, IGNORED), way]) for way in ways]
        found.append(
            Example(
                ids,
                np.concatenate(labels).astype(np.int32),
                scores=np.array([1.0], np.float32),
                reference=rng.normal(-4, 1, int(sum(sizes))).astype(np.float32),
            )
        )
    return found


def smoothed(found: Sequence[Example], wrong: float) -> list[Example]:
    given = np.array([1 - wrong], np.float32)
    return [Example(e.sequences, e.labels, scores=given, reference=e.reference) for e in found]


def learned(module: Transformer, objective: Objective, batch: Batch) -> dict[str, Tensor]:
    """The loss a pair and its gradients."""
    module.zero_grad()
    loss = objective.loss(module, batch, ForwardContext())
    (loss.total / batch.weight).backward()
    return {"loss": loss.total.detach() / batch.weight, **tiny.gradients(module)}


def padded(module: Transformer, found: Sequence[Example]) -> dict[str, Tensor]:
    """As TRL has it: all chosen answers, then all rejected ones, filled up on the right, with the
    log-probabilities of the plain forward pass."""
    sides = [e.sequences[n] for n in (0, 1) for e in found]
    cuts = [len(e.sequences[0]) for e in found]
    marks = [np.split(e.labels, [cut]) for e, cut in zip(found, cuts, strict=True)]
    labels = [mark[n] for n in (0, 1) for mark in marks]
    longest = max(map(len, sides))
    ids = torch.tensor([[*side.tolist(), *[0] * (longest - len(side))] for side in sides])
    mask = torch.tensor([[*(x != IGNORED), *[False] * (longest - len(x))] for x in labels])
    real = torch.tensor([[n < len(side) for n in range(longest)] for side in sides])
    scores = module(ids, real).logits[:, :-1].log_softmax(-1)
    log_probs = scores.gather(-1, ids[:, 1:, None])[..., 0] * mask[:, 1:]
    references = [
        torch.from_numpy(part).double().sum()
        for n in (0, 1)
        for e, (first, _) in zip(found, marks, strict=True)
        for part in [np.split(e.reference, [int((first != IGNORED).sum())])[n]]
    ]
    return {
        "input_ids": ids,
        "attention_mask": real.long(),
        "completion_mask": mask.long(),
        "log_probs": log_probs,
        "references": torch.stack(references),
    }


DEVICE = SimpleNamespace(
    device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x
)


def of_trl(module: Transformer, found: Sequence[Example], **settings: Any) -> Tensor:
    """`DPOTrainer`'s loss, beside log-probabilities that were computed before."""
    from trl.trainer.dpo_trainer import DPOTrainer

    inputs = padded(module, found)
    log_probs, references = inputs.pop("log_probs"), inputs.pop("references")
    chosen, rejected = references.chunk(2)
    inputs |= {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
    trainer = SimpleNamespace(
        **{"beta": BETA, "label_smoothing": 0.0, "loss_weights": [1.0], **settings},
        **{"accelerator": DEVICE, "model": module, "aux_loss_enabled": False, "ld_alpha": None},
        **{"precompute_ref_logps": True, "f_divergence_type": "reverse_kl", "use_weighting": False},
        **{"_metrics": defaultdict(lambda: defaultdict(list))},
        **{"_total_train_tokens": 0, "_tp_size": 1},
    )
    nothing = torch.zeros_like(log_probs)
    output = SimpleNamespace(
        log_probs=log_probs, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool()
    )
    loss: Tensor = DPOTrainer._compute_loss(trainer, lambda **_: output, inputs, False)
    return loss


def cdpo_of_trl(module: Transformer, found: Sequence[Example]) -> Tensor:
    """TRL has cDPO's formula in AOT alone, which sorts the pairs of a batch: so one by one."""
    losses = [of_trl(module, [e], loss_types=["aot"], label_smoothing=0.2) for e in found]
    return torch.stack(losses).mean()


def orpo_of_trl(module: Transformer, found: Sequence[Example]) -> Tensor:
    """Its odds ratio; its cross-entropy is a mean over all tokens, which is ours for answers of
    one length."""
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    inputs = padded(module, found)
    means = inputs["log_probs"].sum(-1) / inputs["completion_mask"].sum(-1)
    chosen, rejected = means.chunk(2)
    trainer = SimpleNamespace(beta=BETA, accelerator=DEVICE)
    losses, *_ = ORPOTrainer.odds_ratio_loss(trainer, chosen, rejected)
    count = len(found)
    logits = module(inputs["input_ids"][:count], inputs["attention_mask"][:count]).logits[:, :-1]
    labels = inputs["input_ids"][:count, 1:].masked_fill(
        inputs["completion_mask"][:count, 1:] == 0, -100
    )
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten()) - losses.mean()


def simpo_of_trl(module: Transformer, found: Sequence[Example]) -> Tensor:
    from trl.experimental.cpo.cpo_trainer import CPOTrainer

    inputs = padded(module, found)
    means = inputs["log_probs"].sum(-1) / inputs["completion_mask"].sum(-1)
    trainer = SimpleNamespace(
        **{"beta": BETA, "simpo_gamma": GAMMA, "loss_type": "simpo", "label_smoothing": 0.0},
        **{"alpha": 0.0, "accelerator": DEVICE},
    )
    losses, *_ = CPOTrainer.cpo_loss(trainer, *means.chunk(2))
    return losses.mean()


ORACLES = {
    "dpo": (DPO(beta=BETA), lambda *a: of_trl(*a, loss_types=["sigmoid"])),
    "cdpo": (DPO(beta=BETA, label_smoothing=0.2), cdpo_of_trl),
    "ipo": (IPO(beta=BETA), lambda *a: of_trl(*a, loss_types=["ipo"])),
    "orpo": (ORPO(beta=BETA), orpo_of_trl),
    "simpo": (SimPO(beta=BETA, gamma=GAMMA), simpo_of_trl),
}


@pytest.mark.parametrize("name", ORACLES)
def test_loss_and_gradients_are_those_of_trl(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a whole model, varlen here and padded there; in float64, which TRL leaves for ORPO's
    odds."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")  # where some of its trainers are
    objective, oracle = ORACLES[name]
    module = tiny.model("llama", seed=1)
    found = smoothed(pairs(6, alike=name == "orpo"), 0.2 if name == "cdpo" else 0.0)
    ours = learned(module, objective, objective.collate(found, tiny.reading()))
    module.zero_grad()
    loss = oracle(module, found)
    loss.backward()
    theirs = {"loss": loss.detach(), **tiny.gradients(module)}
    assert ours.keys() == theirs.keys()
    bounds = {"rtol": 1e-5, "atol": 1e-7} if name in ("orpo", "cdpo") else CLOSE
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value.double(), **bounds, msg=key)
    assert max(float(v.abs().max()) for k, v in ours.items() if k != "loss") > 1e-3


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x > -30 else x - math.log1p(math.exp(x))


def by_hand(name: str, p: float, q: float, r: float, s: float) -> tuple[float, float, float]:
    """The loss, and its derivatives by the log-probabilities p of a chosen answer of 4 tokens and q
    of a rejected one of 2, for references r and s: the formulas of the papers, derived on paper."""
    if name in ("dpo", "cdpo"):
        e, margin = (0.2 if name == "cdpo" else 0.0), BETA * ((p - r) - (q - s))
        slope = -(1 - e) * BETA * sigmoid(-margin) + e * BETA * sigmoid(margin)
        return -(1 - e) * log_sigmoid(margin) - e * log_sigmoid(-margin), slope, -slope
    if name == "ipo":
        apart = (p - r) / 4 - (q - s) / 2 - 1 / (2 * BETA)
        return apart**2, 2 * apart / 4, -2 * apart / 2
    m, n = p / 4, q / 2
    if name == "simpo":
        margin = BETA * (m - n) - GAMMA
        slope = -BETA * sigmoid(-margin)
        return -log_sigmoid(margin), slope / 4, -slope / 2
    margin = (m - math.log(-math.expm1(m))) - (n - math.log(-math.expm1(n)))
    slope = -BETA * sigmoid(-margin)
    # d/dm of m - log(1 - e^m) is 1 / (1 - e^m).
    return (
        -m - BETA * log_sigmoid(margin),
        (-1 + slope / -math.expm1(m)) / 4,
        -slope / -math.expm1(n) / 2,
    )


@pytest.mark.parametrize("name", ORACLES)
@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-300, -1e-3), min_size=4, max_size=4))
def test_loss_and_gradients_are_those_derived_by_hand(name: str, values: list[float]) -> None:
    objective, _ = ORACLES[name]
    p, q = (torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in values[:2])
    r, s = values[2:]
    assert isinstance(objective, Preferences)
    loss = objective.losses(
        AnswerLogProbs(p, torch.tensor([4]), p - r),
        AnswerLogProbs(q, torch.tensor([2]), q - s),
        torch.tensor([[0.8 if name == "cdpo" else 1.0]], dtype=torch.float64),
    ).sum()
    found = (loss.item(), *(float(g) for g in torch.autograd.grad(loss, [p, q])))
    assert found == pytest.approx(by_hand(name, *values), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ORACLES)
def test_no_certainty_makes_a_loss_or_gradient_that_is_no_number(name: str) -> None:
    objective, _ = ORACLES[name]
    assert isinstance(objective, Preferences)
    for one, other in ((0.0, -1e6), (-1e6, 0.0), (0.0, 0.0), (-1e-30, -1e-30)):
        p, q = (torch.tensor([x], requires_grad=True) for x in (one, other))
        sides = (AnswerLogProbs(x, torch.tensor([3]), x) for x in (p, q))
        loss = objective.losses(*sides, torch.ones(1, 1)).sum()
        grads = torch.autograd.grad(loss, [p, q])
        assert all(x.isfinite().all() for x in (loss, *grads)), (one, other)


@torch.no_grad()
def test_a_pass_of_many_pairs_is_the_sum_of_passes_of_each() -> None:
    module, found = tiny.model("qwen3"), pairs(7)
    objective = DPO(beta=BETA)
    whole = objective.loss(
        module, objective.collate(found, tiny.reading()), context=ForwardContext()
    )
    parts = [
        objective.loss(module, objective.collate([e], tiny.reading()), ForwardContext())
        for e in found
    ]
    assert float(whole.total) == pytest.approx(sum(float(p.total) for p in parts), rel=1e-10)
    for name, value in whole.sums.items():
        assert float(value) == pytest.approx(sum(float(p.sums[name]) for p in parts), rel=1e-9)
    kl = sum(p.counts["kl"] for p in parts)
    torch.testing.assert_close(whole.counts["kl"], kl)


@torch.no_grad()
def test_metrics_say_what_the_loss_rewards() -> None:
    module, found = tiny.model("llama"), pairs(5)
    objective = DPO(beta=BETA)
    batch = objective.collate(found, tiny.reading())
    loss = objective.loss(module, batch, ForwardContext())
    parts = padded(module, found)
    log_probs = parts["log_probs"].sum(-1)
    rewards = BETA * (log_probs - parts["references"])
    good, bad = rewards.chunk(2)
    wanted = {
        "accuracy": (good > bad).sum(),
        "margin": (good - bad).sum(),
        "reward_chosen": good.sum(),
        "reward_rejected": bad.sum(),
        "log_prob_chosen": log_probs[:5].sum(),
        "log_prob_rejected": log_probs[5:].sum(),
    }
    assert loss.sums.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(loss.sums[name].double(), value.double(), msg=name)
    values = objective.reported({"loss": 1.0}, {k: v.double() for k, v in loss.counts.items()})
    reference = torch.from_numpy(np.concatenate([e.reference for e in found]))
    marks = parts["completion_mask"][:, 1:] > 0
    order = [n + 5 * side for n in range(5) for side in (0, 1)]
    mine = torch.cat([parts["log_probs"][place][marks[place]] for place in order])
    assert values["kl"] == pytest.approx(float(((mine - reference) ** 2).mean() / 2), rel=1e-9)


WORDS = [f"the cat number {n} sat on the mat" for n in range(30)]
# As reasoning models' do: what was thought is left out of earlier turns.
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{{ m['content'].split('</think>')[-1] if not loop.last else m['content'] }}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@functools.cache
def vocabulary() -> Tokenizer:
    controls = VocabularyConfig(vocab_size=300, special_tokens=CHATML.special_tokens)
    return train_tokenizer(WORDS, controls)


def chat(template: str = CHATML.template, max_length: int = 200) -> Reading:
    return Reading(vocabulary(), ChatTemplate(template), max_length)


def said(reading: Reading, example: Example) -> list[str]:
    """The labels of each answer, as text."""
    return [
        reading.tokenizer.decode(part.labels[part.labels != IGNORED].tolist())
        for part in parts_of(example)
    ]


def row(**values: Any) -> Row:
    return Row(values, "")


def test_the_answers_are_learned_and_nothing_of_the_prompt() -> None:
    reading = chat()
    turns = [
        {"role": "user", "content": "cat?"},
        {"role": "assistant", "content": "mat"},
        {"role": "user", "content": "sat?"},
    ]
    (example,) = DPO().encode(row(prompt=turns, chosen="the cat", rejected="mat"), reading)
    assert said(reading, example) == ["the cat<|im_end|>", "mat<|im_end|>"]
    whole = [reading.tokenizer.decode(ids.tolist()) for ids in example.sequences]
    assert whole[0].startswith("<|im_start|>user\ncat?<|im_end|>\n<|im_start|>assistant\nmat")
    assert whole[0].endswith("<|im_start|>assistant\nthe cat<|im_end|>\n")


def test_all_turns_of_a_longer_answer_are_learned_and_the_users_between_them_are_not() -> None:
    reading, ways = chat(), []
    for last in ("the cat", "the mat"):
        turns = [("user", "cat?"), ("assistant", "sat"), ("user", "and?"), ("assistant", last)]
        ways.append([{"role": role, "content": content} for role, content in turns])
    (example,) = DPO().encode(row(chosen=ways[0], rejected=ways[1]), reading)
    assert said(reading, example) == ["the cat<|im_end|>", "the mat<|im_end|>"]
    ways[1][1] = {"role": "assistant", "content": "number"}
    (example,) = DPO().encode(row(chosen=ways[0], rejected=ways[1]), reading)
    assert said(reading, example)[1] == "number<|im_end|>the mat<|im_end|>"


def test_a_template_may_render_turns_of_the_prompt_in_another_way() -> None:
    """Where supervised fine-tuning on the whole conversation has to refuse."""
    reading = chat(THINKING)
    turns = [
        {"role": "user", "content": "cat?"},
        {"role": "assistant", "content": "sat</think>mat"},
        {"role": "user", "content": "sat?"},
    ]
    pair = row(prompt=turns, chosen="cat</think>the cat", rejected="mat")
    (example,) = DPO().encode(pair, reading)
    assert said(reading, example) == ["cat</think>the cat<|im_end|>", "mat<|im_end|>"]
    conversation = [*turns, {"role": "assistant", "content": "the cat"}]
    with pytest.raises(InputError, match="renders earlier turns in another way"):
        list(objective_named("sft", {}).encode(row(messages=conversation), reading))


def test_marks_of_the_template_are_followed_for_the_answer_alone() -> None:
    marked = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
        "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
        "{% else %}{{ m['content'] }}{% endif %}{{ '<|im_end|>' }}{% endfor %}"
    )
    reading = chat(marked)
    turns = [
        {"role": "user", "content": "cat?"},
        {"role": "assistant", "content": "mat"},
        {"role": "user", "content": "sat?"},
    ]
    (example,) = DPO().encode(row(prompt=turns, chosen="the cat", rejected="mat"), reading)
    assert said(reading, example) == ["the cat", "mat"]


@pytest.mark.parametrize(
    ("max_length", "chosen", "message"),
    [
        (12, "the cat", "no token of an answer is within max_length, 12"),
        (30, "the cat sat on the mat and more", "alike within max_length, 30"),
    ],
)
def test_what_is_cut_away_is_refused_in_words(max_length: int, chosen: str, message: str) -> None:
    pair = row(prompt="cat?", chosen=chosen, rejected="the cat sat on the mat and less")
    with pytest.raises(InputError, match=message):
        list(DPO().encode(pair, chat(max_length=max_length)))
    (whole,) = DPO().encode(pair, chat())
    (cut,) = DPO().encode(pair, chat(max_length=max(map(len, whole.sequences)) - 4))
    assert cut.left_out == whole.tokens - cut.tokens > 0


def test_a_row_may_say_how_probable_its_label_is() -> None:
    pair = {"prompt": "cat?", "chosen": "the cat", "rejected": "mat"}
    found = [
        next(iter(DPO(label_smoothing=0.1).encode(row(**pair, **more), chat()))).scores
        for more in ({}, {"probability": 0.7})
    ]
    assert found == [pytest.approx([0.9]), pytest.approx([0.7])]


def test_a_base_that_writes_no_text_is_refused() -> None:
    module = Transformer(tiny.config_of("bert"))
    base: Any = SimpleNamespace(name="an encoder", module=module)
    with pytest.raises(UnsupportedError, match="an encoder is no decoder", check=about("base")):
        DPO().fitted(base, lambda: iter(()))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("dpo", {"beta": 0}, "beta is 0"),
        ("dpo", {"label_smoothing": 0.6}, "label_smoothing is 0.6"),
        ("simpo", {"gama": 1}, "no setting 'gama'"),
        ("kto", {"desirable": -1}, "desirable is -1"),
    ],
)
def test_settings_are_checked(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(
        InputError, match=message, check=about("beta", "desirable", "gama", "label_smoothing")
    ):
        objective_named(name, settings)


def ruled(count: int, seed: int, wrong: float = 0.0) -> list[Example]:
    """Pairs of random answers, of which one has a good token somewhere and the other a bad one; a
    share of them the wrong way round."""
    rng = np.random.default_rng(seed)
    found = []
    for place in range(count):
        asked = rng.integers(3, tiny.VOCAB, 3)
        good, bad = (rng.integers(8, tiny.VOCAB, 5) for _ in range(2))
        good[rng.integers(5)], bad[rng.integers(5)] = rng.integers(3, 5), rng.integers(5, 7)
        ways = (bad, good) if place < wrong * count else (good, bad)
        ids = tuple(np.concatenate([asked, way]).astype(np.int32) for way in ways)
        labels = [np.concatenate([np.full(3, IGNORED), way]) for way in ways]
        found.append(Example(ids, np.concatenate(labels).astype(np.int32)))
    return found


def held_out(smoothing: float, wrong: float) -> dict[str, float]:
    """What a tiny model that learned from 60 pairs makes of 300 others with the right labels."""
    module = tiny.model("llama", dtype=torch.float32)
    objective = DPO(beta=0.5, label_smoothing=smoothing)
    parts = {}
    for name, right, examples in (
        ("train", 1 - smoothing, ruled(60, 0, wrong)),
        ("held", 1.0, ruled(300, 1)),
    ):
        plain = objective.collate(examples, tiny.reading())
        with torch.no_grad():
            references = objective.referred(module, plain, ForwardContext())
        parts[name] = [
            Example(e.sequences, e.labels, scores=np.float32([right]), reference=r.numpy())
            for e, r in zip(examples, references, strict=True)
        ]
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)
    for _ in range(30):
        batch = [parts["train"][place] for place in rng.permutation(60)[:32]]
        loss = objective.loss(module, objective.collate(batch, tiny.reading()), ForwardContext())
        optimizer.zero_grad()
        (loss.total / len(batch)).backward()
        optimizer.step()
    with torch.no_grad():
        held = objective.collate(parts["held"], tiny.reading())
        loss = objective.loss(module, held, ForwardContext())
    values = {"loss": loss.total, **loss.sums}
    return {name: float(value) / held.weight for name, value in values.items()}


@pytest.mark.long
def test_wrong_labels_hurt_cdpo_less_than_dpo() -> None:
    """What the smoothing does to runs; the losses themselves are held to those of TRL above. A
    fifth of the labels is the wrong way round; what is held out is right. cDPO also learns less
    from right labels: `benchmarks/wrong_labels.py` says what is left of this."""
    found = {
        (name, wrong): held_out(smoothing, wrong)
        for name, smoothing in (("dpo", 0.0), ("cdpo", 0.2))
        for wrong in (0.0, 0.2)
    }
    assert all(values["accuracy"] > 0.6 and values["margin"] > 0.1 for values in found.values())
    for metric, sign in (("loss", 1), ("accuracy", -1)):
        cost = {
            name: sign * (found[name, 0.2][metric] - found[name, 0.0][metric])
            for name in ("dpo", "cdpo")
        }
        assert cost["dpo"] > cost["cdpo"] + 0.02, (metric, cost)


def test_an_answer_from_the_first_token_on_counts_those_that_something_predicts() -> None:
    """An empty prompt and a bare template: nothing comes before the first token."""
    bare = ChatTemplate("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    reading = Reading(tiny.reading().tokenizer, bare, 60)
    row = Row({"prompt": "", "chosen": "abc", "rejected": "zy"}, "")
    (example,) = DPO().encode(row, reading)
    batch = DPO().collate([example], reading)
    assert batch.more["counts"].tolist() == [1, 2]  # the shorter first
    assert int((batch.labels != IGNORED).sum()) == 3
    config = tiny.config_of("llama").replace(vocab_size=reading.tokenizer.vocab_size)
    torch.manual_seed(0)
    module = Transformer(config)
    (known,) = DPO().referred(module, batch, ForwardContext())
    referred = dataclasses.replace(example, reference=known.detach().numpy())
    loss = DPO().loss(module, DPO().collate([referred], reading), ForwardContext())
    assert float(loss.total.detach()) == pytest.approx(math.log(2), rel=1e-5)
    assert int(loss.sums["accuracy"]) == 0  # it prefers neither yet
