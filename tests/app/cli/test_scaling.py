"""`lmstack scaling`: plans and fits as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.published import LLAMA_3_8B

from lmstack.app.formats import parse_quantity, quantity
from lmstack.app.inspect import rates
from lmstack.app.inspect.rates import Rates
from lmstack.core import InputError
from lmstack.pipelines.scaling.laws import LossLaw

if TYPE_CHECKING:
    from tests.app.conftest import Run

LAW = LossLaw(A=482.01, B=2085.43, E=1.8172, alpha=0.3478, beta=0.3658)


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: Any, **__: Any) -> Rates:
        return Rates(10e9, 20e9, {"int8": 800e9, "bfloat16": 400e9, "float32": 100e9})

    monkeypatch.setattr(rates, "measure_rates", measure)


def test_a_choice_is_set_beside_the_best_use_of_its_compute(run: Run) -> None:
    done = run("scaling", "plan", "--size", "8B", "--data", "15T", "--flops", "1e15", "--json")
    assert done.code == 0, done.err
    assert done.json["tokens_per_parameter"] == 1875
    assert done.json["compute"] == 7.2e23
    assert done.json["best"]["loss"] < done.json["loss"]
    assert done.json["seconds"] == pytest.approx(7.2e23 / 0.4e15)


def test_hours_of_this_machine_are_compute(run: Run) -> None:
    done = run("scaling", "plan", "--hours", "2", "--utilization", "0.5", "--json")
    assert done.json["compute"] == pytest.approx(2 * 3600 * 0.5 * 400e9)
    assert done.json["seconds"] == pytest.approx(7200)
    text = run("scaling", "plan", "--hours", "2", "--precision", "float32")
    assert "40% of 100B operations/s" in text.out
    assert "2 h 00 min" in text.out


def test_cost_is_of_all_devices(run: Run) -> None:
    fast = ("--flops", "1000T", "--utilization", "1", "--price", "2", "--json")
    one = run("scaling", "plan", "--compute", "3.6e21", *fast).json
    ten = run("scaling", "plan", "--compute", "3.6e21", "--devices", "10", *fast).json
    assert one["cost"] == ten["cost"] == pytest.approx(2000)
    assert ten["seconds"] == pytest.approx(one["seconds"] / 10)


def test_a_models_own_operations_take_the_place_of_6_n(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_3_8B))
    model = ("--model", str(tmp_path / "config.json"), "--data", "15T", "--flops", "1e15", "--json")
    short, long = (
        run("scaling", "plan", *model, "--context", context).json for context in ("1", "8192")
    )
    assert short["size"] == pytest.approx(8.03e9, rel=0.001)
    # The embedding table is looked up: 6 operations for each of the other parameters, and a token's
    # own place in attention.
    table = 128256 * 4096
    assert short["compute"] / 15e12 == pytest.approx(6 * (short["size"] - table), rel=0.001)
    scores = 3 * 4 * 32 * 4096 * (8192 + 1) / 2
    extra = (long["compute"] - short["compute"]) / 15e12
    assert extra == pytest.approx(scores, rel=0.001)
    kaplan = run("scaling", "plan", *model, "--law", "kaplan").json
    assert kaplan["size"] == pytest.approx(short["size"] - 2 * table)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "1B", "--model", "x"), "two ways to say one thing"),
        ((), "nothing is given to plan from"),
        (("--size", "many"), "--size is 'many', not a quantity"),
        (("--hours", "1", "--compute", "1e18"), "two ways to say one thing"),
        (("--size", "1B", "--law", "kapln"), "no scaling law 'kapln'"),
        (("--size", "1B", "--law", "gone.json"), "no file 'gone.json'"),
    ],
)
def test_what_cannot_be_planned_is_said(run: Run, arguments: tuple[str, ...], message: str) -> None:
    done = run("scaling", "plan", *arguments)
    assert done.code in (1, 2)
    assert message in done.err


def table(path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = ["N,D,loss"]
    for size in np.geomspace(1e6, 1e9, 6):
        for ratio in (5, 20, 80):
            loss = LAW.loss(size, size * ratio) * np.exp(rng.normal(0, 0.001))
            rows.append(f"{size},{size * ratio},{loss}")
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_fit_writes_its_law_and_plot_and_plans_with_them(run: Run, tmp_path: Path) -> None:
    runs, law, plot = table(tmp_path / "runs.csv"), tmp_path / "law.json", tmp_path / "law.png"
    done = run("scaling", "fit", str(runs), "--out", str(law), "--plot", str(plot))
    assert done.code == 0, done.err
    assert "alpha" in done.out
    assert "90% interval" in done.out
    assert plot.read_bytes().startswith(b"\x89PNG")
    plan = run("scaling", "plan", "--compute", "1e20", "--law", str(law))
    assert "fitted to 18 runs" in plan.out
    assert " to " in plan.out
    fitted = run("scaling", "fit", str(runs), "--json").json["constants"]
    assert fitted["alpha"]["low"] < LAW.alpha < fitted["alpha"]["high"]


def test_too_few_runs_are_refused_in_words(run: Run, tmp_path: Path) -> None:
    runs = table(tmp_path / "runs.csv")
    runs.write_text("\n".join(runs.read_text().splitlines()[:5]))
    done = run("scaling", "fit", str(runs))
    assert done.code == 1
    assert "4 runs cannot determine a law" in done.err


@pytest.mark.parametrize(
    ("text", "value"), [("135M", 135e6), ("1.4T", 1.4e12), ("5.8e23", 5.8e23), ("40 k", 4e4)]
)
def test_quantities_are_read_as_people_write_them(text: str, value: float) -> None:
    assert parse_quantity(text, "size") == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "-3", "nan", "1e", "B", "1_000", "٣"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a quantity"):
        parse_quantity(text, "size")


@pytest.mark.parametrize(
    ("value", "text"), [(950, "950"), (1.35e8, "135M"), (1.4e12, "1.4T"), (5e17, "500,000T")]
)
def test_quantities_are_shown_in_three_figures(value: float, text: str) -> None:
    assert quantity(value) == text
