"""`lmstack search`: the passages that fit a query, without a language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from lmstack.app.cli import indexing
from lmstack.app.cli.command import command
from lmstack.app.cli.commands._options import (
    Docs,
    EmbedderName,
    IndexFolder,
    NumPassages,
    Rebuild,
    Where,
    check_words,
    filter_of,
    one_source,
)
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable
from lmstack.app.wiring import retrieval

if TYPE_CHECKING:
    from lmstack.rag.retrieve.hybrid import Hit
    from lmstack.rag.retrieve.retrieval import RetrievalConfig, Retrieved, Trace

__all__ = ["search"]


PREVIEW = 300
RERANKED = 20


@command(
    "search",
    """
    QUERY: What to look for.
    --mode MODE: By words and meaning (hybrid), meaning only (dense), words only (lexical).
    --preset NAME: How much is done for quality: fast, default or best. [default: default]
    --rerank/--no-rerank: Let a model read the first passages beside the query, or leave it out.
        [default: as the preset]
    --mmr SHARE: Choose passages that differ: the share of relevance, 0 to 1, against novelty.
    --expand HOW: Show more around each passage: its section, or the passages beside it
        (neighbours).
    --fresh-days DAYS: Prefer newer documents: the age, by their date, at which that counts half.
    --explain: Also show each stage's ranks and times, and what was left out.

    lmstack search "backup schedule" --docs docs
    lmstack search "backup schedule" --index notes.idx -k 5 --json
    """,
)
def search(
    out: Output,
    query: str,
    docs: Docs = None,
    index: IndexFolder = None,
    k: NumPassages = 10,
    mode: Literal["hybrid", "dense", "lexical"] = "hybrid",
    preset: Literal["fast", "default", "best"] | None = None,
    rerank: bool | None = None,
    where: Where = None,
    mmr: float | None = None,
    expand: Literal["section", "neighbours"] | None = None,
    fresh_days: float | None = None,
    explain: bool = False,
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
    with indexing.open_source(out, docs, index, embedder, rebuild=rebuild, embeds=embeds) as opened:
        found = retrieval.retriever(opened.matching(wanted), config).search(query, k)
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
    return config if preset is not None else retrieval.feasible(config, out.note)


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


# What is not among the results and shown all the same: as many as the results, at least these.
LEFT_OUT = 10


def explanation_lines(found: Retrieved) -> list[str]:
    """The stages with their times, then every result and the best of what is none, with its rank
    after each stage."""
    trace = found.trace
    return [*_stage_lines(trace), "", *_passage_lines(found)]


def _stage_lines(trace: Trace) -> list[str]:
    rows = [("STAGE", "MS", "PASSAGES", "")]
    rows += [
        (s.name, f"{1e3 * s.seconds:.1f}", str(len(s.scores)), printable(s.note, one_line=True))
        for s in trace.stages
    ]
    return columns(rows, indent=2)


def _passage_lines(found: Retrieved) -> list[str]:
    trace = found.trace
    ranked = [stage for stage in trace.stages if stage.name not in ("query", "first k", "expand")]
    kept = {hit.chunk_id: hit.rank for hit in found.hits}
    left = [i for i in trace.passages if i not in kept][: max(LEFT_OUT, len(kept))]
    names = [stage.name.upper() for stage in ranked]
    rows: list[Sequence[str]] = [("RANK", "MEANING", "WORDS", *names, "PASSAGE")]
    for chunk_id in [*kept, *left]:
        hit = trace.passages[chunk_id]
        by = [_rank(hit.ranks.get(kind)) for kind in ("dense", "lexical")]
        places = [_rank(stage.rank_of(chunk_id)) for stage in ranked]
        rows.append((_rank(kept.get(chunk_id)), *by, *places, _said(trace, hit, chunk_id)))
    return columns(rows, indent=2)


def _said(trace: Trace, hit: Hit, chunk_id: int) -> str:
    place = f"{hit.path} ({hit.start}-{hit.end})"
    fate = trace.fate_of(chunk_id)
    return printable(f"{place}: {fate}" if fate else place, one_line=True)


def _rank(rank: int | None) -> str:
    return "-" if rank is None else str(rank)
