"""Documents of a fact each, and questions about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["NAMES", "locker", "question", "write_lockers", "write_rows"]

NAMES = (
    *("amber", "ash", "birch", "brass", "cedar", "chalk", "clay", "coal", "copper", "coral", "elm"),
    *("fern", "flint", "gold", "hazel", "heath", "holly", "iron", "ivory", "ivy", "jade", "jet"),
    *("larch", "lead"),
)


def locker(folder: Path, name: str, code: int) -> None:
    text = f"# Lockers\n\nThe code of the {name} locker is {code}.\n"
    (folder / f"{name}.md").write_text(text)


def question(name: str, **known: Any) -> dict[str, Any]:
    return {"question": f"What is the code of the {name} locker?", **known}


def write_rows(path: str, rows: list[dict[str, Any]]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_lockers() -> None:
    """docs/, and lockers.jsonl with a question about each document and one that none answers."""
    Path("docs").mkdir()
    rows = [question("zinc", answerable=False)]
    for number, name in enumerate(NAMES):
        locker(Path("docs"), name, 1000 + number)
        evidence = {"path": f"{name}.md", "quote": f"The code of the {name} locker is"}
        rows.append(question(name, answers=[1000 + number], evidence=[evidence]))
    write_rows("lockers.jsonl", rows)
