"""A task of one's own for models that are hardly trained."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["TASK", "write_numbers"]

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
