"""A trained body with a new head, ready to be fine-tuned.

What belongs to the head is `HEAD_PARTS` of a `Transformer`. Does not cover which head a family has
for a task (`families.with_head`).
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from lmstack.core import InputError
from lmstack.model.config import TransformerConfig
from lmstack.model.transformer import Transformer, fresh_weights

__all__ = ["HEAD_PARTS", "replace_head"]

HEAD_PARTS = ("transform", "transform_norm", "head", "head_bias", "classifier")
_OF_THE_HEAD = (
    *("head", "tie_embeddings", "head_bias", "logit_scale", "logit_softcap", "num_labels"),
    *("classifier_bias", "pooling", "transform", "transform_norm", "transform_bias"),
)


def replace_head(
    module: Transformer, config: TransformerConfig, kept: Collection[str] = (), std: float = 0.02
) -> tuple[str, ...]:
    """Give ``module`` the head of ``config`` in place; everything else stays the same tensor.

    ``kept``: parts that go over with their weights where both heads have them in one shape. The
    others are fresh: normal(0, ``std``), zero biases. Returns the names of the fresh parts.
    `InputError`: ``config`` has another body.
    """
    for name in vars(config):
        if name not in _OF_THE_HEAD and getattr(config, name) != getattr(module.config, name):
            raise InputError(
                f"{name} is {getattr(config, name)!r} in the config of the new head and"
                f" {getattr(module.config, name)!r} in the model's",
                param=name,
            )
    with torch.device("meta"):
        wanted = Transformer(config)
    fresh = []
    for name in HEAD_PARTS:
        old, new = getattr(module, name), getattr(wanted, name)
        if new is not None and name in kept and old is not None and _shapes(old) == _shapes(new):
            continue
        if new is not None:
            new.to(module.dtype).to_empty(device=module.device)
            fresh_weights(new, std)
            new.train(module.training)
            fresh.append(name)
        setattr(module, name, new)
    module.config = config
    return tuple(fresh)


def _shapes(part: nn.Module) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in part.named_parameters()}
