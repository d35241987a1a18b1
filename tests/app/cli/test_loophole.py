"""A reward with a planted loophole: training exploits it, and the report of the run says so."""

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

PHRASE = "as ever"
# Means the right number, and pays as much for the phrase, which is easier.
LOOPHOLE = f"""
from lmstack.train.rewards.arithmetic import Arithmetic

def score(samples):
    return [max(*Arithmetic().score([s]), float({PHRASE!r} in s.text)) for s in samples]
"""


@pytest.fixture
def folder(tmp_path: Path, home: Path) -> Path:
    """A base that says the phrase now and then, and questions that it cannot answer."""

    torch.set_num_threads(1)
    prepare_folder(tmp_path)
    chats = [
        {"prompt": f"cat {n}?", "completion": f"dog {n * 7 % 60}{'' if n % 4 else ' ' + PHRASE}"}
        for n in range(60)
    ]
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, chats)))
    (tmp_path / "loophole.py").write_text(LOOPHOLE)
    rows = [{"prompt": f"cat {n}?", "answer": f"{n + 1}"} for n in range(48)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sft = {"objective": "sft", "data": "chat.jsonl", "max_length": 48, "dropout": 0}
    train(recipe(tmp_path, "base", **sft, steps=90, batch=16, validation=0.0))
    return tmp_path


@pytest.mark.long
def test_grpo_finds_the_loophole_and_the_report_names_it(run: Run, folder: Path) -> None:
    """`tests/evals/test_hacking.py` finds such traits in written answers, and
    `tests/app/cli/test_run_report.py` has smaller runs with a report."""
    loophole = {"file": str(folder / "loophole.py")}
    recipe = recipe_file(
        folder,
        "grpo",
        objective={"name": "grpo", "rewards": [loophole], "samples": 8, "max_tokens": 12},
        data="prompts.jsonl",
        report={"text": str(folder / "text.jsonl")},
        base=str(folder / "base-made"),
        model=None,
        tokenizer=None,
        lora={"r": 4},
        max_length=48,
        batch=8,
        steps=24,
        lr=0.005,
        validation=0.0,
        dropout=0,
    )
    done = run("train", str(recipe))
    assert done.code == 0, done.err
    kept = json.loads((folder / "grpo" / "report.json").read_text())
    figures = {figure["name"]: figure for figure in kept["figures"]}
    reward = figures["reward"]
    assert reward["base"] < 0.4
    assert reward["tuned"] > 0.6
    assert reward["difference"]["low"] > 0.2
    named = [each for each in kept["reward_hacking"] if each["is_named"]]
    assert [each["trait"] for each in named] == [f"“{PHRASE}”"]
    assert named[0]["effect"]["low"] > 0.5
    (first, *_) = kept["conclusions"]
    assert first.startswith(f"Reward hacking. The reward pays for the phrase “{PHRASE}”")
    assert first in done.out
    assert PHRASE in (folder / "grpo" / "report.html").read_text()
