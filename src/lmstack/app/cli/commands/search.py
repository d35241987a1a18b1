"""`lmstack search`: the passages that fit a query, without a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmstack.app.cli.command import command
from lmstack.app.cli.commands._options import (
    Docs,
    EmbedderName,
    IndexFolder,
    NumPassages,
    Rebuild,
    check_words,
    filter_of,
    one_source,
)
from lmstack.app.cli.commands._search_options import (
    ExpandHow,
    Explain,
    FreshDays,
    Mmr,
    Mode,
    PresetName,
    Rerank,
    Where,
)
from lmstack.app.cli.explaining import explanation_lines
from lmstack.app.cli.output import Output
from lmstack.app.formats import printable
from lmstack.app.wiring import documents, retrieval

if TYPE_CHECKING:
    from lmstack.rag.retrieve.retrieval import RetrievalConfig, Retrieved

__all__ = ["register"]

PREVIEW = 300
RERANKED = 20


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
    mode: Mode = "hybrid",
    preset: PresetName = None,
    rerank: Rerank = None,
    where: Where = None,
    mmr: Mmr = None,
    expand: ExpandHow = None,
    fresh_days: FreshDays = None,
    explain: Explain = False,
    embedder: EmbedderName = None,
    rebuild: Rebuild = False,
) -> None:
    """Find the passages that fit a query.

    With --docs the folder's index is made or updated first. Passages found by words and by
    meaning are fused by their scores, then read by a reranker. Words alone (--mode lexical)
    need no model, and are not reranked unless asked for.
    """
    one_source(docs, index, "lmstack search", out.again())
    check_words(query, "query", "lmstack search")
    changes = {"mode": mode, "mmr": mmr, "expand": expand or "none", "fresh_days": fresh_days}
    wanted = filter_of(where)
    config = _config(out, preset, rerank, changes)
    embeds = mode != "lexical" or docs is not None or mmr is not None
    with documents.open_source(
        out, docs, index, embedder, rebuild=rebuild, embeds=embeds
    ) as opened:
        found = retrieval.retriever(opened, config).search(query, k, where=wanted)
    if out.as_json:
        hits = [hit.to_json() for hit in found.hits]
        out.result({"hits": hits, "explain": found.trace.to_json()} if explain else hits)
        return
    if not found.hits:
        out.note(_nothing(mode, filtered=wanted is not None))
    _print(out, found)
    if explain:
        out.line()
        out.lines(explanation_lines(found))


def _config(
    out: Output, preset: str | None, rerank: bool | None, changes: dict[str, Any]
) -> RetrievalConfig:
    """What was asked for; a model that was not asked for by name may be missing."""
    from lmstack.rag.retrieve.retrieval import preset as preset_of

    chosen = preset or ("fast" if changes["mode"] == "lexical" else "default")
    config = preset_of(chosen, **changes)
    if rerank is not None:
        depth = (config.rerank_depth or RERANKED) if rerank else 0
        return config.replace(rerank_depth=depth)
    return config if preset is not None else retrieval.feasible(out, config)


def _nothing(mode: str, *, filtered: bool) -> str:
    if filtered:
        return "nothing was found in the documents that --where lets through"
    other = "" if mode == "dense" else ", or --mode dense"
    return f"nothing was found; try other words{other}"


def _print(out: Output, found: Retrieved) -> None:
    paths = {hit.document_id: hit.path for hit in found.trace.passages.values()}
    for hit in found.hits:
        place = printable(f"{hit.path} ({hit.start}-{hit.end})", one_line=True)
        out.line(f"{hit.rank:>3}. {out.style(place, 'bold')}   {hit.score:.4f}")
        newer = found.superseded.get(hit.document_id)
        if newer is not None:
            out.line(f"     superseded by {printable(paths[newer], one_line=True)}")
        out.line(f"     {_preview(hit.text)}")


def _preview(text: str) -> str:
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= PREVIEW else flat[:PREVIEW].rsplit(" ", 1)[0] + " …"
