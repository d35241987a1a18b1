"""What a model is made of, from its config alone: parameters by part and memory by use.

The module is built on torch's meta device, so nothing is allocated and no weight is read; the
counts are those of the real thing because it is the real class. Printing is the command's.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmstack.model import TransformerConfig
    from lmstack.registry import ModelFolder

__all__ = ["DTYPE_BYTES", "Inspection", "inspect_config", "read_config"]

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
PARTS = {
    "embed": "token embeddings",
    "embed_positions": "position embeddings",
    "embed_types": "segment embeddings",
    "attention": "attention",
    "mlp": "feed-forward",
    "head": "output layer",
    "cross": "cross-attention",
    "transform": "dense layer before the head",
    "classifier": "classifier",
    "encoder": "encoder",
}


@dataclass(frozen=True)
class Inspection:
    """``parameters`` by part; ``weights_bytes`` and ``kv_bytes_per_token`` by dtype. The KV
    cache holds, for each token and layer, a key and a value of every KV head."""

    parameters: dict[str, int]
    weights_bytes: dict[str, int]
    kv_bytes_per_token: dict[str, int]
    context_length: int
    config: dict[str, Any]

    @property
    def total(self) -> int:
        return sum(self.parameters.values())

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "total_parameters": self.total}


def read_config(folder: ModelFolder) -> TransformerConfig:
    """What the model's own files say about its shape."""
    from lmstack.model import read_gguf
    from lmstack.model.families import config_from_json
    from lmstack.model.formats.gguf.weights import read_gguf_config
    from lmstack.model.formats.hf import read_json

    if folder.gguf is not None:
        with read_gguf(folder.gguf) as file:
            return read_gguf_config(file)
    path = folder.file("config.json")
    return config_from_json(read_json(path), str(path))


def inspect_config(config: TransformerConfig) -> Inspection:
    """Count ``config``'s parameters and what they and a token's keys and values take."""
    import torch

    from lmstack.engine.torch.kvpool import KVPool
    from lmstack.model import Transformer

    with torch.device("meta"):
        module = Transformer(config)
    parameters: dict[str, int] = {}
    for name, parameter in module.named_parameters():
        part = _part(name)
        parameters[part] = parameters.get(part, 0) + parameter.numel()
    total = sum(parameters.values())
    return Inspection(
        parameters=parameters,
        weights_bytes={name: total * width for name, width in DTYPE_BYTES.items()},
        kv_bytes_per_token={
            name: KVPool.bytes_per_token(config, getattr(torch, name)) if config.causal else 0
            for name in DTYPE_BYTES
            if name != "int8"
        },
        context_length=config.max_positions,
        config=dataclasses.asdict(config),
    )


def _part(name: str) -> str:
    words = name.split(".")
    if words[0] in PARTS:
        return PARTS[words[0]]
    return next((PARTS[word] for word in words if word in PARTS), "norms")
