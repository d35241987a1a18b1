"""Options of `lmstack plan`, so that the command reads as what it does."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from lmstack.app.server.deployment import DEFAULT_CONTEXT, DEFAULT_USERS

__all__ = ["Context", "KvType", "MemorySize", "PlannedName", "PlannedWeights", "Users"]

PlannedName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A name in the store, a model folder, a .gguf file, or a config.json by itself:"
        " weights are not needed, and nothing is pulled.",
    ),
]
Users = Annotated[
    int | None,
    typer.Option(
        "--users",
        metavar="N",
        min=1,
        max=1 << 20,
        help=f"Answers at the same time. [default: {DEFAULT_USERS}]",
    ),
]
Context = Annotated[
    int | None,
    typer.Option(
        "--context",
        metavar="T",
        min=1,
        max=1 << 31,
        help="Tokens of each: prompt and answer together."
        f" [default: {DEFAULT_CONTEXT}, or the model's longest if that is less]",
    ),
]
MemorySize = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Memory to plan for, such as 16GiB or 24GB. [default: what is free here]",
    ),
]
PlannedWeights = Annotated[
    Literal["bfloat16", "float32", "int8", "q4", "file"] | None,
    typer.Option(
        "--weights",
        metavar="FORM",
        help="How weights are held: bfloat16, float32, int8, q4 (4 bits), or file: as"
        " they are stored. [default: file for GGUF, else bfloat16]",
    ),
]
KvType = Annotated[
    Literal["bfloat16", "int8", "float32"] | None,
    typer.Option(
        "--kv",
        metavar="TYPE",
        help="How keys and values are held beside integer weights: int8 or bfloat16. Beside"
        " floats they are as these. [default: int8]",
    ),
]
