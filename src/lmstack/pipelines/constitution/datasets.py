"""The two sets that are trained on: conversations with the revised answers, and preferences.

What was cut off at its longest is left out of both: training on it would teach the model to end in
the middle of a sentence. Each row that is left out has its reason counted. Does not cover what
the objectives make of the rows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmstack.core.files import write_atomic
from lmstack.pipelines.constitution.labels import PairLabel
from lmstack.pipelines.constitution.prompts import ReadPrompts, as_json
from lmstack.pipelines.constitution.stage import Items

__all__ = ["DatasetRows", "preference_rows", "sft_rows", "write_rows"]

_CUT = "cut off at its longest"


@dataclass
class DatasetRows:
    """``left_out``: items by why they are not among the ``rows``."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def reasons(self) -> str:
        return ", ".join(f"{number} {reason}" for reason, number in self.left_out.most_common())


def sft_rows(prompts: ReadPrompts, revisions: Items) -> DatasetRows:
    """A conversation for each prompt that has a whole revision, in the format ``chat``."""
    found = DatasetRows()
    for key, prompt in prompts.by_key.items():
        item = revisions.get(key)
        if item is None:
            found.left_out["no critique"] += 1
        elif "problem" in item:
            found.left_out["no revision"] += 1
        elif item["finish"] != "stop":
            found.left_out[_CUT] += 1
        else:
            answer = {"role": "assistant", "content": item["text"]}
            found.rows.append({"messages": [*as_json(prompt), answer], "key": key})
    return found


def preference_rows(
    prompts: ReadPrompts, answers: Items, labels: Mapping[str, PairLabel], least: float
) -> DatasetRows:
    """A row of the format ``preference`` for each pair with a label of at least the probability
    ``least``, which is kept beside it as ``probability``."""
    found = DatasetRows()
    for key, prompt in prompts.by_key.items():
        item, label = answers.get(key), labels.get(key)
        if item is None or "problem" in item:
            found.left_out["no two answers"] += 1
        elif item["texts"][0] == item["texts"][1]:
            found.left_out["twice the same answer"] += 1
        elif any(finish != "stop" for finish in item["finishes"]):
            found.left_out[_CUT] += 1
        elif label is None or label.probability is None or label.chosen is None:
            found.left_out["without a verdict"] += 1
        elif max(label.probability, 1 - label.probability) < least:
            found.left_out[f"below the probability {least:g}"] += 1
        else:
            sure = max(label.probability, 1 - label.probability)
            found.rows.append(
                {
                    "prompt": as_json(prompt),
                    "chosen": item["texts"][label.chosen],
                    "rejected": item["texts"][1 - label.chosen],
                    "probability": sure,
                    "key": key,
                }
            )
    return found


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """As JSON Lines, whole or not at all; a file that says the same is left as it is."""
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if not (path.is_file() and path.read_bytes() == data):
        write_atomic(path, data)
