"""`lmstack data report`: what a run would make of files, before it is run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.app import wiring
from lmstack.app.cli.command import command, group
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable, size
from lmstack.app.report.drawing import check_picture
from lmstack.core import InputError

if TYPE_CHECKING:
    from lmstack.train.data.report import DataReport

__all__ = ["report"]

_PLACES = 5


group(
    "data",
    "report best-of feedback judge preferences problems rate questions",
    """
    Look at data to train on, and make some.

    lmstack data report chats.jsonl
    lmstack data questions docs
    """,
)


@command(
    "data report",
    """
    FILE...: Files, folders, or patterns in quotes.
    --objective: What the rows are to be learned by.
    --base MODEL: The model to be trained.
    --max-length: Tokens of a sequence at most.
    --output, -o FILE: Draw the lengths, as PNG or SVG.

    lmstack data report chats.jsonl
    lmstack data report corpus/ --objective causal --max-length 2048 --output lengths.png
    """,
)
def report(
    out: Output,
    files: list[str],
    objective: str = "sft",
    base: str = wiring.SMALL_MODEL,
    max_length: int = 1024,
    output: Path | None = None,
) -> None:
    """Say what training would make of data: rows, tokens, lengths, copies.

    Also which rows cannot be used and why, how many are cut, how many hold personal data in forms
    that can be told (e-mail, phone, card, IBAN), and what is wrong with the model's chat template.
    Nothing is trained and nothing is kept. A run keeps the same report as data.json. --output needs
    matplotlib: pip install 'lmstack[pictures]'."""
    if output is not None:
        check_picture(output)
    from lmstack.train.assembly import data_report
    from lmstack.train.recipe import Recipe

    recipe = Recipe(
        objective=objective, data=tuple(files), output="report", base=base, max_length=max_length
    )
    with out.progress("Data", "bytes") as bar:
        found = data_report(recipe, told=lambda doing, done, total: bar.update(done, total, doing))
    if output is not None:
        from lmstack.app.inspect.lengths_picture import draw_lengths

        if not found.lengths.bars:
            raise InputError("there is no example to draw", param="output")
        draw_lengths(output, found.lengths, max_length)
    if out.as_json:
        out.result(found.to_json())
    else:
        _print(out, found, max_length)


def _print(out: Output, found: DataReport, max_length: int) -> None:
    lengths = found.lengths
    rows = [
        ("files", f"{len(found.files):,}, {size(sum(file['bytes'] for file in found.files))}"),
        ("rows", f"{found.rows:,}"),
        ("cannot be used", f"{found.bad_rows:,}"),
        ("examples", f"{found.examples:,} to train on, {found.validation:,} to validate with"),
        ("tokens", f"{found.tokens:,} to train on"),
        (
            "lengths",
            f"{lengths.least:,} to {lengths.most:,} tokens, {lengths.mean:,.1f} on average",
        ),
        ("", ", ".join(f"{share} {length:,}" for share, length in lengths.quantiles.items())),
        ("cut", f"{found.truncated:,} rows at {max_length:,} tokens, {found.left_out:,} left out"),
        ("exact copies", f"{found.exact_copies:,}"),
        ("near copies", f"{found.near_copies:,}"),
        *((f"with {_KINDS[kind]}", f"{count:,}") for kind, count in sorted(found.personal.items())),
    ]
    out.lines(columns(rows))
    if found.reasons:
        out.line("\nCannot be used")
        reasons = [(f"{count:,}", reason) for reason, count in found.reasons.most_common()]
        out.lines([printable(line, one_line=True) for line in columns(reasons, indent=2)])
        for bad in found.bad[:_PLACES]:
            out.line(printable(f"  {bad.place}: {bad.reason}", one_line=True))
    if found.template:
        out.line("\nChat template")
        findings = [(f["severity"], f["check"], f["what"]) for f in found.template]
        out.lines([printable(line, one_line=True) for line in columns(findings, indent=2)])


_KINDS = {"email": "e-mail", "phone": "phone", "card": "card", "iban": "IBAN"}
