"""What an index holds, in figures: what `lmstack index status` shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lmstack.rag.documents import Problem
from lmstack.rag.ingest.plan import Plan

__all__ = ["IndexStatus"]


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """``bytes`` on disk; ``sources`` and problem paths as they open from the current folder;
    ``rules`` say what is read of those that have some. ``plan`` is what an update would do and
    what it passes over, None if not asked for. ``fields``: the names that filters may use, with
    the number of documents that have each. ``labels``: those given to paths. ``store`` keeps the
    vectors besides. ``embedder_weights``: the form of weights that made the vectors, None for a
    remote model."""

    folder: str
    documents: int
    chunks: int
    bytes: int
    embedder: str
    embedder_digest: str
    embedder_weights: str | None
    dimensions: int
    sources: tuple[str, ...]
    problems: tuple[Problem, ...]
    plan: Plan | None
    rules: tuple[str, ...] = ()
    fields: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    store: str | None = None

    @property
    def up_to_date(self) -> bool | None:
        return None if self.plan is None else self.plan.up_to_date
