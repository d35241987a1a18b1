"""`lmstack scaling`: how large a model, how much text, how long, and laws from one's own runs."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lmstack.app import wiring
from lmstack.app.cli.command import command, group
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, parse_quantity, printable, quantity, seconds
from lmstack.app.report.drawing import check_picture
from lmstack.core.files import write_atomic

if TYPE_CHECKING:
    from lmstack.pipelines.scaling.fit import Fit
    from lmstack.pipelines.scaling.laws import Law, ScalingPlan
    from lmstack.pipelines.scaling.runs import RunEnd

__all__ = ["fit", "plan"]

# What large runs reach of a chip's peak: 0.46 for PaLM (Chowdhery et al., 2022), 0.38 to 0.43 for
# Llama 3 (Grattafiori et al., 2024).
UTILIZATION = 0.4

Quantity = str | None


group(
    "scaling",
    "plan fit",
    """
    Plan a training run by scaling laws, or fit one to runs.

    A scaling law says what loss a model of some size reaches on some amount of text, so that a
    budget can be spent well before it is spent.

    lmstack scaling plan --hours 8
    lmstack scaling plan --size 70B --flops 989T --devices 512 --price 2
    lmstack scaling fit runs --plot law.png
    """,
)


@command(
    "scaling plan",
    """
    --size N: Parameters, such as 135M or 70B.
    --model MODEL: Instead of --size: a model of the store, its folder, or a config.json by itself.
        Its operations are counted exactly.
    --context T 1..: Tokens of a sequence, for --model.
    --data D: Tokens to train on, such as 1.4T.
    --compute C: Operations in all, such as 5.8e23.
    --hours H 0.000001..: The same as hours of the machine.
    --law LAW: chinchilla, chinchilla-1 to -3 (the approaches of the paper), kaplan, or a .json that
        `lmstack scaling fit` wrote.
    --flops RATE: Peak operations a second of one device, such as 989T. [default: this machine's, as
        measured]
    --precision TYPE: Of this machine's rate: or float32.
    --utilization SHARE 0.001..1: Of the peak, reached.
    --devices K 1..16777216: Working at once.
    --price P 0..: Of an hour of one device, in any currency.

    lmstack scaling plan --hours 8
    lmstack scaling plan --size 8B --data 15T
    lmstack scaling plan --size 70B --flops 989T --devices 512 --price 2
    """,
)
def plan(
    out: Output,
    size: Quantity = None,
    model: str | None = None,
    context: int = 1024,
    data: Quantity = None,
    compute: Quantity = None,
    hours: float | None = None,
    law: str = "chinchilla",
    flops: Quantity = None,
    precision: Literal["bfloat16", "float32"] = "bfloat16",
    utilization: float = UTILIZATION,
    devices: int = 1,
    price: float | None = None,
) -> None:
    """Say size, data, compute, loss, time and cost of a training run.

    Give one of size, data and compute (or hours) for the best use of a budget, or two for what a
    choice of one's own gives. Time is compute by the rate of the machine, of which a run reaches a
    share. Losses are those of the law's own text: compare them with each other only.
    """
    from lmstack.pipelines.scaling.laws import law_named, plan_scaling

    if hours is not None and compute is not None:
        raise CommandLineError("--hours and --compute are two ways to say one thing", param="hours")
    if size is not None and model is not None:
        raise CommandLineError("--size and --model are two ways to say one thing", param="model")
    chosen = law_named(law)
    given = {"size": size, "data": data, "compute": compute}
    values = {k: parse_quantity(v, k) for k, v in given.items() if v is not None}
    peak, told = _peak(out, flops, precision)
    rate = peak * utilization * devices
    if hours is not None:
        values["compute"] = rate * hours * 3600
    each = None
    if model is not None:
        values["size"], each = _counted(model, context, chosen)
    found = plan_scaling(chosen, **values, flops_per_token=each)
    cost = None if price is None else found.compute / rate / 3600 * devices * price
    if out.as_json:
        out.result(
            {
                **_plan_json(found),
                "source": chosen.source,
                "parameters": chosen.counts,
                "seconds": found.compute / rate,
                "flops_per_second": rate,
                "cost": cost,
            }
        )
        return
    out.lines(columns(_plan_rows(found, chosen)))
    out.line()
    many = "" if devices == 1 else f"{devices:,} times "
    reached = f"{utilization:.0%} of {many}{quantity(peak)} operations/s ({told})"
    rows = [("time", seconds(found.compute / rate)), ("at", reached)]
    if cost is not None:
        rows.insert(1, ("cost", f"{cost:,.2f}, at {price:,.2f} an hour of a device"))
    out.lines(columns(rows))
    out.line()
    out.line(f"law: {printable(chosen.source, one_line=True)}")
    if chosen.counts == "non-embedding":
        out.note("note: this law counts parameters without embeddings")


def _counted(reference: str, context: int, law: Law) -> tuple[float, float]:
    """Parameters of a model as ``law`` counts them, and operations a token, forward and backward,
    in sequences of ``context`` tokens."""
    import numpy as np
    import torch

    from lmstack.app.server.deployment import find_model
    from lmstack.model import Transformer
    from lmstack.train.flops import Load, count_flops

    config = find_model(reference).config
    with torch.device("meta"):
        module = Transformer(config)
    tables = ("embed", "embed_positions", "embed_types", "head")
    size = sum(
        parameter.numel()
        for name, parameter in module.named_parameters()
        if law.counts == "all" or name.partition(".")[0] not in tables
    )
    lengths = np.array([context], np.int64)
    sources = lengths if config.encoder is not None else lengths[:0]
    return size, count_flops(module, Load(lengths, context, sources)).total() / context


def _peak(out: Output, flops: str | None, precision: str) -> tuple[float, str]:
    """Operations a second of one device at most, and where they are known from."""
    if flops is not None:
        return parse_quantity(flops, "flops"), "as given"
    from lmstack.app.inspect import machine as machines

    with out.progress("Measuring this machine", "steps") as bar:
        machine = machines.known(wiring.home(), bar.update)
    return machine.rates.matrix[precision], f"{machine.processor.name}, {precision}"  # type: ignore[index]


def _plan_rows(found: ScalingPlan, law: Law) -> list[tuple[str, ...]]:
    plans = [found] if found.best is None else [found, found.best]
    rows: list[tuple[str, ...]] = [] if found.best is None else [("", "as given", "best use")]
    rows += [
        ("parameters", *(quantity(p.size) for p in plans)),
        ("tokens", *(quantity(p.data) for p in plans)),
        ("tokens a parameter", *(quantity(p.tokens_per_parameter) for p in plans)),
        ("operations", *(f"{p.compute:.3g}" for p in plans)),
    ]
    if law.loss is None:
        return [*rows, ("loss", *("the law gives none" for _ in plans))]
    return [*rows, ("loss", *(f"{_loss(p, law)} nats a token" for p in plans))]


def _loss(plan: ScalingPlan, law: Law) -> str:
    assert plan.loss is not None
    if not law.samples:
        return f"{plan.loss:.3f}"
    low, high = law.interval(lambda sample: sample.loss(plan.size, plan.data))
    return f"{plan.loss:.3f} ({low:.3f} to {high:.3f})"


def _plan_json(plan: ScalingPlan) -> dict[str, Any]:
    values = {**dataclasses.asdict(plan), "tokens_per_parameter": plan.tokens_per_parameter}
    return values | {"best": None if plan.best is None else _plan_json(plan.best)}


@command(
    "scaling fit",
    """
    RUN: Folders of runs, a folder that holds them, or a .csv with the columns N, D, loss.
    --out, -o FILE: Write the law, as .json.
    --plot FILE: Draw it, as .png or .svg.
    --samples S 100..100000: Of the bootstrap.

    lmstack scaling fit runs --plot law.png --out law.json
    """,
)
def fit(
    out: Output,
    runs: list[Path],
    output: Path | None = None,
    plot: Path | None = None,
    samples: int = 1000,
) -> None:
    """Fit a scaling law to runs of one's own.

    Each run gives one point: its parameters, the tokens it saw and the loss it ended with, on
    held-out text where there is some. Runs of at least three sizes, each with its own amounts of
    data and a schedule that ends where the run does, determine the five constants of
    L = E + A / N^alpha + B / D^beta.
    """
    from lmstack.pipelines.scaling.fit import fit_law
    from lmstack.pipelines.scaling.runs import observations, read_runs

    if plot is not None:
        check_picture(plot, "plot")
    if output is not None and output.suffix != ".json":
        raise CommandLineError(f"--out is {str(output)!r}, which is no .json file", param="out")
    ends = read_runs(runs)
    found = fit_law(observations(ends), samples=samples)
    if output is not None:
        write_atomic(output, (json.dumps(found.to_json(), indent=1) + "\n").encode())
    if plot is not None:
        from lmstack.app.inspect.scaling_picture import draw_law

        draw_law(plot, ends, found)
    if out.as_json:
        values = found.to_json()
        values.pop("samples")
        out.result(values | {"ends": [dataclasses.asdict(run) for run in ends]})
    else:
        _print_fit(out, ends, found, output, plot)


def _print_fit(
    out: Output, ends: list[RunEnd], found: Fit, output: Path | None, plot: Path | None
) -> None:
    out.line(f"L = E + A / N^alpha + B / D^beta, from {len(ends)} runs")
    out.line()
    rows = [("", "value", f"{found.level:.0%} interval")]
    for name, (value, low, high) in found.constants().items():
        rows.append((name, f"{value:.4g}", f"{low:.4g} to {high:.4g}"))
    out.lines(columns(rows, indent=2))
    out.line()
    out.line(f"Runs lie {found.noise:.2%} around the law.")
    residual, worst = max(
        zip(map(abs, found.residuals), ends, strict=True), key=lambda pair: float(pair[0])
    )
    if residual > 5 * found.noise:
        out.note(
            f"note: {printable(worst.source, one_line=True)} is {residual:.1%} off the law; the"
            " fit counts it little"
        )
    if any(not run.held_out for run in ends):
        out.note("note: runs without held-out text give the mean loss of their last steps")
    low, high = found.constants()["E"][1:]
    if high - low > found.law.E / 2:
        out.note("note: E is hardly determined: larger models on more data would tell")
    for what, path in (("law", output), ("plot", plot)):
        if path is not None:
            out.note(f"{what} written to {path}")
    if output is not None:
        law = shlex.quote(str(output))
        out.note(f"use it: lmstack scaling plan --hours 8 --law {law}")
