"""An index that was not brought up to date, before the gate of an index that was.

Passages of BoolQ are the documents and its questions the queries, each answered by its own passage.
The stale index was made before the last fifth of the documents came. Not covered: models, which
are in `regressions.py`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmstack.app.wiring import DEFAULT_EMBEDDER
from lmstack.core import Embedder
from lmstack.evals.benchmarks import PACKAGES
from lmstack.evals.gate import (
    GateComparison,
    GateConfig,
    GateDecision,
    GateRule,
    TaskScores,
    decide,
)
from lmstack.evals.metrics.retrieval import Retrieval
from lmstack.evals.task import Dataset, ModelOutput, Sample
from lmstack.evals.task_data import fetch
from lmstack.rag import Index, RetrievalConfig, Retriever
from lmstack.serve import LocalEmbedder

__all__ = ["boolq_passages", "gated", "stale_index"]

DOCUMENTS, QUICK_DOCUMENTS, LATEST = 300, 30, 5
MARGIN = 0.03
SCORER = Retrieval()
METRIC = next(metric for metric in SCORER.metrics if metric.name == "ndcg@10")


def stale_index(*, quick: bool = False) -> dict[str, Any]:
    """The verdict on the stale index, its reasons and figures."""
    passages, samples = boolq_passages(QUICK_DOCUMENTS if quick else DOCUMENTS)
    decision = gated(passages, samples, LocalEmbedder.load(DEFAULT_EMBEDDER))
    (result,) = decision.results
    assert result.comparison.baseline is not None
    found = {
        "rule": result.title,
        "outcome": result.outcome,
        "base": result.comparison.baseline.value,
        "candidate": result.comparison.candidate.value,
        "gain": result.value,
        "interval": list(result.interval),
        "margin": MARGIN,
    }
    return {"verdict": decision.verdict, "reasons": list(decision.reasons), "rules": [found]}


def gated(passages: Sequence[str], samples: Sequence[Sample], embedder: Embedder) -> GateDecision:
    """The stale index as the candidate; one of all ``passages`` is in production. Targets of
    ``samples``: N.txt for the passage at place N."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "documents"
        folder.mkdir()
        early = len(passages) - len(passages) // LATEST
        sides = []
        for name, first, last in (("stale", 0, early), ("current", early, len(passages))):
            for number in range(first, last):
                (folder / f"{number}.txt").write_text(passages[number], "utf-8")
            with Index.open(Path(scratch) / name, embedder) as index:
                index.update([folder])
                sides.append(_scores(index, samples))
    rule = GateRule("passages", metric=METRIC.name, margin=MARGIN)
    return decide(GateConfig((rule,)), [GateComparison(*sides)])


def boolq_passages(count: int) -> tuple[list[str], tuple[Sample, ...]]:
    """The first passages, and the questions about them with the file that answers each."""
    lines = fetch(PACKAGES["boolq"]).read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    passages = list(dict.fromkeys(row["passage"] for row in rows))[:count]
    places = {passage: place for place, passage in enumerate(passages)}
    asked = [row for row in rows if row["passage"] in places]
    return passages, tuple(
        Sample(
            str(number),
            row["question"],
            (f"{places[row['passage']]}.txt",),
            cluster=str(places[row["passage"]]),
        )
        for number, row in enumerate(asked)
    )


def _scores(index: Index, samples: Sequence[Sample]) -> TaskScores:
    retriever = Retriever(index, RetrievalConfig(versions="as_found", duplicates=None))
    rows = []
    for sample in samples:
        hits = retriever.search(sample.text, 10).hits
        ranking = list(dict.fromkeys(Path(hit.path).name for hit in hits))
        rows.append(SCORER.score(sample, ModelOutput(facts={"ranking": ranking}))[METRIC.name])
    return TaskScores(
        "passages",
        METRIC,
        tuple(sample.id for sample in samples),
        rows,
        "hybrid search, ten passages",
        Dataset("passages", tuple(samples), "passages").digest,
        index.content_digest(),
        tuple(sample.cluster for sample in samples),
    )
