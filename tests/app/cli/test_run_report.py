"""The report in which a run ends: planned before it, made after it, and never in its way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tests.train.runs import prepare_folder, recipe, recipe_file

from lmstack.train import train

if TYPE_CHECKING:
    from tests.app.conftest import Run

SMALL = {"samples": 1, "max_tokens": 6, "most": 5}


@pytest.fixture
def folder(tmp_path: Path, home: Path) -> Path:
    torch.set_num_threads(1)
    prepare_folder(tmp_path)
    train(recipe(tmp_path, "base", steps=1))
    return tmp_path


def adapter(folder: Path, name: str, **changes: object) -> str:
    base = {"base": str(folder / "base-made"), "model": None, "tokenizer": None, "steps": 3}
    return str(recipe_file(folder, name, "sft-lora", **base, **changes))


def test_a_run_with_a_report_ends_in_one(run: Run, folder: Path) -> None:
    done = run("train", adapter(folder, "lora", lr=0.05, report=SMALL))
    assert done.code == 0, done.err
    assert str(folder / "lora" / "report.html") in done.out
    assert "nats an answer from the base" in done.out
    kept = json.loads((folder / "lora" / "report.json").read_text())
    assert kept["prompts"] == 5
    assert kept["settings"]["max_tokens"] == 6
    assert kept["divergence"]["answer"]["value"] > 0


def test_a_run_that_aligns_nothing_or_wants_none_has_none(run: Run, folder: Path) -> None:
    for name, report in (("plain", None), ("off", False)):
        done = run("train", adapter(folder, name, report=report), "--json")
        assert done.json["report"] is None
        assert not (folder / name / "report.json").exists()


def test_a_run_on_preferences_ends_in_one_and_its_pairs_are_searched(
    run: Run, folder: Path
) -> None:
    rows = [
        {"prompt": f"cat {n}?", "chosen": f"dog {n} and cat {n} sat", "rejected": f"dog {n}"}
        for n in range(30)
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = {**SMALL, "text": str(folder / "text.jsonl")}
    done = run("train", adapter(folder, "dpo", objective="dpo", data="pairs.jsonl", report=report))
    assert done.code == 0, done.err
    kept = json.loads((folder / "dpo" / "report.json").read_text())
    length = next(each for each in kept["reward_hacking"] if each["trait"] == "length")
    assert length["association"]["value"] > 0.9
    assert length["effect"] is None
    assert "reward" in kept["unmeasured"]


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"sampels": 2}, "report: ReportConfig has no setting 'sampels'"),
        ({"prompts": ["gone.jsonl"]}, "gone.jsonl"),
        (7, "report is 7, not settings by name"),
    ],
)
def test_a_wrong_setting_costs_no_training(
    run: Run, folder: Path, report: object, message: str
) -> None:
    done = run("train", adapter(folder, "wrong", report=report))
    assert done.code == 1
    assert message in done.err
    assert not (folder / "wrong").exists()


def test_a_report_that_fails_leaves_what_was_trained(run: Run, folder: Path) -> None:
    """An answer of 60 tokens does not fit behind the prompt into a context of 64."""
    done = run("train", adapter(folder, "long", report={**SMALL, "max_tokens": 64}))
    assert done.code == 0, done.err
    assert "the report could not be made" in done.err
    assert "lmstack eval answers" in done.err
    assert (folder / "long-made" / "adapter_model.safetensors").is_file()
