"""How a search came to its passages, as aligned lines: why each is where it is, and why not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmstack.app.formats import columns, printable

if TYPE_CHECKING:
    from lmstack.rag.retrieve.hybrid import Hit
    from lmstack.rag.retrieve.retrieval import Retrieved, Trace

__all__ = ["explanation_lines"]

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
