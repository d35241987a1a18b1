"""One Transformer, its configs and ops, and readers and writers of model files.

Names are looked up when they are used: reading a config or a header loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstack.lazy_names import lazy_names

if TYPE_CHECKING:
    from lmstack.model.attention import Attend, CrossStates, DenseAttention, VarlenAttention
    from lmstack.model.biases import ScoreBias
    from lmstack.model.config import LayerKind, LayerSpec, TransformerConfig
    from lmstack.model.context import Dropout, ForwardContext
    from lmstack.model.dot_product import scaled_dot_product_attention
    from lmstack.model.formats.gguf.file import GGUFFile, GGUFTensor, read_gguf
    from lmstack.model.formats.gguf.writing import GGUFKind, write_gguf
    from lmstack.model.formats.hf import read_folder, write_folder
    from lmstack.model.forms import FORMS, Form
    from lmstack.model.loading import build_module, load_module
    from lmstack.model.lora.adapter import (
        add_adapter,
        count_parameters,
        load_adapter,
        merge_adapter,
        remove_adapter,
        save_adapter,
        unmerge_adapter,
    )
    from lmstack.model.lora.config import LoraConfig
    from lmstack.model.ops import REFERENCE_OPS, Ops, ReferenceOps
    from lmstack.model.positions import RopeSpec
    from lmstack.model.quant.matrix import QuantizedEmbedding, QuantizedLinear, QuantizedMatrix
    from lmstack.model.transformer import Transformer, TransformerOutput

__all__ = [
    "FORMS",
    "REFERENCE_OPS",
    "Attend",
    "CrossStates",
    "DenseAttention",
    "Dropout",
    "Form",
    "ForwardContext",
    "GGUFFile",
    "GGUFKind",
    "GGUFTensor",
    "LayerKind",
    "LayerSpec",
    "LoraConfig",
    "Ops",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedMatrix",
    "ReferenceOps",
    "RopeSpec",
    "ScoreBias",
    "Transformer",
    "TransformerConfig",
    "TransformerOutput",
    "VarlenAttention",
    "add_adapter",
    "build_module",
    "count_parameters",
    "load_adapter",
    "load_module",
    "merge_adapter",
    "read_folder",
    "read_gguf",
    "remove_adapter",
    "save_adapter",
    "scaled_dot_product_attention",
    "unmerge_adapter",
    "write_folder",
    "write_gguf",
]

__getattr__, __dir__ = lazy_names(__name__)
