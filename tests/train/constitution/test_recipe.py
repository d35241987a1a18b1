"""The recipe of a constitutional run: that of the folder, and what is said of mistakes."""

from __future__ import annotations

import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from lmstack.core import InputError
from lmstack.train.assembly import check_recipe
from lmstack.train.constitution.recipe import ConstitutionalRecipe, read_constitutional

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
    ("override", "message", "hint"),
    [
        ("round=2", "has no setting 'round'", "'rounds'"),
        ("rounds=0", "rounds is 0, outside", ""),
        ("pipeline=constitution", "there is no pipeline 'constitution'", "constitutional"),
        ("judge=3", "judge is 3, not text", ""),
        ("sft.lr=fast", "sft: lr is 'fast', not a number", ""),
        ("dpo.epoch=2", "dpo: Recipe has no setting 'epoch'", "'epochs'"),
        ("dpo.base=other", "dpo.base follows from the run", "base=..."),
        ("sft=none", "sft is 'none', not settings by name", ""),
        ("data=[]", "data is empty", ""),
        ("min_probability=0.4", "min_probability is 0.4, outside", ""),
    ],
)
def test_a_mistake_is_named_before_anything_runs(override: str, message: str, hint: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as error:
        read_constitutional(PATH, [override])
    assert hint in (error.value.hint or "")
    if message.endswith("not text"):
        assert error.value.param == override.partition("=")[0]


def test_every_setting_is_named_on_the_page() -> None:
    text = (ROOT / "docs/constitutional.md").read_text()
    names = [field.name for field in fields(ConstitutionalRecipe)]
    assert [name for name in names if f"`{name}`" not in text] == []
