"""Whole online runs of a tiny model, with the engine that serves."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.errors import about
from tests.train import runs
from tests.train.rollouts import letters
from tests.train.test_reward import one_score
from torch import Tensor

from lmstack.core import InputError
from lmstack.registry import LoadedModel, Store
from lmstack.train import train
from lmstack.train.objectives.grpo import GroupRelativePolicy
from lmstack.train.rollouts.experience import sample_seed
from lmstack.train.rollouts.protocol import RolloutConfig, RolloutSampler
from lmstack.train.rollouts.source import RolloutSource


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    found = tmp_path_factory.mktemp("online")
    letters.prepare_folder(found)
    return found


@pytest.fixture(autouse=True)
def _home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(folder / "home"))


def of_steps(folder: Path, name: str) -> list[dict[str, Any]]:
    return [line for line in runs.lines(folder, name) if "updates" in line]


KINDS: dict[str, dict[str, Any]] = {
    "whole": {},
    "updates": {"objective": {"epochs": 2, "minibatches": 2}},
    "lora": {"lora": {"r": 4}, "objective": {"temperature": 0.7}},
    "ahead-int8": {"objective": {"rollouts": {"ahead": 1, "weights": "int8"}}},
}


# "updates" trains all weights too.
@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.long if kind == "whole" else ()) for kind in KINDS],
)
def test_a_run_that_is_killed_and_goes_on_is_the_run_that_was_not(folder: Path, kind: str) -> None:
    letters.run(letters.recipe(folder, kind, **KINDS[kind]))
    again = letters.recipe(folder, f"{kind}-again", **KINDS[kind])
    with pytest.raises(runs.Killed):
        letters.run(again, watch=runs.Stop(4))
    letters.run(again, resume=True)
    runs.assert_same_end(folder, kind, f"{kind}-again")


def test_the_engine_and_the_trainer_agree_on_every_token(folder: Path) -> None:
    letters.run(letters.recipe(folder, "agree", lr=0.05, lora={"r": 4}))
    steps = [line for line in runs.lines(folder, "agree") if "gap" in line]
    assert len(steps) == 6
    assert max(line["gap_largest"] for line in steps) < 1e-5


def test_the_reward_rises(folder: Path) -> None:
    found = letters.run(letters.recipe(folder, "rises", steps=24, batch=8, lr=0.02))
    first = next(line for line in runs.lines(folder, "rises") if "reward" in line)
    assert found.values["reward"] > first["reward"] + 0.3


def test_a_step_with_nothing_to_learn_from_says_so_and_changes_nothing(folder: Path) -> None:
    nothing = {"rewards": ["same"], "flat": "drop"}
    made = letters.run(letters.recipe(folder, "nothing", nothing, steps=2, weight_decay=0.1))
    before = letters.run(letters.recipe(folder, "before", nothing, steps=1))
    steps = [line for line in runs.lines(folder, "nothing") if "updates" in line]
    assert [(line["updates"], line["flat_groups"], "loss" in line) for line in steps] == [
        (0.0, 1.0, False)
    ] * 2
    one, two = (load_file(next(found.folder.glob("*.safetensors"))) for found in (made, before))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_a_run_that_has_learned_nothing_yet_goes_on(folder: Path) -> None:
    """Its optimizers remember nothing: the checkpoint has a part without tensors."""
    nothing = {"rewards": ["same"]}
    whole = letters.run(letters.recipe(folder, "idle", nothing, steps=3, save_every=1))
    again = letters.recipe(folder, "idle-again", nothing, steps=3, save_every=1)
    with pytest.raises(runs.Killed):
        letters.run(again, watch=runs.Stop(2))
    assert letters.run(again, resume=True).steps == whole.steps == 3
    runs.assert_same_end(folder, "idle", "idle-again")


def test_a_finished_run_that_draws_ahead_can_be_made_longer(folder: Path) -> None:
    """Its last checkpoint has no samples of a step to come."""
    ahead = {"rollouts": {"ahead": 1}}
    letters.run(letters.recipe(folder, "short", ahead, steps=2))
    longer = letters.recipe(folder, "short", ahead, steps=4, output=str(folder / "longer-made"))
    assert letters.run(longer, resume=True).steps == 4
    steps = [line["step"] for line in runs.lines(folder, "short") if "updates" in line]
    assert steps == [1, 2, 3, 4]


class Closing(letters.Services):
    """Counts the samplers that were closed."""

    closed = 0

    def sampler(self, base: LoadedModel, config: RolloutConfig) -> RolloutSampler:
        found = super().sampler(base, config)
        close = found.close

        def counted() -> None:
            self.closed += 1
            close()

        found.close = counted  # type: ignore[method-assign]
        return found


@pytest.mark.parametrize("refused", ["seed", "dropout"])
def test_a_run_that_is_refused_leaves_no_sampler_behind(folder: Path, refused: str) -> None:
    """Where it would go on as another run, and where its settings are at odds."""
    name = f"refused-{refused}"
    changes = {"seed": {"seed": 1}, "dropout": {"dropout": 0.1}}[refused]
    if refused == "seed":
        letters.run(letters.recipe(folder, name, steps=1))
    services = Closing()
    recipe = letters.recipe(folder, name, steps=2, **changes)
    with pytest.raises(InputError, match=refused, check=about("dropout", "seed")):
        train(recipe, services=services, resume=refused == "seed")
    assert services.closed == len(services.samplers) == 1


def test_answers_that_teach_nothing_are_counted_and_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nearly cold, many prompts get one answer eight times over."""
    cold = {"temperature": 0.1}
    letters.run(letters.recipe(folder, "unread", cold, steps=1, batch=8))
    monkeypatch.setattr(GroupRelativePolicy, "teaches", lambda *_: True)
    letters.run(letters.recipe(folder, "read", cold, steps=1, batch=8))
    found, wanted = (of_steps(folder, name)[0] for name in ("unread", "read"))
    assert 0 < found["flat_groups"] < 1
    assert found["tokens"] < wanted["tokens"]
    for name in ("loss", "gradient"):
        assert found[name] == pytest.approx(wanted[name], rel=1e-4, abs=1e-7)


def test_minibatches_without_an_answer_are_no_updates(folder: Path) -> None:
    letters.run(letters.recipe(folder, "few", {"minibatches": 100}, steps=1))
    text = (folder / "few/metrics.jsonl").read_text()
    (line,) = (each for each in map(json.loads, text.splitlines()) if "updates" in each)
    assert line["updates"] == 4 * 4
    assert {"seconds_rollouts", "seconds_rewards", "seconds_measure"} <= line.keys()


def test_each_answer_is_drawn_once_by_the_seed_of_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[Sequence[int]]] = []
    counted: list[int] = []

    class Asked(letters.Services):
        def sampler(self, base: LoadedModel, config: RolloutConfig) -> RolloutSampler:
            found = super().sampler(base, config)
            sample = found.sample

            def recorded(prompts: Any, drawing: Any, seeds: Any) -> Any:
                asked.append(seeds)
                return sample(prompts, drawing, seeds)

            found.sample = recorded  # type: ignore[method-assign]
            return found

    monkeypatch.setattr(
        GroupRelativePolicy, "adapted", lambda _, learned, __, n: counted.append(n) or learned
    )
    ahead = {"rollouts": {"ahead": 1}}
    recipe = letters.recipe(folder, "seeds", ahead, steps=2, validation=0.2)
    train(recipe, services=Asked())
    steps = [seeds for seeds in asked if len(seeds[0]) > 1]
    assert steps == [
        [[sample_seed(recipe.seed, step, place, n) for n in range(4)] for place in range(4)]
        for step in range(2)
    ]
    assert counted == [16, 16]
    held = [seeds for seeds in asked if len(seeds[0]) == 1]
    first = [[sample_seed(recipe.seed, 1, 0, place, 0)] for place in range(len(held[0]))]
    assert held[0] == first
    half = len(held) // 2  # an evaluation before the first step, and one after the last
    assert held[:half] == held[half:]
    report = json.loads(next((folder / "seeds").rglob("report.json")).read_text())
    assert sum(map(len, held[:half])) == report["validation"] > 1  # each prompt once


OWN = "def score(samples, letter='a'):\n    return [s.text.count(letter) for s in samples]\n"


def test_another_process_draws_the_same_answers(folder: Path) -> None:
    """To be scored by a function in a file of ours, which that process knows nothing of."""
    (folder / "own.py").write_text(OWN)
    own = {"rewards": [{"file": str(folder / "own.py")}]}
    runs.train(letters.recipe(folder, "here", own, steps=3, lora={"r": 4}))
    apart = {**own, "rollouts": {"threads": 1}}
    runs.train(letters.recipe(folder, "apart", apart, steps=3, lora={"r": 4}))
    runs.assert_same_end(folder, "here", "apart")


def test_a_run_goes_on_with_the_reward_model_that_it_was_started_with(folder: Path) -> None:
    judges = folder / "judge"
    judges.mkdir()
    one_score("llama", judges)
    scored = {"rewards": [{"name": "reward-model", "model": str(judges)}]}
    recipe = letters.recipe(folder, "judged", scored, steps=3, save_every=1)
    with pytest.raises(runs.Killed):
        runs.train(recipe, watch=runs.Stop(2))
    weights = next(judges.glob("*.safetensors"))
    save_file({k: v + 1 for k, v in load_file(weights).items()}, weights)
    with pytest.raises(InputError, match="model of reward 1", check=about("model of reward 1")):
        runs.train(recipe, resume=True)


def test_the_second_minibatch_is_held_against_the_policy_before_the_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one epoch: the policy has moved by then, and the ratio says so."""
    ratios: list[float] = []
    losses = GroupRelativePolicy.token_losses

    def recorded(
        objective: GroupRelativePolicy, log_probs: Tensor, known: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        ratios.append(float((log_probs.detach() - known["before"]).exp().sub(1).abs().max()))
        return losses(objective, log_probs, known)

    monkeypatch.setattr(GroupRelativePolicy, "token_losses", recorded)
    two = {"epochs": 1, "minibatches": 2}
    letters.run(letters.recipe(folder, "halves", two, steps=1, micro_tokens=4096))
    assert of_steps(folder, "halves")[0]["updates"] == 2.0
    first, second = ratios
    assert first < 1e-5
    assert second > 1e-3


class Slow:
    """A sampler whose answers ahead are not there before an evaluation begins."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.is_working, self.disturbed = inner, False, 0
        self.evaluating = threading.Event()

    def update(self, module: Any) -> None:
        self.disturbed += self.is_working
        self.inner.update(module)

    def sample(self, *given: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            return self.inner.sample(*given)
        self.is_working = True
        try:
            assert self.evaluating.wait(60)
            self.evaluating.clear()
            time.sleep(0.05)
            return self.inner.sample(*given)
        finally:
            self.is_working = False

    def close(self) -> None:
        self.inner.close()


def test_an_evaluation_gives_the_sampler_no_weights_while_it_draws(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Services(letters.Services):
        def sampler(self, *given: Any) -> Any:
            self.slow = Slow(super().sampler(*given))
            return self.slow

    services, evaluate = Services(), RolloutSource.evaluate

    def begun(source: RolloutSource) -> dict[str, float]:
        services.slow.evaluating.set()
        return evaluate(source)

    monkeypatch.setattr(RolloutSource, "evaluate", begun)
    ahead = {"rollouts": {"ahead": 1}}
    train(letters.recipe(folder, "slow", ahead, steps=3, eval_every=1), services=services)
    assert services.slow.disturbed == 0
    assert len(runs.lines(folder, "slow")) == 7  # one evaluation before the first step


def test_a_run_goes_on_with_the_reward_file_that_it_was_started_with(folder: Path) -> None:
    """Its hash is in the lineage of the result."""
    file = folder / "my_reward.py"
    file.write_text(OWN)
    own = {"rewards": [{"file": str(file), "settings": {"letter": "e"}}]}
    recipe = letters.recipe(folder, "own", own, steps=3, save_every=1, eval_every=3)
    with pytest.raises(runs.Killed):
        runs.train(recipe, watch=runs.Stop(2))
    file.write_text(OWN.replace("count", "index"))
    with pytest.raises(
        InputError,
        match="the file of reward 1 is not that which the run was",
        check=about("file of reward 1"),
    ):
        runs.train(recipe, resume=True)
    file.write_text(OWN)
    made = runs.train(recipe, resume=True)
    assert all("reward_score" in line for line in runs.lines(folder, "own") if "loss" in line)
    training = Store().resolve(str(made.folder)).card.training
    assert training is not None
    assert training.models == {"file of reward 1": hashlib.sha256(OWN.encode()).hexdigest()}


@pytest.mark.long
def test_two_processes_of_a_ray_cluster_draw_the_same_answers(folder: Path) -> None:
    letters.run(letters.recipe(folder, "alone", steps=3, lora={"r": 4}))
    apart = {"rollouts": {"ray": "local", "copies": 2, "ahead": 0}}
    letters.run(letters.recipe(folder, "cluster", apart, steps=3, lora={"r": 4}))
    lines = [runs.lines(folder, name) for name in ("alone", "cluster")]
    for one, two in zip(*lines, strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-4)
    many = {"rollouts": {"ray": "local", "copies": 4096}}
    with pytest.raises(InputError, match="need 4096 processors"):
        letters.run(letters.recipe(folder, "many", many, steps=1))
