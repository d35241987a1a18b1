"""Reranking: how well each document answers a query, the best first.

A cross-encoder reads query and document together (Nogueira and Cho 2019, arXiv:1901.04085; equal
to sentence-transformers' ``CrossEncoder``). A late-interaction model reads them apart, see
`late_interaction`. Does not cover finding the documents: see `rag`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from lmstack.core import Config, InputError, UnsupportedError, check_whole, shown
from lmstack.registry import LoadedModel
from lmstack.serve.activations import probabilities, score_activation
from lmstack.serve.tasks.base import Task, text_of
from lmstack.serve.tasks.encoder import Encoder
from lmstack.serve.tasks.late_interaction import LateInteractionScorer
from lmstack.serve.tasks.results import Ranked, Ranking
from lmstack.text import Window

__all__ = ["CrossEncoder", "RerankOptions", "Reranking", "Scorer", "scorer"]

Floats = npt.NDArray[np.float32]
Asked = tuple[str, tuple[str, ...]]


class Scorer(Protocol):
    """Scores of pairs. Each document is cut after ``max_document_tokens``; what the model still
    cannot see is cut, or without ``cut`` an error. ``count_tokens`` counts before any cut."""

    encoder: Encoder

    def score(
        self,
        pairs: Sequence[tuple[str, str]],
        max_document_tokens: int | None = None,
        *,
        cut: bool = True,
    ) -> Floats: ...

    def count_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[int]: ...


@dataclass(frozen=True)
class RerankOptions(Config):
    """``query``: of documents that come without one. ``top_k``: documents to return, None for
    all."""

    query: str = ""
    top_k: int | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None:
            check_whole("top_k", self.top_k, 1, 1 << 31)


class Reranking(Task[Asked, RerankOptions, Ranking]):
    """Inputs: a list of documents with the option ``query``, or mappings with ``query`` and
    ``documents``. What a model cannot see of a long document is cut."""

    name = "reranking"
    options_type: ClassVar[type[Config]] = RerankOptions

    def __init__(self, loaded: LoadedModel, **options: Any) -> None:
        super().__init__(loaded, **options)
        self.scorer = scorer(loaded)

    def is_one(self, inputs: Any) -> bool:
        if isinstance(inputs, list | tuple):
            return all(isinstance(each, str) for each in inputs)
        return super().is_one(inputs)

    def read(self, value: Any, name: str, options: RerankOptions, /) -> Asked:
        query, documents = options.query, value
        if isinstance(value, Mapping):
            unknown = next((key for key in value if key not in ("query", "documents")), None)
            if unknown is not None:
                raise InputError(f"{name} has the key {shown(unknown)}", hint="query, documents")
            query, documents = value.get("query", options.query), value.get("documents")
        if isinstance(documents, str) or not isinstance(documents, Iterable):
            raise InputError(
                f"the documents of {name} are {shown(documents)}", hint="a list of texts"
            )
        query = text_of(query, f"the query of {name}")
        if not query.strip():
            raise InputError(
                f"{name} comes without a query", hint="set the option query", param="query"
            )
        return query, tuple(text_of(each, f"document {i}") for i, each in enumerate(documents))

    def run(self, items: Sequence[Asked], options: RerankOptions) -> list[Ranking]:
        pairs = [(query, text) for query, documents in items for text in documents]
        scores = self.scorer.score(pairs)
        results, start = [], 0
        for _, documents in items:
            part = scores[start : start + len(documents)]
            start += len(documents)
            order = np.argsort(-part, kind="stable")[: options.top_k]
            results.append(
                Ranking(tuple(Ranked(int(i), float(part[i]), documents[i]) for i in order))
            )
        return results


class CrossEncoder:
    """One score from query and document read together; a long pair is cut, the longer first."""

    def __init__(self, loaded: LoadedModel) -> None:
        if len(loaded.labels) != 1:
            raise UnsupportedError(
                f"{loaded.name} has {len(loaded.labels)} labels, a reranker has one score",
                hint="use text-classification with this model",
                param="model",
            )
        self.encoder = Encoder(loaded)
        self._activation = score_activation(loaded.config, loaded.name)

    def score(
        self,
        pairs: Sequence[tuple[str, str]],
        max_document_tokens: int | None = None,
        *,
        cut: bool = True,
    ) -> Floats:
        if not pairs:
            return np.zeros(0, np.float32)
        windows = self._windows(pairs, max_document_tokens, cut)
        logits = np.array([scores[0].item() for scores in self.encoder.logits(windows)], np.float32)
        return probabilities(logits, self._activation)

    def count_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        return self.encoder.count_tokens([query for query, _ in pairs], [text for _, text in pairs])

    def _windows(
        self, pairs: Sequence[tuple[str, str]], max_document_tokens: int | None, cut: bool
    ) -> list[Window]:
        queries, texts = [query for query, _ in pairs], [text for _, text in pairs]
        if max_document_tokens is not None:
            texts = self.encoder.shortened(texts, max_document_tokens)
        return self.encoder.encode_whole(queries, texts, cut="longest" if cut else "error")


def scorer(loaded: LoadedModel) -> Scorer:
    """Late interaction where the model says so, else a cross-encoder."""
    return CrossEncoder(loaded) if loaded.late is None else LateInteractionScorer(loaded)
