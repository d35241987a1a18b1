"""Late interaction: queries and documents as a vector a token, compared afterwards.

    score = sum over tokens q of the query of max over tokens d of the document of cos(q, d)

ColBERT (Khattab and Zaharia 2020, arXiv:2004.12832) and ColBERTv2. A marker token after the first
tells queries from documents; a query is filled up with mask tokens, which stand for terms that it
leaves out; punctuation of documents does not count. Equal to PyLate. Does not cover compressed
indexes of document vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.registry import LoadedModel
from lmstack.serve.tasks.encoder import Encoder
from lmstack.text import Window

__all__ = ["LateInteractionScorer", "maxsim"]

Floats = npt.NDArray[np.float32]


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
        self.encoder = Encoder(loaded)
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
        filled = [_filled(window, self._mask_id, limit) for window in windows]
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
        return [_inserted(window, marker) for [window] in encoded]

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


def _filled(window: Window, token: int, length: int) -> Window:
    """``window`` with ``token`` up to ``length``."""
    more = length - len(window)
    return Window(
        window.ids + (token,) * more,
        window.types + (0,) * more,
        window.offsets + ((0, 0),) * more,
        window.sequences + (None,) * more,
        window.words + (None,) * more,
    )


def _inserted(window: Window, marker: int) -> Window:
    """``marker`` after the first token."""
    return Window(
        (*window.ids[:1], marker, *window.ids[1:]),
        (*window.types[:1], 0, *window.types[1:]),
        (*window.offsets[:1], (0, 0), *window.offsets[1:]),
        (*window.sequences[:1], None, *window.sequences[1:]),
        (*window.words[:1], None, *window.words[1:]),
    )
