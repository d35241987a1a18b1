"""`lmstack search`: the passages that fit a query, without a language model."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from lmstack.app import document_wiring
from lmstack.app.command import command
from lmstack.app.commands._options import (
    Docs,
    EmbedderName,
    IndexFolder,
    NumPassages,
    Rebuild,
    check_words,
    one_source,
)
from lmstack.app.formats import printable
from lmstack.app.output import Output

__all__ = ["register"]

PREVIEW = 300


def register(app: typer.Typer) -> None:
    command(
        app,
        "search",
        example='lmstack search "backup schedule" --docs docs\n'
        'lmstack search "backup schedule" --index notes.idx -k 5 --json',
    )(search)


def search(
    out: Output,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.")],
    docs: Docs = None,
    index: IndexFolder = None,
    k: NumPassages = 10,
    mode: Annotated[
        Literal["hybrid", "dense", "lexical"],
        typer.Option(
            "--mode",
            metavar="MODE",
            help="By words and meaning (hybrid), meaning only (dense), words only (lexical).",
        ),
    ] = "hybrid",
    embedder: EmbedderName = None,
    rebuild: Rebuild = False,
) -> None:
    """Find the passages that fit a query.

    With --docs the folder's index is made or updated first. Passages found by words and by
    meaning are fused by reciprocal rank. Words alone need no model.
    """
    one_source(docs, index, "lmstack search")
    check_words(query, "query", "lmstack search")
    with document_wiring.open_source(
        out, docs, index, embedder, rebuild=rebuild, embeds=mode != "lexical" or docs is not None
    ) as opened:
        hits = opened.search(query, k, mode)
    if out.as_json:
        out.result([hit.to_json() for hit in hits])
        return
    if not hits:
        out.note("nothing was found; try other words, or --mode dense")
    for hit in hits:
        place = printable(f"{hit.path} ({hit.start}-{hit.end})", one_line=True)
        out.line(f"{hit.rank:>3}. {out.style(place, 'bold')}   {hit.score:.4f}")
        out.line(f"     {_preview(hit.text)}")


def _preview(text: str) -> str:
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= PREVIEW else flat[:PREVIEW].rsplit(" ", 1)[0] + " …"
