"""Local models as the server wants them (`Ranker`, `Classifier` and `TaskModel` of `serving`), and
as retrieval does.

For the server nothing is cut in silence: a text that is too long is an error. Control tokens
spelled in a text are text. Does not cover HTTP.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from lmstack.core import ModelInfo, TextKind, UnsupportedError
from lmstack.registry import LoadedModel, ModelFolder, Store, load
from lmstack.serve.activations import probabilities
from lmstack.serve.tasks.base import Task
from lmstack.serve.tasks.catalog import task as make
from lmstack.serve.tasks.classification import activation_of
from lmstack.serve.tasks.encoder import Encoder
from lmstack.serve.tasks.filling import FillMask
from lmstack.serve.tasks.late_interaction import LateInteractionScorer
from lmstack.serve.tasks.names import GENERATING, abilities, require
from lmstack.serve.tasks.reranking import Reranking, scorer
from lmstack.serve.tasks.vectors import SentenceEmbedding

__all__ = ["LocalClassifier", "LocalReranker", "LocalTasks", "LocalTokenEmbedder"]

Ref = str | os.PathLike[str] | ModelFolder
Floats = npt.NDArray[np.float32]


class LocalReranker:
    """A cross-encoder or a late-interaction model as the server's `Ranker`. ``cut``: read as much
    of a long passage as the model can. Thread-safe."""

    def __init__(self, loaded: LoadedModel, *, cut: bool = False) -> None:
        require(loaded, "reranking")
        self._scorer = scorer(loaded)
        self._cut = cut
        self._scorer.encoder.special = False
        limit = Encoder(loaded).limit
        self.info = loaded.traits.info(loaded.name, loaded.digest, limit)

    @classmethod
    def load(
        cls,
        ref: Ref,
        store: Store | None = None,
        *,
        weights: str | None = None,
        cut: bool = False,
    ) -> Self:
        """The reranker that ``ref`` names (no network). ``weights``: the form in which they are
        held, float32 unless given or already quantized."""
        return cls(load(ref, store, weights=weights), cut=cut)

    @property
    def encoder(self) -> Encoder:
        """What reads the pairs."""
        return self._scorer.encoder

    def score(
        self, query: str, passages: Sequence[str], max_passage_tokens: int | None = None
    ) -> Floats:
        pairs = [(query, passage) for passage in passages]
        return self._scorer.score(pairs, max_passage_tokens, cut=self._cut)

    def count_tokens(self, query: str, passages: Sequence[str]) -> list[int]:
        return self._scorer.count_tokens([(query, passage) for passage in passages])


class LocalTokenEmbedder:
    """A late-interaction model as retrieval wants it: a unit vector a token, long texts cut.
    Thread-safe."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._scorer = LateInteractionScorer(loaded)
        self._scorer.encoder.special = False
        limit = self._scorer.encoder.limit
        self.info = loaded.traits.info(loaded.name, loaded.digest, limit)

    @classmethod
    def load(cls, ref: Ref, store: Store | None = None, *, weights: str | None = None) -> Self:
        """The model that ``ref`` names (no network). ``weights``: the form in which they are
        held, float32 unless given or already quantized."""
        return cls(load(ref, store, weights=weights))

    def embed_tokens(self, texts: Sequence[str], kind: TextKind = "passage") -> list[Floats]:
        """Of each text (tokens, dimensions), as the model encodes its ``kind``."""
        encode = self._scorer.queries if kind == "query" else self._scorer.documents
        return [vectors.numpy() for vectors in encode(texts)]


class LocalClassifier:
    """A model with a head over whole texts, as the server's `Classifier`. Thread-safe."""

    def __init__(self, loaded: LoadedModel) -> None:
        require(loaded, "text-classification")
        self._encoder = Encoder(loaded, special=False)
        self._activation = activation_of(loaded, "auto")
        self.labels = loaded.labels
        self.info = ModelInfo(loaded.name, loaded.digest, self._encoder.limit)

    @classmethod
    def load(cls, ref: Ref, store: Store | None = None, *, weights: str | None = None) -> Self:
        """The classifier that ``ref`` names (no network). ``weights``: the form in which they are
        held, float32 unless given or already quantized."""
        return cls(load(ref, store, weights=weights))

    def classify(self, texts: Sequence[str], *, raw: bool = False) -> Floats:
        windows = self._encoder.encode_whole(texts)
        logits = [scores.numpy() for scores in self._encoder.logits(windows)]
        stacked = np.stack(logits) if logits else np.zeros((0, len(self.labels)), np.float32)
        return stacked if raw else probabilities(stacked, self._activation)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._encoder.count_tokens(texts)


class LocalTasks:
    """Everything that a model can do at once, as the server's `TaskModel`. Thread-safe.

    What generates text is left out: that is for the routes whose guards see it.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self.tasks = tuple(task for task in abilities(loaded) if task not in GENERATING)
        if not self.tasks:
            raise UnsupportedError(
                f"{loaded.name} only generates text",
                hint="serve it with --model",
                param="model",
            )
        self.info = ModelInfo(loaded.name, loaded.digest, Encoder(loaded).limit)
        self._made: dict[str, Task[Any, Any, Any]] = {}

    @classmethod
    def load(cls, ref: Ref, store: Store | None = None, *, weights: str | None = None) -> Self:
        """The model that ``ref`` names (no network). ``weights``: the form in which they are
        held, float32 unless given or already quantized."""
        return cls(load(ref, store, weights=weights))

    @property
    def reranker(self) -> LocalReranker | None:
        return LocalReranker(self._loaded) if "reranking" in self.tasks else None

    @property
    def classifier(self) -> LocalClassifier | None:
        return LocalClassifier(self._loaded) if "text-classification" in self.tasks else None

    def run(
        self, task: str, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        made = self._made.get(task)
        if made is None:
            made = make(task, self._loaded)
            _distrust(made)
            # Two threads may both make one; either will do.
            self._made[task] = made
        return [result.to_json() for result in made(list(inputs), **options)]


def _distrust(task: Task[Any, Any, Any]) -> None:
    """Read control tokens in texts as text, all but the mask that a task is about."""
    if isinstance(task, Reranking):
        task.scorer.encoder.special = False
    elif not isinstance(task, FillMask | SentenceEmbedding):
        encoder: Encoder = task.encoder  # type: ignore[attr-defined]
        encoder.special = False
