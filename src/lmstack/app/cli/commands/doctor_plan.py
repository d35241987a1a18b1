"""`lmstack doctor plan`: what a deployment needs and can give, before it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lmstack.app import wiring
from lmstack.app.cli.command import command
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, memory, printable, seconds
from lmstack.app.server.deployment import (
    DEFAULT_CONTEXT,
    DEFAULT_USERS,
    Deployment,
    plan_deployment,
)
from lmstack.model.quant.recipes import FORMS, Form

if TYPE_CHECKING:
    from lmstack.app.inspect.capacity import Speed

__all__ = ["plan"]


@command(
    "doctor plan",
    f"""
    MODEL: A name in the store, a model folder, a .gguf file, or a config.json by itself: weights
        are not needed, and nothing is pulled.
    --users N 1..1048576: Answers at the same time. [default: {DEFAULT_USERS}]
    --context T 1..2147483648: Tokens of each: prompt and answer together. [default:
        {DEFAULT_CONTEXT}, or the model's longest if that is less]
    --memory SIZE: Memory to plan for, such as 16GiB or 24GB. [default: what is free here]
    --weights FORM: How weights are held: {", ".join(FORMS)}; file and file8 are the blocks of a
        GGUF file. [default: file for GGUF, else bfloat16, or float32 where that is faster]
    --kv TYPE: How keys and values are held beside integer weights: int8 or bfloat16. Beside floats
        they are as these. [default: int8]

    lmstack doctor plan smollm2-135m-instruct --users 8 --context 4096
    lmstack doctor plan ./Llama-3-8B/config.json --users 4 --context 8192 --weights q4 --memory
        24GiB
    """,
)
def plan(
    out: Output,
    model: str,
    users: int | None = None,
    context: int | None = None,
    memory_size: str | None = None,
    weights: Form | None = None,
    kv: Literal["bfloat16", "int8", "float32"] | None = None,
) -> None:
    """Say what memory a model needs, how many fit, and how fast.

    Keys and values grow with every token of every user; the plan says how many contexts fit
    beside the weights. Speeds are the most that this machine's memory and matrix units allow; a
    real server stays below. The machine is measured once, see `lmstack doctor machine`.
    """
    with out.progress("Measuring this machine", "steps") as bar:
        found = plan_deployment(
            model,
            wiring.home(),
            users=users,
            context=context,
            memory_size=memory_size,
            form=weights,
            kv=kv,
            progress=bar.update,
        )
    if out.as_json:
        out.result(found.to_json())
    else:
        _print(out, found)


def _print(out: Output, found: Deployment) -> None:
    demand = found.demand
    who = "1 user" if demand.users == 1 else f"{demand.users:,} users"
    name = printable(found.model, one_line=True)
    out.line(f"{name}: {who}, {demand.context:,} tokens each, {memory(demand.memory)} of memory")
    speed = f"Speed, at most, on {found.machine.processor.name}"
    for title, rows in (("Memory", _memory_rows(found)), (speed, _speed_rows(found))):
        out.line()
        out.line(out.style(printable(title, one_line=True), "bold"))
        out.lines(columns(rows, indent=2))
    if found.notes:
        out.line()
        out.lines([f"note: {note}" for note in found.notes])


def _memory_rows(found: Deployment) -> list[tuple[str, str]]:
    needs, demand = found.plan.needs, found.demand
    users = "1 user needs" if demand.users == 1 else f"{demand.users:,} users need"
    such = "1 such context fits" if needs.fits == 1 else f"{needs.fits:,} such contexts fit"
    fits = f"{such}; {users} {memory(demand.users * needs.sequence)}"
    if needs.fits < demand.users:
        fits += ", which is too much"
    return [
        (f"weights, {found.form}", memory(needs.weights)),
        ("program", f"about {memory(needs.program)}"),
        (f"KV cache, {found.kv}", f"{memory(needs.kv_per_token)} a token"),
        ("", f"{memory(needs.sequence)} for {demand.context:,} tokens"),
        ("fits", fits),
    ]


def _speed_rows(found: Deployment) -> list[tuple[str, str]]:
    plan = found.plan
    if plan.decode is None or plan.prompt is None:
        return [("decode", "nothing: not one context fits")]
    batch = plan.batch
    each = _rate(plan.decode.tokens_per_s / batch)
    users = "" if batch == 1 else f" for {batch:,} at once, {each} each"
    length = f"{found.demand.context:,} tokens in {seconds(plan.prompt.seconds)}"
    return [
        ("decode", f"{_rate(plan.decode.tokens_per_s)} tokens/s{users}"),
        ("", _limit(found, plan.decode)),
        ("prompt", f"{_rate(plan.prompt.tokens_per_s)} tokens/s: {length}"),
        ("", _limit(found, plan.prompt)),
    ]


def _limit(found: Deployment, speed: Speed) -> str:
    rates = found.machine.rates
    if speed.bound == "memory":
        rate = f"{rates.read_all / 1e9:.1f} GB/s"
        return f"limited by memory: {memory(speed.bytes_read)} to read at {rate}"
    rate = f"{found.matrix} at {rates.matrix[found.matrix] / 1e9:,.0f} GFLOP/s"
    return f"limited by products: {_rate(speed.operations / 1e9)} GFLOP, {rate}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
