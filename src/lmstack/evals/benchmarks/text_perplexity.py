"""The perplexity of texts by token, word and byte, and their bits per byte, as
lm-evaluation-harness has it for wikitext: rolling windows as long as the model reads.

Not covered: strided windows, and texts in parts, which a task file can ask for
(`lmstack.evals.task_file`).
"""

from __future__ import annotations

from pathlib import Path

from lmstack.evals.benchmarks.data_files import DataFile, file_text, json_rows, text_field
from lmstack.evals.dataset import Dataset, Sample
from lmstack.evals.likelihood_solvers import TargetLikelihood
from lmstack.evals.metrics import Perplexity
from lmstack.evals.task import Task

__all__ = ["text_perplexity", "text_samples"]


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
