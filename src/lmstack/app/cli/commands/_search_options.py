"""What `lmstack search` can be told about its stages."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

__all__ = ["ExpandHow", "Explain", "FreshDays", "Mmr", "Mode", "PresetName", "Rerank", "Where"]

Mode = Annotated[
    Literal["hybrid", "dense", "lexical"],
    typer.Option(
        "--mode",
        metavar="MODE",
        help="By words and meaning (hybrid), meaning only (dense), words only (lexical).",
    ),
]
PresetName = Annotated[
    Literal["fast", "default", "best"] | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="How much is done for quality: fast, default or best. [default: default]",
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Only documents whose fields match, such as 'format = pdf' or 'date >= 2024-06';"
        " repeat it for several that must all hold.",
    ),
]
Rerank = Annotated[
    bool | None,
    typer.Option(
        "--rerank/--no-rerank",
        help="Let a model read the first passages beside the query, or leave it out."
        " [default: as the preset]",
    ),
]
Mmr = Annotated[
    float | None,
    typer.Option(
        "--mmr",
        metavar="SHARE",
        help="Choose passages that differ: the share of relevance, 0 to 1, against novelty.",
    ),
]
ExpandHow = Annotated[
    Literal["section", "neighbours"] | None,
    typer.Option(
        "--expand",
        metavar="HOW",
        help="Show more around each passage: its section, or the passages beside it (neighbours).",
    ),
]
FreshDays = Annotated[
    float | None,
    typer.Option(
        "--fresh-days",
        metavar="DAYS",
        help="Prefer newer documents: the age, by their date, at which that counts half.",
    ),
]
Explain = Annotated[
    bool,
    typer.Option(
        "--explain", help="Also show each stage's ranks and times, and what was left out."
    ),
]
