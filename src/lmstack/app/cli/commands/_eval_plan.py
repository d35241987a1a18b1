"""`lmstack eval run --dry-run`: what a run would take."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from lmstack.app.cli.command import option
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable, seconds
from lmstack.core import InputError, Price, shown

if TYPE_CHECKING:
    from lmstack.evals.estimating import RunEstimate
    from lmstack.evals.output_store import OutputStore
    from lmstack.evals.task import Subject, Task

__all__ = ["DryRun", "TokenPrice", "check_plan", "estimated", "print_estimates", "token_price"]

DryRun = Annotated[
    bool,
    option("--dry-run: Say what the run would take, after asking a few samples, and stop."),
]
TokenPrice = Annotated[
    str | None,
    option("--price READ,WRITTEN: Of a million tokens of prompts and of answers, for --dry-run."),
]
Estimates = Sequence[tuple[str, "RunEstimate"]]


def token_price(given: str | None) -> Price | None:
    """What --price says; `InputError` where that is not two numbers."""
    if given is None:
        return None
    try:
        read, written = map(float, given.split(","))
    except ValueError:
        raise InputError(
            f"--price is {shown(given)}, not two numbers",
            hint="of a million tokens of prompts, and of answers: --price 0.15,0.60",
            param="price",
        ) from None
    return Price(read, written)


def check_plan(dry_run: bool, price: str | None, ray: str | None) -> None:
    """`InputError` for a price that nothing would be told of, and where a cluster is to answer:
    samples are asked on this machine."""
    if price is not None and not dry_run:
        raise InputError(
            "--price is for --dry-run, which says what a run would cost",
            hint="add --dry-run, or leave --price out",
            param="price",
        )
    if dry_run and ray is not None:
        raise InputError(
            "--dry-run asks on this machine, and --ray is given", hint="leave one out", param="ray"
        )


def estimated(
    out: Output, task: Task, subject: Subject, store: OutputStore, **options: Any
) -> RunEstimate:
    """What ``task`` would take. ``options``: see `estimate_run`."""
    from lmstack.evals.estimating import estimate_run

    out.note(printable(f"asking a few samples of {task.name}", one_line=True))
    return asyncio.run(estimate_run(task, subject, store, **options))


def print_estimates(out: Output, found: Estimates) -> None:
    """A line for each task, by its name."""
    if out.as_json:
        out.result(
            [
                {
                    "task": name,
                    "samples": each.samples,
                    "kept": each.cached,
                    "left": each.left,
                    "prompt_tokens": each.prompt_tokens,
                    "completion_tokens": each.completion_tokens,
                    "seconds": each.seconds,
                    "cost": each.cost,
                }
                for name, each in found
            ]
        )
        return
    titles = ("TASK", "SAMPLES", "KEPT", "TO READ", "TO WRITE", "TIME", "COST")
    rows = [titles, *(_row(name, each) for name, each in found)]
    if len(found) > 1:
        rows.append(_total([each for _, each in found]))
    out.lines(columns(rows))
    out.note("to read and to write: tokens; - where they are not counted, or no price was given")
    out.line("Nothing else was asked. The same command without --dry-run runs it.")


def _row(name: str, each: RunEstimate) -> tuple[str, ...]:
    counts = (f"{each.samples:,}", f"{each.cached:,}")
    return (printable(name, one_line=True), *counts, *_amounts(each))


def _amounts(each: RunEstimate) -> tuple[str, ...]:
    tokens = [
        "-" if count is None else f"{count:,}"
        for count in (each.prompt_tokens, each.completion_tokens)
    ]
    time = "-" if each.seconds is None else seconds(each.seconds)
    cost = "-"
    if each.cost is not None:
        cost = f"{each.cost:,.2f}" if each.cost >= 1 else f"{each.cost:.2g}"
    return (*tokens, time, cost)


def _total(found: Sequence[RunEstimate]) -> tuple[str, ...]:
    """A sum is known where all that it is of is known."""
    from lmstack.evals.estimating import RunEstimate

    def total(name: str) -> Any:
        parts = [getattr(each, name) for each in found]
        return None if None in parts else sum(parts)

    names = ("samples", "cached", "seen", "prompt_tokens", "completion_tokens", "seconds", "cost")
    return _row("in all", RunEstimate(**{name: total(name) for name in names}))
