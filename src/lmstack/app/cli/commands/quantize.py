"""`lmstack quantize`: a smaller and faster form of a model, and what it costs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from lmstack.app.cli.command import command
from lmstack.app.cli.commands._options import ModelOnDisk
from lmstack.app.cli.output import Output
from lmstack.app.cli.quantizing import quantize
from lmstack.app.formats import columns, printable, size
from lmstack.app.inspect import quality

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    command(
        app,
        "quantize",
        example="lmstack quantize smollm2-135m-instruct --to int8\n"
        "lmstack quantize ./my-model --to q4 --out ./my-model-q4",
    )(run)


def run(
    out: Output,
    model: ModelOnDisk,
    to: Annotated[
        Literal["int8", "q4", "file"],
        typer.Option(
            "--to",
            metavar="FORM",
            help="int8: a byte a weight. q4: half of that. file: the blocks of a GGUF file.",
        ),
    ],
    place: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="NAME",
            help="A name in the store, or a folder as ./NAME. [default: MODEL-FORM]",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Keep it although it is past the limit.")
    ] = False,
) -> None:
    """Make a quantized form of a model, measure what it costs, and keep it.

    Measured against the model in float32 on a fixed text of 19,000 characters: perplexity,
    divergence of the next token's distribution, and how often the most likely token is the same;
    of an encoder, the cosines between vectors. The figures go into the model's card. Past the
    limit (perplexity +1 %, q4 +10 %; a cosine of 0.99) nothing is kept unless --force is given.

    What is made is for lmstack: transformers and llama.cpp cannot read it, `lmstack convert`
    writes what they can.
    """
    from lmstack.registry import Store

    out.interrupted = ("nothing was kept", out.again())
    unit = quality.unit_of(Store().resolve(model).kind)
    with out.progress(f"Measuring {model} as {to}", unit) as bar:
        folder, found = quantize(model, to, place, bar.update, force=force)
    if out.as_json:
        result = {"name": folder.name, "path": str(folder.path), "digest": folder.digest}
        out.result({**result, "size": folder.card.size, **found})
        return
    out.lines(columns(_rows(folder.name, found)))
    if not found["within_limit"]:
        out.note("past the limit; kept because of --force")
    out.note(printable(f"kept as {folder.name} in {folder.path}", one_line=True))


def _rows(name: str, found: dict[str, Any]) -> list[tuple[str, str]]:
    held, before = size(found["weights_bytes"]), size(found["original_bytes"])
    rows = [
        (printable(name, one_line=True), ""),
        ("size", f"{held} of weights; the original's files have {before}"),
    ]
    if "perplexity" not in found:
        cosines = f"{found['mean_cosine']:.5f}, lowest {found['lowest_cosine']:.5f}"
        limit = f"(limit {quality.LOWEST_COSINE})"
        return [*rows, ("cosine", f"{cosines} {limit} over {found['passages']} passages")]
    change = f"{found['perplexity_change']:+.2%}"
    limit = f"limit {quality.LIMITS[found['form']]:+.0%}"
    return [
        *rows,
        (
            "perplexity",
            f"{found['perplexity']:.3f} for {found['original_perplexity']:.3f} ({change}, {limit})",
        ),
        ("KL divergence", f"{found['kl_divergence']:.5f} nats a token"),
        ("greedy agreement", f"{found['greedy_agreement']:.1%} of {found['tokens']:,} tokens"),
    ]
