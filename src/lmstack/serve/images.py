"""Writes the images of native programs that `light_models` reads, when torch has loaded a model.

A model that has no image, for its positions or its head, is loaded by torch every time. Nothing
here fails: an image that cannot be written only costs time at the next start.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lmstack.core import LmstackError, UnsupportedError
from lmstack.engine.cpu.executor import NativeEncoder
from lmstack.engine.cpu.image import write_image
from lmstack.registry import LoadedModel, ModelFolder, Store
from lmstack.registry.home import locked
from lmstack.registry.signing import cache_key
from lmstack.registry.weight_cache import cached_file, image_file, stamp_of
from lmstack.serve.embedder import LocalEmbedder
from lmstack.serve.tasks.catalog import LocalReranker

__all__ = ["keep_embedder", "keep_reranker"]

log = logging.getLogger("lmstack.serve")
Head = Mapping[str, npt.NDArray[np.float32]]


def keep_embedder(embedder: LocalEmbedder, folder: ModelFolder, form: str, store: Store) -> None:
    """For `light_embedder`."""
    if isinstance(embedder.encoder, NativeEncoder):
        _keep(embedder.encoder, {}, folder, form, store)


def keep_reranker(reranker: LocalReranker, folder: ModelFolder, form: str, store: Store) -> None:
    """For `light_reranker`."""
    encoder = reranker.encoder
    try:
        head = _head(encoder.loaded)
    except UnsupportedError as error:
        log.info("%s has no image: %s", folder.name, error)
        return
    if encoder.native is not None:
        _keep(encoder.native, head, folder, form, store)


def _keep(encoder: NativeEncoder, head: Head, folder: ModelFolder, form: str, store: Store) -> None:
    path = image_file(store.root, folder.digest, form)
    weights = cached_file(store.root, folder.digest, form)
    key = cache_key(store.root)
    if key is None:
        log.info("%s has no image: there is no key of caches", folder.name)
        return
    try:
        with locked(store.root / "locks" / f"{path.name}.lock"):
            write_image(path, encoder.parts(head), weights, stamp_of(folder, form), key)
    except LmstackError as error:
        log.info("%s has no image: %s", folder.name, error)


def _head(loaded: LoadedModel) -> Head:
    """BERT's, over the first token: a dense layer with tanh, if there is one, and a classifier."""
    module = loaded.module
    config, classifier = module.config, module.classifier
    usual = config.head == "sequence" and config.pooling == "first" and classifier is not None
    dense = module.transform
    if not usual or (dense is not None and config.transform != "tanh") or module.transform_norm:
        raise UnsupportedError("only a head like BERT's can be kept in an image")
    head: dict[str, npt.NDArray[np.float32]] = {}
    for name, layer in (("transform", dense), ("classifier", classifier)):
        if layer is None:
            continue
        weight = layer.weight.detach().float()
        bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().float()
        head |= {f"{name}.weight": weight.numpy(), f"{name}.bias": bias.numpy()}
    return head
