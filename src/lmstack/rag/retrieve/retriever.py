"""A question to passages, through the stages that its settings name; each leaves its record.

    rewrite -> variants, HyDE -> candidates -> late interaction -> rerank -> freshness -> versions
    -> duplicates -> diversity -> the first k -> expansion

Candidates come from `Index.search`, or from what a caller may see of an index: filters and access
labels hold there, and no later stage adds a document. Blocks; ask from a thread where an event
loop runs. Does not cover what the stages do (`lmstack.rag.retrieve`) or answers (`answerer`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial

import numpy as np
import numpy.typing as npt

from lmstack.core import ChatModel, Embedder, InputError, Reranker
from lmstack.rag.chunk import embedded_text
from lmstack.rag.documents import Document
from lmstack.rag.filters import Fields, Filter
from lmstack.rag.retrieve.expansion import Span, expand, neighbour_span, section_span
from lmstack.rag.retrieve.hybrid import Hit, check_query, fuse
from lmstack.rag.retrieve.look_alikes import groups_asked, names_of_others, unheld
from lmstack.rag.retrieve.retrieval import (
    HitDocuments,
    RetrievalConfig,
    Retrieved,
    Searchable,
    StageTrace,
    Trace,
)
from lmstack.rag.retrieve.rewriting import (
    Turn,
    made_up_passage,
    query_variants,
    retrieval_query,
    standalone_query,
)
from lmstack.rag.retrieve.stages import (
    Described,
    LateInteractionReranker,
    TokenEmbedder,
    collapse,
    diversify,
    newest_first,
    prefer_fresh,
    reads_most,
    rescore,
    superseded_by,
    unless_named,
    with_read,
)

__all__ = ["Retriever"]

Vector = npt.NDArray[np.float32]
Staged = tuple[list[Hit], Mapping[int, str], str]
RRF_K = 60.0


class Retriever:
    """Searches ``index`` (an `Index`, or what a caller may see of one) as ``config`` says.
    Thread-safe if the models are; it keeps nothing between searches but what ``late`` caches."""

    def __init__(
        self,
        index: Searchable,
        config: RetrievalConfig | None = None,
        *,
        reranker: Reranker | None = None,
        late: TokenEmbedder | LateInteractionReranker | None = None,
        model: ChatModel | None = None,
    ) -> None:
        self.index = index
        self.config = config or RetrievalConfig()
        self._reranker, self._model = reranker, model
        self._late = LateInteractionReranker(late) if isinstance(late, TokenEmbedder) else late
        self._check_parts()

    def search(
        self,
        question: str,
        k: int = 10,
        *,
        history: Sequence[Turn] = (),
        where: Filter | None = None,
        translations: Mapping[str, str] | None = None,
    ) -> Retrieved:
        """The ``k`` best passages. ``history`` holds (question, answer) pairs, oldest first;
        ``where`` keeps documents whose fields match. ``translations``: the question in other
        languages, by their codes; documents in these are searched and read by them."""
        check_query(question, k, self.config.mode)
        run = _Run(self, k, where, translations or {})
        hits = run.find(question, history)
        return Retrieved(run.queries[0], run.vector, hits, run.newest, run.trace())

    def search_many(
        self, questions: Sequence[str], k: int = 10, *, where: Filter | None = None
    ) -> list[Retrieved]:
        """`search` for each of ``questions``."""
        return [self.search(question, k, where=where) for question in questions]

    def _check_parts(self) -> None:
        config = self.config
        needs = (
            ("reranker", config.rerank_depth > 0, self._reranker, "rerank_depth"),
            ("late", config.late_depth > 0, self._late, "late_depth"),
            ("model", config.asks_model, self._model, "rewrite"),
        )
        for name, needed, part, setting in needs:
            if needed and part is None:
                raise InputError(
                    f"these settings need a {name}, and none was given",
                    hint=f"pass {name}= to Retriever, or change {setting}",
                    param=name,
                )
        if config.mode != "lexical" and self.index.embedder is None:
            raise InputError(
                "searching by meaning needs an embedding model",
                hint="search with mode 'lexical', or open the index with an embedder",
                param="mode",
            )


@dataclass
class _Run:
    """One search under way."""

    owner: Retriever
    k: int
    where: Filter | None
    translations: Mapping[str, str]
    queries: list[str] = field(default_factory=list)
    vector: Vector | None = None
    newest: Mapping[int, int] = field(default_factory=dict)
    _stages: list[StageTrace] = field(default_factory=list)
    _passages: dict[int, Hit] = field(default_factory=dict)
    _documents: HitDocuments = field(init=False)
    _fields: Mapping[int, Fields] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._documents = HitDocuments(self.owner.index)

    @property
    def config(self) -> RetrievalConfig:
        return self.owner.config

    def trace(self) -> Trace:
        return Trace(tuple(self.queries), tuple(self._stages), self._passages)

    def find(self, question: str, history: Sequence[Turn]) -> list[Hit]:
        hits: list[Hit] = []
        for name, stage in self._plan(question, history):
            started = time.perf_counter()
            hits, dropped, note = stage(hits)
            self._passages.update((h.chunk_id, h) for h in hits if h.chunk_id not in self._passages)
            scores = tuple((hit.chunk_id, hit.score) for hit in hits)
            seconds = time.perf_counter() - started
            self._stages.append(StageTrace(name, seconds, scores, dict(dropped), note))
        return [replace(hit, rank=rank) for rank, hit in enumerate(hits, 1)]

    def _plan(
        self, question: str, history: Sequence[Turn]
    ) -> list[tuple[str, Callable[[list[Hit]], Staged]]]:
        config = self.config
        stages: list[tuple[str, bool, Callable[[list[Hit]], Staged]]] = [
            ("query", True, partial(self._ask, question, history)),
            ("candidates", True, self._candidates),
            ("late", config.late_depth > 0, self._interact),
            ("rerank", config.rerank_depth > 0, self._rerank),
            ("fresh", config.fresh_days is not None, self._freshen),
            ("versions", config.versions != "as_found", self._order_versions),
            ("duplicates", config.duplicates is not None, self._collapse),
            ("mmr", config.mmr is not None, self._diversify),
            ("first k", True, self._cut),
            ("expand", config.expand != "none", self._expand),
        ]
        return [(name, stage) for name, wanted, stage in stages if wanted]

    def _ask(self, question: str, history: Sequence[Turn], _: list[Hit]) -> Staged:
        """What is searched for."""
        config, model = self.config, self.owner._model
        turns = list(history)[-config.history_turns :] if config.history_turns else []
        query = question
        if turns and config.rewrite == "rules":
            query = retrieval_query(question, turns, config.history_turns)
        elif turns and config.rewrite == "model":
            assert model is not None
            query = standalone_query(model, question, turns)
        self.queries += [query, *self.translations.values()]
        if config.variants:
            assert model is not None
            self.queries += query_variants(model, query, config.variants)
        return [], {}, "" if self.queries == [question] else " | ".join(self.queries)

    def _candidates(self, _: list[Hit]) -> Staged:
        config = self.config
        depth = max(config.depth, self.k, config.rerank_depth, config.late_depth)
        vectors = self._vectors()
        self.vector = None if vectors is None else vectors[0]
        lists = self.owner.index.search_many(
            self.queries, depth, config.mode, vectors=vectors, where=self.where
        )
        if len(lists) == 1:
            return lists[0], {}, config.mode
        found = {hit.chunk_id: hit for hits in reversed(lists) for hit in hits}
        ids = {str(n): [hit.chunk_id for hit in hits] for n, hits in enumerate(lists)}
        fused = fuse(ids, dict.fromkeys(ids, 1.0), RRF_K)[:depth]
        hits = [replace(found[i], score=score) for i, score in fused]
        return hits, {}, f"{config.mode}, {len(lists)} queries"

    def _vectors(self) -> Vector | None:
        """(Q, D); with HyDE the first is the mean of the query's and the made-up passage's."""
        config, embedder = self.config, self.owner.index.embedder
        if config.mode == "lexical":
            return None
        assert embedder is not None
        vectors = np.asarray(embedder.embed(self.queries, "query"), np.float32)
        if config.hyde:
            assert self.owner._model is not None
            passage = made_up_passage(self.owner._model, self.queries[0])
            if passage:
                mean = vectors[0] + np.asarray(embedder.embed([passage], "passage")[0], np.float32)
                vectors[0] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        return vectors

    def _interact(self, hits: list[Hit]) -> Staged:
        config, late = self.config, self.owner._late
        assert late is not None
        found = rescore(late, self.queries[0], hits, config.late_depth, config.late_weight)
        return found, {}, late.info.name

    def _rerank(self, hits: list[Hit]) -> Staged:
        config, reranker = self.config, self.owner._reranker
        assert reranker is not None
        depth = config.rerank_depth
        self._read_fields(hits)
        languages = [self._language_of(hit) for hit in hits[:depth]]
        if not reads_most(reranker.info, languages):
            return hits, {}, f"skipped: {reranker.info.name} does not read these passages"
        query = self.queries[0]
        names = names_of_others(query, groups_asked(query, hits), hits, self._documents)
        nobody = unheld(hits)
        named = {number for number, others in names.items() if nobody.issuperset(others)}
        others = names.keys() - named
        first = list(dict.fromkeys(hit.document_id for hit in hits))[:depth]
        # Elsewhere a model tells passages apart better than names do.
        if not named or 2 * len(others.intersection(first)) <= len(first):
            named, others = set(), set()
        hits = with_read(hits, depth, named)
        asked = {hit.chunk_id: self.translations.get(self._language_of(hit), query) for hit in hits}
        found = rescore(reranker, query, hits, depth, config.rerank_weight, others, asked)
        return found, {}, reranker.info.name

    def _language_of(self, hit: Hit) -> str:
        return str(self._fields_of(hit).get("language", ""))

    def _freshen(self, hits: list[Hit]) -> Staged:
        config = self.config
        assert config.fresh_days is not None
        today = date.fromisoformat(config.today) if config.today else date.today()
        self._read_fields(hits)
        found = prefer_fresh(
            hits, self._fields_of, today, config.fresh_days, config.fresh_weight, config.date_field
        )
        return found, {}, f"half-life {config.fresh_days:g} days"

    def _order_versions(self, hits: list[Hit]) -> Staged:
        self._read_fields(hits)
        known = [
            Described(hit.document_id, hit.path, hit.title, self._fields_of(hit))
            for hit in {h.document_id: h for h in hits}.values()
        ]
        self.newest = unless_named(superseded_by(known), hits)
        paths = {each.id: each.path for each in known}
        if self.config.versions == "only_newest":
            dropped = {
                hit.chunk_id: f"superseded by {paths[self.newest[hit.document_id]]}"
                for hit in hits
                if hit.document_id in self.newest
            }
            return [hit for hit in hits if hit.chunk_id not in dropped], dropped, ""
        note = "; ".join(
            f"{paths[new]} supersedes {paths[old]}" for old, new in self.newest.items()
        )
        return newest_first(hits, self.newest), {}, note

    def _collapse(self, hits: list[Hit]) -> Staged:
        assert self.config.duplicates is not None
        kept, dropped = collapse(hits, self.config.duplicates)
        return kept, dropped, ""

    def _diversify(self, hits: list[Hit]) -> Staged:
        embedder, share = self.owner.index.embedder, self.config.mmr
        if embedder is None:
            raise InputError(
                "mmr compares passages by meaning, which needs an embedding model",
                hint="open the index with an embedder, or leave mmr out",
                param="mmr",
            )
        assert share is not None
        if not hits:
            return [], {}, ""
        texts = [embedded_text(hit.prefix, hit.text) for hit in hits]
        chosen = diversify(hits, embedder.embed(texts, "passage"), self.k, share)
        kept = {hit.chunk_id for hit in chosen}
        dropped = {h.chunk_id: "says less that is new" for h in hits if h.chunk_id not in kept}
        return chosen, dropped, f"relevance {share:g}"

    def _cut(self, hits: list[Hit]) -> Staged:
        dropped = {hit.chunk_id: f"not among the first {self.k}" for hit in hits[self.k :]}
        return hits[: self.k], dropped, ""

    def _expand(self, hits: list[Hit]) -> Staged:
        wider, dropped = expand(hits, self._documents.of, self._span)
        return wider, dropped, self.config.expand

    def _span(self, hit: Hit, document: Document) -> Span:
        config = self.config
        if config.expand == "section":
            return section_span(hit, document, self._count, config.expand_tokens)
        spans = self.owner.index.passage_spans(hit.document_id)
        return neighbour_span(
            hit, document, spans, self._count, config.expand_tokens, config.neighbours
        )

    def _count(self, text: str) -> int:
        """Tokens of ``text``; about as many without an embedder."""
        embedder: Embedder | None = self.owner.index.embedder
        return embedder.count_tokens([text])[0] if embedder is not None else len(text) // 4

    def _fields_of(self, hit: Hit) -> Fields:
        return self._fields.get(hit.document_id, {})

    def _read_fields(self, hits: Sequence[Hit]) -> None:
        """Of all documents at once; one that went meanwhile has none."""
        if not self._fields and hits:
            ids = sorted({hit.document_id for hit in hits})
            self._fields = self.owner.index.fields_of(ids)
