"""Fine-tunes a classifier or a tagger with transformers' Trainer, as its own examples do
(run_glue.py, run_ner.py) with batches padded to their longest row, and says what it predicts.

    fine_tune.py JOB.json

Runs in the peers' environment, without lmstack. The clock runs from the loading of the base to the
trained model.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time
from typing import Any

import torch
import transformers
from datasets import Dataset
from transformers import AutoModelForSequenceClassification as Classifier
from transformers import AutoModelForTokenClassification as Tagger
from transformers import AutoTokenizer, Trainer, TrainingArguments

IGNORED = -100
Rows = list[dict[str, Any]]


def rows_of(path: str) -> Rows:
    return [json.loads(line) for line in pathlib.Path(path).read_text("utf-8").splitlines()]


def encoded(rows: Rows, job: dict[str, Any], tokenizer: Any) -> Rows:
    length, names = job["max_length"], job["labels"]
    if job["objective"] == "sequence-classification":
        found = tokenizer([row["text"] for row in rows], truncation=True, max_length=length)
        labels: list[Any] = [names.index(row["label"]) for row in rows]
    else:
        found = tokenizer(
            [row["tokens"] for row in rows],
            truncation=True,
            max_length=length,
            is_split_into_words=True,
        )
        labels = []
        for index, row in enumerate(rows):
            words, tags = found.word_ids(index), []
            for place, word in enumerate(words):
                is_first = word is not None and word not in words[:place]
                tags.append(names.index(row["tags"][word]) if is_first else IGNORED)
            labels.append(tags)
    ids = found["input_ids"]
    return [{"input_ids": i, "labels": label} for i, label in zip(ids, labels, strict=True)]


class Padded:
    """A batch as long as its longest row."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: Rows) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        ids = [row["input_ids"] + [self.pad] * (longest - len(row["input_ids"])) for row in rows]
        mask = [[int(n < len(row["input_ids"])) for n in range(longest)] for row in rows]
        labels = [row["labels"] for row in rows]
        if isinstance(labels[0], list):
            labels = [each + [IGNORED] * (longest - len(each)) for each in labels]
        found = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        return {name: torch.tensor(values) for name, values in found.items()}


def arguments(job: dict[str, Any], rows: int) -> TrainingArguments:
    steps = -(-rows // job["batch"]) * job["epochs"]
    return TrainingArguments(
        output_dir=job["output"] + ".run",
        num_train_epochs=job["epochs"],
        per_device_train_batch_size=job["batch"],
        per_device_eval_batch_size=job["batch"],
        learning_rate=job["lr"],
        warmup_steps=round(job["warmup"] * steps),
        lr_scheduler_type="linear",
        weight_decay=job["weight_decay"],
        bf16=job["precision"] == "bfloat16",
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_steps=10**9,
        seed=job["seed"],
    )


def main() -> None:
    job = json.loads(pathlib.Path(sys.argv[1]).read_text())
    transformers.set_seed(job["seed"])
    torch.set_num_threads(job["threads"])
    wall, cpu = time.perf_counter(), time.process_time()
    tokenizer = AutoTokenizer.from_pretrained(job["base"])
    kind = Classifier if job["objective"] == "sequence-classification" else Tagger
    model = kind.from_pretrained(job["base"], num_labels=len(job["labels"]))
    train, test = (encoded(rows_of(job[part]), job, tokenizer) for part in ("train", "test"))
    trainer = Trainer(
        model=model,
        args=arguments(job, len(train)),
        train_dataset=Dataset.from_list(train),
        data_collator=Padded(tokenizer.pad_token_id),
    )
    trainer.train()
    seconds = {"wall": time.perf_counter() - wall, "processor": time.process_time() - cpu}
    scores = trainer.predict(Dataset.from_list(test)).predictions.argmax(-1)
    if job["objective"] == "sequence-classification":
        predicted: list[Any] = [job["labels"][int(each)] for each in scores]
    else:
        predicted = [
            [job["labels"][int(s)] for s, wanted in zip(line, row["labels"], strict=False)
             if wanted != IGNORED]
            for line, row in zip(scores, test, strict=True)
        ]  # fmt: skip
    pathlib.Path(job["output"]).write_text(json.dumps({**seconds, "predicted": predicted}))


if __name__ == "__main__":
    main()
