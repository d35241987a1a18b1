"""`lmstack doctor`: what works on this machine or in a model, what does not, and what to do."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING

import typer

from lmstack.app import wiring
from lmstack.app.cli.command import command, group
from lmstack.app.cli.output import Output, Style
from lmstack.app.formats import columns, printable
from lmstack.app.inspect.vocabularies import examined

if TYPE_CHECKING:
    from lmstack.text import TemplateFinding

__all__ = ["doctor", "template"]

STYLES: dict[str, Style] = {"ok": "green", "note": "dim", "warn": "yellow", "fail": "red"}
WIDTH = 100


group(
    "doctor",
    "template machine plan",
    """
    Check this machine, and say what to do.

    Looks at Python, torch, the processor, native kernels, the GPU, memory, disk, the model store
    and API keys (whether they are set, never what they are). Nothing is sent anywhere without
    --network. Exit code 1 if a problem stops work.

    lmstack doctor
    lmstack doctor --network
    lmstack doctor template smollm2-135m-instruct
    """,
)


@command(
    "doctor",
    "--network: Also see whether PyPI and the hub answer.",
)
def doctor(out: Output, network: bool = False) -> None:
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


@command(
    "doctor template",
    """
    MODEL: A name in the store, a folder (weights are not needed) or a .gguf file.

    lmstack doctor template smollm2-135m-instruct
    """,
)
def template(out: Output, model: str) -> None:
    """Check a model's tokenizer and chat template.

    The beginning and the end of turns, the prompt for a reply, the same tokens in training and
    serving, tokens that count for the loss, system messages, white space, and control tokens in
    what people write. Exit code 1 if the model would be trained or served wrongly.
    """
    findings = examined(model)
    failed = any(finding.severity == "fail" for finding in findings)
    if out.as_json:
        found = [finding.to_json() for finding in findings]
        out.result({"ok": not failed, "model": model, "findings": found})
    else:
        _print_findings(out, findings)
    if failed:
        raise typer.Exit(1)


def _print_findings(out: Output, findings: list[TemplateFinding]) -> None:
    pad = max(len(finding.check) for finding in findings)
    indent = " " * (pad + 10)
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    for finding in findings:
        lines = [finding.what]
        if finding.severity == "ok" and finding.seen:
            lines = [f"{finding.what}: {finding.seen}"]
        elif finding.seen:
            lines.append(f"seen: {finding.seen}")
        if finding.mend:
            lines.append(f"mend: {finding.mend}")
        head = f"{finding.severity:<4}   {finding.check:<{pad}}   "
        text = [
            part
            for line in lines
            for part in textwrap.wrap(
                printable(line, one_line=True),
                max(30, width - len(indent)),
                subsequent_indent="" if line is lines[0] else "      ",
            )
        ]
        out.line(out.style(head[:4], STYLES[finding.severity]) + head[4:] + text[0])
        out.lines([indent + line for line in text[1:]])
