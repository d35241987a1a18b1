"""Weights of a GGUF file under our names, with query and key rows in our order."""

from __future__ import annotations

import torch
from torch import Tensor

from lmstack.model.assembly import assemble, meta_module
from lmstack.model.config import TransformerConfig
from lmstack.model.gguf import GGUFFile
from lmstack.model.gguf_blocks import dequantize_into
from lmstack.model.gguf_families import Architecture, architecture_of

__all__ = ["read_gguf_weights"]


class _Unpermuted:
    """A `TensorSource` that undoes the order of RoPE pairs of llama GGUF files.

    There channels 2j and 2j+1 of a head rotate together; here j and j + hd/2 do. Rows are moved
    as bytes, before they are dequantized.
    """

    def __init__(self, file: GGUFFile, architecture: Architecture, head_dim: int) -> None:
        self.label = file.label
        self.names, self.shape, self.dtype = file.names, file.shape, file.dtype
        self._file, self._permuted, self._head_dim = file, architecture.permuted, head_dim

    def read_into(self, name: str, out: Tensor) -> None:
        parts = name.split(".")
        if len(parts) < 2 or parts[-2] not in self._permuted:
            self._file.read_into(name, out)
            return
        rows = self._file.raw(name).view(-1, self._head_dim // 2, 2, self._row_bytes(name))
        ordered = rows.transpose(1, 2).contiguous().view(-1)
        dequantize_into(self._file.tensors[name].kind, ordered, out)

    def _row_bytes(self, name: str) -> int:
        return self._file.tensors[name].size // self._file.shape(name)[0]


def read_gguf_weights(
    file: GGUFFile, dtype: torch.dtype | None = None
) -> tuple[TransformerConfig, dict[str, Tensor]]:
    """Config and tensors under our names, in ``dtype`` or in that of the file (float32 where
    it is quantized)."""
    config = TransformerConfig.from_gguf(file.metadata, file.names(), file.label)
    architecture = architecture_of(file.metadata, file.label)
    source = _Unpermuted(file, architecture, config.head_dim)
    module = meta_module(config, source)
    return config, assemble(module, architecture.tensors, source, dtype=dtype)
