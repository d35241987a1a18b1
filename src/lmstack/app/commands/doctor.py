"""`lmstack doctor`: what works on this machine, what does not, and the command that fixes it."""

from __future__ import annotations

from typing import Annotated

import typer

from lmstack.app import wiring
from lmstack.app.command import command
from lmstack.app.formats import columns, printable
from lmstack.app.output import Output, Style

__all__ = ["register"]

STYLES: dict[str, Style] = {"ok": "green", "note": "dim", "warn": "yellow", "fail": "red"}


def register(app: typer.Typer) -> None:
    command(app, "doctor", example="lmstack doctor\nlmstack doctor --network")(doctor)


def doctor(
    out: Output,
    network: Annotated[
        bool, typer.Option("--network", help="Also see whether PyPI and the hub answer.")
    ] = False,
) -> None:
    """Check this machine and say what to do about each problem.

    Looks at Python, torch, the processor, native kernels, the GPU, memory, disk, the model
    store and API keys (whether they are set, never what they are). Nothing is sent anywhere
    without --network. Exit code 1 if a problem stops work.
    """
    checks = wiring.checks(network=network)
    failed = any(check.status == "fail" for check in checks)
    if out.as_json:
        out.result({"ok": not failed, "checks": [check.to_json() for check in checks]})
    else:
        rows = columns([(c.status, c.name, printable(c.detail, one_line=True)) for c in checks])
        for check, row in zip(checks, rows, strict=True):
            out.line(out.style(row[:4], STYLES[check.status]) + row[4:])
        _print_fixes(out, [(c.name, c.fix) for c in checks if c.fix])
    if failed:
        raise typer.Exit(1)


def _print_fixes(out: Output, fixes: list[tuple[str, str]]) -> None:
    if fixes:
        out.line()
        out.line("To do")
        out.lines(columns(fixes, indent=2))
