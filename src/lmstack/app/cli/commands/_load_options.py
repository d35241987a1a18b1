"""Options of `lmstack bench serve`, so that the command reads as what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = [
    "CONCURRENCY",
    "INPUT_TOKENS",
    "KEY_VARIABLE",
    "OUTPUT_TOKENS",
    "REQUESTS",
    "Body",
    "Concurrency",
    "Duration",
    "EndpointName",
    "InputTokens",
    "KeyVariable",
    "Model",
    "OutputTokens",
    "PlotFile",
    "PromptFile",
    "Rates",
    "Requests",
    "ResultFile",
    "Seed",
    "Server",
    "Timeout",
]

KEY_VARIABLE = "LMSTACK_API_KEY"
INPUT_TOKENS, OUTPUT_TOKENS, REQUESTS, CONCURRENCY = 128, 128, 64, 8

Server = Annotated[
    str,
    typer.Argument(metavar="URL", help="The server; /v1 is added where there is no path."),
]
Concurrency = Annotated[
    str | None,
    typer.Option(
        "--concurrency",
        metavar="N,...",
        help="Closed loop: so many requests at once, each followed by the next. Several"
        f" numbers are loads in turn. [default: {CONCURRENCY}]",
    ),
]
Rates = Annotated[
    str | None,
    typer.Option(
        "--rates",
        "--rate",
        metavar="R,...",
        help="Open loop: so many requests a second at random times (Poisson), whether or not"
        " the server keeps up. Several numbers are loads in turn.",
    ),
]
Requests = Annotated[
    int | None,
    typer.Option(
        "--requests",
        metavar="N",
        min=1,
        help=f"Requests of each load. [default: {REQUESTS}, or as many as --duration takes]",
    ),
]
Duration = Annotated[
    float | None,
    typer.Option(
        "--duration", metavar="S", min=0.1, help="Seconds for which a load sends requests."
    ),
]
InputTokens = Annotated[
    int | None,
    typer.Option(
        "--input-tokens",
        metavar="N",
        min=1,
        max=1 << 20,
        help=f"Length of the prompts, of random words. [default: {INPUT_TOKENS}]",
    ),
]
OutputTokens = Annotated[
    int,
    typer.Option("--output-tokens", metavar="N", min=1, max=1 << 20, help="Length of the answers."),
]
PromptFile = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help="Prompts instead of random words: one a line, or .jsonl with prompt or messages,"
        " and max_tokens where it differs.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME", help="The model. [default: the first of /v1/models that answers]"
    ),
]
EndpointName = Annotated[
    Literal["chat", "completions"], typer.Option("--endpoint", help="The route that is asked.")
]
Body = Annotated[
    str | None,
    typer.Option(
        "--body", metavar="JSON", help="Further fields of every request, as a JSON object."
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout", metavar="S", min=0.1, help="Longest wait for the next piece, in seconds."
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of prompts and arrivals.")]
KeyVariable = Annotated[
    str,
    typer.Option(
        "--api-key-env", metavar="NAME", help="The environment variable that holds the key."
    ),
]
ResultFile = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write figures and every request as JSON."),
]
PlotFile = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Draw latency against load, .svg or .png; takes several loads.",
    ),
]
