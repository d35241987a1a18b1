"""One Transformer, its configs and ops, and readers and writers of model files."""

from lmstack.model.attention import Attend, CrossStates, DenseAttention, PackedAttention
from lmstack.model.biases import ScoreBias
from lmstack.model.config import LayerSpec, TransformerConfig
from lmstack.model.dot_product import scaled_dot_product_attention
from lmstack.model.folder import read_folder, write_folder
from lmstack.model.forms import FORMS, Form
from lmstack.model.gguf import GGUFFile, GGUFTensor, read_gguf
from lmstack.model.gguf_writing import GGUFKind, write_gguf
from lmstack.model.kinds import LayerKind
from lmstack.model.loading import build_module, load_module
from lmstack.model.lora import (
    add_adapter,
    count_parameters,
    load_adapter,
    merge_adapter,
    remove_adapter,
    save_adapter,
    unmerge_adapter,
)
from lmstack.model.lora_config import LoraConfig
from lmstack.model.ops import REFERENCE_OPS, Ops, ReferenceOps
from lmstack.model.positions import RopeSpec
from lmstack.model.quantized import QuantizedEmbedding, QuantizedLinear, QuantizedMatrix
from lmstack.model.transformer import Transformer, TransformerOutput

__all__ = [
    "FORMS",
    "REFERENCE_OPS",
    "Attend",
    "CrossStates",
    "DenseAttention",
    "Form",
    "GGUFFile",
    "GGUFKind",
    "GGUFTensor",
    "LayerKind",
    "LayerSpec",
    "LoraConfig",
    "Ops",
    "PackedAttention",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedMatrix",
    "ReferenceOps",
    "RopeSpec",
    "ScoreBias",
    "Transformer",
    "TransformerConfig",
    "TransformerOutput",
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
