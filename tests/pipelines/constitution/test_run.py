"""Whole constitutional runs on a tiny model: killed anywhere they end as if they had not been."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tests.errors import about
from tests.pipelines.constitution.conftest import PROMPTS, Writers
from tests.train import runs

from lmstack.core import InputError
from lmstack.pipelines.constitution.prompts import read_prompts
from lmstack.pipelines.constitution.recipe import ConstitutionalRecipe
from lmstack.pipelines.constitution.run import ConstitutionOutcome, PipelineWatch, run_constitution
from lmstack.registry import Store
from lmstack.train.loop import Watch
from lmstack.train.recipe import Recipe

Make = Callable[..., ConstitutionalRecipe]
WORKING = ("drafts", "critiques-1", "revisions-1", "sft", "answers", "labels", "dpo")
STAGES = ("drafts", "critiques-1", "revisions-1", "sft", "answers", "labels", "preferences")


class KilledOnce(PipelineWatch):
    """Ends the process once in each stage: after four items, or the second step of a training."""

    def __init__(self) -> None:
        self.killed: list[str] = []

    def stage(self, name: str, done: int, total: int) -> None:
        if done == PROMPTS // 2 and name not in self.killed:
            self.killed.append(name)
            raise runs.Killed

    def training(self, recipe: Recipe) -> Watch:
        stage = recipe.folder.name
        if stage in self.killed:
            return Watch()
        self.killed.append(stage)
        return runs.Stop(2)


def files(recipe: ConstitutionalRecipe) -> dict[str, bytes]:
    return {name: (recipe.folder / f"{name}.jsonl").read_bytes() for name in STAGES}


def weights(outcome: ConstitutionOutcome) -> list[dict[str, Any]]:
    folders = (Path(outcome.sft.folder), Path(outcome.dpo.folder))
    return [load_file(next(folder.glob("*.safetensors"))) for folder in folders]


@pytest.fixture(scope="module")
def whole(recipe: Make) -> tuple[ConstitutionalRecipe, ConstitutionOutcome, Writers]:
    """A run that was never stopped."""
    made, writers = recipe("whole"), Writers()
    return made, run_constitution(made, writers), writers


def same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    return all(
        a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)
        for a, b in zip(one, other, strict=True)
    )


def test_killed_in_every_stage_it_ends_as_if_it_never_had_been(
    recipe: Make, whole: tuple[ConstitutionalRecipe, ConstitutionOutcome, Writers]
) -> None:
    made, watch, asked = recipe("killed"), KilledOnce(), 0
    for place, stage in enumerate(WORKING):
        writers = Writers()
        with pytest.raises(runs.Killed):
            run_constitution(made, writers, resume=place > 0, watch=watch)
        assert watch.killed[-1] == stage
        asked += len(writers.asked)
    writers = Writers()
    outcome = run_constitution(made, writers, resume=True, watch=watch)
    asked += len(writers.asked)
    assert files(made) == files(whole[0])
    assert same(weights(outcome), weights(whole[1]))
    # What was being written is asked again, and nothing else: of a pair two comparisons.
    assert len(whole[2].asked) <= asked <= len(whole[2].asked) + 6 * made.at_once
    assert not list(made.folder.glob("*.unfinished"))


def test_a_run_that_is_done_asks_and_trains_nothing_again(
    whole: tuple[ConstitutionalRecipe, ConstitutionOutcome, Writers],
) -> None:
    again = Writers()
    assert run_constitution(whole[0], again, resume=True) == whole[1]
    assert again.asked == []


def test_a_folder_that_holds_a_run_is_not_written_over(
    whole: tuple[ConstitutionalRecipe, ConstitutionOutcome, Writers],
) -> None:
    with pytest.raises(InputError, match="holds a run already") as error:
        run_constitution(whole[0], Writers())
    assert error.value.param == "run"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"temperature": 0.1}, "drafts.jsonl was made with other settings: temperature"),
        ({"critique_tokens": 9}, "critiques-1.jsonl was made with other settings: max_tokens"),
        ({"labels": 1}, "labels.jsonl was made with other settings: labels"),
        ({"sft": {"steps": 2}}, "sft.json was made with other settings"),
    ],
)
def test_a_setting_that_would_have_changed_what_is_there_is_named(
    changes: dict[str, Any],
    named: str,
    whole: tuple[ConstitutionalRecipe, ConstitutionOutcome, Writers],
) -> None:
    with pytest.raises(InputError, match=named, check=about("settings")):
        run_constitution(whole[0].replace(**changes), Writers(), resume=True)


def test_a_model_that_was_made_before_its_mark_is_taken_for_what_it_is(
    whole: tuple[ConstitutionalRecipe, ConstitutionOutcome, Writers],
) -> None:
    made, outcome, _ = whole
    (made.folder / "sft.json").unlink()
    assert run_constitution(made, Writers(), resume=True) == outcome


def test_a_model_that_another_run_made_is_not_taken_for_its_own(
    recipe: Make, whole: tuple[ConstitutionalRecipe, ConstitutionOutcome, Writers]
) -> None:
    with pytest.raises(
        InputError, match="there is a model whole-sft already", check=about("output")
    ):
        run_constitution(recipe("another", output=whole[0].output), Writers())


def test_each_stage_says_what_decided_its_items(
    whole: tuple[ConstitutionalRecipe, ConstitutionOutcome, Writers],
) -> None:
    made, _, _ = whole
    common = {"stage", "model", "temperature", "seed"}
    by_principles = {*common, "principles", "inputs", "max_tokens"}
    wanted = {
        "drafts": {*common, "prompts", "max_tokens"},
        **dict.fromkeys(("critiques-1", "revisions-1"), by_principles),
        "answers": {*common, "prompts", "max_tokens"},
        "labels": {"stage", "model", "seed", "principles", "labels", "inputs"},
    }
    for stage, names in wanted.items():
        header = json.loads((made.folder / f"{stage}.jsonl").read_text().splitlines()[0])
        assert header.keys() == names, stage
        model = "sha256:tuned" if stage == "answers" else "sha256:base"
        assert (header["stage"], header["model"]) == (stage, model)
        assert header["seed"] == made.seed
        assert header.get("temperature", made.temperature) == made.temperature


def test_what_is_kept_of_a_run_can_be_read_by_people(
    whole: tuple[ConstitutionalRecipe, ConstitutionOutcome, Writers],
) -> None:
    made, outcome, writers = whole
    for name in ("recipe", "sft", "dpo"):
        text = (made.folder / f"{name}.json").read_text()
        assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
    kept = json.loads((made.folder / "recipe.json").read_text())
    assert kept["recipe"]["output"] == made.output
    assert len(kept["constitution"]["principles"]) > 1
    result = json.loads((made.folder / "sft.json").read_text())
    assert result["result"] == {**vars(outcome.sft), "values": dict(outcome.sft.values)}
    assert Recipe.from_mapping(result["recipe"]) == made.sft_recipe
    assert (outcome.sft.name, outcome.dpo.name) == (made.tuned, made.output)
    assert outcome.prompts == PROMPTS
    assert (outcome.sft.steps, outcome.dpo.steps, writers.released) == (3, 3, 2)


def test_every_set_follows_from_the_items(
    whole: tuple[ConstitutionalRecipe, ConstitutionOutcome, Writers],
) -> None:
    made, outcome, _ = whole
    revisions = {
        item["key"]: item["text"]
        for item in map(json.loads, (made.folder / "revisions-1.jsonl").read_text().splitlines())
        if "key" in item
    }
    rows = [json.loads(line) for line in (made.folder / "sft.jsonl").read_text().splitlines()]
    assert len(rows) == outcome.conversations == PROMPTS
    assert all(row["messages"][-1]["content"] == revisions[row["key"]] for row in rows)
    pairs = (made.folder / "preferences.jsonl").read_text().splitlines()
    for row in map(json.loads, pairs):
        assert row["chosen"] != row["rejected"]
        assert 0.5 < row["probability"] <= 1
    assert len(pairs) == outcome.preferences > 0


def test_models_are_freed_before_each_training(
    whole: tuple[ConstitutionalRecipe, ConstitutionOutcome, Writers],
) -> None:
    assert whole[2].released == 2


def test_dpo_starts_from_the_model_that_sft_made_whichever_way_it_was_trained(
    recipe: Make,
    whole: tuple[ConstitutionalRecipe, ConstitutionOutcome, Writers],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {**recipe("x").sft, "lora": {"r": 2, "targets": ["q_proj"]}}
    made = recipe("adapted", sft=settings, dpo={**settings, "lora": {"r": 2}})
    monkeypatch.chdir(made.folder.parent)
    outcome = run_constitution(made, Writers())
    tuned, adapted = Store().resolve("whole-sft"), Store().resolve("adapted-sft")
    assert outcome.sft.digest == adapted.digest != tuned.digest
    lineage = adapted.card.training
    assert lineage is not None
    assert lineage.base is not None
    assert (lineage.objective, lineage.base.name) == ("sft", "base")
    facts = json.loads((Path(outcome.dpo.folder) / "training.json").read_text())
    assert facts["base"]["digest"] == adapted.digest


def test_what_cannot_be_trained_on_says_why(recipe: Make) -> None:
    class Cut(Writers):
        def open(self, name: str) -> Any:
            writer = super().open(name)
            stream = writer.stream

            async def cut(request: Any) -> Any:
                from dataclasses import replace

                async for delta in stream(request):
                    yield replace(delta, finish_reason=delta.finish_reason and "length")

            writer.stream = cut  # type: ignore[method-assign]
            return writer

    with pytest.raises(
        InputError, match="nothing to train on: 3 cut off at its longest", check=about("data")
    ):
        run_constitution(made := recipe("cut", prompts=3, seed=4), Cut())
    lines = (made.folder / "drafts.jsonl").read_text().splitlines()
    keys = [json.loads(line)["key"] for line in lines[1:]]
    assert keys == list(read_prompts(made.data, 3, 4).by_key)
