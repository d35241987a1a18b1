"""`lmstack train`: a recipe to a model."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lmstack.app.cli.command import command
from lmstack.app.cli.output import Output, Progress
from lmstack.app.formats import columns
from lmstack.train.recipe import read_recipe, warnings_of

__all__ = ["register"]

EXAMPLE = "lmstack train recipes/sft-lora.yaml data=my.jsonl lr=1e-4"


def register(app: typer.Typer) -> None:
    @command(app, "train", example=EXAMPLE)
    def train(
        out: Output,
        recipe: Annotated[Path, typer.Argument(help="A YAML file.", metavar="RECIPE")],
        overrides: Annotated[
            list[str] | None, typer.Argument(help="key=value", metavar="KEY=VALUE...")
        ] = None,
        resume: Annotated[
            bool, typer.Option("--resume", help="Go on from the last checkpoint.")
        ] = False,
    ) -> None:
        """Train a model by a recipe.

        A recipe is a YAML file; key=value changes it, with dots for what is nested (lora.r=8)."""
        is_first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
        out.quiet |= not is_first
        settings = read_recipe(recipe, overrides or [])
        for warning in warnings_of(settings):
            out.note(f"note: {warning}")
        from lmstack.train import run
        from lmstack.train.loop import Watch

        out.interrupted = (
            f"checkpoints are in {settings.folder}",
            out.again() if resume else f"{out.again()} --resume",
        )

        class Bar(Watch):
            def __init__(self, bar: Progress) -> None:
                self._bar = bar

            def note(self, text: str) -> None:
                out.note(f"note: {text}")

            def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
                self._bar.update(
                    done,
                    total,
                    f"loss {values['loss']:.3f}, {values['tokens_per_second']:.0f} tokens/s",
                )

        with out.progress(f"Training {settings.output}", "steps") as bar:
            result = run.train(settings, resume=resume, watch=Bar(bar))
        out.interrupted = None
        if not is_first:
            return
        if out.as_json:
            out.result(
                {
                    "name": result.name,
                    "folder": str(result.folder),
                    "digest": result.digest,
                    "values": dict(result.values),
                    "steps": result.steps,
                    "tokens": result.tokens,
                    "trainable": result.trainable,
                    "parameters": result.parameters,
                    "data": result.report.to_json(),
                }
            )
            return
        rows: list[tuple[str, Any]] = [
            ("result", str(result.folder)),
            ("trained", f"{result.trainable:,} of {result.parameters:,} parameters"),
            ("steps", f"{result.steps:,}, {result.tokens:,} tokens"),
            *(
                (name, f"{value:.4f}")
                for name, value in result.values.items()
                if name in ("loss", "accuracy")
            ),
        ]
        out.lines(columns(rows))
        for bad in result.report.bad:
            print(f"left out {bad.place}: {bad.reason}", file=sys.stderr)
