"""A task of one's own for models that are hardly trained."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tests.train.runs import MODEL, prepare_folder, recipe

from lmstack.train import train

__all__ = ["TASK", "hardly_trained", "write_numbers"]

TASK = """
name: numbers
data: numbers.jsonl
input: "the cat number {{n}} sat on the"
choices: endings
gold: right
solver: multiple_choice
scorer: multiple_choice
"""


def write_numbers(folder: Path, count: int) -> None:
    """task.yaml, and its ``count`` rows."""
    rows = [{"n": n, "endings": [" mat", " dog", " 5"], "right": n % 3} for n in range(count)]
    (folder / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.yaml").write_text(TASK)


def hardly_trained(folder: Path) -> Path:
    """A model's folder in ``folder``, after one step."""
    torch.set_num_threads(1)
    prepare_folder(folder)
    train(recipe(folder, "one", steps=1, model=MODEL))
    return folder / "one-made"
