"""Decay groups, Muon and schedules against transformers and torch."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from tests.errors import about
from tests.train import tiny
from torch import nn

from lmstack.core import InputError
from lmstack.model import LoraConfig, add_adapter
from lmstack.model.lora.slots import names_of
from lmstack.train import optim
from lmstack.train.muon import Muon, fused_rows, orthogonalized
from lmstack.train.optim import Optimizers, parameter_groups
from lmstack.train.schedule import lr_share


def decayed_by_trainer(model: nn.Module) -> set[str]:
    """`Trainer.get_decay_parameter_names`, which is a method of a trainer in use."""
    method = transformers.Trainer.get_decay_parameter_names
    return set(method(None, model))  # it uses no self


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_what_decays_is_what_trainer_lets_decay(family: str) -> None:
    of_class, config = tiny.theirs(family)
    module = tiny.model(family)
    decayed = {id(p) for kind in ("matrices", "tables") for p in parameter_groups(module)[kind]}
    ours = dict(module.named_parameters())
    theirs = of_class(config)
    names = decayed_by_trainer(theirs)
    known = dict(theirs.named_parameters())
    checked = 0
    for slot in names_of(module, model_type=config.model_type).parameters.values():
        if slot.name in known:
            assert (id(ours[slot.key]) in decayed) == (slot.name in names), slot.name
            checked += 1
    assert checked > 10


@pytest.mark.parametrize("shape", [(8, 8), (40, 12), (12, 40)])
def test_muon_of_a_matrix_equals_torch(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours = nn.Parameter(torch.randn(shape))
    theirs = nn.Parameter(ours.detach().clone())
    one = Muon([ours], 0.02, weight_decay=0.1)
    two = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1)
    for _ in range(5):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        one.step()
        two.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("family", ["llama", "mixtral", "t5", "bert"])
def test_muon_takes_fused_projections_one_by_one(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch's Muon takes them where they are weights of their own."""
    monkeypatch.setattr(optim, "dtype_of", lambda *_: torch.bfloat16)  # which torch's computes in
    module = tiny.model(family, dtype=torch.float32)
    recipe = tiny.recipe(optimizer="muon", muon_lr=0.05, weight_decay=0.1)
    optimizers, rows = Optimizers(module, recipe), fused_rows(module)
    matrices = set(parameter_groups(module)["matrices"])
    apart: dict[str, list[nn.Parameter]] = {}
    for name, weight in module.named_parameters():
        weight.grad = torch.randn_like(weight)
        if weight in matrices:
            experts = weight.detach() if weight.dim() > 2 else weight.detach()[None]
            parts = [p for e in experts for p in e.split(rows.get(weight, (len(e),)))]
            grads = weight.grad if weight.dim() > 2 else weight.grad[None]
            apart[name] = [nn.Parameter(part.clone()) for part in parts]
            pieces = (g for e in grads for g in e.split(rows.get(weight, (len(e),))))
            for part, gradient in zip(apart[name], pieces, strict=True):
                part.grad = gradient.clone()
    assert any(len(parts) == 3 for parts in apart.values())
    every = [part for parts in apart.values() for part in parts]
    torch.optim.Muon(every, lr=0.05, weight_decay=0.1).step()
    optimizers.step(1.0)
    for name, parts in apart.items():
        weight = module.get_parameter(name)
        torch.testing.assert_close(
            weight.flatten(0, -2), torch.cat(parts), rtol=1e-6, atol=1e-7, msg=name
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_iteration_makes_singular_values_alike(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(64, 24) @ torch.diag(torch.logspace(0, -1, 24))
    values = torch.linalg.svdvals(orthogonalized(matrix, dtype).float())
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_muon_refuses_factors_of_lora() -> None:
    module = tiny.model("llama")
    add_adapter(module, LoraConfig(r=2))
    with pytest.raises(InputError, match="optimizer is muon", check=about("optimizer")) as error:
        Optimizers(module, tiny.recipe(optimizer="muon"))
    assert "optimizer=adamw" in str(error.value.hint)


STEPS, WARMUP = 50, 10
Make = Callable[[torch.optim.Optimizer], Any]
SCHEDULES: dict[str, tuple[Make, float]] = {
    "cosine": (lambda o: transformers.get_cosine_schedule_with_warmup(o, WARMUP, STEPS), 0.0),
    "cosine to a tenth": (
        lambda o: transformers.get_cosine_with_min_lr_schedule_with_warmup(
            o, WARMUP, STEPS, min_lr_rate=0.1
        ),
        0.1,
    ),
    "linear": (lambda o: transformers.get_linear_schedule_with_warmup(o, WARMUP, STEPS), 0.0),
    "constant": (lambda o: transformers.get_constant_schedule_with_warmup(o, WARMUP), 0.0),
    "constant-decay": (
        lambda o: transformers.get_wsd_schedule(
            o, WARMUP, 10, num_training_steps=STEPS, decay_type="linear", min_lr_ratio=0.1
        ),
        0.1,
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_equal_transformers_after_the_warm_up(name: str) -> None:
    make, final = SCHEDULES[name]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimizer)
    theirs = []
    for _ in range(STEPS):
        theirs.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    ours = [lr_share(name.split()[0], s, STEPS, WARMUP / STEPS, final) for s in range(STEPS)]
    assert ours[WARMUP:] == pytest.approx(theirs[WARMUP:], abs=1e-12)
    if name == "constant-decay":
        return  # its warm-up begins at the final rate
    # Theirs begins at zero; ours is a step ahead, so that no step learns nothing.
    assert ours[: WARMUP - 1] == pytest.approx(theirs[1:WARMUP], abs=1e-12)
    assert theirs[0] == 0.0 < ours[0]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", "constant-decay"])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_share_is_never_zero_or_above_one(schedule: str, warmup: float, steps: int) -> None:
    shares = [lr_share(schedule, step, steps, warmup, 0.0) for step in range(steps)]
    assert all(0 < share <= 1 for share in shares)


FUSED = {
    # Of 4 heads of 8 rows, as many for the keys but in llama and mixtral, which have 2.
    "llama": {"qkv.weight": (32, 16, 16), "up.weight": (48, 48)},
    "mixtral": {"qkv.weight": (32, 16, 16), "up.weight": (48, 48)},
    "bert": {"qkv.weight": (32, 32, 32)},
    "t5": {"qkv.weight": (32, 32, 32), "kv.weight": (32, 32), "up.weight": (48, 48)},
}


@pytest.mark.parametrize("family", FUSED)
def test_what_lies_fused_in_a_weight_is_known_by_its_rows(family: str) -> None:
    module = tiny.model(family)
    rows = fused_rows(module)
    found = {
        name: rows.get(weight)
        for name, weight in module.named_parameters()
        if ".blocks." in f".{name}" and name.endswith(".weight") and weight.dim() > 1
    }
    kinds = {kind: {v for n, v in found.items() if n.endswith(f".{kind}")} for kind in FUSED["t5"]}
    assert {kind: rows for kind, (rows,) in ((k, v) for k, v in kinds.items() if v)} == {
        **dict.fromkeys((k for k, v in kinds.items() if v)),
        **FUSED[family],
    }
    assert sum(map(len, FUSED[family].values()))
    assert all(v is None for n, v in found.items() if not n.endswith(tuple(FUSED["t5"])))


def test_keys_and_values_of_a_cross_attention_are_made_orthogonal_one_by_one() -> None:
    module = tiny.model("t5", dtype=torch.float32)
    name, weight = next(
        (name, each) for name, each in module.named_parameters() if name.endswith(".kv.weight")
    )
    torch.manual_seed(0)
    weight.grad = torch.randn_like(weight)
    weight.grad[: len(weight) // 2] *= 100  # keys, beside which values would come to nothing
    halves = [nn.Parameter(half.clone()) for half in weight.detach().chunk(2)]
    for half, grad in zip(halves, weight.grad.chunk(2), strict=True):
        half.grad = grad.clone()
    torch.optim.Muon(halves, lr=0.05, weight_decay=0.0).step()
    Muon([weight], 0.05, rows=fused_rows(module)).step()
    torch.testing.assert_close(weight, torch.cat(halves), rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_muon_multiplies_in_what_is_fast_where_it_computes(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmstack.train.precision.multiplies_bfloat16", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    parallel: Any = SimpleNamespace(device=device)
    made = Optimizers(tiny.model("llama"), tiny.recipe(optimizer="muon"), parallel)
    (muon,) = (each for each in made._all if isinstance(each, Muon))
    assert muon._dtype == (torch.bfloat16 if device == "cuda" else torch.float32)


def test_nothing_to_train_is_said() -> None:
    with pytest.raises(InputError, match="nothing in the model is trained"):
        Optimizers(tiny.model("llama").requires_grad_(False), tiny.recipe())
