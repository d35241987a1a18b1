"""`lmstack data judge`: a model says which of two answers is better, for preference data."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

from lmstack.app import wiring
from lmstack.app.cli.command import command
from lmstack.app.cli.commands._judging import ask_of_rest, nothing_found
from lmstack.app.cli.commands._options import ModelName, Weights, say_if_remote
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable
from lmstack.core import close_model

__all__ = ["judge"]

# Pairs at a time, each in both orders.
_BATCH = 16


@command(
    "data judge",
    """
    FILE...: Pairs, or prompts with completions.
    --output, -o FILE: JSON Lines, a row a pair.
    --criterion TEXT: The question that decides. [default: which is more helpful, correct and to the
        point]
    --relabel: Change labels that the judge does not share.
    --agreeing: Only pairs that both orders say the same of.

    lmstack data judge answers.jsonl --output pairs.jsonl
    lmstack data judge pairs.jsonl --criterion "Which answer is less harmful?" -o judged.jsonl
    """,
)
def judge(
    out: Output,
    files: list[str],
    output: Path = Path("judged.jsonl"),
    criterion: str | None = None,
    relabel: bool = False,
    agreeing: bool = False,
    model: ModelName = None,
    weights: Weights = None,
) -> None:
    """Let a model say which of two answers is better.

    Rows are pairs (prompt, chosen, rejected), or a prompt with completions, each two of which are
    compared. The judge sees every pair in both orders, and the probability that the chosen answer
    is the better one is written with it. Of pairs that have labels it says how often the judge
    shares them: try a judge on labels by people before its own are trained on.

    Stopped, it goes on where it was when it is started again."""
    from lmstack.evals.judging import CRITERION, PairJudge
    from lmstack.pipelines.judged_pairs import JudgedPairs, candidates, judge_all
    from lmstack.pipelines.output_journal import short_name
    from lmstack.train.data.rows import find_data

    pairs, bad = candidates(find_data(files))
    if not pairs:
        hint = "rows have prompt, chosen and rejected, or prompt and completions"
        raise nothing_found("pair", hint, files, bad)
    say_if_remote(out, model)
    chat = wiring.lazy_generator(model, weights)
    asked = PairJudge(chat, criterion or CRITERION)
    settings = {"model": chat.info.digest or chat.info.name, "criterion": asked.criterion}
    try:
        with JudgedPairs(output, settings, relabel=relabel, agreeing=agreeing) as file:
            out.interrupted = (f"what was judged so far is in {file.unfinished}", out.again())
            ask = partial(judge_all, asked, batch=_BATCH)
            asyncio.run(ask_of_rest(out, "Judging", "pairs", pairs, file, ask, file.keep))
            rows = file.rows(pairs, short_name(chat.info))
            file.finish(rows)
            out.interrupted = None
    finally:
        close_model(chat)
    found = {**file.summary(pairs), "written": len(rows), "bad_rows": len(bad)}
    if out.as_json:
        out.result({"file": str(output), **found})
    else:
        _say(out, found, output)


def _say(out: Output, found: dict[str, Any], output: Path) -> None:
    decided = found["decided"]
    shares = f"{found['agree'] / decided:.1%} of the pairs" if decided else "no pair"
    rows = [
        ("pairs", f"{found['pairs']:,}; {found['bad_rows']:,} rows hold none"),
        ("left out", f"{found['undecided']:,} undecided, {found['too_long']:,} too long"),
        ("both orders agree", f"on {shares}"),
    ]
    if found["place"] is not None:
        rows.append(("shown first is worth", f"{found['place']:+.2f} log-odds, which cancel"))
    if not found["probabilities"]:
        rows.append(("probabilities", "the model gives none: 0, 0.5 or 1"))
    if "right" in found:
        interval = f"95 % interval {found['low']:.1%} to {found['high']:.1%}"
        said = f"{found['right']:.1%} of {found['labelled']:,}, {interval}"
        rows.append(("labels it shares", said))
    rows.append((f"written to {output}", f"{found['written']:,}"))
    out.lines([printable(line, one_line=True) for line in columns(rows)])
