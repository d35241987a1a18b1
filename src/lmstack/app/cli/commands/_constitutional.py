"""`lmstack train` with the recipe of a constitutional run: its stages as bars, and its page.

Loads torch, so it is imported when such a recipe is run.
"""

from __future__ import annotations

import dataclasses
import os
from contextlib import ExitStack
from pathlib import Path

from lmstack.app import wiring
from lmstack.app.cli.commands._run_report import made_report, planned_report
from lmstack.app.cli.commands._shown_run import ShownRun
from lmstack.app.cli.commands.eval_answers import report_lines
from lmstack.app.cli.output import Output, Progress
from lmstack.app.comparison.config import ReportConfig
from lmstack.app.comparison.report import Report
from lmstack.app.formats import columns, printable
from lmstack.app.page.constitution import constitution_page
from lmstack.app.wiring.training import WritingModels
from lmstack.core import InputError
from lmstack.core.files import write_atomic
from lmstack.pipelines.constitution.datasets import DatasetRows
from lmstack.pipelines.constitution.principles import read_constitution
from lmstack.pipelines.constitution.prompts import read_prompts
from lmstack.pipelines.constitution.recipe import ConstitutionalRecipe
from lmstack.pipelines.constitution.record import read_record
from lmstack.pipelines.constitution.run import ConstitutionOutcome, PipelineWatch, run_constitution
from lmstack.train.assembly import check_recipe
from lmstack.train.loop import Watch
from lmstack.train.recipe import Recipe, warnings_of

__all__ = ["train_by_principles"]

_PAGE = "page.html"
# What a bar says of a stage, and what it counts.
_STAGES = {
    "drafts": ("Drafting", "answers"),
    "critiques": ("Criticizing", "answers"),
    "revisions": ("Revising", "answers"),
    "answers": ("Answering twice", "prompts"),
    "labels": ("Comparing by principles", "pairs"),
}


def train_by_principles(
    out: Output, recipe: ConstitutionalRecipe, *, resume: bool, dry_run: bool
) -> None:
    """Run ``recipe`` with progress, and say what came of it; or say what it would take."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "a constitutional run is of one process, and there are several",
            hint=f"{out.again()}, without torchrun",
        )
    _check(out, recipe)
    if dry_run:
        _print_plan(out, recipe)
        return
    again = out.again() if resume else f"{out.again()} --resume"
    out.interrupted = (f"every item that is done is in {recipe.folder}", again)
    models = WritingModels(recipe.weights)
    with ExitStack() as stack:
        try:
            watch = ShownStages(out, recipe, stack)
            outcome = run_constitution(recipe, models, resume=resume, watch=watch)
        except InputError as error:
            if error.param != "run":
                raise
            hint = f"{again}, or run=FOLDER for another run beside it"
            raise InputError(error.message, hint=hint, param="run") from error
        finally:
            models.release()
    # What DPO gave up beside the model that it started from, which is there by now.
    plan = planned_report(out, recipe.dpo_recipe, aligns=True)
    report = made_report(out, plan, recipe.folder) if plan is not None else None
    out.interrupted = None
    _print(out, recipe, outcome, report)


def _check(out: Output, recipe: ConstitutionalRecipe) -> None:
    """Settings and models, before anything slow begins. Where text is sent is said."""
    wiring.generator_folder(recipe.base)
    for name in dict.fromkeys((recipe.writer, recipe.judge)):
        if name is None or name == recipe.base:
            continue
        wiring.require_models(name, None)
        if wiring.is_remote(name):
            provider = name.partition(":")[0]
            address = printable(wiring.remote_address(provider) or provider, one_line=True)
            out.note(f"prompts and answers are sent to {address}")
    if recipe.dpo_recipe.report not in (None, True, False):
        ReportConfig.of_recipe(recipe.dpo_recipe.report)
    for stage, settings in (("sft", recipe.sft_recipe), ("dpo", recipe.dpo_recipe)):
        check_recipe(settings)
        for warning in warnings_of(settings):
            out.note(f"note: {stage}.{warning}")


class ShownStages(PipelineWatch):
    """A bar for each stage; the page is written anew after each."""

    def __init__(self, out: Output, recipe: ConstitutionalRecipe, stack: ExitStack) -> None:
        self._out, self._recipe, self._stack = out, recipe, stack
        self._bar: Progress | None = None
        self._stage = ""

    def stage(self, name: str, done: int, total: int) -> None:
        if self._bar is None or self._stage != name:
            self._stack.close()
            self._stage = name
            kind, _, turn = name.partition("-")
            doing, unit = _STAGES[kind]
            title = f"{doing}, round {turn}" if turn and self._recipe.rounds > 1 else doing
            self._bar = self._stack.enter_context(self._out.progress(title, unit))
        self._bar.update(done, total)

    def training(self, recipe: Recipe) -> Watch:
        self._stack.close()
        self._bar = None
        return ShownRun(self._out, recipe, self._stack)

    def rows(self, name: str, rows: DatasetRows) -> None:
        self._stack.close()
        self._bar = None
        if rows.left_out:
            total = len(rows.rows) + rows.left_out.total()
            self._out.note(f"{name}: {len(rows.rows):,} of {total:,} prompts; {rows.reasons}")

    def finished(self, name: str) -> None:
        del name
        record = read_record(self._recipe.folder)
        page = constitution_page(record, Path(self._recipe.output).name)
        write_atomic(self._recipe.folder / _PAGE, page.encode())


def _print_plan(out: Output, recipe: ConstitutionalRecipe) -> None:
    """What each stage would ask of its model; nothing is loaded."""
    constitution = read_constitution(recipe.principles)
    prompts = read_prompts(recipe.data, recipe.prompts, recipe.seed)
    found, labels = len(prompts.by_key), min(recipe.labels, len(constitution.principles))
    writer, judge = recipe.writer or recipe.base, recipe.judge or recipe.base
    stages = [
        ("drafts", found, recipe.base),
        ("critiques", found * recipe.rounds, writer),
        ("revisions", found * recipe.rounds, writer),
        ("answers", 2 * found, recipe.tuned),
        ("labels", 2 * labels * found, judge),
    ]
    left_out = [dataclasses.asdict(row) for row in prompts.left_out]
    if out.as_json:
        requests = {stage: {"requests": number, "model": model} for stage, number, model in stages}
        principles = [principle.name for principle in constitution.principles]
        out.result(
            {"prompts": found, "stages": requests, "principles": principles, "left_out": left_out}
        )
        return
    out.line(out.style(f"{recipe.output}: {found:,} prompts, {recipe.base}", "bold"))
    rows = [(stage, f"{number:,} requests", model) for stage, number, model in stages]
    rows += [("principles", f"{len(constitution.principles)}", constitution.title)]
    out.lines(columns([[printable(cell, one_line=True) for cell in row] for row in rows], indent=2))
    out.line("Nothing was asked or trained. The same command without --dry-run starts it.")


def _print(
    out: Output,
    recipe: ConstitutionalRecipe,
    outcome: ConstitutionOutcome,
    report: tuple[Report, Path] | None,
) -> None:
    page = recipe.folder / _PAGE
    if out.as_json:
        found = {**dataclasses.asdict(outcome), "page": str(page)}
        out.result({**found, "report": None if report is None else report[0].to_json()})
        return
    adapted = recipe.dpo_recipe.lora is not None
    use = f"--model {recipe.tuned} --adapter {outcome.dpo.name}"
    rows = [
        ("result", outcome.dpo.folder),
        ("after SFT", outcome.sft.name),
        ("prompts", f"{outcome.prompts:,}"),
        ("trained on", f"{outcome.conversations:,} conversations, {outcome.preferences:,} pairs"),
        ("page", str(page)),
        *(() if report is None else (("report", str(report[1])),)),
        ("use it", f"lmstack up {use if adapted else f'--model {outcome.dpo.name}'}"),
    ]
    out.lines(columns([(name, printable(text, one_line=True)) for name, text in rows]))
    if report is not None:
        out.lines(["", *report_lines(report[0])])
