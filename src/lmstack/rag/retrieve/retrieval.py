"""What is asked of a `Retriever` and what comes back: settings, the passages, the record.

Data only: what the stages do is in `lmstack.rag.retrieve`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from lmstack.core import (
    Config,
    Embedder,
    InputError,
    NotFoundError,
    check_range,
    check_whole,
    shown,
)
from lmstack.rag.documents import Document
from lmstack.rag.filters import Fields, Filter
from lmstack.rag.retrieve.hybrid import Hit, Mode

__all__ = [
    "PRESETS",
    "Expand",
    "HitDocuments",
    "RetrievalConfig",
    "Retrieved",
    "Searchable",
    "StageTrace",
    "Trace",
    "preset",
]

Preset = Literal["fast", "default", "best"]
Rewrite = Literal["rules", "model", "none"]
Versions = Literal["prefer_newest", "only_newest", "as_found"]
Expand = Literal["none", "section", "neighbours"]
# Characters of a section before a hit in which its table's header may stand.
MAX_ABOVE = 20_000


class Searchable(Protocol):
    """What a `Retriever` needs of an `Index`, or of what a caller may see of it."""

    @property
    def embedder(self) -> Embedder | None: ...

    def search_many(
        self,
        queries: Sequence[str],
        k: int,
        mode: Mode,
        *,
        vectors: npt.NDArray[np.float32] | None,
        where: Filter | None,
    ) -> list[list[Hit]]: ...

    def fields_of(self, document_ids: Sequence[int]) -> Mapping[int, Fields]: ...

    def document(self, which: int) -> Document: ...

    def passage_spans(self, document_id: int) -> list[tuple[int, int]]: ...


class HitDocuments:
    """The documents of hits, each read once. One that has changed or gone since it was found is
    none."""

    def __init__(self, index: Searchable) -> None:
        self._index = index
        self._documents: dict[int, Document | None] = {}

    def of(self, hit: Hit) -> Document | None:
        if hit.document_id not in self._documents:
            try:
                self._documents[hit.document_id] = self._index.document(hit.document_id)
            except NotFoundError:
                self._documents[hit.document_id] = None
        document = self._documents[hit.document_id]
        return document if document and document.text[hit.start : hit.end] == hit.text else None

    def above(self, hit: Hit) -> str:
        """The text of a hit's section before it, where its table's header may stand."""
        document = self.of(hit)
        if document is None:
            return ""
        starts = (s.start for s in document.sections if s.start <= hit.start)
        start = max(max(starts, default=0), hit.start - MAX_ABOVE)
        return document.text[start : hit.start]


@dataclass(frozen=True)
class RetrievalConfig(Config):
    """Which stages a search has, in the order in which they run.

    ``rewrite``: how a question that leans on the last ``history_turns`` turns becomes one that
    stands alone. ``variants``: further wordings that the model writes; all lists are fused.
    ``hyde``: embed a passage that the model makes up besides the question (Gao et al. 2022,
    arXiv:2212.10496). ``depth``: candidates that the later stages see. ``late_depth`` and
    ``rerank_depth``: how many of them late interaction and the reranker score anew, 0 for none;
    the weights are the new score's share beside the score before, both scaled to [0, 1]. A
    reranker that does not read most of what was found (`ModelInfo.languages`) is left out.
    ``fresh_days``: the half-life of a document's ``date_field``, None to leave dates alone;
    ``fresh_weight``: the share of freshness in the score. ``duplicates``: passages that share
    so much of their words count once, None to keep all. ``mmr``: the share of relevance against
    novelty, None for relevance alone. ``expand``: give the whole section, or ``neighbours``
    passages on each side, of at most ``expand_tokens`` tokens of the embedder.
    """

    mode: Mode = "hybrid"
    rewrite: Rewrite = "rules"
    history_turns: int = 2
    variants: int = 0
    hyde: bool = False
    depth: int = 50
    late_depth: int = 0
    late_weight: float = 0.6
    rerank_depth: int = 0
    rerank_weight: float = 0.5
    fresh_days: float | None = None
    fresh_weight: float = 0.3
    date_field: str = "date"
    today: str | None = None
    versions: Versions = "prefer_newest"
    duplicates: float | None = 1.0
    mmr: float | None = None
    expand: Expand = "none"
    neighbours: int = 1
    expand_tokens: int = 500

    def __post_init__(self) -> None:
        _check_choice("mode", self.mode, get_args(Mode))
        _check_choice("rewrite", self.rewrite, get_args(Rewrite))
        _check_choice("versions", self.versions, get_args(Versions))
        _check_choice("expand", self.expand, get_args(Expand))
        check_whole("history_turns", self.history_turns, 0, 100)
        check_whole("variants", self.variants, 0, 10)
        check_whole("depth", self.depth, 1, 1000)
        check_whole("late_depth", self.late_depth, 0, 1000)
        check_whole("rerank_depth", self.rerank_depth, 0, 1000)
        check_whole("neighbours", self.neighbours, 1, 20)
        check_whole("expand_tokens", self.expand_tokens, 1, 100_000)
        for name in ("late_weight", "rerank_weight", "fresh_weight"):
            check_range(name, getattr(self, name), 0, 1)
        for name in ("duplicates", "mmr"):
            if getattr(self, name) is not None:
                check_range(name, getattr(self, name), 0, 1)
        if self.fresh_days is not None:
            check_range("fresh_days", self.fresh_days, 0, 1e6, low_open=True)
        if self.today is not None:
            _check_date(self.today)
        if self.hyde and self.mode == "lexical":
            raise InputError(
                "hyde embeds a passage, and mode is 'lexical'",
                hint="use the mode 'hybrid' or 'dense', or leave hyde out",
                param="hyde",
            )

    @property
    def asks_model(self) -> bool:
        """Whether some stage needs a language model."""
        return self.rewrite == "model" or self.variants > 0 or self.hyde


@dataclass(frozen=True, slots=True)
class StageTrace:
    """``scores``: (chunk id, score) after the stage, best first. ``dropped``: the chunks that
    the stage took out, and why. ``note``: what else is to be said."""

    name: str
    seconds: float
    scores: tuple[tuple[int, float], ...]
    dropped: Mapping[int, str]
    note: str = ""

    def rank_of(self, chunk_id: int) -> int | None:
        """Counted from 1; None if the stage did not have it or took it out."""
        return next((n for n, (i, _) in enumerate(self.scores, 1) if i == chunk_id), None)


@dataclass(frozen=True, slots=True)
class Trace:
    """What happened to every candidate. ``queries``: what was searched for. ``passages``: each
    chunk that any stage had, as it was found."""

    queries: tuple[str, ...]
    stages: tuple[StageTrace, ...]
    passages: Mapping[int, Hit]

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    def fate_of(self, chunk_id: int) -> str:
        """Why a chunk is not among the results; empty for one that is, or that was not found."""
        return next((s.dropped[chunk_id] for s in self.stages if chunk_id in s.dropped), "")

    def to_json(self) -> dict[str, Any]:
        return {
            "queries": list(self.queries),
            "seconds": self.seconds,
            "stages": [
                {"name": s.name, "seconds": s.seconds, "passages": len(s.scores), "note": s.note}
                for s in self.stages
            ],
            "passages": [
                {
                    "path": hit.path,
                    "start": hit.start,
                    "end": hit.end,
                    "found_by": dict(hit.ranks),
                    "stages": self._stages_of(chunk_id),
                    "gone": self.fate_of(chunk_id),
                }
                for chunk_id, hit in self.passages.items()
            ],
        }

    def _stages_of(self, chunk_id: int) -> dict[str, Any]:
        return {
            stage.name: {"rank": rank, "score": stage.scores[rank - 1][1]}
            for stage in self.stages
            for rank in (stage.rank_of(chunk_id),)
            if rank is not None
        }


@dataclass(frozen=True, slots=True)
class Retrieved:
    """``query``: what was searched for, which for a follow-up is more than what was asked;
    ``vector`` is its embedding, None in lexical mode. ``superseded``: documents among the hits
    of which a newer version was found, and that version's id."""

    query: str
    vector: npt.NDArray[np.float32] | None
    hits: list[Hit]
    superseded: Mapping[int, int]
    trace: Trace


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(f"{name} is {shown(value)}", hint=f"known: {', '.join(known)}", param=name)


def _check_date(value: str) -> None:
    try:
        date.fromisoformat(value)
    except (TypeError, ValueError):
        raise InputError(
            f"today is {shown(value)}, not a date", hint="write it as 2026-11-26", param="today"
        ) from None


# Chosen on half of the questions of two collections (docs/decisions.md).
PRESETS: Mapping[Preset, RetrievalConfig] = {
    "fast": RetrievalConfig(),
    "default": RetrievalConfig(rerank_depth=10),
    "best": RetrievalConfig(late_depth=12, late_weight=0.5, rerank_depth=12, rerank_weight=0.3),
}


def preset(name: str, **changes: Any) -> RetrievalConfig:
    """The settings of a preset, with ``changes``. `InputError` for an unknown name."""
    _check_choice("preset", name, tuple(PRESETS))
    return PRESETS[name].replace(**changes)  # type: ignore[index]  # just checked
