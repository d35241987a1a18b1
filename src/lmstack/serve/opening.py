"""The object that fits a model: what `lmstack.load` gives."""

from __future__ import annotations

import os

import torch

from lmstack.engine import EngineConfig
from lmstack.registry import LoadedModel, ModelFolder, Store
from lmstack.serve.embedder import LocalEmbedder
from lmstack.serve.local import LocalModel, load_draft, load_weights

__all__ = ["open_model"]


def open_model(
    ref: str | os.PathLike[str] | ModelFolder,
    *,
    store: Store | None = None,
    weights: str | None = None,
    dtype: str | torch.dtype | None = None,
    engine: EngineConfig | None = None,
    draft: str | os.PathLike[str] | ModelFolder | None = None,
) -> LocalModel | LocalEmbedder | LoadedModel:
    """`LocalModel` for what generates, `LocalEmbedder` for sentence vectors, else the
    `LoadedModel` itself, as for a folder without a tokenizer. ``draft``: of what generates, see
    `LocalModel`. No network."""
    loaded = load_weights(ref, store, weights, dtype, default="float32")
    if not loaded.has_tokenizer:
        return loaded
    if loaded.kind in ("generate", "seq2seq"):
        return LocalModel(loaded, engine, draft=load_draft(draft, store))
    return LocalEmbedder(loaded) if loaded.kind == "embed" else loaded
