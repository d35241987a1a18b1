"""Give more of the document around a passage: its whole section, or the passages beside it.

What comes out is still a span of the document, so that it can be cited. A document that changed or
went since it was found gives nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from lmstack.rag.documents import Document, page_of
from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.sentences import sentence_spans

__all__ = ["expand", "neighbour_span", "section_span"]

Span = tuple[int, int]
CountTokens = Callable[[str], int]


def expand(
    hits: Sequence[Hit],
    document_of: Callable[[Hit], Document | None],
    span_of: Callable[[Hit, Document], Span],
) -> tuple[list[Hit], dict[int, str]]:
    """Each hit with the span that ``span_of`` gives; a hit whose own words a better one shows
    already is left out, and said why. A better one keeps its span where two would overlap."""
    shown: dict[int, list[Hit]] = {}
    wider: list[Hit] = []
    dropped: dict[int, str] = {}
    for hit in hits:
        others = shown.setdefault(hit.document_id, [])
        holder = next((o for o in others if o.start <= hit.start and hit.end <= o.end), None)
        if holder is not None:
            dropped[hit.chunk_id] = f"is part of {holder.path} ({holder.start}-{holder.end})"
            continue
        document = document_of(hit)
        if document is not None:
            hit = _widened(hit, document, _apart(span_of(hit, document), hit, others))
        others.append(hit)
        wider.append(hit)
    return wider, dropped


def section_span(hit: Hit, document: Document, count: CountTokens, budget: int) -> Span:
    """The section of the passage, from that which it begins in (of headings alone, it may be) to
    that which it ends in; where it has more than ``budget`` tokens, as many whole sentences around
    the passage as fit."""
    own = [s for s in document.sections if s.start < hit.end and hit.start < s.end]
    if not own:
        return hit.start, hit.end
    start, end = min(own[0].start, hit.start), max(own[-1].end, hit.end)
    if count(document.text[start:end]) <= budget:
        return start, end
    return _sentences_around(hit, document, (start, end), count, budget)


def neighbour_span(
    hit: Hit,
    document: Document,
    spans: Iterable[Span],
    count: CountTokens,
    budget: int,
    distance: int,
) -> Span:
    """From ``distance`` passages before to as many after, fewer where ``budget`` tokens are
    reached; ``spans`` are those of all passages of the document."""
    before = sorted((s for s in spans if s < (hit.start, hit.end)), reverse=True)
    after = sorted(s for s in spans if s > (hit.start, hit.end))
    start, end = hit.start, hit.end
    for step in range(distance):
        for side in (after, before):
            if step < len(side):
                wider = min(start, side[step][0]), max(end, side[step][1])
                if count(document.text[slice(*wider)]) <= budget:
                    start, end = wider
    return start, end


def _sentences_around(
    hit: Hit, document: Document, within: Span, count: CountTokens, budget: int
) -> Span:
    """Sentences after and before in turn, while they fit."""
    base = within[0]
    spans = [(base + a, base + b) for a, b in sentence_spans(document.text[slice(*within)])]
    before = [span for span in reversed(spans) if span[0] < hit.start]
    after = [span for span in spans if span[1] > hit.end]
    start, end = hit.start, hit.end
    for step in range(max(len(before), len(after))):
        for side in (after, before):
            if step >= len(side):
                continue
            wider = min(start, side[step][0]), max(end, side[step][1])
            if count(document.text[slice(*wider)]) > budget:
                return start, end
            start, end = wider
    return start, end


def _apart(span: Span, hit: Hit, others: Sequence[Hit]) -> Span:
    """``span`` without what ``others`` of the document show, never less than the hit itself."""
    start, end = span
    for other in others:
        if other.end <= hit.end and other.end > start:
            start = min(other.end, hit.start)
        if other.start >= hit.start and other.start < end:
            end = max(other.start, hit.end)
    return start, end


def _widened(hit: Hit, document: Document, span: Span) -> Hit:
    start, end = min(span[0], hit.start), max(span[1], hit.end)
    while start < hit.start and document.text[start].isspace():
        start += 1
    while end > hit.end and document.text[end - 1].isspace():
        end -= 1
    page = page_of(document.pages, start) if document.pages else hit.page
    return replace(hit, start=start, end=end, text=document.text[start:end], page=page)
