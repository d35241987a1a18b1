"""Weights of a GGUF file under our names."""

from __future__ import annotations

import torch
from torch import Tensor

from lmstack.model.assembly import assemble, meta_module
from lmstack.model.config import TransformerConfig
from lmstack.model.gguf import GGUFFile
from lmstack.model.gguf_families import architecture_of

__all__ = ["read_gguf_weights"]


def read_gguf_weights(
    file: GGUFFile, dtype: torch.dtype | None = None
) -> tuple[TransformerConfig, dict[str, Tensor]]:
    """Config and tensors under our names, in ``dtype`` or in that of the file (float32 where
    it is quantized)."""
    config = TransformerConfig.from_gguf(file.metadata, file.names(), file.label)
    architecture = architecture_of(file.metadata, file.label)
    module = meta_module(config, file)
    return config, assemble(module, architecture.tensors, file, dtype=dtype)
