"""The recipe of a constitutional run: that of the folder, and what is said of mistakes."""

from __future__ import annotations

import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from lmstack.core import InputError
from lmstack.pipelines.constitution.recipe import ConstitutionalRecipe, read_constitutional
from lmstack.train.assembly import check_recipe

ROOT = Path(__file__).parents[3]
PATH = ROOT / "recipes/constitutional.yaml"


def test_the_recipe_of_the_folder_is_whole() -> None:
    recipe = read_constitutional(PATH)
    check_recipe(recipe.sft_recipe)
    check_recipe(recipe.dpo_recipe)
    assert f"lmstack train recipes/{PATH.name}" in PATH.read_text()
    assert recipe.dpo_recipe.base == recipe.sft_recipe.output == "my-constitutional-sft"
    assert ConstitutionalRecipe.from_mapping(asdict(recipe)) == recipe


@pytest.mark.parametrize(
    ("override", "message", "hint", "param"),
    [
        ("round=2", "has no setting 'round'", "'rounds'", "round"),
        ("rounds=0", "rounds is 0, outside", "", "rounds"),
        ("pipeline=constitution", "no pipeline 'constitution'", "constitutional", "pipeline"),
        ("judge=3", "judge is 3, not text", 'judge: "3"', "judge"),
        ("base=null", "base is None, not text", "", "base"),
        ("output=null", "output is None, not text", "", "output"),
        ("sft.lr=fast", "sft: lr is 'fast', not a number", "", "lr"),
        ("dpo.epoch=2", "dpo: Recipe has no setting 'epoch'", "'epochs'", "epoch"),
        *(
            (f"dpo.{own}=1", f"dpo.{own} follows from the run", f"{own}=...", f"dpo.{own}")
            for own in ("base", "data", "output", "run", "seed")
        ),
        ("dpo.model=1", "dpo.model follows from the run", "leave it out", "dpo.model"),
        ("sft=none", "sft is 'none', not settings by name", "", None),
        ("data=[]", "data is empty", "data=FILE", "data"),
        ("data=3", "data", "", "data"),
        ("min_probability=0.4", "min_probability is 0.4, outside", "", "min_probability"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(
    override: str, message: str, hint: str, param: str | None
) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as error:
        read_constitutional(PATH, [override])
    assert hint in (error.value.hint or "")
    assert error.value.param == param
    assert param != "dpo.model" or error.value.hint == "leave it out"


def test_trainings_read_what_the_run_writes_in_its_folder() -> None:
    recipe = read_constitutional(PATH, ["data=a.jsonl", "run=here", "seed=3"])
    assert recipe.data == ("a.jsonl",)
    found = [(made.data, made.run, made.seed) for made in (recipe.sft_recipe, recipe.dpo_recipe)]
    wanted = [("here/sft.jsonl", "here/sft", 3), ("here/preferences.jsonl", "here/dpo", 3)]
    assert [(*data, run, seed) for data, run, seed in found] == wanted


def test_every_setting_is_named_on_the_page() -> None:
    text = (ROOT / "docs/constitutional.md").read_text()
    names = [field.name for field in fields(ConstitutionalRecipe)]
    assert [name for name in names if f"`{name}`" not in text] == []
