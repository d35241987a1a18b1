"""A task by its name, with a model by its name, and what a model can do as the server wants it
(`Ranker`, `Classifier` and `TaskModel` of `http.state`) and retrieval does.

Covers what counts as a model (a short name, a folder, one that is loaded) and refusing a task
that its head cannot do. For the server nothing is cut in silence: a text that is too long is an
error, and control tokens spelled in a text are text. Does not cover the names themselves (see
`names`), nor HTTP.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError, ModelInfo, TextKind, UnsupportedError, shown
from lmstack.registry import LoadedModel, ModelFolder, Store, load
from lmstack.serve.activations import probabilities
from lmstack.serve.embedder import LocalEmbedder
from lmstack.serve.local import LocalModel, load_weights
from lmstack.serve.tasks.answering import QuestionAnswering
from lmstack.serve.tasks.base import ModelTask
from lmstack.serve.tasks.classification import (
    TextClassification,
    ZeroShotClassification,
    activation_of,
)
from lmstack.serve.tasks.encoder import TaskEncoder
from lmstack.serve.tasks.filling import FillMask
from lmstack.serve.tasks.generating import Chat, TextGeneration
from lmstack.serve.tasks.names import GENERATING, abilities, require, task_name
from lmstack.serve.tasks.reranking import LateInteractionScorer, Reranking, scorer
from lmstack.serve.tasks.rewarding import RewardScoring
from lmstack.serve.tasks.rewriting import Summarization, Translation
from lmstack.serve.tasks.tagging import TokenClassification
from lmstack.serve.tasks.vectors import FeatureExtraction, SentenceEmbedding

__all__ = ["LocalClassifier", "LocalReranker", "LocalTasks", "LocalTokenEmbedder", "task"]

_CLASSES: tuple[type[ModelTask[Any, Any, Any]], ...] = (
    *(TextClassification, TokenClassification, FillMask, QuestionAnswering, FeatureExtraction),
    *(SentenceEmbedding, Reranking, RewardScoring, ZeroShotClassification),
    *(TextGeneration, Chat, Summarization, Translation),
)
CLASSES = {each.name: each for each in _CLASSES}
Ref = str | os.PathLike[str] | ModelFolder
Model = Ref | LoadedModel | LocalModel | LocalEmbedder
Floats = npt.NDArray[np.float32]


def task(
    name: str,
    model: Model,
    *,
    store: Store | None = None,
    weights: str | None = None,
    **options: Any,
) -> ModelTask[Any, Any, Any]:
    """The task ``name`` with ``model``: a name in the store, a folder, or what `lmstack.load`
    gave. ``weights``: the form in which those of a model that is not loaded yet are held; unless
    given or already quantized, as a server holds them for what writes, and float32 for the rest.
    ``options``: defaults of every call.

    The result is called with one input or a list of them. Nothing is downloaded.
    """
    own_name, implied = task_name(name)
    default = None if own_name in GENERATING else "float32"
    loaded = _loaded(model, store, weights, default)
    require(loaded, own_name)
    given = {**implied, **options}
    if own_name in GENERATING and isinstance(model, LocalModel):
        given["model"] = model
    return CLASSES[own_name](loaded, **given)


def _loaded(
    model: Model, store: Store | None, weights: str | None, default: str | None
) -> LoadedModel:
    if isinstance(model, str | os.PathLike | ModelFolder):
        return load_weights(model, store, weights, default=default)
    if isinstance(model, LoadedModel | LocalModel | LocalEmbedder):
        if weights is not None:
            raise InputError(
                f"weights is {shown(weights)}, and the model is loaded already",
                hint="lmstack.load(NAME, weights=FORM), or give the model's name",
                param="weights",
            )
        return model if isinstance(model, LoadedModel) else model.loaded
    raise InputError(
        f"the model is {shown(model)}", hint="a name, a folder or a loaded model", param="model"
    )


class _Loadable(abc.ABC):
    """A model that is loaded by its name."""

    @abc.abstractmethod
    def __init__(self, loaded: LoadedModel) -> None: ...

    @classmethod
    def load(
        cls, ref: Ref, store: Store | None = None, *, weights: str | None = None, **options: Any
    ) -> Self:
        """What ``ref`` names (no network). ``weights``: the form in which they are held, float32
        unless given or already quantized. ``options``: of the class."""
        return cls(load(ref, store, weights=weights), **options)


class LocalReranker(_Loadable):
    """A cross-encoder or a late-interaction model as the server's `Ranker`. ``cut``: read as much
    of a long passage as the model can. Thread-safe."""

    def __init__(self, loaded: LoadedModel, *, cut: bool = False) -> None:
        require(loaded, "reranking")
        self._scorer, self._cut = scorer(loaded), cut
        self.encoder = self._scorer.encoder
        self.encoder.special = False
        limit = TaskEncoder(loaded).limit
        self.info = loaded.traits.info(loaded.name, loaded.digest, limit)

    def score(
        self, query: str, passages: Sequence[str], max_passage_tokens: int | None = None
    ) -> Floats:
        pairs = [(query, passage) for passage in passages]
        return self._scorer.score(pairs, max_passage_tokens, cut=self._cut)

    def count_tokens(self, query: str, passages: Sequence[str]) -> list[int]:
        return self._scorer.count_tokens([(query, passage) for passage in passages])


class LocalTokenEmbedder(_Loadable):
    """A late-interaction model as retrieval wants it: a unit vector a token, long texts cut.
    Thread-safe."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._scorer = LateInteractionScorer(loaded)
        self._scorer.encoder.special = False
        limit = self._scorer.encoder.limit
        self.info = loaded.traits.info(loaded.name, loaded.digest, limit)

    def embed_tokens(self, texts: Sequence[str], kind: TextKind = "passage") -> list[Floats]:
        """Of each text (tokens, dimensions), as the model encodes its ``kind``."""
        encode = self._scorer.queries if kind == "query" else self._scorer.documents
        return [vectors.numpy() for vectors in encode(texts)]


class LocalClassifier(_Loadable):
    """A model with a head over whole texts, as the server's `Classifier`. Thread-safe."""

    def __init__(self, loaded: LoadedModel) -> None:
        require(loaded, "text-classification")
        self._encoder = TaskEncoder(loaded, special=False)
        self._activation = activation_of(loaded, "auto")
        self.labels = loaded.labels
        self.info = ModelInfo(loaded.name, loaded.digest, self._encoder.limit)

    def classify(self, texts: Sequence[str], *, raw: bool = False) -> Floats:
        windows = self._encoder.encode_whole(texts)
        logits = [scores.numpy() for scores in self._encoder.logits(windows)]
        stacked = np.stack(logits) if logits else np.zeros((0, len(self.labels)), np.float32)
        return stacked if raw else probabilities(stacked, self._activation)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._encoder.count_tokens(texts)


class LocalTasks(_Loadable):
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
        self.info = ModelInfo(loaded.name, loaded.digest, TaskEncoder(loaded).limit)
        self._made: dict[str, ModelTask[Any, Any, Any]] = {}

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
            made = CLASSES[task](self._loaded)
            made.distrust()
            # Two threads may both make one; either will do.
            self._made[task] = made
        return [result.to_json() for result in made(list(inputs), **options)]
