"""`lmstack data`: what models are trained on."""

from __future__ import annotations

import typer

from lmstack.app.cli.command import command, group
from lmstack.app.cli.commands import (
    data_best_of,
    data_feedback,
    data_judge,
    data_preferences,
    data_rate,
    data_report,
)
from lmstack.app.cli.commands.data_problems import EXAMPLE as PROBLEMS
from lmstack.app.cli.commands.data_problems import make_problems
from lmstack.app.cli.commands.data_questions import questions

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    data = group(
        "Look at data to train on, and make some.",
        example="lmstack data report chats.jsonl\nlmstack data questions docs",
    )
    data_report.register(data)
    command(data, "best-of", example=data_best_of.EXAMPLE)(data_best_of.best_of)
    command(data, "feedback", example=data_feedback.EXAMPLE)(data_feedback.feedback)
    command(data, "judge", example=data_judge.EXAMPLE)(data_judge.judge)
    command(data, "preferences", example=data_preferences.EXAMPLE)(data_preferences.preferences)
    command(data, "problems", example=PROBLEMS)(make_problems)
    command(data, "rate", example=data_rate.EXAMPLE)(data_rate.rate)
    command(data, "questions", example="lmstack data questions docs --output questions.jsonl")(
        questions
    )
    app.add_typer(data, name="data")
