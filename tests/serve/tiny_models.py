"""A random language model that is small enough to load and run in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lmstack.model import Transformer, TransformerConfig
from lmstack.registry import GenerationDefaults, LoadedModel
from lmstack.text import ChatTemplate, Tokenizer

__all__ = ["tiny_decoder"]


def tiny_decoder(
    tokenizer: Tokenizer,
    *,
    name: str = "tiny",
    seed: int = 3,
    layers: int = 2,
    template: ChatTemplate | None = None,
    positions: int = 256,
    changes: Mapping[str, Any] | None = None,
) -> LoadedModel:
    """``changes``: to the configuration of the module."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "vocab_size": tokenizer.vocab_size,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_layers": layers,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 8,
        "max_positions": positions,
    }
    config = TransformerConfig.from_mapping(sizes | dict(changes or {}))
    module = Transformer(config)
    module.reset_parameters(std=0.35)
    assert tokenizer.eos_id is not None
    generation = GenerationDefaults(frozenset({tokenizer.eos_id}))
    return LoadedModel(name, None, module.eval(), tokenizer, template, generation)
