"""`lmstack doctor machine`: how fast this machine is."""

from __future__ import annotations

from lmstack.app import wiring
from lmstack.app.cli.command import command
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, memory, printable
from lmstack.app.inspect.machine import Machine, keep, measure
from lmstack.core import StoreError

__all__ = ["machine"]


@command(
    "doctor machine",
    """
    lmstack doctor machine
    lmstack doctor machine --json
    """,
)
def machine(out: Output) -> None:
    """Measure how fast this machine reads memory and multiplies.

    Reads an array that no cache holds, with one core and with all, and multiplies matrices of
    int8, bfloat16 and float32; the best of many rounds counts. Takes some six seconds. Other
    work on the machine lowers the figures. `lmstack doctor plan` uses what was measured last.
    """
    out.interrupted = ("what was measured before is kept", out.again())
    with out.progress("Measuring this machine", "steps") as bar:
        found = measure(bar.update)
    try:
        place = str(keep(found, wiring.home()))
    except StoreError as error:
        place = None
        out.note(printable(f"not kept: {error.message}", one_line=True))
    if out.as_json:
        out.result({**found.to_json(), "kept": place})
    else:
        out.lines(columns(_rows(found)))
        if place is not None:
            out.note(printable(f"kept for lmstack doctor plan in {place}", one_line=True))


def _rows(found: Machine) -> list[tuple[str, str]]:
    chip, rates = found.processor, found.rates
    cores = "1 core" if chip.cores == 1 else f"{chip.cores} cores"
    caches = [f"L{c.level} {memory(c.size)} x {c.count}" for c in chip.caches]
    products = [f"{kind} {rate / 1e9:,.0f}" for kind, rate in rates.matrix.items()]
    return [
        ("processor", printable(f"{chip.name}, {chip.architecture}, {cores}", one_line=True)),
        ("instructions", " ".join(chip.instruction_sets) or "unknown"),
        ("caches", ", ".join(caches) or "unknown"),
        (
            "memory read",
            f"{rates.read_one / 1e9:.1f} GB/s with 1 core, {rates.read_all / 1e9:.1f} with {cores}",
        ),
        ("products", f"{', '.join(products)} GFLOP/s   (torch {found.torch}, {cores})"),
    ]
