"""A task by its name, with a model by its name: the one entry to the classes.

Covers what counts as a model (a short name, a folder, one that is loaded) and refusing a task
that its head cannot do. Does not cover the names themselves: see `names`.
"""

from __future__ import annotations

import os
from typing import Any

from lmstack.core import InputError, shown
from lmstack.registry import LoadedModel, ModelFolder, Store
from lmstack.serve.embedder import LocalEmbedder
from lmstack.serve.local import LocalModel, load_weights
from lmstack.serve.tasks.answering import QuestionAnswering
from lmstack.serve.tasks.base import Task
from lmstack.serve.tasks.classification import TextClassification
from lmstack.serve.tasks.filling import FillMask
from lmstack.serve.tasks.generating import Chat, TextGeneration
from lmstack.serve.tasks.names import GENERATING, require, task_name
from lmstack.serve.tasks.reranking import Reranking
from lmstack.serve.tasks.rewriting import Summarization, Translation
from lmstack.serve.tasks.tagging import TokenClassification
from lmstack.serve.tasks.vectors import FeatureExtraction, SentenceEmbedding
from lmstack.serve.tasks.zero_shot import ZeroShotClassification

__all__ = ["CLASSES", "task"]

CLASSES: dict[str, type[Task[Any, Any, Any]]] = {
    each.name: each
    for each in (
        TextClassification,
        TokenClassification,
        FillMask,
        QuestionAnswering,
        FeatureExtraction,
        SentenceEmbedding,
        Reranking,
        ZeroShotClassification,
        TextGeneration,
        Chat,
        Summarization,
        Translation,
    )
}
Model = str | os.PathLike[str] | ModelFolder | LoadedModel | LocalModel | LocalEmbedder


def task(
    name: str,
    model: Model,
    *,
    store: Store | None = None,
    weights: str | None = None,
    **options: Any,
) -> Task[Any, Any, Any]:
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
