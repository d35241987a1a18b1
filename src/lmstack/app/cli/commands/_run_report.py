"""The report at the end of a run that aligns a model: its comparison with the base.

Planned before the first step, so that a wrong setting costs no training. A report that fails leaves
what was trained as it is, and says so.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app import wiring
from lmstack.app.cli.output import Output
from lmstack.core import LmstackError

if TYPE_CHECKING:
    from lmstack.app.comparison.comparing import ComparisonSetup
    from lmstack.app.comparison.report import Report
    from lmstack.train.recipe import Recipe

__all__ = ["made_report", "planned_report"]

# Settings of an objective that are those of its report, unless that has its own.
_SHARED = ("max_tokens", "temperature", "rewards")


def planned_report(out: Output, recipe: Recipe, aligns: bool) -> ComparisonSetup | None:
    """What the end of the run will compare; None where it will not. ``aligns``: whether the
    objective does, so that there is a report unless the recipe says otherwise."""
    if recipe.report is False or (recipe.report is None and not aligns):
        return None
    if recipe.base is None:
        out.note("note: a fresh model has no base to be compared with, so there will be no report")
        return None
    from lmstack.app.comparison.comparing import Side, planned
    from lmstack.app.comparison.config import ReportConfig
    from lmstack.app.comparison.prompts import read_preferences
    from lmstack.registry import Store

    given: Mapping[str, Any] = {} if recipe.report in (None, True) else recipe.report
    config = ReportConfig.of_recipe(given)
    shared = {k: v for k, v in recipe.objective_settings.items() if k in _SHARED and k not in given}
    held = recipe.validation
    files = (held,) if isinstance(held, str) else () if isinstance(held, int | float) else held
    config = replace(config, **shared, prompts=config.prompts or tuple(files) or recipe.data)
    base = Side(recipe.base, weights=recipe.weights)
    tuned = Side(recipe.output)
    if recipe.lora is not None:
        tuned = replace(base, adapter=Store().place(recipe.output))
    plan = planned(wiring.opening(), base, tuned, config, seed=recipe.seed, note=out.note)
    return plan if plan.rewards else replace(plan, preferences=read_preferences(recipe.data))


def made_report(out: Output, plan: ComparisonSetup, folder: Path) -> tuple[Report, Path] | None:
    """The report and its page in ``folder``; None, after a note, where it could not be made."""
    from lmstack.app.comparison.comparing import compared
    from lmstack.app.comparison.files import write_report

    try:
        with out.progress("Report", "items") as bar:
            report = compared(plan, lambda doing, done, total: bar.update(done, total, doing))
        return report, write_report(report, folder)[1]
    except LmstackError as error:
        tuned = shlex.quote(str(plan.tuned.adapter or plan.tuned.model))
        again = f"lmstack eval answers {shlex.quote(plan.base.model)} {tuned} --prompts FILE"
        out.note(f"the report could not be made: {error.message}; {again} makes one")
        return None
