"""`lmstack data rate`: a model rates answers, for reward models and preference data."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from lmstack.app import wiring
from lmstack.app.cli.command import command
from lmstack.app.cli.commands._judging import ask_of_rest, nothing_found
from lmstack.app.cli.commands._options import ModelName, Weights, say_if_remote
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable
from lmstack.core import close_model

__all__ = ["rate"]

_BATCH = 32


@command(
    "data rate",
    """
    FILE...: Pairs, ratings, or prompts with completions.
    --output, -o FILE: JSON Lines, a row an answer.
    --criterion TEXT: The question that decides. [default: how helpful, correct and to the point]

    lmstack data rate answers.jsonl --output rated.jsonl
    lmstack data preferences rated.jsonl
    """,
)
def rate(
    out: Output,
    files: list[str],
    output: Path = Path("rated.jsonl"),
    criterion: str | None = None,
    model: ModelName = None,
    weights: Weights = None,
) -> None:
    """Let a model rate answers from 1 to 5.

    Every answer in the rows is rated by itself, each once: the mean over the five digits, weighted
    by their probabilities, where the model gives these. `lmstack data preferences` makes pairs of
    the rated answers to one prompt.

    Stopped, it goes on where it was when it is started again."""
    from lmstack.evals.judging import RATED, RatingJudge
    from lmstack.pipelines.judged_ratings import JudgedRatings, answers_in, rate_all
    from lmstack.pipelines.output_journal import short_name
    from lmstack.train.data.rows import find_data

    answers, bad = answers_in(find_data(files))
    if not answers:
        hint = "rows have prompt and completions, or are pairs or ratings"
        raise nothing_found("answer", hint, files, bad)
    say_if_remote(out, model)
    chat = wiring.lazy_generator(model, weights)
    asked = RatingJudge(chat, criterion or RATED)
    settings = {"model": chat.info.digest or chat.info.name, "criterion": asked.criterion}
    try:
        with JudgedRatings(output, settings) as file:
            out.interrupted = (f"what was rated so far is in {file.unfinished}", out.again())
            ask = partial(rate_all, asked, batch=_BATCH)
            asyncio.run(ask_of_rest(out, "Rating", "answers", answers, file, ask, file.keep))
            rows = file.rows(answers, short_name(chat.info))
            file.finish(rows)
            out.interrupted = None
    finally:
        close_model(chat)
    found = {"answers": len(answers), "written": len(rows), "bad_rows": len(bad)}
    if out.as_json:
        out.result({"file": str(output), **found})
        return
    mean = sum(row["rating"] for row in rows) / max(len(rows), 1)
    table = [
        ("answers", f"{len(answers):,}; {len(bad):,} rows hold none"),
        ("not rated", f"{len(answers) - len(rows):,}, too long or without a digit"),
        (f"written to {output}", f"{len(rows):,}, rated {mean:.2f} on average"),
    ]
    out.lines([printable(line, one_line=True) for line in columns(table)])
