"""The page shows the figures of the default models that were recorded, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
MODELS = ("one", "two")


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import default_models_page

    return default_models_page


def result(value: float, *, failed: int = 0, asked: int = 100) -> dict[str, Any]:
    metrics = [
        {"name": name, "is_share": name != "bits_per_byte", "decimals": 3}
        for name in ("acc_norm", "acc", "bits_per_byte")
    ]
    figure = {"value": value, "low": value - 0.1, "high": value + 0.1}
    return {
        "asked": asked,
        "failed": failed,
        "dataset": {"samples": 100, "source": "package 1.0, file"},
        "metrics": metrics,
        "figures": {each["name"]: figure for each in metrics},
    }


def test_the_page_shows_what_was_recorded(page: ModuleType) -> None:
    found = json.loads((FOLDER / "results/default_models.json").read_text())
    text = page.PAGE.read_text("utf-8")
    assert page.written(text, found) == text


def test_a_figure_has_its_interval_its_unit_and_its_failures(page: ModuleType) -> None:
    known = {
        "hellaswag": {
            "guessing": 0.25,
            "results": {"one": result(0.5), "two": result(0.4, failed=2)},
        },
        "gsm8k_bpb": {"guessing": None, "results": {"one": result(0.75)}},
    }
    assert page.tables(known)["figures"].splitlines()[2:] == [
        "| `hellaswag` | 100, package 1.0 | `acc_norm` | 25.0 % |"
        " 50.0 % (40.0 to 60.0) | 40.0 % (30.0 to 50.0, 2 failed) |",
        "| `gsm8k_bpb` | 100, package 1.0 | `bits_per_byte`, less is better |  |"
        " 0.750 (0.650 to 0.850) | no chat template |",
    ]


def test_what_was_not_measured_is_called_so(page: ModuleType) -> None:
    both = {"results": dict.fromkeys(MODELS, result(0.5))}
    one = {"results": {"one": result(0.5, asked=40)}}
    row = page.tables({"hellaswag": both, "boolq": one})["figures"].splitlines()[3]
    assert row.endswith("| not measured |")
    assert "the first 40 of 100" in row
