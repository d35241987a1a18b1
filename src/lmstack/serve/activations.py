"""From logits to the scores that people read. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lmstack.core import UnsupportedError, shown

__all__ = ["Activation", "probabilities", "score_activation"]

Activation = Literal["auto", "softmax", "sigmoid", "none"]
Floats = npt.NDArray[np.float32]

_OF_TORCH: Mapping[str, Activation] = {"Sigmoid": "sigmoid", "Identity": "none"}


def probabilities(logits: Floats, activation: Activation) -> Floats:
    """Of (labels,) or (..., labels)."""
    if activation == "sigmoid":
        # Both halves are exact where the other would overflow.
        exponential = np.exp(-np.abs(logits))
        scores: Floats = np.where(logits >= 0, 1, exponential) / (1 + exponential)
    elif activation == "softmax":
        exponential = np.exp(logits - logits.max(axis=-1, keepdims=True))
        scores = exponential / exponential.sum(axis=-1, keepdims=True)
    else:
        scores = logits
    return scores


def score_activation(config: Mapping[str, Any], name: str) -> Activation:
    """What the makers of the cross-encoder ``name`` put on top, as sentence-transformers reads it
    in config.json; else a sigmoid."""
    nested = config.get("sentence_transformers")
    path = nested.get("activation_fn") if isinstance(nested, Mapping) else None
    path = path or config.get("sbert_ce_default_activation_function")
    if path is None:
        return "sigmoid"
    found = _OF_TORCH.get(str(path).rpartition(".")[2])
    if found is None:
        raise UnsupportedError(
            f"{name} puts {shown(path)} on its scores", hint="Sigmoid or Identity"
        )
    return found
