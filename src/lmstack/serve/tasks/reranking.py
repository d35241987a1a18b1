"""Reranking: how well each document answers a query, the best first.

A cross-encoder reads query and document together (Nogueira and Cho 2019, arXiv:1901.04085; equal
to sentence-transformers' ``CrossEncoder``). A late-interaction model reads them apart, as a vector
a token:

    score = sum over tokens q of the query of max over tokens d of the document of cos(q, d)

ColBERT (Khattab and Zaharia 2020, arXiv:2004.12832) and ColBERTv2, equal to PyLate. A marker token
after the first tells queries from documents; a query is filled up with mask tokens, which stand for
terms that it leaves out; punctuation of documents does not count. Does not cover finding the
documents (see `rag`), nor compressed indexes of their vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lmstack.core import Config, FormatError, InputError, UnsupportedError, allowed, shown
from lmstack.registry import LoadedModel
from lmstack.serve.activations import probabilities, score_activation
from lmstack.serve.tasks.base import ModelTask, text_of
from lmstack.serve.tasks.encoder import TaskEncoder
from lmstack.serve.tasks.results import Ranked, Ranking
from lmstack.text import Window

__all__ = ["CrossEncoder", "LateInteractionScorer", "Reranking", "scorer"]

Floats = npt.NDArray[np.float32]
Asked = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class RerankOptions(Config):
    """``query``: of documents that come without one. ``top_k``: documents to return, None for
    all."""

    query: str = ""
    top_k: int | None = allowed(None, int, 1, 1 << 31)


class Reranking(ModelTask[Asked, RerankOptions, Ranking]):
    """Inputs: a list of documents with the option ``query``, or mappings with ``query`` and
    ``documents``. What a model cannot see of a long document is cut."""

    name = "reranking"
    options_type = RerankOptions

    def __init__(self, loaded: LoadedModel, **options: Any) -> None:
        super().__init__(loaded, **options)
        self.scorer = scorer(loaded)

    def distrust(self) -> None:
        self.scorer.encoder.special = False

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
    """One score from query and document read together. Each document is cut after
    ``max_document_tokens``; of a pair that is too long still the longer is cut, or without ``cut``
    it is an error. `count_tokens` counts before any cut. Thread-safe."""

    def __init__(self, loaded: LoadedModel) -> None:
        if len(loaded.labels) != 1:
            raise UnsupportedError(
                f"{loaded.name} has {len(loaded.labels)} labels, a reranker has one score",
                hint="use text-classification with this model",
                param="model",
            )
        self.encoder = TaskEncoder(loaded)
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


def maxsim(query: Tensor, document: Tensor) -> float:
    """``query`` (Q, D) and ``document`` (N, D), rows of length 1; 0 for no document at all."""
    if not len(document):
        return 0.0
    return float((query @ document.T).max(dim=1).values.sum())


class LateInteractionScorer:
    """Thread-safe: it holds no state between calls."""

    def __init__(self, loaded: LoadedModel) -> None:
        if loaded.late is None:
            raise UnsupportedError(f"{loaded.name} has no settings for late interaction")
        self.encoder = TaskEncoder(loaded)
        self._settings = loaded.late
        self._query_marker = self._id(loaded.late.query_marker)
        self._document_marker = self._id(loaded.late.document_marker)
        mask = loaded.tokenizer.name_of("mask_token")
        self._mask_id = self._id(mask) if loaded.late.expands_queries else None
        # By the vocabulary: encoding a mark that it lacks would skip every unknown word.
        self._skipped = {loaded.tokenizer.id_of(mark) for mark in loaded.late.skipped}

    def score(
        self,
        pairs: Sequence[tuple[str, str]],
        max_document_tokens: int | None = None,
        *,
        cut: bool = True,
    ) -> Floats:
        """Each text is encoded once, however often it occurs."""
        queries = list(dict.fromkeys(query for query, _ in pairs))
        documents = list(dict.fromkeys(text for _, text in pairs))
        shorter = self._shortened(documents, max_document_tokens)
        by_query = dict(zip(queries, self.queries(queries, cut=cut), strict=True))
        by_text = dict(zip(documents, self.documents(shorter, cut=cut), strict=True))
        scores = [maxsim(by_query[query], by_text[text]) for query, text in pairs]
        return np.array(scores, np.float32)

    def count_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Tokens of both texts, the marker of each included."""
        left = self.encoder.count_tokens([query for query, _ in pairs])
        right = self.encoder.count_tokens([text for _, text in pairs])
        markers = (self._query_marker is not None) + (self._document_marker is not None)
        return [a + b + markers for a, b in zip(left, right, strict=True)]

    def queries(self, texts: Sequence[str], *, cut: bool = True) -> list[Tensor]:
        """(Q, D) of each query, masks included; what is too long is cut, or an error."""
        limit = min(self._settings.query_length, self.encoder.limit)
        windows = self._marked(texts, self._query_marker, limit, cut)
        if self._mask_id is None:
            return self._vectors(windows)
        filled = [
            _inserted(window, len(window), self._mask_id, limit - len(window)) for window in windows
        ]
        real = [len(window) for window in windows]
        return self._vectors(filled, None if self._settings.attends_to_expansion else real)

    def documents(self, texts: Sequence[str], *, cut: bool = True) -> list[Tensor]:
        """(N, D) of each document without what is skipped; what is too long is cut, or an
        error."""
        limit = min(self._settings.document_length, self.encoder.limit)
        windows = self._marked(texts, self._document_marker, limit, cut)
        kept = [[i for i, t in enumerate(w.ids) if t not in self._skipped] for w in windows]
        vectors = self._vectors(windows)
        return [states[places] for states, places in zip(vectors, kept, strict=True)]

    def _vectors(
        self, windows: Sequence[Window], real: Sequence[int] | None = None
    ) -> list[Tensor]:
        """``real``: of each window so many tokens may be looked at, None for all."""
        projection = self._settings.projection
        states = self.encoder.hidden(windows, visible=real)
        if projection is not None:
            states = [each @ projection.T for each in states]
        return [torch.nn.functional.normalize(each, dim=-1) for each in states]

    def _shortened(self, texts: Sequence[str], max_tokens: int | None) -> Sequence[str]:
        return texts if max_tokens is None else self.encoder.shortened(texts, max_tokens)

    def _marked(
        self, texts: Sequence[str], marker: int | None, limit: int, cut: bool
    ) -> list[Window]:
        room = limit if marker is None else limit - 1
        encoded = self.encoder.encode(texts, cut="first" if cut else "error", max_length=room)
        if marker is None:
            return [window for [window] in encoded]
        return [_inserted(window, 1, marker) for [window] in encoded]

    def _id(self, token: str | None) -> int | None:
        """Of a marker, which may be written with a space after it."""
        index = self.encoder.tokenizer.id_of(token.strip()) if token is not None else None
        if index is None and token is not None:
            raise FormatError(
                f"the vocabulary of {self.encoder.loaded.name} lacks {shown(token)}, which marks"
                " its texts",
                hint="get the model again, complete",
            )
        return index


def _inserted(window: Window, at: int, token: int, count: int = 1) -> Window:
    """``window`` with ``count`` times ``token`` at a place. They stand for nothing in the text."""
    fields = (window.ids, window.types, window.offsets, window.sequences, window.words)
    values: tuple[Any, ...] = (token, 0, (0, 0), None, None)
    parts = zip(fields, values, strict=True)
    return Window(*((*each[:at], *(value,) * count, *each[at:]) for each, value in parts))


Scorer = CrossEncoder | LateInteractionScorer


def scorer(loaded: LoadedModel) -> Scorer:
    """Late interaction where the model says so, else a cross-encoder."""
    return CrossEncoder(loaded) if loaded.late is None else LateInteractionScorer(loaded)
