"""`lmstack convert`: a model as one GGUF file for llama.cpp, or as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lmstack.app.cli.command import command
from lmstack.app.cli.commands._options import ModelOnDisk
from lmstack.app.cli.conversion import convert
from lmstack.app.cli.output import Output
from lmstack.app.formats import size
from lmstack.core import InputError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    command(
        app,
        "convert",
        example="lmstack convert ./my-model --to gguf --out my-model.gguf --quantize q8_0\n"
        "lmstack convert smollm2-135m-instruct --to hf --out ./smollm2",
    )(run)


def run(
    out: Output,
    model: ModelOnDisk,
    to: Annotated[
        Literal["gguf", "hf"],
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="gguf: one file for llama.cpp. hf: a folder for transformers.",
        ),
    ],
    path: Annotated[Path, typer.Option("--out", "-o", help="The file or folder to write.")],
    quantize: Annotated[
        Literal["f32", "f16", "bf16", "q8_0", "q4_0"] | None,
        typer.Option(
            "--quantize",
            metavar="KIND",
            help="How a GGUF file stores matrices: f32, f16, bf16, q8_0 or q4_0. [default: q8_0]",
        ),
    ] = None,
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"] | None,
        typer.Option(
            "--dtype",
            metavar="TYPE",
            help="Type of a folder's weights: float32, float16 or bfloat16. [default: float32]",
        ),
    ] = None,
) -> None:
    """Write a model in the other format, with its tokenizer and chat template.

    A GGUF file is written only where llama.cpp computes what the model does; what it has no
    place for is an error. Weights that were quantized stay as far from the original as they
    were.
    """
    if to == "hf" and quantize is not None:
        raise InputError("--quantize is for --to gguf", hint="use --dtype for a folder")
    if to == "gguf" and dtype is not None:
        raise InputError("--dtype is for --to hf", hint="use --quantize for a GGUF file")
    written = convert(model, to, path, quantize or "q8_0", dtype or "float32")
    if out.as_json:
        out.result(written)
    else:
        out.line(f"{written['path']}   {size(written['size'])}")
