"""Distillation: the loss and gradient of the plain computation, and a teacher that fits."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.errors import about
from torch import Tensor

from lmstack.core import InputError
from lmstack.model import Dropout, ForwardContext, Transformer
from lmstack.model.families import config_from_json
from lmstack.registry import Store, load
from lmstack.text import ChatTemplate, Tokenizer, VocabularyConfig, train_tokenizer
from lmstack.text.training import CHATML
from lmstack.train import read_recipe, train
from lmstack.train.compute import ops_for
from lmstack.train.cross_entropy import chunked_loss
from lmstack.train.data.examples import IGNORED, Batch
from lmstack.train.data.rows import Row
from lmstack.train.objectives import distillation, objective_named
from lmstack.train.objectives.distillation import Distillation
from lmstack.train.objectives.objective import Reading

TEXTS = [f"the cat number {n} sat on the mat and saw dog number {n + 1}" for n in range(40)]
STUDENT = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}


def vocabulary(texts: list[str] = TEXTS) -> Tokenizer:
    return train_tokenizer(texts, VocabularyConfig(vocab_size=290))


def models(extra: int = 0) -> tuple[Transformer, Transformer]:
    """A student, and a teacher whose table has ``extra`` rows more than there are tokens."""
    torch.manual_seed(0)
    size = vocabulary().vocab_size
    student = Transformer(config_from_json({**STUDENT, "vocab_size": size}))
    wider = {**STUDENT, "hidden_size": 48, "vocab_size": size + extra}
    teacher = Transformer(config_from_json(wider))
    for module in (student, teacher):  # far apart, so that divergences are worth a comparison
        for weight in module.parameters():
            weight.data *= 4
    return student, teacher.requires_grad_(False)


def taught(teacher: Transformer, **settings: Any) -> Distillation:
    objective = objective_named("distillation", {"teacher": "there", **settings})
    assert isinstance(objective, Distillation)
    object.__setattr__(objective, "module", teacher)
    return objective


def batch_of(objective: Distillation) -> Batch:
    reading = Reading(vocabulary(), None, 32)
    rows = [Row({"text": text}, "") for text in TEXTS[:4]]
    return objective.collate([e for row in rows for e in objective.encode(row, reading)], reading)


def plainly(own: Tensor, theirs: Tensor, labels: Tensor, objective: Distillation) -> Tensor:
    """With whole distributions, as Hinton et al. write it."""
    T, width = objective.temperature, min(own.shape[-1], theirs.shape[-1])
    p = (own[:, :width] / T).softmax(-1)
    q = (theirs[:, :width] / T).softmax(-1)
    if objective.divergence == "forward":
        divergence = (q * (q.log() - p.log())).sum()
    else:
        divergence = (p * (p.log() - q.log())).sum()
    entropy = F.cross_entropy(own, labels, reduction="sum")
    return objective.alpha * entropy + (1 - objective.alpha) * T**2 * divergence


@pytest.mark.parametrize("divergence", ["forward", "reverse"])
@pytest.mark.parametrize(("alpha", "temperature"), [(0.0, 1.0), (0.5, 2.0), (1.0, 3.0)])
@pytest.mark.parametrize("extra", [0, 6])
def test_loss_and_gradient_are_those_of_whole_logits(
    divergence: str,
    alpha: float,
    temperature: float,
    extra: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distillation, "chunked_loss", partial(chunked_loss, chunk=7))
    student, teacher = models(extra)
    objective = taught(teacher, divergence=divergence, alpha=alpha, temperature=temperature)
    batch = batch_of(objective)
    loss = objective.loss(student, batch, ForwardContext())
    loss.total.backward()  # type: ignore[no-untyped-call]
    found = {name: weight.grad for name, weight in student.named_parameters()}
    student.zero_grad()
    places = batch.labels != IGNORED
    own, theirs = student(**batch.inputs).logits, teacher(**batch.inputs).logits
    assert own is not None
    assert theirs is not None
    total = plainly(own[places], theirs[places], batch.labels[places], objective)
    total.backward()  # type: ignore[no-untyped-call]
    assert loss.total.item() == pytest.approx(total.item(), rel=1e-5)
    for name, weight in student.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, rtol=1e-4, atol=1e-4)
    mixed = alpha * loss.sums["cross_entropy"]
    mixed += (1 - alpha) * temperature**2 * loss.sums["divergence"]
    assert float(mixed) == pytest.approx(loss.total.item(), rel=1e-4)


def test_products_of_bfloat16_give_about_the_same_loss() -> None:
    student, teacher = models()
    objective = taught(teacher)
    batch = batch_of(objective)
    half = ForwardContext(ops=ops_for("bfloat16", student))
    losses = [objective.loss(student, batch, c).total.item() for c in (half, ForwardContext())]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_a_student_equal_to_its_teacher_has_nothing_to_learn_from_it() -> None:
    student, _ = models()
    twin = Transformer(student.config)
    twin.load_state_dict(student.state_dict())
    objective = taught(twin.requires_grad_(False), alpha=0.0)
    loss = objective.loss(student, batch_of(objective), ForwardContext())
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert loss.total.item() == pytest.approx(0, abs=1e-4)
    assert all(p.grad is None or p.grad.abs().max() < 1e-4 for p in student.parameters())


def test_conversations_teach_the_turns_of_the_assistant() -> None:
    config = VocabularyConfig(vocab_size=300, special_tokens=CHATML.special_tokens)
    tokenizer = train_tokenizer(TEXTS, config, roles=CHATML.roles)
    reading = Reading(tokenizer, ChatTemplate(CHATML.template, "", "<|im_end|>"), 64)
    turns = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sat"}]
    objective = Distillation(teacher="there")
    [example] = objective.encode(Row({"messages": turns}, ""), reading)
    batch = objective.collate([example], reading)
    learned = batch.labels[batch.labels != IGNORED].tolist()
    assert tokenizer.decode(learned).startswith("sat<|im_end|>")


def saved(folder: Path, tokenizer: Tokenizer, model: dict[str, Any], name: str) -> Path:
    """A recipe that trains ``model`` alone on TEXTS, into ``folder / name``."""
    tokenizer.save(folder / f"{name}-tokenizer")
    (folder / "data.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    values = {
        "objective": "causal",
        "validation": 0,
        "model": model,
        "tokenizer": str(folder / f"{name}-tokenizer"),
        "data": str(folder / "data.jsonl"),
        "output": str(folder / name),
        "run": str(folder / f"{name}-run"),
        "max_length": 32,
        "batch": 8,
        "steps": 20,
        "lr": 0.01,
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(values))
    return path


def test_a_student_comes_nearer_to_a_teacher_of_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)
    train(read_recipe(saved(tmp_path, vocabulary(), STUDENT, "teacher")))
    recipe = saved(tmp_path, vocabulary(), STUDENT, "student")
    given = {"name": "distillation", "teacher": str(tmp_path / "teacher"), "alpha": 0.2}
    train(read_recipe(recipe, [f"objective={json.dumps(given)}"]))
    text = (tmp_path / "student-run/metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    apart = [line["divergence"] for line in lines if "divergence" in line]
    assert np.mean(apart[-3:]) < 0.6 * apart[0]
    assert load(str(tmp_path / "student")).kind == "generate"
    cards = [Store().resolve(str(tmp_path / name)).card for name in ("teacher", "student")]
    training = cards[1].training
    assert training is not None
    assert training.models == {"teacher": cards[0].digest}
    other = {**given, "teacher": str(tmp_path / "student")}
    with pytest.raises(InputError, match="the teacher is not that", check=about("teacher")):
        train(read_recipe(recipe, [f"objective={json.dumps(other)}"]), resume=True)


def test_a_teacher_that_does_not_fit_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    other = vocabulary(["quite another language, with other letters: xyz"] * 9)
    train(read_recipe(saved(tmp_path, other, STUDENT, "teacher"), ["steps=1"]))
    teacher = load(str(tmp_path / "teacher"))
    student = dataclasses.replace(teacher, tokenizer=vocabulary())
    with pytest.raises(
        InputError, match=r"token \d+ is .* for the student and .* for", check=about("teacher")
    ):
        Distillation(teacher=str(tmp_path / "teacher")).fitted(student, lambda: iter(()))
    encoder = {"model_type": "bert", "architectures": ["BertForMaskedLM"], **SIZES}
    encoder |= {"vocab_size": teacher.tokenizer.vocab_size}
    student = dataclasses.replace(teacher, module=Transformer(config_from_json(encoder)))
    with pytest.raises(
        InputError, match="is no decoder with a language model's head", check=about("teacher")
    ):
        Distillation(teacher=str(tmp_path / "teacher")).fitted(student, lambda: iter(()))


SIZES = {k: v for k, v in STUDENT.items() if k not in ("model_type", "architectures")}


@pytest.mark.parametrize("settings", [{}, {"teacher": "x", "divergence": "sideways"}])
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(
        InputError,
        match=r"lacks the setting 'teacher'|divergence is",
        check=about("divergence", "teacher"),
    ):
        objective_named("distillation", settings)


def test_the_dropout_of_the_student_is_none_of_the_teacher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    student, teacher = models()
    objective = taught(teacher, alpha=0.0)
    batch, seen = batch_of(objective), list[Tensor]()
    logits = teacher.logits
    monkeypatch.setattr(
        teacher, "logits", lambda *given: seen.append(found := logits(*given)) or found
    )
    context = ForwardContext(dropout=Dropout(0.5, 1))
    losses = [objective.loss(student, batch, each).total for each in (context, ForwardContext())]
    assert losses[0] != losses[1]  # the student's own
    assert torch.equal(seen[0], seen[1])
