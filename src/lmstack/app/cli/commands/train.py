"""`lmstack train`: a recipe to a model."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lmstack.app.cli.command import command
from lmstack.app.cli.commands._run_plan import print_plan
from lmstack.app.cli.commands._run_report import made_report, planned_report
from lmstack.app.cli.commands.data_questions import read_recipe_with_docs
from lmstack.app.cli.commands.eval_answers import report_lines
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable
from lmstack.core import InputError
from lmstack.pipelines.constitution.recipe import read_constitutional
from lmstack.train.heap import keep_freed_memory
from lmstack.train.metrics import read_metrics
from lmstack.train.recipe import warnings_of
from lmstack.train.settings_file import RECIPES, read_settings, shipped_recipes

if TYPE_CHECKING:
    from lmstack.app.comparison.report import Report
    from lmstack.train.objectives.objective import Objective
    from lmstack.train.recipe import Recipe
    from lmstack.train.run import TrainingResult

__all__ = ["train"]

# What `lmstack run` does with a model of a kind.
_TASKS = {
    "generate": "generate",
    "seq2seq": "translate",
    "rerank": "rerank",
    "classify": "classify",
    "token-classify": "ner",
    "fill-mask": "fill-mask",
    "question-answering": "qa",
}
# Objectives that read conversations: what they make is asked as one.
_OF_CHATS = ("sft", "dpo", "ipo", "kto", "orpo", "simpo")
_POINTS = 10  # of a curve in words


@command(
    "train",
    """
    RECIPE: A YAML file, or the name of a recipe that lmstack brings.
    KEY=VALUE...: key=value
    --resume: Go on from the last checkpoint.
    --dry-run: Say what the run would take, and do not start it.
    --list: Name the recipes that lmstack brings.
    --price P 0..: Of an hour, for --dry-run.

    lmstack train --list
    lmstack train sft-lora data=my.jsonl lr=1e-4
    lmstack train recipes/sft-lora.yaml data=my.jsonl lora.r=8
    """,
)
def train(
    out: Output,
    recipe: Path | None = None,
    overrides: list[str] | None = None,
    resume: bool = False,
    dry_run: bool = False,
    listed: bool = False,
    price: float | None = None,
) -> None:
    """Train a model by a recipe.

    A recipe is a YAML file; key=value changes it, with dots for what is nested (lora.r=8).
    Files are named from where the command runs. docs=FOLDER trains a reader on questions that a
    model asks about documents; recipes/constitutional.yaml trains by principles, in stages.
    --dry-run reads the data, runs a step or two for the speed of this machine, and prints
    tokens, memory, operations, time and cost."""
    if listed:
        _list(out)
        return
    if recipe is None:
        raise CommandLineError(
            "lmstack train needs RECIPE", hint="lmstack train --list", param="recipe"
        )
    keep_freed_memory()  # of this process, which is the run's
    if "pipeline" in read_settings(recipe):
        from lmstack.app.cli.commands._constitutional import train_by_principles

        pipeline = read_constitutional(recipe, overrides or [])
        train_by_principles(out, pipeline, resume=resume, dry_run=dry_run)
        return
    is_first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
    out.quiet |= not is_first
    settings = read_recipe_with_docs(out, recipe, overrides or [])
    if dry_run:
        _plan(out, settings, price)
    else:
        _run(out, settings, resume=resume, is_first=is_first)


def _checked(out: Output, settings: Recipe) -> Objective:
    from lmstack.train.assembly import check_recipe
    from lmstack.train.parallel import Parallel

    with Parallel.from_environment().as_one():
        objective, _ = check_recipe(settings)
    for warning in warnings_of(settings):
        out.note(f"note: {warning}")
    return objective


def _plan(out: Output, settings: Recipe, price: float | None) -> None:
    from lmstack.app.wiring.training import OnlineServices
    from lmstack.train.objectives.online import OnlineObjective

    objective, services = _checked(out, settings), OnlineServices()
    for each in objective.reward_settings if isinstance(objective, OnlineObjective) else ():
        services.reward(each.name, each.settings)  # a mistake in one is found here too
    print_plan(out, settings, price)


def _run(out: Output, settings: Recipe, *, resume: bool, is_first: bool) -> None:
    from lmstack.app.cli.commands._shown_run import ShownRun
    from lmstack.app.wiring.training import OnlineServices
    from lmstack.train import run

    objective = _checked(out, settings)
    plan = planned_report(out, settings, objective.aligns) if is_first else None
    again = out.again() if resume else f"{out.again()} --resume"
    if (beside := int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) > 1:
        again = f"torchrun --nproc-per-node {beside} -m {again}"
    out.interrupted = (f"checkpoints are in {settings.folder}", again)
    with ExitStack() as stack:
        watch = ShownRun(out, settings, stack)
        services = OnlineServices()
        result = _trained(
            out, lambda: run.train(settings, resume=resume, watch=watch, services=services)
        )
    out.interrupted = None
    if is_first:
        watch.draw()
        report = made_report(out, plan, settings.folder) if plan is not None else None
        _print(out, result, settings, report)


def _list(out: Output) -> None:
    found = shipped_recipes()
    if out.as_json:
        rows = [(name, str(RECIPES / f"{name}.yaml"), about) for name, about in found.items()]
        out.result([{"name": n, "path": path, "about": about} for n, path, about in rows])
        return
    out.lines(columns([("RECIPE", "WHAT IT DOES"), *found.items()]))
    out.note(f"the files, to be copied and changed, and gates: {RECIPES}")


def _trained(out: Output, start: Callable[[], TrainingResult]) -> TrainingResult:
    """What ``start`` gives; where the folder holds a run, the command that goes on with it."""
    try:
        return start()
    except InputError as error:
        if error.param == "run":
            hint = f"{out.again()} --resume, or run=FOLDER for another run beside it"
            raise InputError(error.message, hint=hint, param="run") from error
        raise


def _use(settings: Recipe, result: TrainingResult) -> str:
    """The command that uses what was trained."""
    from lmstack.registry import Store

    trained = shlex.quote(result.name)
    if settings.objective_name == "reader":
        return f'lmstack ask "QUESTION" --docs DIR --reader {trained}'
    if settings.objective_name == "reward":
        return f'lmstack run reward --prompt "PROMPT" "ANSWER" --model {trained}'
    if settings.lora is not None and settings.base is not None:
        base = shlex.quote(settings.base)
        if Store().resolve(settings.base).kind == "generate":
            return f"lmstack up --model {base} --adapter {trained}"
        return f"lmstack model inspect {trained}"
    found = Store().resolve(result.folder)
    if found.kind == "embed":
        return f'lmstack embed "TEXT" --embedder {trained}'
    task = _TASKS.get(found.kind, "features")
    if found.kind == "generate" and settings.objective_name in _OF_CHATS:
        task = "chat"
    query = ' --query "QUERY"' if task == "rerank" else ""
    return f'lmstack run {task}{query} "TEXT" --model {trained}'


def _use_or_not(settings: Recipe, result: TrainingResult) -> tuple[str, str]:
    if result.has_diverged:
        return "diverged", "these weights are of no use; train again with a lower lr"
    return "use it", _use(settings, result)


def _reached(result: TrainingResult, by_rewards: bool) -> Iterator[tuple[str, str]]:
    """The step that was kept, and what training changed: the loss, or rewards, and the metric.
    ``by_rewards``: whether it learned from those, whose loss says nothing."""
    held_out = bool(result.outlook.held_out)
    why = f"the best by {result.metric} of the validation" if held_out else "the last"
    yield "kept", f"step {result.kept_step:,} of {result.steps:,}, {why}"
    of = "" if held_out else " of training"
    for name, value in result.values.items():
        shown = name.startswith("reward") if by_rewards else name in ("loss", "accuracy")
        if shown or name == result.metric:
            before = result.start.get(name)
            began = "" if before is None else f", {before:.4f} before"
            yield f"{name}{of}", f"{value:.4f}{began}"


def _rewards(folder: Path) -> list[tuple[int, float]]:
    """(step, mean reward of its samples) of a run that learns from its own; else none."""
    lines = read_metrics(folder / "metrics.jsonl")
    return [(line["step"], line["reward"]) for line in lines if "reward_spread" in line]


def _curve(rewards: list[tuple[int, float]]) -> Iterator[tuple[str, str]]:
    """The rewards of all steps in a few means."""
    size = -(-len(rewards) // _POINTS)
    parts = [rewards[at : at + size] for at in range(0, len(rewards), size or 1)]
    if parts:
        means = ", ".join(f"{fmean(reward for _, reward in part):.3f}" for part in parts)
        yield "rewards", f"{means}: {f'means of {size} steps' if size > 1 else 'a step each'}"


def _print(
    out: Output, result: TrainingResult, settings: Recipe, report: tuple[Report, Path] | None
) -> None:
    rewards = _rewards(settings.folder)
    if out.as_json:
        out.result(
            {
                "name": result.name,
                "folder": str(result.folder),
                "digest": result.digest,
                "outlook": result.outlook.to_json(),
                "metric": result.metric,
                "before": dict(result.start),
                "values": dict(result.values),
                "rewards": rewards,
                "values_of": "validation" if result.outlook.held_out else "training",
                "kept_step": result.kept_step,
                "diverged": result.has_diverged,
                "steps": result.steps,
                "tokens": result.tokens,
                "trainable": result.trainable,
                "parameters": result.parameters,
                "flops_per_second": result.flops_per_second,
                "matrix_rate": result.matrix_rate,
                "data": result.report.to_json(),
                "report": None if report is None else report[0].to_json(),
            }
        )
        return
    reached = result.flops_per_second / result.matrix_rate
    rows: list[tuple[str, Any]] = [
        ("result", str(result.folder)),
        ("trained", f"{result.trainable:,} of {result.parameters:,} parameters"),
        ("steps", f"{result.steps:,}, {result.tokens:,} tokens"),
        (
            "products",
            f"{result.flops_per_second / 1e9:,.0f} GFLOP/s, {reached:.0%} of the"
            f" {result.matrix_rate / 1e9:,.0f} that one big product reaches here",
        ),
        *_reached(result, bool(rewards)),
        *_curve(rewards),
    ]
    rows += [
        ("metrics", str(settings.folder / "metrics.jsonl")),
        *(() if report is None else (("report", str(report[1])),)),
        _use_or_not(settings, result),
    ]
    out.lines(columns([(name, printable(text, one_line=True)) for name, text in rows]))
    if report is not None:
        out.lines(["", *report_lines(report[0])])
    data = result.report
    for bad in data.bad[:5]:
        out.note(f"left out {bad.place}: {bad.reason}")
    if data.bad_rows > 5:
        out.note(f"left out {data.bad_rows:,} of {data.rows:,} rows; data.json has more of them")
