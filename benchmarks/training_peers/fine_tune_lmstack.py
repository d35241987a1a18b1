"""The same as `fine_tune.py` with lmstack: a recipe, and what the result predicts.

fine_tune_lmstack.py JOB.json
"""

from __future__ import annotations

import json
import pathlib
import sys
import time
from typing import Any

import numpy as np
import torch

import lmstack
from lmstack.registry import load
from lmstack.serve.tasks.encoder import TaskEncoder
from lmstack.train import Recipe, train
from lmstack.train.data.examples import IGNORED
from lmstack.train.data.rows import Row
from lmstack.train.objectives.objective import Reading
from lmstack.train.objectives.token_classification import TokenClassification


def recipe_of(job: dict[str, Any]) -> Recipe:
    """No evaluation on the way and one checkpoint at the end, as the peer has none."""
    key = "classes" if job["objective"] == "sequence-classification" else "tags"
    kept = ("max_length", "batch", "epochs", "lr", "warmup", "weight_decay", "precision", "seed")
    return Recipe.from_mapping(
        {
            "objective": {"name": job["objective"], key: job["labels"]},
            "base": job["base"],
            "data": job["train"],
            "validation": 0,
            "output": job["output"] + ".model",
            "run": job["output"] + ".run",
            "schedule": "linear",
            "final_lr": 0,
            "save_every": 1 << 30,
            **{name: job[name] for name in kept},
        }
    )


def labels_of(folder: pathlib.Path, rows: list[dict[str, Any]]) -> list[str]:
    task = lmstack.task("text-classification", str(folder))
    found = task([row["text"] for row in rows], truncate=True)
    return [each.labels[0].label for each in found]


def tags_of(folder: pathlib.Path, rows: list[dict[str, Any]], length: int) -> list[list[str]]:
    """The tag of each word's first token."""
    loaded = load(folder)
    objective = TokenClassification(loaded.labels)
    reading = Reading(loaded.tokenizer, None, length)
    module, found = TaskEncoder(loaded).module, []
    for row in rows:
        tags: list[str] = []
        for example in objective.encode(Row(row, ""), reading):
            (ids,), labels = example.sequences, example.labels
            assert labels is not None
            with torch.inference_mode():
                scores = module(torch.tensor(ids[None].astype(np.int64))).logits[0]
            tags += [
                loaded.labels[int(scores[i].argmax())] for i in np.flatnonzero(labels != IGNORED)
            ]
        found.append(tags)
    return found


def main() -> None:
    job = json.loads(pathlib.Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    wall, cpu = time.perf_counter(), time.process_time()
    folder = train(recipe_of(job)).folder
    seconds = {"wall": time.perf_counter() - wall, "processor": time.process_time() - cpu}
    rows = [json.loads(x) for x in pathlib.Path(job["test"]).read_text("utf-8").splitlines()]
    if job["objective"] == "sequence-classification":
        predicted: list[Any] = labels_of(folder, rows)
    else:
        predicted = tags_of(folder, rows, job["max_length"])
    pathlib.Path(job["output"]).write_text(json.dumps({**seconds, "predicted": predicted}))


if __name__ == "__main__":
    main()
