"""`lmstack data`: what models are trained on."""

from __future__ import annotations

import typer

from lmstack.app.cli.command import command, group
from lmstack.app.cli.commands.data_questions import questions

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    data = group("Make data to train on.", example="lmstack data questions docs")
    command(data, "questions", example="lmstack data questions docs --output questions.jsonl")(
        questions
    )
    app.add_typer(data, name="data")
