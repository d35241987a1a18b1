"""`lmstack eval answers`: two models on the same prompts, and a report of what differs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app import wiring
from lmstack.app.cli.command import command
from lmstack.app.cli.commands._options import say_if_remote
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable
from lmstack.core import InputError, shown

if TYPE_CHECKING:
    from lmstack.app.comparison.comparing import Side
    from lmstack.app.comparison.report import Report

__all__ = ["compare", "report_lines"]


@command(
    "eval answers",
    """
    BASE: The model to compare with.
    TUNED: Another model, or an adapter of BASE.
    --prompts FILE: Rows with prompts; several times.
    --most N 2..100000: Prompts at most.
    --samples N 1..16: Answers to each prompt.
    --max-tokens N 1..: Of an answer.
    --temperature T 0..2: Of the drawing.
    --reward NAME: What answers are worth: a reward model, a Python file, or a reward of a recipe
        and its settings (length most=200, in quotes). Several times: their sum.
    --judge MODEL: Says which of two answers is better.
    --benign FILE: Requests that should not be refused; several times.
    --text FILE: Held-out text for perplexity and calibration. [default: a speech of 1941]
    --output, -o FOLDER: Of report.html and .json.
    --seed N 0..: Of the drawing.

    lmstack eval answers smollm2-135m-instruct ./my-adapter --prompts questions.jsonl
    lmstack eval answers base tuned --prompts held-out.jsonl --reward arithmetic --output report
    """,
)
def compare(
    out: Output,
    base: str,
    tuned: str,
    prompts: list[str],
    most: int = 64,
    samples: int = 2,
    max_tokens: int = 128,
    temperature: float = 1.0,
    reward: list[str] | None = None,
    judge: str | None = None,
    benign: list[str] | None = None,
    text: Path | None = None,
    output: Path = Path("comparison"),
    seed: int = 0,
) -> None:
    """Compare two models on the same prompts: what was gained, what was given up.

    Reward, divergence from the base (KL), length, diversity, win rate, perplexity, calibration and
    refusals, each with an interval over prompts; the answers that changed most; and reward hacking,
    which is looked for and named. Nothing is trained. report.html shows all of it."""
    from lmstack.app.comparison.comparing import Side, compared, planned
    from lmstack.app.comparison.config import ReportConfig
    from lmstack.app.comparison.files import write_report

    for name in (base, tuned, judge):
        say_if_remote(out, name)
    if not wiring.is_remote(base) and wiring.adapter_folder(base) is not None:
        raise InputError(
            f"{base} is an adapter, and BASE is a whole model",
            hint=f"name its base, or make a model of it: lmstack model merge {base} --output NAME",
            param="base",
        )
    config = ReportConfig(
        prompts=tuple(prompts),
        most=most,
        samples=samples,
        max_tokens=max_tokens,
        temperature=temperature,
        rewards=tuple(map(_reward, reward or ())),
        judge=judge,
        benign=tuple(benign or ()),
        text=None if text is None else str(text),
    )
    sides = Side(base), _tuned(base, tuned)
    plan = planned(wiring.opening(), *sides, config, seed=seed, note=out.note)
    with out.progress("Comparing", "items") as bar:
        report = compared(plan, lambda doing, done, total: bar.update(done, total, doing))
    files = write_report(report, output)
    if out.as_json:
        out.result(report.to_json())
        return
    out.lines(report_lines(report))
    out.line(f"\n{files[1]}")


def _tuned(base: str, name: str) -> Side:
    from lmstack.app.comparison.comparing import Side

    adapter = wiring.adapter_folder(name) if not wiring.is_remote(name) else None
    return Side(name) if adapter is None else Side(base, adapter=adapter)


def _reward(text: str) -> dict[str, Any]:
    """``NAME KEY=VALUE ...`` as a recipe has it; a name that is no reward's is that of a Python
    file, or of a reward model."""
    from lmstack.train.rewards import REWARDS

    name, *pairs = shlex.split(text) or [""]
    settings: dict[str, Any] = {"name": name}
    if name.endswith(".py"):
        settings = {"file": name}
    elif name not in REWARDS:
        settings = {"name": "reward-model", "model": name}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise InputError(
                f"--reward has {shown(pair)}, which is not key=value",
                hint='--reward "length most=200"',
                param="reward",
            )
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return settings


def report_lines(report: Report) -> list[str]:
    """The report for a terminal: its conclusions, and every figure."""
    from lmstack.evals.comparison import change_of, conclusions, value_of

    found = report.comparison
    rows = [("", "BASE", "TUNED", "DIFFERENCE, 95 %")]
    rows += [
        (f.title, value_of(f, f.base), value_of(f, f.tuned), change_of(f)) for f in found.figures
    ]
    lines = [printable(said, one_line=True) for said in conclusions(found)]
    missing = [f"not measured: {name} ({why})" for name, why in found.unmeasured.items()]
    return [*lines, "", *columns(rows), *missing]
