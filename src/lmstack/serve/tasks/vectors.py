"""Vectors: the hidden states of every token, or one unit vector a text.

Features equal transformers' ``feature-extraction`` pipeline, embeddings sentence-transformers'
(`LocalEmbedder` computes them). Does not cover indexes of vectors: see `rag`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from lmstack.core import Config, TextKind, allowed
from lmstack.registry import LoadedModel
from lmstack.serve.embedder import LocalEmbedder
from lmstack.serve.tasks.base import EncoderTask, ModelTask
from lmstack.serve.tasks.results import Features, TextEmbedding

__all__ = ["EmbedOptions", "FeatureExtraction", "FeatureOptions", "SentenceEmbedding"]


@dataclass(frozen=True)
class FeatureOptions(Config):
    """``truncate``: cut a text that is too long instead of an error."""

    truncate: bool = False


class FeatureExtraction(EncoderTask[str, FeatureOptions, Features]):
    """Inputs: texts."""

    name = "feature-extraction"
    options_type = FeatureOptions

    def run(self, items: Sequence[str], options: FeatureOptions) -> list[Features]:
        windows = self.encoder.encode_whole(items, cut="first" if options.truncate else "error")
        token = self.loaded.tokenizer.token
        return [
            Features(tuple(token(index) for index in window.ids), states.numpy())
            for window, states in zip(windows, self.encoder.hidden(windows), strict=True)
        ]


@dataclass(frozen=True)
class EmbedOptions(Config):
    """``kind``: ``query`` or ``passage``, for models that tell them apart."""

    kind: TextKind = allowed("passage", str, also=get_args(TextKind))


class SentenceEmbedding(ModelTask[str, EmbedOptions, TextEmbedding]):
    """Inputs: texts; what a model cannot see of a long one is cut."""

    name = "sentence-embedding"
    options_type = EmbedOptions

    def __init__(self, loaded: LoadedModel, **options: Any) -> None:
        super().__init__(loaded, **options)
        self.embedder = LocalEmbedder(loaded)

    def run(self, items: Sequence[str], options: EmbedOptions) -> list[TextEmbedding]:
        return [TextEmbedding(vector) for vector in self.embedder.embed(items, options.kind)]
