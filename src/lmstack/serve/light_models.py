"""The embedder and the reranker of search without torch, where their images are kept.

They compute what `LocalEmbedder` and `LocalReranker` do with the same weights, and load in a
tenth of a second instead of several. Images are written when torch has loaded the models.
Not covered: how an image runs (`lmstack.engine.cpu.image`).

Legend: N tokens of a batch, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lmstack.core import FormatError, ModelInfo, NotFoundError, StoreError
from lmstack.engine.cpu.image import ImageEncoder, read_image
from lmstack.engine.cpu.library import problem
from lmstack.registry import ModelFolder, Store
from lmstack.registry.defaults import pooling_of
from lmstack.registry.signing import cache_key
from lmstack.registry.sources.known import traits_of
from lmstack.registry.weight_cache import cached_file, image_file, served_digest, stamp_of
from lmstack.serve.activations import Activation, probabilities, score_activation
from lmstack.serve.text_embedder import TextEmbedder, varlen_batches
from lmstack.text.files import json_file
from lmstack.text.tokenizer import Tokenizer
from lmstack.text.windows import Window, encode_windows, has_segments, model_limit

__all__ = ["LightEmbedder", "LightReranker", "light_embedder", "light_reranker"]

Floats = npt.NDArray[np.float32]
T = TypeVar("T")


class LightEmbedder(TextEmbedder):
    """`LocalEmbedder` over an image. Thread-safe."""

    def __init__(self, image: ImageEncoder, info: ModelInfo, path: Path, **shape: Any) -> None:
        tokenizer = Tokenizer.from_folder(path)
        facts = image.facts
        super().__init__(
            info,
            tokenizer,
            pooling_of(path, tokenizer),
            window=facts.max_positions,
            width=facts.hidden_size,
            **shape,
        )
        self._image = image

    def _hidden(self, ids: npt.NDArray[np.int32], lengths: Sequence[int]) -> Floats:
        return self._image.varlen_hidden(ids, lengths)


class LightReranker:
    """`LocalReranker` over the image of a cross-encoder; what is too long is cut. Thread-safe."""

    def __init__(self, image: ImageEncoder, info: ModelInfo, path: Path) -> None:
        self._image = image
        self._tokenizer = Tokenizer.from_folder(path)
        self._limit = model_limit(self._tokenizer, image.facts.max_positions)
        self._activation: Activation = score_activation(json_file(path / "config.json"), info.name)
        self._typed = image.facts.token_types > 1 and has_segments(self._tokenizer)
        self.info = replace(info, context_length=self._limit)

    def score(self, query: str, passages: Sequence[str]) -> Floats:
        if not passages:
            return np.zeros(0, np.float32)
        queries = [query] * len(passages)
        windows = [
            window
            for [window] in encode_windows(
                self._tokenizer, queries, passages,
                max_length=self._limit, cut="longest", special=False,
            )
        ]  # fmt: skip
        logits = np.zeros(len(windows), np.float32)
        for rows in varlen_batches([len(window) for window in windows]):
            logits[rows] = self._logits([windows[row] for row in rows])
        return probabilities(logits, self._activation)

    def _logits(self, windows: Sequence[Window]) -> Floats:
        lengths = [len(window) for window in windows]
        ids = [token for window in windows for token in window.ids]
        types = [kind for window in windows for kind in window.types] if self._typed else None
        hidden = self._image.varlen_hidden(ids, lengths, types)
        first = hidden[np.cumsum([0, *lengths[:-1]])]
        return _headed(first, self._image.more)[:, 0]


def _headed(first: Floats, head: Mapping[str, Floats]) -> Floats:
    """(texts, D) of first tokens to (texts, labels): BERT's dense layer, and the classifier."""
    if "transform.weight" in head:
        first = np.tanh(first @ head["transform.weight"].T + head["transform.bias"])
    scores: Floats = first @ head["classifier.weight"].T + head["classifier.bias"]
    return scores


def light_embedder(
    folder: ModelFolder, form: str | None, store: Store | None = None, **shape: Any
) -> LightEmbedder | None:
    """None where there is no image of that form. ``shape``: ``max_tokens`` and ``dimensions``, see
    `LocalEmbedder`."""
    return _from_image(folder, form, store, partial(LightEmbedder, **shape))


def light_reranker(
    folder: ModelFolder, form: str | None, store: Store | None = None
) -> LightReranker | None:
    """None where there is no image of that form."""
    return _from_image(folder, form, store, LightReranker)


def _from_image(
    folder: ModelFolder,
    form: str | None,
    store: Store | None,
    make: Callable[[ImageEncoder, ModelInfo, Path], T],
) -> T | None:
    """``make`` of an image that this user wrote, and of files that are those of the card."""
    store = store or Store()
    key = None if form is None or problem() else cache_key(store.root)
    if form is None or key is None:
        return None
    weights = cached_file(store.root, folder.digest, form)
    path = image_file(store.root, folder.digest, form)
    try:
        image = read_image(path, weights, stamp_of(folder, form), key)
    except (FormatError, NotFoundError, StoreError):
        return None
    info = traits_of(folder).info(folder.name, served_digest(folder, form))
    with folder.held() as held:
        held.verify(store.hashes.sha256)
        return make(image, info, held.path)
