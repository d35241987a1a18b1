"""`lmstack train --dry-run`: what a run would take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, memory, printable, quantity, seconds

if TYPE_CHECKING:
    from lmstack.train.outlook import Outlook
    from lmstack.train.plan import RunPlan
    from lmstack.train.recipe import Recipe

__all__ = ["print_plan"]

Rows = list[tuple[str, str]]


def print_plan(out: Output, recipe: Recipe, price: float | None) -> None:
    """Read the data, measure a step, and print the plan of ``recipe``. ``price``: of an hour."""
    from lmstack.train.assembly import assemble
    from lmstack.train.outlook import Outlook
    from lmstack.train.parallel import Parallel
    from lmstack.train.plan import check_plannable, plan_run

    check_plannable(recipe)
    examples = recipe.folder / "examples"
    out.interrupted = ("nothing was trained; what was read is kept for the run", out.again())
    with out.progress(f"Reading the data of {recipe.output}", "bytes") as bar:
        run = assemble(
            recipe, examples, Parallel(), told=lambda _doing, done, total: bar.update(done, total)
        )
    outlook = Outlook.of(recipe, run)
    for warning in outlook.warnings():
        out.note(f"note: {warning}")
    out.note("measuring a step or two on this machine")
    plan = plan_run(recipe, run)
    cost = None if price is None else plan.seconds / 3600 * price
    if out.as_json:
        more = {"outlook": outlook.to_json(), "data": run.prepared.report.to_json()}
        out.result(plan.to_json() | {"cost": cost, **more})
        return
    base = recipe.base or "a fresh model"
    how = "" if recipe.lora is None else " with an adapter"
    title = f"{recipe.output}: {recipe.objective_name}, {base}{how}"
    out.line(out.style(printable(title, one_line=True), "bold"))
    for heading, rows in (
        ("Data", _data_rows(plan, outlook)),
        ("Memory, at most", _memory_rows(plan, recipe)),
        ("Operations", _operation_rows(plan, recipe)),
        ("Time", _time_rows(plan, price, cost)),
    ):
        out.line()
        out.line(out.style(heading, "bold"))
        out.lines(columns(rows, indent=2))
    out.line()
    out.line("Nothing was trained. The same command without --dry-run starts it.")


def _data_rows(plan: RunPlan, outlook: Outlook) -> Rows:
    held = f"{outlook.held_out:,} held out, of {plan.held_out:,} tokens"
    rows = [("examples", f"{plan.examples:,} to train on, {held}")]
    if plan.fill is not None:
        packed = f"{plan.rows:,} rows of {outlook.max_length:,} tokens, {plan.fill:.0%} full"
        rows.append(("packed", packed))
    share = plan.trainable / plan.parameters
    return [
        *rows,
        ("steps", f"{plan.steps:,} of {outlook.batch:,} rows, {plan.epochs:.3g} epochs"),
        ("tokens", f"{plan.tokens:,}"),
        ("products", f"in {outlook.precision}"),
        ("trained", f"{plan.trainable:,} of {plan.parameters:,} parameters, {share:.2%}"),
    ]


def _memory_rows(plan: RunPlan, recipe: Recipe) -> Rows:
    held = plan.memory
    kept = f"{memory(held.activations)}, of a pass of {recipe.micro_tokens:,} tokens"
    if held.checkpointed < held.activations:
        kept += f"; with checkpointing=true {memory(held.checkpointed)}"
    rows = [
        ("weights", memory(held.weights)),
        ("gradients", memory(held.gradients)),
        ("optimizer", memory(held.optimizer)),
        ("average", memory(held.average)),
        ("activations", kept),
        ("logits", memory(held.logits)),
        ("program", f"about {memory(held.program)}"),
        ("in all", f"{memory(held.total)}; this process came to {memory(plan.rate.peak)}"),
    ]
    return [row for row in rows if row[1] != "0 B"]


def _operation_rows(plan: RunPlan, recipe: Recipe) -> Rows:
    flops = plan.flops
    rows = [
        ("forward", quantity(flops.forward)),
        ("backward", quantity(flops.backward)),
    ]
    if recipe.checkpointing:
        rows.append(("again", quantity(flops.recomputed)))
    total = plan.operations
    parts = {
        name: flops.forward_by_part[name] + flops.backward_by_part.get(name, 0)
        for name in flops.forward_by_part
    }
    rows.append(("in all", f"{quantity(total)}, {quantity(total / plan.tokens)} a token"))
    for name, count in sorted(parts.items(), key=lambda part: -part[1]):
        rows.append((f"  {name}", f"{count / (flops.forward + flops.backward):.1%}"))
    return rows


def _time_rows(plan: RunPlan, price: float | None, cost: float | None) -> Rows:
    rate = plan.rate
    steps = "1 step" if rate.steps == 1 else f"{rate.steps} steps"
    operations = f"{quantity(plan.flops_per_second)} operations/s"
    speed = f"{rate.tokens_per_second:,.0f} tokens/s, {operations}"
    rows = [
        ("time", seconds(plan.seconds)),
        ("at", f"{speed}: {steps} of {rate.tokens:,} tokens, measured here just now"),
    ]
    if plan.evaluations:
        rows.append(("with", f"{plan.evaluations} evaluations of {plan.held_out:,} tokens"))
    if cost is not None:
        rows.append(("cost", f"{cost:,.2f}, at {price:,.2f} an hour"))
    return rows
