"""Recipes: those of the folder, what YAML may say, types, nearest names, and usual values."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import FormatError, InputError, NotFoundError
from lmstack.model.families import config_from_json
from lmstack.train import Recipe, read_recipe
from lmstack.train import settings_file as shipped
from lmstack.train.assembly import check_recipe
from lmstack.train.recipe import USUAL, warnings_of
from lmstack.train.settings_file import read_settings

ROOT = Path(__file__).parents[2]
# Those of one objective; a pipeline of several has its own tests.
RECIPES = [
    path
    for path in sorted((ROOT / "recipes").glob("*.yaml"))
    if "pipeline" not in read_settings(path)
]
SMALL = "objective: sft\nbase: b\ndata: d.jsonl\noutput: o\n"


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str, *overrides: str) -> Recipe:
        path = tmp_path / "r.yaml"
        path.write_text(text)
        return read_recipe(path, overrides)

    return write


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_whole(path: Path) -> None:
    recipe = read_recipe(path)
    check_recipe(recipe)
    if recipe.model is not None:
        config = config_from_json({"vocab_size": 1000, **recipe.model}, str(path))
        assert config.max_positions >= recipe.max_length
    first = path.read_text().splitlines()
    assert first[0].startswith("# ")
    assert any(f"lmstack train recipes/{path.name}" in line for line in first[:8])
    assert Recipe.from_mapping(recipe.to_json()) == recipe


@pytest.mark.parametrize("named", ["sft-lora", "recipes/sft-lora.yaml"])
def test_a_recipe_is_found_by_its_name_wherever_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_recipe(named, ["lr=1"]) == read_recipe(ROOT / "recipes" / "sft-lora.yaml", ["lr=1"])
    Path(named).parent.mkdir(exist_ok=True)
    Path(named).write_text(SMALL)
    assert read_recipe(named).base == "b"


def test_what_is_set_inside_a_text_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("objective: sft\nlora: yes\ntrack: mlflow\n")
    found = read_settings(path, ["objective.a=1", "objective.b=2", "lora.r=4", "track.x=3"])
    assert found == {
        "objective": {"name": "sft", "a": 1, "b": 2},
        "lora": {"r": 4},
        "track": {"x": 3},
    }


def test_a_recipe_that_is_not_there_names_one_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError) as error:
        read_recipe("sft-lroa")
    assert error.value.hint == "did you mean sft-lora?"
    # Only a recipe has a name: any other file is where it is said to be.
    with pytest.raises(NotFoundError):
        read_settings("sft-lora", what="file of principles")


def test_recipes_and_gates_are_in_the_package() -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = package["tool"]["setuptools"]["package-data"]["lmstack"]
    packed = {path for pattern in patterns for path in (ROOT / "src" / "lmstack").glob(pattern)}
    inside = {path.relative_to(shipped.RECIPES).as_posix() for path in packed if _is_recipe(path)}
    written = (ROOT / "recipes").rglob("*")
    assert inside == {p.relative_to(ROOT / "recipes").as_posix() for p in written if p.is_file()}


def _is_recipe(path: Path) -> bool:
    return path.is_relative_to(shipped.RECIPES)


def test_every_objective_has_a_recipe() -> None:
    from lmstack.train.objectives import OBJECTIVES

    assert {read_recipe(path).objective_name for path in RECIPES} >= set(OBJECTIVES)


def table() -> dict[str, list[str]]:
    """Of docs/recipes.md: setting to range, default and note."""
    text = (ROOT / "docs/recipes.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| `([\w.]+)` \| ([^|]+) \| ([^|]+) \|", text, re.M)
    return {name: [low_high.strip(), default.strip()] for name, low_high, default in rows}


def test_the_pages_table_is_what_is_noted_and_what_is_taken() -> None:
    rows, defaults = (
        table(),
        Recipe.from_mapping(
            {"objective": "sft", "base": "b", "data": "d", "output": "o", "lora": {}}
        ),
    )
    assert set(rows) == {*USUAL, "lora.alpha"}
    for name, usual in USUAL.items():
        assert [float(x) for x in rows[name][0].split(" to ")] == [usual.low, usual.high]
        value = defaults.lora["r"] if name == "lora.r" else getattr(defaults, name)
        assert float(rows[name][1]) == value
        assert usual.low <= value <= usual.high
    assert defaults.lora["alpha"] == 2 * defaults.lora["r"]
    assert not warnings_of(defaults)


@pytest.mark.parametrize("name", USUAL)
def test_what_lies_outside_the_table_is_noted_and_the_edges_are_not(name: str, written) -> None:
    usual = USUAL[name]
    for value, noted in ((usual.low, 0), (usual.high, 0), (usual.low / 2, 1), (usual.high * 2, 1)):
        value = int(value) if name in ("batch", "max_length", "lora.r") else value
        recipe = written(SMALL + "lora: {}\n", f"{name}={value}")
        assert len([w for w in warnings_of(recipe) if w.startswith(name)]) == noted


@pytest.mark.parametrize(("lr", "noted"), [("1e-4", 0), ("3e-3", 0), ("5e-5", 1), ("4e-3", 1)])
def test_fresh_weights_may_learn_faster(lr: str, noted: int) -> None:
    recipe = read_recipe(ROOT / "recipes" / "pretrain.yaml", [f"lr={lr}"])
    assert len([w for w in warnings_of(recipe) if w.startswith("lr")]) == noted


def test_an_alpha_of_ones_own_is_noted(written) -> None:
    found = warnings_of(written(SMALL, "lora.alpha=16"))
    assert found == ["lora.alpha is 16; usual is twice lora.r"]


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("warmpu=0.1", "did you mean 'warmup'?"),
        ("lora.alpa=3", "did you mean 'alpha'?"),
        ("objective.rat=0.2", "did you mean 'rate'?"),
        ("objective=mask", "did you mean 'masked'?"),
    ],
)
def test_an_unknown_key_names_the_nearest_at_every_level(override: str, hint: str, written) -> None:
    text = SMALL.replace("sft", "{name: masked, rate: 0.15}")
    with pytest.raises(InputError, check=about("alpa", "objective", "rat", "warmpu")) as error:
        check_recipe(written(text, override))
    assert error.value.hint == hint


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr=fast", "lr is 'fast', not a number"),
        ("lr=true", "lr is True, not a number"),
        ("batch=2.5", "batch is 2.5, not a whole number"),
        ("batch=0", "batch is 0, outside"),
        ("strict=yes", "strict is 'yes', not true or false"),
        ("schedule=cosin", "schedule is 'cosin', not cosine"),
        ("output=7", "output is 7, not text"),
        ("model=llama", "model is 'llama', not settings by name"),
        ("lora=16", "lora is 16, not settings by name"),
        ("data=3", "data is 3, not files"),
        ("data=[a, 3]", "not files"),
        ("data=[]", "data is empty"),
        ("validation=1.5", "validation is 1.5, outside"),
        ("validation=true", "validation is True, not a number"),
        ("objective=3", "objective is 3, not a name"),
        ("objective={rate: 0.1}", "not a name, or a name with settings"),
        ("lora.r=many", "lora: r is 'many', not a number"),
        ("lr", "'lr' is not key=value"),
        ("lr=.nan", "lr is '.nan', not a number"),
        ("lr=1e999", "lr is inf, outside"),
    ],
)
def test_a_wrong_value_says_what_is_wanted(override: str, message: str, written) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        check_recipe(written(SMALL, override))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("no", "no"), ("on", "on"), ("YES", "YES"), ("2024-01-01", "2024-01-01")),
        *(("1:30", "1:30"), ("1_000", "1_000"), ("0x10", "0x10"), ("=", "=")),
    ],
)
def test_words_stay_words(text: str, value: str, written) -> None:
    assert written(SMALL, f"output={text}").output == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1e-4", 1e-4), ("1E-4", 1e-4), ("1.e-4", 1e-4), (".0001", 1e-4), ("+1e-4", 1e-4)),
        *(("1", 1), ("010", 10)),
    ],
)
def test_numbers_are_what_they_look_like(text: str, value: float, written) -> None:
    assert written(SMALL, f"lr={text}").lr == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL + "lr: 1e-4\nlr: 1e-5\n", r"r.yaml:6 is not YAML: 'lr' stands twice"),
        (SMALL + "lora: {r: 8, r: 16}\n", "'r' stands twice"),
        ("a: &a [1]\nb: *a\n", "it has the alias \\*a"),
        ("a: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", "is not YAML"),
        ("- sft\n", "holds \\['sft'\\], not settings"),
        ("a: [" * 20_000, "nested too deep|is not YAML"),
        ("a: \x00", "is not YAML"),
    ],
)
def test_what_yaml_hides_is_refused(text: str, message: str, written) -> None:
    with pytest.raises((FormatError, InputError), match=message):
        written(text)


@given(st.text(max_size=60))
def test_no_text_gets_past_the_errors(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.yaml"
        path.write_text(text, encoding="utf-8", errors="replace")
        with pytest.raises((FormatError, InputError)):
            read_recipe(path)


def test_files_are_named_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/r.yaml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe("kept/r.yaml")
    assert recipe.data == ("d.jsonl",)
    assert recipe.folder == Path("runs/o")


def test_every_setting_is_named_on_the_page() -> None:
    text = (ROOT / "docs/recipes.md").read_text()
    fields: list[Any] = [field.name for field in dataclasses.fields(Recipe)]
    assert [name for name in fields if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    ("output", "run"),
    [
        ("x", "runs/x"),
        ("A/x", "runs/A/x"),
        ("./B//x", "runs/B/x"),
        ("B/../x", "runs/x"),
        ("HERE/x", "runs/x"),
        ("../x", "runs/ABOVE/x"),
        ("/elsewhere/x", "runs/elsewhere/x"),
    ],
)
def test_outputs_of_one_name_in_different_places_have_runs_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, run: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    given = output.replace("HERE", str(here))
    above = str(tmp_path).removeprefix("/")
    recipe = Recipe.from_mapping({"objective": "sft", "base": "b", "data": "d", "output": given})
    assert str(recipe.folder) == run.replace("ABOVE", above)


def test_epochs_may_be_null_where_steps_say_how_long() -> None:
    given = {"objective": "sft", "base": "b", "data": "d", "output": "o", "epochs": None}
    recipe = Recipe.from_mapping({**given, "steps": 3})
    assert Recipe.from_mapping(recipe.to_json()) == recipe
    with pytest.raises(InputError, match="epochs is None, not a number", check=about("epochs")):
        Recipe.from_mapping(given)
