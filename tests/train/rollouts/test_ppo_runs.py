"""Whole PPO runs of a tiny model, with the engine that serves."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.errors import about
from tests.train import runs
from tests.train.rollouts import letters

from lmstack.app.wiring.training import OnlineServices
from lmstack.core import UnsupportedError
from lmstack.train import read_recipe, train
from lmstack.train.assembly import assemble
from lmstack.train.parallel import Parallel
from lmstack.train.plan import plan_run

STEERED = {"kl_coefficient": 0.01, "kl_target": 12.0, "kl_horizon": 100}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    found = tmp_path_factory.mktemp("ppo")
    letters.prepare_folder(found)
    rows = [{"prompt": f"cat {n}", "letters": "a"} for n in range(24)]
    (found / "one.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return found


@pytest.fixture(autouse=True)
def _home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(folder / "home"))


def asked(**objective: Any) -> dict[str, Any]:
    return {"name": "ppo", "epochs": 2, **objective}


def steps(folder: Path, name: str) -> list[dict[str, Any]]:
    return [line for line in runs.lines(folder, name) if "kl" in line]


@pytest.mark.parametrize("kind", [pytest.param("whole", marks=pytest.mark.long), "lora"])
def test_a_run_that_is_killed_and_goes_on_is_the_run_that_was_not(folder: Path, kind: str) -> None:
    """Its value head, its coefficient and its reference too: each is in the losses of later
    steps, and the metrics of both runs are equal."""
    more: Mapping[str, Any] = {"lora": {"r": 4}} if kind == "lora" else {}
    objective = asked(minibatches=2, **STEERED)
    letters.run(letters.recipe(folder, kind, objective, **more))
    again = letters.recipe(folder, f"{kind}-again", objective, **more)
    with pytest.raises(runs.Killed):
        letters.run(again, watch=runs.Stop(4))
    letters.run(again, resume=True)
    runs.assert_same_end(folder, kind, f"{kind}-again")
    found = steps(folder, kind)
    assert found[0]["kl"] == pytest.approx(0, abs=1e-6)  # it begins as its reference
    assert found[-1]["kl"] != 0
    coefficients = [line["kl_coefficient"] for line in found]
    assert coefficients[0] == 0.01
    assert len(set(coefficients)) == len(coefficients)
    assert max(line["gap_largest"] for line in found) < 1e-5


def test_what_is_kept_has_no_value_head(folder: Path) -> None:
    letters.run(letters.recipe(folder, "kept", asked(), steps=2))
    (file,) = (folder / "kept-made").rglob("*.safetensors")
    assert not [name for name in load_file(file) if "value" in name]
    (state,) = (folder / "kept/checkpoints/step-00000002").glob("weights.safetensors")
    assert {"value_head.weight", "value_head.bias"} < load_file(state).keys()


SETTINGS = {"data": "one.jsonl", "batch": 8, "schedule": "constant", "clip": 10.0}
SETTINGS |= {"eval_every": 100, "save_every": 100}


def test_the_reward_rises(folder: Path) -> None:
    free = asked(kl_coefficient=0.002)
    letters.run(letters.recipe(folder, "free", free, steps=24, lr=0.03, **SETTINGS))
    found = steps(folder, "free")
    assert found[0]["reward"] < 0.1
    assert found[-1]["reward"] > 0.9
    assert found[-1]["kl_answer"] > 30
    assert found[-1]["explained_variance"] > found[0]["explained_variance"]


@pytest.mark.long
def test_the_divergence_stays_near_the_one_that_is_allowed(folder: Path) -> None:
    found = steered(folder, kl_coefficient=0.05, kl_horizon=400)
    assert max(line["kl_answer"] for line in found) < 30
    assert statistics.fmean(line["kl_answer"] for line in found[-20:]) < 24


@pytest.mark.long
def test_the_reward_rises_within_the_divergence_that_is_allowed(folder: Path) -> None:
    found = steered(folder, kl_coefficient=0.02, kl_horizon=300)
    assert statistics.fmean(line["kl_answer"] for line in found[-20:]) > 6
    assert statistics.fmean(line["reward"] for line in found[-20:]) > 0.2


def steered(folder: Path, **changes: float) -> list[dict[str, float]]:
    """Steps of a run that has a target. What it reaches follows from chance, and how the penalty
    answers to it does not."""
    name, target = f"steered-{changes['kl_coefficient']}", 12.0
    objective = asked(kl_target=target, **changes)
    letters.run(letters.recipe(folder, name, objective, steps=40, lr=0.02, **SETTINGS))
    found = steps(folder, name)
    for one, two in itertools.pairwise(found):
        is_far = one["kl_answer"] > target
        assert (two["kl_coefficient"] > one["kl_coefficient"]) == is_far
    return found


@pytest.mark.parametrize("lora", [None, {"r": 4}])
def test_the_reference_is_the_model_that_the_run_began_with(
    folder: Path, lora: dict[str, Any] | None
) -> None:
    """Of GRPO too, whose penalty is in its loss."""
    name = f"reference-{lora is None}"
    letters.run(letters.recipe(folder, name, {"kl": 0.1}, lora=lora, steps=4, validation=0))
    found = steps(folder, name)
    assert found[0]["kl"] == pytest.approx(0, abs=1e-7)
    assert found[-1]["kl"] > 1e-5


def test_the_recipe_runs_in_its_smallest_form(folder: Path) -> None:
    letters.run(letters.recipe(folder, "base", asked(), steps=1))
    rows = [{"prompt": f"What is {n} + 25?", "answer": n + 25} for n in range(8)]
    (folder / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    changes = {
        "base": folder / "base-made", "data": folder / "sums.jsonl", "run": folder / "small",
        "output": folder / "small-made", "steps": 2, "batch": 2, "objective.max_tokens": 6,
        "max_length": 64, "eval_every": 2,
    }  # fmt: skip
    path = Path(__file__).parents[3] / "recipes/ppo.yaml"
    recipe = read_recipe(path, [f"{key}={value}" for key, value in changes.items()])
    with pytest.raises(
        UnsupportedError, match="a run of ppo has no plan", check=about("objective")
    ):
        plan_run(recipe, assemble(recipe, folder / "planned", Parallel()))
    result = train(recipe, services=OnlineServices())
    assert result.steps == 2
    assert (result.folder / "adapter_model.safetensors").exists()
    (first, last) = steps(folder, "small")
    assert first["kl_coefficient"] == 0.05
    assert last["kl_coefficient"] < 0.05  # nothing has diverged as far as it may
