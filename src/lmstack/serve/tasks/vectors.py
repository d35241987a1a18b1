"""Vectors: the hidden states of every token, or one unit vector a text.

Features equal transformers' ``feature-extraction`` pipeline, embeddings sentence-transformers'
(`LocalEmbedder` computes them). Does not cover indexes of vectors: see `rag`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from lmstack.core import Config, InputError, TextKind, shown
from lmstack.registry import LoadedModel
from lmstack.serve.embedder import LocalEmbedder
from lmstack.serve.tasks.base import Task, text_of
from lmstack.serve.tasks.encoder import Encoder
from lmstack.serve.tasks.results import Embedding, Features

__all__ = ["EmbedOptions", "FeatureExtraction", "FeatureOptions", "SentenceEmbedding"]


@dataclass(frozen=True)
class FeatureOptions(Config):
    """``truncate``: cut a text that is too long instead of an error."""

    truncate: bool = False


class FeatureExtraction(Task[str, FeatureOptions, Features]):
    """Inputs: texts."""

    name = "feature-extraction"
    options_type: ClassVar[type[Config]] = FeatureOptions

    def __init__(self, loaded: LoadedModel, **options: Any) -> None:
        super().__init__(loaded, **options)
        self.encoder = Encoder(loaded)

    def read(self, value: Any, name: str, _: FeatureOptions, /) -> str:
        return text_of(value, name, "text")

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

    kind: TextKind = "passage"

    def __post_init__(self) -> None:
        if self.kind not in get_args(TextKind):
            raise InputError(f"kind is {shown(self.kind)}", hint="query or passage", param="kind")


class SentenceEmbedding(Task[str, EmbedOptions, Embedding]):
    """Inputs: texts; what a model cannot see of a long one is cut."""

    name = "sentence-embedding"
    options_type: ClassVar[type[Config]] = EmbedOptions

    def __init__(self, loaded: LoadedModel, **options: Any) -> None:
        super().__init__(loaded, **options)
        self.embedder = LocalEmbedder(loaded)

    def read(self, value: Any, name: str, _: EmbedOptions, /) -> str:
        return text_of(value, name, "text")

    def run(self, items: Sequence[str], options: EmbedOptions) -> list[Embedding]:
        return [Embedding(vector) for vector in self.embedder.embed(items, options.kind)]
