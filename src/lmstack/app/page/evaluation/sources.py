"""Where each number comes from: protocol, data, digests, sampling, date, samples, failures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lmstack.app.page.document import text_of
from lmstack.app.page.evaluation.report import EvaluationReport, Model, TaskRow
from lmstack.app.page.evaluation.tables import metric_cell, table
from lmstack.evals.json_forms import digest_of
from lmstack.evals.results import TaskResult

__all__ = ["sampling_of", "source_of"]

_FAILURES = 20  # that are named


def source_of(report: EvaluationReport, row: TaskRow) -> str:
    """A part that opens: all figures of a task, and what they can be traced to."""
    first = row.first
    count = f"{len(first.samples):,} of {first.dataset_samples:,} samples"
    return (
        f'<details class="source" id="task-{row.number}"><summary><span class="line">'
        f'{text_of(row.label)}</span><span class="tag">version {first.version}</span>'
        f'<span class="tag">{count}</span></summary>\n{"".join(_parts(report, row))}</details>\n'
    )


def _parts(report: EvaluationReport, row: TaskRow) -> Iterator[str]:
    first = row.first
    models = [report.models[number] for number in row.results]
    if first.metrics:
        yield _figures(row, models)
    yield _facts(
        {
            "Data": f"{first.dataset}, from {first.source}",
            "Hash of the data": first.dataset_digest,
            "Sampling": _words(sampling_of(first.protocol)) or "none: likelihoods are scored",
            "Hash of the protocol": digest_of(dict(first.protocol), "the protocol"),
        }
    )
    text = json.dumps(first.protocol, ensure_ascii=False, indent=2)
    yield (
        "<details><summary>Protocol</summary>"
        f'<pre class="text" tabindex="0">{text_of(text, one_line=False)}</pre></details>\n'
    )
    for model in models:
        yield from _run(model, row.results[model.number])


def _figures(row: TaskRow, models: list[Model]) -> str:
    rows = []
    for metric in row.first.metrics:
        cells = [
            metric_cell(metric, row.results[model.number].figures()[metric.name])
            for model in models
        ]
        rows.append([text_of(metric.name), *cells])
    heads = ["Metric", *(text_of(model.label) for model in models)]
    return table(heads, rows, f"All figures of {row.label}")


def _run(model: Model, result: TaskResult) -> Iterator[str]:
    yield f"<h4>{text_of(model.label)}</h4>\n"
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    yield _facts(
        {
            "Digest of the model": result.subject_digest,
            "Digest of the result": result.digest,
            "Date": result.date,
            "Samples": f"{len(result.samples):,} of {result.dataset_samples:,}",
            "Failed": f"{len(result.failures):,}",
            "Versions": versions,
        }
    )
    if result.failures:
        named = "".join(
            f"<li>{text_of(each.id)}: {text_of(each.failed)}</li>"
            for each in result.failures[:_FAILURES]
        )
        more = len(result.failures) - _FAILURES
        yield f'<ul class="wrong">{named}{f"<li>{more:,} more</li>" if more > 0 else ""}</ul>\n'


def sampling_of(protocol: Any) -> dict[str, Any]:
    """What a protocol says of how answers are drawn, wherever in it: the first ``sampling``, and
    a ``seed`` beside it."""
    if isinstance(protocol, Mapping):
        if isinstance(protocol.get("sampling"), Mapping):
            found = dict(protocol["sampling"])
            return found | ({"seed": protocol["seed"]} if "seed" in protocol else {})
        inner = list(protocol.values())
    elif isinstance(protocol, list | tuple):
        inner = list(protocol)
    else:
        return {}
    return next(filter(None, map(sampling_of, inner)), {})


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {json.dumps(v, ensure_ascii=False)}" for k, v in values.items())


def _facts(values: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{name}</dt><dd>{text_of(value)}</dd>" for name, value in values.items())
    return f'<dl class="facts">{rows}</dl>\n'
