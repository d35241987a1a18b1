"""The report of an evaluation, from files of results and the rules of a gate.

A file that cannot be read stops it: a page that left something out in silence would mislead. A
model on which the gate cannot decide has the reason in place of a verdict. Not covered: what the
page looks like (`app.page.evaluation`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lmstack.app.page.evaluation import EvaluationReport, report_of
from lmstack.core import FormatError, InputError, LmstackError, shown
from lmstack.evals.gate import GateConfig, GateDecision, GateRule, TaskScores, decide
from lmstack.evals.gating import comparisons, read_gate, read_result, task_scores
from lmstack.evals.results import TaskResult

__all__ = ["made_report", "result_files"]


def result_files(paths: Sequence[Path]) -> list[Path]:
    """Each file once: those that are given, and every ``.json`` of a folder. `InputError` for what
    is not there, and for a folder without any."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(each for each in path.glob("*.json") if each.is_file())
            if not inside:
                raise InputError(
                    f"the folder {shown(str(path))} has no results",
                    hint="lmstack eval run TASK --output FOLDER",
                    param="results",
                )
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(
                f"there is no file {shown(str(path))}",
                hint="give a result, or a folder of results, of `lmstack eval run --output`",
                param="results",
            )
    return list(dict.fromkeys(found))


def made_report(
    results: Sequence[Path],
    base: Path | None = None,
    gate: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvaluationReport:
    """``results``: files and folders. ``base``: a folder, or a file. ``gate``: a YAML file.
    ``on_progress``: told how many files were read, of how many."""
    config = None if gate is None else read_gate(gate)
    of_base = [] if base is None else result_files([base])
    others = [each for each in result_files(results) if each not in of_base]
    total = len(of_base) + len(others)
    read: list[TaskResult] = []
    for path in [*of_base, *others]:
        read.append(_read(path))
        if on_progress is not None:
            on_progress(len(read), total)
    base_results, rest = read[: len(of_base)], read[len(of_base) :]
    decisions = {} if config is None else _decisions(config, rest, base_results)
    return report_of(rest, base_results, decisions)


def _read(path: Path) -> TaskResult:
    try:
        return read_result(path)
    except FormatError as error:
        if str(path) in error.message:
            raise
        raise FormatError(f"{shown(str(path))}: {error.message}", hint=error.hint) from error


def _decisions(
    config: GateConfig, results: Sequence[TaskResult], base: Sequence[TaskResult]
) -> dict[str, GateDecision | str]:
    """By the digest of each candidate: every model but the base."""
    production = {each.subject_digest for each in base}
    by_model: dict[str, dict[str, TaskResult]] = {}
    for each in results:
        if each.subject_digest not in production:
            by_model.setdefault(each.subject_digest, {})[each.task] = each
    of_base = {each.task: each for each in base}
    found: dict[str, GateDecision | str] = {}
    for digest, of_model in by_model.items():
        try:
            pairs = comparisons(config, _scores_of(of_model), _scores_of(of_base))
            found[digest] = decide(config, pairs)
        except LmstackError as error:
            found[digest] = error.message + (f" ({error.hint})" if error.hint else "")
    return found


def _scores_of(results: dict[str, TaskResult]) -> Callable[[GateRule], TaskScores]:
    """What ``results``, by task, say of a rule."""

    def find(rule: GateRule) -> TaskScores:
        if not results:
            raise InputError(
                f"the rule for {rule.task} compares with what is in production",
                hint="--base FOLDER, with its results",
                param="base",
            )
        if rule.task not in results:
            raise InputError(f"there is no result of {rule.task} among those given", param="gate")
        return task_scores(rule, results[rule.task])

    return find
