"""The gate over results in folders: a candidate's, and those of what is in production.

Not covered: running what is missing, aliases, and signing a verdict.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, InputError, shown
from lmstack.core.files import store_error
from lmstack.core.yaml_text import parse_yaml
from lmstack.evals.gate import GateComparison, GateConfig, GateDecision, TaskScores, decide
from lmstack.evals.gate.config import GateRule
from lmstack.evals.metrics import make_scorer
from lmstack.evals.metrics.calibration import calibration_metrics
from lmstack.evals.results import TaskResult
from lmstack.evals.task import Metric

__all__ = ["comparisons", "decided", "read_gate", "read_result", "task_scores"]

# Scorers with figures of a corpus.
_CORPUS = ("bleu", "chrf", "cited_answer", "multiple_choice", "pass_at_k", "perplexity", "usage")


def read_result(path: Path) -> TaskResult:
    """What `lmstack eval run --output` wrote."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(
            f"{shown(str(path))} cannot be read as a result: {error}",
            hint="give a file that `lmstack eval run --output FOLDER` wrote",
        ) from error
    return TaskResult.from_json(value, _metrics_of(value))


def _metrics_of(value: Any) -> list[Metric]:
    """Metrics of the file whose statistic no file can hold, as far as the package has them."""
    stated = value.get("metrics", ()) if isinstance(value, dict) else ()
    found = []
    for each in stated:
        if not isinstance(each, dict) or each.get("statistic") != "other":
            continue
        name, columns = each.get("name"), tuple(each.get("columns") or ())
        known = [m for scorer in _CORPUS for m in make_scorer(scorer).metrics]
        if len(columns) == 2:
            known += calibration_metrics(*columns)
        found += [m for m in known if (m.name, m.columns) == (name, columns)][:1]
    return found


def read_gate(rules: Path) -> GateConfig:
    """The rules of a YAML file."""
    try:
        text = rules.read_text(encoding="utf-8")
    except OSError as error:
        raise store_error(error, rules, "reading") from error
    return GateConfig.from_mapping(parse_yaml(text, str(rules)))


def decided(rules: Path, candidate: Path, base: Path | None) -> GateDecision:
    """The verdict by the rules of a YAML file. `InputError` where a rule's task is missing on a
    side, is not whole, has failures, or is not the same on both: nothing passes by what it lacks.
    """
    config = read_gate(rules)

    def theirs(rule: GateRule) -> TaskScores:
        if base is None:
            raise InputError(
                f"the rule for {rule.task} compares with what is in production",
                hint="--base FOLDER, with its results",
                param="base",
            )
        return _scores(rule, base)

    return decide(config, comparisons(config, lambda rule: _scores(rule, candidate), theirs))


def comparisons(
    config: GateConfig,
    candidate: Callable[[GateRule], TaskScores],
    production: Callable[[GateRule], TaskScores],
) -> list[GateComparison]:
    """One for each task and metric, whatever the number of rules for it, with the scores of
    ``production`` where any of them needs those."""
    found: dict[tuple[str, str], GateComparison] = {}
    for rule in config.rules:
        mine = candidate(rule)
        key = (mine.task, mine.metric.name)
        if rule.kind != "at_least":
            found[key] = GateComparison(mine, production(rule))
        else:
            found.setdefault(key, GateComparison(mine, None))
    return list(found.values())


def _scores(rule: GateRule, folder: Path) -> TaskScores:
    path = folder / f"{rule.task}.json"
    if not path.is_file():
        raise InputError(
            f"{shown(str(folder))} has no result of {rule.task}",
            hint=f"lmstack eval run {rule.task} --model MODEL --output {shlex.quote(str(folder))}",
            param="gate",
        )
    return task_scores(rule, read_result(path))


def task_scores(rule: GateRule, result: TaskResult) -> TaskScores:
    """What ``result`` says of ``rule``. `InputError` where samples failed or were left out."""
    result.check_complete(whole=True)
    metric = result.metric(rule.metric) if rule.metric else result.metrics[0]
    scored = result.scored(metric)
    protocol = json.dumps(result.protocol, sort_keys=True, ensure_ascii=False)
    return TaskScores(
        task=result.task,
        metric=metric,
        ids=tuple(sample.id for sample in scored),
        rows=result.rows_of(metric),
        protocol=f"sha256:{hashlib.sha256(protocol.encode()).hexdigest()}",
        data=result.dataset_digest,
        digest=result.subject_digest,
        clusters=tuple(sample.cluster for sample in scored),
    )
