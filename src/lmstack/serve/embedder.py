"""Text to unit vectors with a local encoder, equal to sentence-transformers.

Not covered: what becomes of texts and hidden states (`text_embedder`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from lmstack.core import UnsupportedError
from lmstack.engine.executors import open_encoder
from lmstack.registry import LoadedModel, ModelFolder, Store, load
from lmstack.registry.weight_cache import embedding_form
from lmstack.serve.text_embedder import TextEmbedder

__all__ = ["LocalEmbedder"]

Floats = npt.NDArray[np.float32]


class LocalEmbedder(TextEmbedder):
    """An encoder as core's `Embedder`. Thread-safe: it holds no state between calls.

    Vectors always have length 1, also where the model's own recipe leaves them as they come. A
    text of no tokens at all (a tokenizer that adds none) is the zero vector.

    ``max_tokens``: read less of each text than the model can. ``dimensions``: keep only the
    first of each vector, at length 1 again, for models that were trained so (Matryoshka:
    Kusupati et al., 2022); others lose more by it. Above what the model has, both are refused.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_tokens: int | None = None,
        dimensions: int | None = None,
    ) -> None:
        if loaded.pooling is None:
            raise UnsupportedError(
                f"{loaded.name} generates text and gives no sentence vectors",
                hint="use an embedding model, for example all-minilm-l6-v2",
                param="model",
            )
        self.loaded = loaded
        self.module = loaded.module.eval()
        self.encoder = open_encoder(self.module)
        super().__init__(
            loaded.traits.info(loaded.name, loaded.digest),
            loaded.tokenizer,
            loaded.pooling,
            window=self.module.config.max_positions,
            width=self.module.config.hidden_size,
            max_tokens=max_tokens,
            dimensions=dimensions,
        )

    @classmethod
    def load(
        cls,
        ref: str | os.PathLike[str] | ModelFolder,
        store: Store | None = None,
        *,
        weights: str | None = None,
        **shape: int | None,
    ) -> Self:
        """The embedder that ``ref`` names (no network). ``weights``: the form in which they are
        held. Unless given it is int8 for models whose search was measured in it
        (docs/embeddings.md), else that of the files; ``float32`` gives the vectors of other
        implementations. ``shape``: ``max_tokens`` and ``dimensions``."""
        store = store or Store()
        folder = ref if isinstance(ref, ModelFolder) else store.resolve(ref)
        loaded = load(folder, store, weights=weights or embedding_form(folder))
        return cls(loaded, **shape)

    def generate(self, *_: Any, **__: Any) -> str:
        """What a language model has; an encoder cannot."""
        return self.loaded.generate()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder that transformers loads: config, weights, tokenizer."""
        self.loaded.save(Path(folder))

    def _hidden(self, ids: npt.NDArray[np.int32], lengths: Sequence[int]) -> Floats:
        with torch.inference_mode():
            hidden: Floats = self.encoder.varlen_hidden(ids, lengths).numpy()
        return hidden
