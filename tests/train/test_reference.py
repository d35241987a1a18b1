"""The reference: what the weights of the beginning say, computed once, in every way to train."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.errors import about
from tests.train import runs

from lmstack.core import InputError
from lmstack.model import ForwardContext
from lmstack.train import read_recipe, train
from lmstack.train.assembly import assemble
from lmstack.train.compute import ops_for
from lmstack.train.data.examples import IGNORED
from lmstack.train.data.store import ExampleStore
from lmstack.train.loop import Watch
from lmstack.train.objectives.preferences import parts_of
from lmstack.train.parallel import Parallel
from lmstack.train.plan import plan_run
from lmstack.train.recipe import Recipe
from lmstack.train.reference import with_reference

LOG2 = float(np.log(2))
WAYS: Mapping[str, dict[str, Any]] = {
    "all weights": {},
    "bfloat16": {"precision": "bfloat16"},
    "lora": {"lora": {"r": 4, "dropout": 0.5}},
    "lora in 8 bits": {"lora": {"r": 4}, "precision": "int8"},
    "dora": {"lora": {"r": 4, "dora": True}},
    "qlora": {"lora": {"r": 4}, "weights": "nf4"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a base in the registry's way, and pairs."""
    torch.set_num_threads(1)
    found = tmp_path_factory.mktemp("reference")
    runs.prepare_folder(found)
    return found


@pytest.fixture(autouse=True)
def _home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(folder / "home"))


@pytest.fixture(scope="module")
def base(folder: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMSTACK_HOME", str(folder / "home"))
        train(runs.recipe(folder, "base", steps=2))
    return str(folder / "base-made")


def settings(base: str, **changes: Any) -> dict[str, Any]:
    given = {"base": base, "model": None, "tokenizer": None, "data": "preferences.jsonl"}
    given |= {"objective": "dpo", "max_length": 64, "steps": 4, "dropout": 0.0}
    return {**given, **changes}


def references(folder: Path, name: str) -> list[Path]:
    return sorted((folder / name / "examples").glob("*/*reference-*"))


def first_line(folder: Path, name: str) -> dict[str, Any]:
    return next(line for line in runs.lines(folder, name) if "margin" in line)


@pytest.mark.parametrize("way", WAYS)
def test_the_first_step_is_at_the_reference_and_the_last_is_not(
    folder: Path, base: str, way: str
) -> None:
    """No pair has a margin before a weight has changed: pi and the reference are one model."""
    bound = 2e-3 if "precision" in WAYS[way] else 2e-6
    train(runs.recipe(folder, way, **settings(base, lr=3e-3, **WAYS[way])))
    first, *_, last = [line for line in runs.lines(folder, way) if "margin" in line]
    if not WAYS[way].get("lora", {}).get("dropout"):  # which is not of the reference's pass
        assert first["loss"] == pytest.approx(LOG2, abs=bound)
        assert first["margin"] == pytest.approx(0, abs=bound)
        assert first["kl"] == pytest.approx(0, abs=bound)
    assert last["kl"] > 1e-6
    assert last["loss"] < LOG2 - 1e-5


def test_it_is_what_the_base_says_token_by_token(folder: Path, base: str) -> None:
    recipe = runs.recipe(folder, "plain", **settings(base, micro_tokens=50))
    run = assemble(recipe, recipe.folder / "examples", Parallel())
    given = with_reference(recipe, run, Parallel())
    assert given.facts.keys() == {"precision", "reference"}
    assert given.validation is not None
    for loader in (given.train, given.validation):
        assert len(loader.all_examples) > 5
        for example in loader.all_examples:
            for part in parts_of(example):
                ids = torch.from_numpy(part.sequences[0].astype(np.int64))[None]
                with torch.no_grad():
                    scores = run.base.module(ids).logits[0].log_softmax(-1)
                places = np.flatnonzero(part.labels != IGNORED)
                wanted = scores[places - 1, ids[0, places]]
                torch.testing.assert_close(torch.from_numpy(part.reference.copy()), wanted)


class Counted(Watch):
    """How often the reference is computed."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def reference(self, done: int, total: int) -> None:
        self.told.append((done, total))


def watched(recipe: Recipe, **options: Any) -> list[tuple[int, int]]:
    watch = Counted()
    train(recipe, watch=watch, **options)
    return watch.told


def test_it_is_computed_once_for_the_same_weights_and_examples(folder: Path, base: str) -> None:
    told = watched(runs.recipe(folder, "once", **settings(base)))
    assert told[-1][0] == told[-1][1] > 0
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    (kept,) = references(folder, "once")
    longer = runs.recipe(folder, "once", **settings(base, steps=6, output=str(folder / "longer")))
    assert watched(longer, resume=True) == []
    assert references(folder, "once") == [kept]
    # A run of its own beside it, from the start, with nothing but another precision.
    for path in (folder / "once" / "checkpoints").iterdir():
        path.rename(folder / f"gone-{path.name}")
    again = settings(base, precision="bfloat16", output=str(folder / "again"))
    assert watched(runs.recipe(folder, "once", **again))
    (other,) = references(folder, "once")
    assert other.parent == kept.parent
    assert other != kept


def test_a_run_goes_on_beside_the_reference_that_it_began_with(folder: Path, base: str) -> None:
    recipe = runs.recipe(folder, "goes-on", **settings(base))
    train(recipe)
    (kept,) = references(folder, "goes-on")
    given = settings(base, steps=5, output=str(folder / "longer-made"))
    longer = runs.recipe(folder, "goes-on", **given)
    values = np.fromfile(kept / "train" / "values.bin", np.float32)
    (values + 1).tofile(kept / "train" / "values.bin")
    with pytest.raises(
        InputError,
        match="the reference is not that which the run was started",
        check=about("reference"),
    ):
        train(longer, resume=True)
    for path in sorted(kept.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    kept.rmdir()
    train(longer, resume=True)
    assert np.array_equal(np.fromfile(kept / "train" / "values.bin", np.float32), values)
    other = runs.recipe(folder, "goes-on", **{**given, "precision": "bfloat16"})
    with pytest.raises(
        InputError,
        match="the precision is not that which the run was started",
        check=about("precision"),
    ):
        train(other, resume=True)


def test_what_a_killed_process_left_of_it_is_not_used(folder: Path, base: str) -> None:
    class Dies(Watch):
        def reference(self, done: int, total: int) -> None:
            raise runs.Killed

    recipe = runs.recipe(folder, "killed", **settings(base))
    with pytest.raises(runs.Killed):
        train(recipe, watch=Dies())
    (left,) = references(folder, "killed")
    assert left.name.startswith(".")
    train(recipe)
    (whole,) = references(folder, "killed")
    assert not whole.name.startswith(".")
    stores = [ExampleStore(whole / part) for part in ("train", "validation")]
    assert sum(map(len, stores)) == 40


def test_a_plan_needs_no_reference(folder: Path, base: str) -> None:
    for objective in ("dpo", "kto", "simpo"):
        given = settings(base, objective=objective)
        recipe = runs.recipe(folder, f"plan-{objective}", **given)
        run = assemble(recipe, recipe.folder / "examples", Parallel())
        plan = plan_run(recipe, run, measure_s=0.0)
        assert plan.rate.tokens_per_second > 0
        assert not references(folder, f"plan-{objective}")
        json.dumps(plan.to_json())


@torch.no_grad()
def test_the_ops_of_the_reference_are_those_of_the_run(folder: Path, base: str) -> None:
    """In 8 bits the products differ from float32 by far more than a step changes at first."""
    given = settings(base, lora={"r": 4}, precision="int8")
    recipe = runs.recipe(folder, "ops", **given)
    run = assemble(recipe, recipe.folder / "examples", Parallel())
    referred = with_reference(recipe, run, Parallel())
    batch = referred.train.batch_of([0, 1])
    plain = run.objective.referred(run.base.module, batch, ForwardContext())
    eight = run.objective.referred(
        run.base.module, batch, ForwardContext(ops=ops_for("int8", run.base.module))
    )
    kept = [referred.train.all_examples[n].reference for n in (0, 1)]
    far, near = (
        max(
            float((torch.from_numpy(one.copy()) - other.float()).abs().max())
            for one, other in zip(kept, found, strict=True)
        )
        for found in (plain, eight)
    )
    assert near < 1e-3 < far


RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("name", ["dpo", "ipo", "kto", "orpo", "simpo"])
def test_the_recipe_runs_in_its_smallest_form(folder: Path, base: str, name: str) -> None:
    """Pairs that are told apart at a glance, on a model of two layers."""
    steps = 15 if name == "orpo" else 10
    small = {"max_length": 64, "batch": 4, "steps": steps, "lr": 0.02, "validation": 0.2}
    paths = {"base": base, "data": str(folder / "preferences.jsonl")}
    paths |= {"output": str(folder / f"{name}-adapter"), "run": str(folder / f"{name}-run")}
    words = [f"{key}={json.dumps(value)}" for key, value in {**small, **paths}.items()]
    result = train(read_recipe(RECIPES / f"{name}.yaml", words))
    assert (result.folder / "adapter_model.safetensors").is_file()
    found = [line for line in runs.lines(folder, f"{name}-run") if "margin" in line]
    assert found[-1]["margin"] > found[0]["margin"]
    assert found[-1]["loss"] < found[0]["loss"]
    assert result.values["accuracy"] >= 0.8
    assert ("kl" in result.values) == (name not in ("orpo", "simpo"))
