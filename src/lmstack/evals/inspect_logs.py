"""inspect_ai's evaluation log as JSON (its format version 2), to and from a result.

Covers identity, data, samples with their scores, errors, tokens and times, and the figures. What a
result has no place for is not read: messages, events, attachments of events. A log of ours carries
what inspect_ai has no place for in ``eval.metadata``, so that it is read back as it was. NaN is
allowed, as Python writes it. Scores are numbers as inspect_ai's metrics see them: C, I, P and N are
1, 0, ½ and 0. Epochs of a sample are samples that share a cluster. Logs say no digest of a model:
the subject's is ``name:...``, that of the data is made of the samples. Not covered: the binary
``.eval`` files, and what is printed.

Read in inspect_ai's code: log/_log.py, scorer/_metric.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from lmstack.core import FormatError, InputError, LmstackError, NotFoundError, shown
from lmstack.core.files import store_error, write_atomic
from lmstack.evals.benchmarks import BENCHMARKS
from lmstack.evals.json_forms import digest_of
from lmstack.evals.results import ANSWER_CHARS, SampleResult, TaskResult
from lmstack.evals.task import Dataset, Metric, Sample
from lmstack.evals.task_data import dataset_named, kept, made, task_named

__all__ = [
    "OWN",
    "exported",
    "field_of",
    "from_inspect",
    "imported",
    "read_inspect_log",
    "read_json",
    "read_text",
    "to_inspect",
    "write_inspect_log",
    "write_json",
]

VERSION = 2
_VALUES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_TO_STOP = {"length": "max_tokens", "": "unknown"}
_FROM_STOP = {stop: reason for reason, stop in _TO_STOP.items()}
# Under this name a log of ours carries what the other program's format has no place for.
OWN = "lmstack"
MAX_BYTES = 2 << 30
T = TypeVar("T")


def read_inspect_log(path: str | Path) -> TaskResult:
    file = Path(path)
    if file.suffix == ".eval":
        raise FormatError(
            f"{file} is a binary log of inspect_ai",
            hint="have inspect convert it to JSON, and give that file",
        )
    return from_inspect(read_json(read_text(file), str(file)))


def write_inspect_log(
    result: TaskResult, folder: str | Path, dataset: Dataset | None = None
) -> Path:
    """The log that was written in ``folder``, named as inspect_ai names its own."""
    stamp = result.date.replace(":", "-").replace("Z", "+00-00")
    digest = result.digest.removeprefix("sha256:")[:8]
    path = Path(folder) / f"{stamp}_{result.file_stem}_{digest}.json"
    write_json(path, to_inspect(result, dataset))
    return path


def to_inspect(result: TaskResult, dataset: Dataset | None = None) -> dict[str, Any]:
    """``dataset``: for the inputs and targets of samples, which a result does not hold."""
    inputs = {each.id: each for each in dataset.samples} if dataset is not None else {}
    own = result.to_json()
    del own["samples"]
    solver = result.protocol.get("solver")
    said = solver if isinstance(solver, dict) else {}
    figures = result.figures()
    metrics = {
        name: {"name": name, "value": value.value, "params": {}} for name, value in figures.items()
    }
    return {
        "version": VERSION,
        "status": "success",
        "eval": {
            "run_id": result.digest.removeprefix("sha256:")[:22],
            "created": _utc(result.date),
            "task": result.task,
            "task_id": result.task,
            "task_version": result.version,
            "dataset": {
                "name": result.dataset,
                "location": result.source,
                "samples": result.dataset_samples,
                "sample_ids": [sample.id for sample in result.samples],
                "shuffled": False,
            },
            "model": result.subject,
            "config": {"limit": len(result.samples), "epochs": 1},
            "packages": dict(result.versions),
            "metadata": {OWN: own},
        },
        "plan": {
            "name": "plan",
            "steps": [{"solver": str(said.get("solver", "solver")), "params": said}],
            "config": {},
        },
        "results": {
            "total_samples": len(result.samples),
            "completed_samples": len(result.samples) - len(result.failures),
            "scores": [{"name": OWN, "scorer": OWN, "params": {}, "metrics": metrics}],
        },
        "stats": {
            "started_at": "",
            "completed_at": _utc(result.date),
            "model_usage": {result.subject: _usage(result.prompt_tokens, result.completion_tokens)},
        },
        "samples": [
            _sample_to_log(each, result.subject, inputs.get(each.id)) for each in result.samples
        ],
    }


def _sample_to_log(row: SampleResult, model: str, sample: Sample | None) -> dict[str, Any]:
    asked: Any = "" if sample is None else sample.to_json()["input"]
    found: dict[str, Any] = {
        "id": row.id,
        "epoch": 1,
        "input": asked,
        "target": [] if sample is None else list(sample.targets),
        "messages": [],
        "output": {
            "model": model,
            "choices": [
                {
                    "message": {"role": "assistant", "content": row.answer, "source": "generate"},
                    "stop_reason": _TO_STOP.get(row.finish_reason, row.finish_reason),
                }
            ],
        },
        "scores": {name: {"value": value} for name, value in row.scores.items()},
        "metadata": {"cluster": row.cluster} if row.cluster else {},
        "model_usage": {model: _usage(row.prompt_tokens, row.completion_tokens)},
        "total_time": row.seconds,
    }
    if sample is not None and sample.choices:
        found["choices"] = list(sample.choices)
    if row.failed:
        found["error"] = {"message": row.failed, "traceback": "", "traceback_ansi": ""}
    return found


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {
        "input_tokens": prompt,
        "output_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _utc(date: str) -> str:
    return date[:-1] + "+00:00" if date.endswith("Z") else date


def from_inspect(log: Any) -> TaskResult:
    """`FormatError` where ``log`` is no such log, has no samples, or has scores that are no
    numbers."""
    if not isinstance(log, dict) or "eval" not in log or "status" not in log:
        raise FormatError(f"this is no log of inspect_ai: {shown(log)}")
    if log.get("version") != VERSION:
        raise FormatError(
            f"the log has the format version {shown(log.get('version'))}; {VERSION} is read",
            hint="have a newer inspect convert it",
        )
    spec = field_of(log, "eval", dict)
    logged = field_of(log, "samples", list, [])
    if not logged:
        raise FormatError("the log has no samples, only its header", hint="give the whole log")
    epochs = field_of(field_of(spec, "config", dict, {}), "epochs", int, 1)
    rows = [_sample_from_log(each, epochs) for each in logged]
    own = field_of(spec, "metadata", dict, {}).get(OWN)
    if own is not None:
        data = own if isinstance(own, dict) else {}
        return TaskResult.from_json({**data, "samples": [row.to_json() for row in rows]})
    data = field_of(spec, "dataset", dict)
    version = spec.get("task_version", 0)
    return TaskResult(
        task=field_of(spec, "task", str),
        version=version if isinstance(version, int) else 0,
        protocol=_protocol(log, spec, epochs),
        dataset=field_of(data, "name", str, "dataset"),
        dataset_digest=digest_of([_asked(each) for each in logged], "the samples of the log"),
        source=field_of(data, "location", str, "unknown"),
        dataset_samples=max(len(rows), epochs * field_of(data, "samples", int, 0)),
        subject=field_of(spec, "model", str),
        subject_digest=f"name:{spec['model']}",
        metrics=_metrics(rows),
        samples=tuple(rows),
        date=field_of(spec, "created", str),
        versions={k: str(v) for k, v in field_of(spec, "packages", dict, {}).items()},
    )


def _protocol(log: Mapping[str, Any], spec: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """All that decides prompts and scores, as far as the log says it."""
    plan = field_of(log, "plan", dict, {})
    return {
        "imported_from": "inspect_ai",
        "task": spec.get("task"),
        "version": spec.get("task_version"),
        "arguments": spec.get("task_args"),
        "solver": plan.get("steps"),
        "config": plan.get("config"),
        "scorers": spec.get("scorers"),
        "epochs": epochs,
    }


def _sample_from_log(sample: Any, epochs: int) -> SampleResult:
    epoch = field_of(sample, "epoch", int, 1)
    name = sample.get("id")
    if isinstance(name, bool) or not isinstance(name, int | str) or name == "":
        raise FormatError(f"the id of a sample of the log is {shown(name)}")
    name = str(name)
    error = field_of(sample, "error", dict, {})
    scores = {}
    for scorer, score in field_of(sample, "scores", dict, {}).items():
        scores.update(_numbers(scorer, score.get("value") if isinstance(score, dict) else score))
    failed = field_of(error, "message", str, "an error") if error else ""
    if not scores and not failed:
        failed = "not scored"
    usage = list(field_of(sample, "model_usage", dict, {}).values())
    answer, stop = _answer(sample)
    cluster = field_of(field_of(sample, "metadata", dict, {}), "cluster", str, "")
    return SampleResult(
        id=name if epochs == 1 else f"{name}#{epoch}",
        cluster=cluster if epochs == 1 else name,
        scores={} if failed else scores,
        failed=failed,
        answer=answer[:ANSWER_CHARS],
        finish_reason=_FROM_STOP.get(stop, stop),
        prompt_tokens=sum(field_of(each, "input_tokens", int, 0) for each in usage),
        completion_tokens=sum(field_of(each, "output_tokens", int, 0) for each in usage),
        seconds=field_of(sample, "total_time", float, 0.0),
    )


def _answer(sample: Mapping[str, Any]) -> tuple[str, str]:
    choices = field_of(field_of(sample, "output", dict, {}), "choices", list, [])
    if not choices:
        return "", "unknown"
    text = _text(field_of(field_of(choices[0], "message", dict), "content", object, ""))
    if text.startswith("attachment://"):
        kept = field_of(sample, "attachments", dict, {})
        text = str(kept.get(text.removeprefix("attachment://"), text))
    return text, field_of(choices[0], "stop_reason", str, "unknown")


def _text(content: Any) -> str:
    """Of a message: text, or parts of which some are text."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def _asked(sample: Mapping[str, Any]) -> list[Any]:
    """What a sample asks, without the ids of messages, which are others in each run."""
    asked = sample.get("input")
    if isinstance(asked, list):
        turns = [turn if isinstance(turn, dict) else {} for turn in asked]
        asked = [[turn.get("role"), _text(turn.get("content"))] for turn in turns]
    ids = [sample.get("id"), sample.get("epoch")]
    return [*ids, asked, sample.get("target"), sample.get("choices")]


def _numbers(name: str, value: Any) -> dict[str, float]:
    """A score's value as inspect_ai's ``value_to_float`` has it; parts of an object or a list
    have the name with their own after it."""
    if isinstance(value, dict):
        parts = {f"{name}.{key}": each for key, each in value.items()}
    elif isinstance(value, list):
        parts = {f"{name}.{place}": each for place, each in enumerate(value)}
    else:
        parts = {name: value}
    return {part: _number(part, each) for part, each in parts.items()}


def _number(name: str, value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool | int | float):
        return float(value)
    if value in _VALUES:
        return _VALUES[value]
    if isinstance(value, str) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    try:
        return float(value)
    except (TypeError, ValueError):
        raise FormatError(
            f"the score {name} is {shown(value)}, which is no number",
            hint="numbers, true and false, and C, I, P, N are read",
        ) from None


def _metrics(rows: list[SampleResult]) -> tuple[Metric, ...]:
    """The mean of each score."""
    names = dict.fromkeys(name for row in rows for name in row.scores)
    found = []
    for name in names:
        values = [row.scores[name] for row in rows if name in row.scores]
        is_share = all(0 <= value <= 1 for value in values if not math.isnan(value))
        found.append(Metric(name, (name,), is_share=is_share))
    return tuple(found)


def field_of(data: Any, name: str, kind: type[T], default: T | None = None) -> T:
    """The field ``name`` of the object ``data``; ``default`` where it is missing or null."""
    if not isinstance(data, dict):
        raise FormatError(f"the log has {shown(data)} where an object with {name!r} should be")
    value = data.get(name)
    if value is None and default is not None:
        return default
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return cast(T, float(value))
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise FormatError(f"{name} of the log is {shown(value)}, not {kind.__name__}")
    return value


def read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise FormatError(f"{path} has more than {MAX_BYTES:,} bytes")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"there is no log {path}", hint="check the path") from None
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not JSON text (byte {error.start})") from error
    except OSError as error:
        raise store_error(error, path, "reading") from error


def read_json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{place} is not JSON: {error}") from error


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False).encode())


def imported(logs: Sequence[Path], folder: Path) -> list[TaskResult]:
    """The results in ``logs``, kept in ``folder`` as `lmstack eval run --output` keeps them.
    Nothing is written where one of the logs cannot be read."""
    found = [read_inspect_log(log) for log in logs]
    names = [result.file_stem for result in found]
    for result in found:
        if names.count(result.file_stem) > 1:
            raise InputError(
                f"two of the logs are of {result.task}, and a folder holds one result of a task",
                hint="import them one at a time, each into a folder of its own",
                param="logs",
            )
    kept(found, folder)
    return found


def exported(result: TaskResult, folder: Path, task: str | None) -> tuple[Path, bool]:
    """The file that was written, and whether it holds the questions. ``task``: whose questions
    they are; None: of the benchmark that the result is of, if its data are here."""
    dataset = _questions(result, task)
    return write_inspect_log(result, made(folder), dataset), dataset is not None


def _questions(result: TaskResult, task: str | None) -> Dataset | None:
    """`InputError` where those of ``task`` are others than those that were asked."""
    if task is None and result.task not in BENCHMARKS:
        return None
    try:
        found = task_named(result.task, {}).dataset if task is None else dataset_named(task)
    except LmstackError:
        if task is not None:
            raise
        return None
    if found.digest == result.dataset_digest:
        return found
    if task is None:
        return None
    raise InputError(
        f"the questions of {task} are {found.digest[:19]}, and {result.task} was asked"
        f" {result.dataset_digest[:19]}",
        hint="give the task as it was when it was run",
        param="task",
    )
