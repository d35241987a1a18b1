"""Newer documents first: a share of the score halves with every half-life of a document's age.

    score = (1 - w) * relevance + w * 2 ** (-age / half-life)

with relevance scaled to [0, 1] over the candidates. A document without a date is as old as its
file; without that it counts as one half-life old, and one of the future as new. Does not cover
versions of one document: see `versions`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date

import numpy as np

from lmstack.rag.filters import Fields
from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.retrieve.rescoring import by_score, scaled

__all__ = ["day_of", "prefer_fresh"]

_DATE = re.compile(r"(\d{4})(?:-(\d{1,2}))?(?:-(\d{1,2}))?(?!\d)")


def prefer_fresh(
    hits: Sequence[Hit],
    fields_of: Callable[[Hit], Fields],
    today: date,
    half_life_days: float,
    weight: float,
    date_field: str,
) -> list[Hit]:
    """``hits`` in the order of relevance and age."""
    if not hits:
        return []
    freshness = []
    for hit in hits:
        fields = fields_of(hit)
        day = day_of(fields.get(date_field)) or day_of(fields.get("modified"))
        age = half_life_days if day is None else max((today - day).days, 0)
        freshness.append(0.5 ** (age / half_life_days))
    relevance = scaled([hit.score for hit in hits])
    return by_score(hits, (1 - weight) * relevance + weight * np.array(freshness))


def day_of(value: object) -> date | None:
    """The day of an ISO 8601 text, which may lack day or month (then the first); None if it is
    not one."""
    match = _DATE.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    try:
        return date(int(match[1]), int(match[2] or 1), int(match[3] or 1))
    except ValueError:
        return None
