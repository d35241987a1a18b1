"""lm-evaluation-harness's results (``results_*.json``) and samples (``samples_*.jsonl``), to and
from a result of one task.

Covers the samples' metrics that are numbers or pairs of numbers, their answers, versions, and
figures. A metric under several filters has a column for each
(``exact_match,strict-match``). Metrics of texts, which the harness sums up over the corpus (BLEU),
are left out and named in the protocol. A log of ours carries what the harness has no place for
(failures, clusters, tokens) in the task's ``metadata`` and in each sample, so that it is read back
as it was. The subject's digest is ``name:...``, that of the data is made of the harness's hashes.
Not covered: groups of tasks.

Read in lm-evaluation-harness's code: evaluator.py, loggers/evaluation_tracker.py.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lmstack.core import FormatError, InputError, shown
from lmstack.core.files import write_atomic
from lmstack.evals.json_forms import digest_of, number_from_json, number_to_json
from lmstack.evals.logs.log_json import OWN, field_of, read_json, read_text, write_json
from lmstack.evals.results import ANSWER_CHARS, SampleResult, TaskResult
from lmstack.evals.statistics import mean_of
from lmstack.evals.task import Metric

__all__ = ["from_lm_eval", "read_lm_eval_log", "read_samples", "to_lm_eval", "write_lm_eval_log"]

_OWN_FIELDS = [
    "doc_id",
    "doc",
    "target",
    "arguments",
    "resps",
    "filtered_resps",
    "filter",
    "metrics",
    "doc_hash",
    "prompt_hash",
    "target_hash",
]


def read_lm_eval_log(
    results: str | Path, samples: str | Path, task: str | None = None
) -> TaskResult:
    """Of ``task``, which may be left out where there is one."""
    file = Path(results)
    return from_lm_eval(read_json(read_text(file), str(file)), read_samples(samples), task)


def read_samples(path: str | Path) -> list[Any]:
    """The lines of a file of samples."""
    file = Path(path)
    return [
        read_json(line, f"{file}:{number}")
        for number, line in enumerate(read_text(file).split("\n"), 1)
        if line.strip()
    ]


def write_lm_eval_log(result: TaskResult, folder: str | Path) -> tuple[Path, Path]:
    """Where the results and the samples were written, named as the harness names them."""
    stamp = result.date.replace(":", "-").removesuffix("Z")
    results = Path(folder) / f"results_{stamp}.json"
    samples = Path(folder) / f"samples_{result.file_stem}_{stamp}.jsonl"
    found, rows = to_lm_eval(result)
    write_json(results, found)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(samples, text.encode())
    return results, samples


def to_lm_eval(result: TaskResult) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The results and the samples. Samples that failed are in the results' ``metadata`` alone: the
    harness would count them as scored."""
    own = result.to_json()
    rows, own["samples"] = own["samples"], []
    own["order"] = [row["id"] for row in rows]
    own["failed"] = [row for row in rows if row["failed"]]
    figures = result.figures()
    values: dict[str, Any] = {"alias": result.task}
    for metric in result.metrics:
        values[f"{metric.name},none"] = figures[metric.name].value
        values[f"{metric.name}_stderr,none"] = _standard_error(result, metric)
    count = len(rows) - len(own["failed"])
    found = {
        "results": {result.task: values},
        "group_subtasks": {result.task: []},
        "configs": {
            result.task: {
                "task": result.task,
                "metadata": {"version": float(result.version), OWN: own},
            }
        },
        "versions": {result.task: float(result.version)},
        "n-shot": {result.task: _shots(result.protocol)},
        "higher_is_better": {
            result.task: {metric.name: metric.better == "higher" for metric in result.metrics}
        },
        "n-samples": {result.task: {"original": result.dataset_samples, "effective": count}},
        "config": {"model": "lmstack", "model_args": f"model={result.subject}", "limit": None},
        "git_hash": None,
        "date": _unix(result.date),
        "model_source": "lmstack",
        "model_name": result.subject,
        "total_evaluation_time_seconds": str(result.seconds),
    }
    samples = [_line(place, row) for place, row in enumerate(rows) if not row["failed"]]
    return found, samples


def _line(place: int, row: Mapping[str, Any]) -> dict[str, Any]:
    doc = {"id": row["id"], "cluster": row["cluster"]}
    scores = {name: float(value) for name, value in row["scores"].items()}
    answer = [row["answer"]]
    return {
        "doc_id": place,
        "doc": doc,
        "target": "",
        "arguments": {"gen_args_0": {"arg_0": ""}},
        "resps": [answer],
        "filtered_resps": answer,
        "filter": "none",
        "metrics": list(scores),
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(""),
        "target_hash": _hash(""),
        **scores,
        OWN: {**row, "scores": {}},
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _standard_error(result: TaskResult, metric: Metric) -> float | str:
    """Of a mean, as the harness has it: samples taken as independent."""
    values = result.rows_of(metric)[:, 0]
    if metric.statistic is not mean_of or len(values) < 2:
        return "N/A"
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def _shots(protocol: Mapping[str, Any]) -> int:
    solver = protocol.get("solver", {})
    shots = solver.get("shots") if isinstance(solver, dict) else None
    return int(shots.get("count", 0)) if isinstance(shots, dict) else 0


def _unix(date: str) -> float:
    return datetime.fromisoformat(date).timestamp()


def from_lm_eval(results: Any, samples: Sequence[Any], task: str | None = None) -> TaskResult:
    """`FormatError` where these are no results and samples of the harness; `InputError` for a
    ``task`` that is not in them."""
    if not isinstance(results, dict) or not isinstance(results.get("results"), dict):
        raise FormatError(f"these are no results of lm-evaluation-harness: {shown(results)}")
    name = _task(results["results"], task)
    config = field_of(field_of(results, "configs", dict, {}), name, dict, {})
    metadata = config.get("metadata")
    own = metadata.get(OWN) if isinstance(metadata, dict) else None
    if isinstance(own, dict):
        return _own(own, samples)
    if not samples:
        raise FormatError(
            f"there are no samples of {name}", hint="have the harness log its samples, too"
        )
    lines = _by_document(samples)
    several = len({_filter(line) for parts in lines.values() for line in parts}) > 1
    rows, left_out = [], set()
    for number, parts in lines.items():
        scores, skipped = _scores(parts, several)
        left_out |= skipped
        rows.append(_row(str(number), parts[0], scores))
    hashes = [_document(number, parts[0]) for number, parts in lines.items()]
    counts = field_of(field_of(results, "n-samples", dict, {}), name, dict, {})
    model = field_of(results, "model_name", str, "") or str(
        field_of(results, "config", dict, {}).get("model_args", "unknown")
    )
    return TaskResult(
        task=name,
        version=int(float(field_of(results, "versions", dict, {}).get(name) or 0)),
        protocol=_protocol(results, name, config, sorted(left_out)),
        dataset=str(config.get("dataset_name") or config.get("dataset_path") or name),
        dataset_digest=digest_of(hashes, "the samples of the log"),
        source=str(config.get("dataset_path") or "unknown"),
        dataset_samples=max(len(rows), field_of(counts, "original", int, 0)),
        subject=model,
        subject_digest=f"name:{model}",
        metrics=_metrics(rows, field_of(results, "higher_is_better", dict, {}).get(name)),
        samples=tuple(rows),
        date=_date(results.get("date")),
        versions={
            key.removesuffix("_version"): str(value)
            for key, value in results.items()
            if key in ("lm_eval_version", "transformers_version") and value
        },
        seconds=float(results.get("total_evaluation_time_seconds") or 0.0),
    )


def _task(results: Mapping[str, Any], task: str | None) -> str:
    if task is None and len(results) == 1:
        return next(iter(results))
    if task is None or task not in results:
        said = "no task is named" if task is None else f"there are no results of {shown(task)}"
        raise InputError(said, hint=f"there are {', '.join(results)}", param="task")
    return task


def _own(own: Mapping[str, Any], samples: Sequence[Any]) -> TaskResult:
    """A result that `to_lm_eval` wrote."""
    data = dict(own)
    order = data.pop("order", [])
    rows = {row["id"]: row for row in data.pop("failed", [])}
    for line in samples:
        row = field_of(line, OWN, dict)
        names = field_of(line, "metrics", list)
        scores = {name: number_to_json(number_from_json(line.get(name), name)) for name in names}
        rows[row.get("id")] = {**row, "scores": scores}
    if set(order) != set(rows):
        raise FormatError(f"the log has {len(rows)} of its {len(order)} samples")
    return TaskResult.from_json({**data, "samples": [rows[each] for each in order]})


def _by_document(samples: Iterable[Any]) -> dict[int, list[dict[str, Any]]]:
    """The lines of each document, one for each filter, in the order of documents."""
    found: dict[int, list[dict[str, Any]]] = {}
    for line in samples:
        found.setdefault(field_of(line, "doc_id", int), []).append(line)
    return dict(sorted(found.items()))


def _filter(line: Mapping[str, Any]) -> str:
    return field_of(dict(line), "filter", str, "none")


def _scores(parts: Sequence[Mapping[str, Any]], several: bool) -> tuple[dict[str, float], set[str]]:
    """The numbers of a document, and the metrics that are none."""
    found: dict[str, float] = {}
    skipped = set()
    for line in parts:
        after = f",{_filter(line)}" if several else ""
        names = line.get("metrics")
        if not isinstance(names, list):  # of a harness that did not name them
            names = [name for name in line if name not in _OWN_FIELDS]
        for name in names:
            value = line.get(name)
            numbers: dict[str, Any] = {}
            if isinstance(value, list) and all(isinstance(v, int | float) for v in value):
                numbers = {f"{name}.{place}": each for place, each in enumerate(value)}
            elif isinstance(value, bool | int | float):
                numbers = {name: value}
            if not numbers:
                skipped.add(name)
            found.update({f"{key}{after}": float(each) for key, each in numbers.items()})
    return found, skipped


def _row(name: str, line: Mapping[str, Any], scores: dict[str, float]) -> SampleResult:
    answers = line.get("filtered_resps")
    answer = answers[0] if isinstance(answers, list) and answers else ""
    text = answer if isinstance(answer, str) else ""
    failed = "" if scores else "no metric of it is a number"
    return SampleResult(name, "", scores, failed, text[:ANSWER_CHARS])


def _document(number: int, line: Mapping[str, Any]) -> list[Any]:
    """What tells a document from others: the harness's hashes, or the document itself."""
    if "doc_hash" in line:
        return [number, line["doc_hash"], line.get("target_hash")]
    return [number, line.get("doc"), line.get("target")]


def _protocol(
    results: Mapping[str, Any], name: str, config: Mapping[str, Any], left_out: list[str]
) -> dict[str, Any]:
    """All that decides prompts and scores; nothing of the model, whose arguments the harness also
    keeps in ``metadata``."""
    run = field_of(dict(results), "config", dict, {})
    return {
        "imported_from": "lm-evaluation-harness",
        "task": name,
        "version": results.get("versions", {}).get(name),
        "config": {key: value for key, value in config.items() if key != "metadata"},
        "shots": results.get("n-shot", {}).get(name),
        "gen_kwargs": run.get("gen_kwargs"),
        "is_chat": bool(results.get("chat_template")),
        "system_instruction": results.get("system_instruction_sha"),
        "fewshot_as_multiturn": results.get("fewshot_as_multiturn"),
        "left_out": left_out,
    }


def _metrics(rows: Sequence[SampleResult], higher: Any) -> tuple[Metric, ...]:
    """The mean of each number; of a pair there is none that is known here."""
    better = higher if isinstance(higher, dict) else {}
    names = dict.fromkeys(name for row in rows for name in row.scores)
    found = []
    for name in names:
        plain = name.partition(",")[0]
        if plain.rpartition(".")[2].isdigit():
            continue
        values = [row.scores[name] for row in rows if name in row.scores]
        is_share = all(0 <= value <= 1 for value in values if not math.isnan(value))
        order: Literal["lower", "higher"] = "lower" if better.get(plain) is False else "higher"
        found.append(Metric(name, (name,), better=order, is_share=is_share))
    return tuple(found)


def _date(value: Any) -> str:
    if not isinstance(value, int | float):
        return ""
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
