"""Task files for systems: what of them differs from the tasks for models (`task_file`).

    name: handbook
    data: questions.jsonl         # {"question", "answers", "evidence" or "sources", "answerable"}
    index: {docs: handbook}       # what is evaluated

    name: prices
    data: prices.jsonl            # {"task", "answers", "tools"}
    agent: {files: [data], python: true, steps: 8}

``index`` and ``agent`` say what is evaluated, not how: they are no part of the protocol, so that
results of two indexes, or of two settings, are compared on the same task. Not covered: what stands
in them, which whoever opens indexes and agents knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lmstack.core import InputError, shown
from lmstack.core.files import store_error
from lmstack.core.yaml_text import parse_yaml
from lmstack.evals.dataset import Sample
from lmstack.evals.metrics import CitedAnswer, CitedGold, Combined, MetricScorer
from lmstack.evals.task import Metric

__all__ = [
    "SYSTEMS",
    "System",
    "applicable",
    "question_metadata",
    "system_in",
    "with_usual_settings",
]

System = Literal["index", "agent"]
SYSTEMS: tuple[System, ...] = ("index", "agent")
_USUAL: Mapping[System, Mapping[str, Any]] = {
    "index": {"input": "{{question}}", "targets": "answers", "scorer": ["cited_answer", "usage"]},
    "agent": {"input": "{{task}}", "targets": "answers", "scorer": ["agent_run", "usage"]},
}


def with_usual_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a task file without what is evaluated, and with what is usual for it."""
    kind = _kind(values)
    rest = {key: value for key, value in values.items() if key not in SYSTEMS}
    return rest if kind is None else {**_USUAL[kind], "solver": kind, **rest}


def system_in(path: Path) -> tuple[System, Mapping[str, Any]] | None:
    """What the task file at ``path`` evaluates: an index or an agent, with its settings; None
    where that is a model."""
    try:
        values = parse_yaml(path.read_text(encoding="utf-8-sig"), str(path))
    except OSError as error:
        raise store_error(error, path, "reading") from error
    kind = _kind(values) if isinstance(values, Mapping) else None
    if kind is None:
        return None
    settings = values.get(kind)
    settings = {} if settings is None else settings
    if kind == "index" and isinstance(settings, str):
        settings = {"path": settings}
    if not isinstance(settings, Mapping):
        raise InputError(
            f"{path}: {kind} is {shown(settings)}, not a mapping of settings",
            hint="index: {docs: FOLDER}" if kind == "index" else "agent: {python: true}",
            param=kind,
        )
    return kind, settings


def _kind(values: Mapping[str, Any]) -> System | None:
    """By what the file has, or by its solver."""
    solver = values.get("solver")
    named = [kind for kind in SYSTEMS if kind in values or solver == kind]
    if not named:
        return None
    if len(named) > 1 or solver not in (None, *named):
        raise InputError(
            f"the task has {' and '.join(named)}"
            + ("" if solver is None else f", and the solver {shown(solver)}"),
            hint="a task is for an index, for an agent, or for a model",
            param="solver",
        )
    return named[0]


def question_metadata(row: Mapping[str, Any], answers: str) -> dict[str, Any]:
    """Of the sample of a question: what is known of its answer."""
    return {"gold": CitedGold.of_row(row, answers or "answers").to_json()}


def applicable(
    scorer: MetricScorer, samples: Sequence[Sample], *, faithfulness: bool
) -> tuple[Metric, ...]:
    """The metrics of ``scorer`` that some of ``samples`` can have. ``faithfulness``: whether
    likelihoods are asked for."""
    found: list[Metric] = []
    for each in scorer.scorers if isinstance(scorer, Combined) else (scorer,):
        found += each.metrics_for(samples) if isinstance(each, CitedAnswer) else each.metrics
    return tuple(each for each in found if faithfulness or each.name != "faithfulness")
