"""One Transformer, its configs and ops, and readers and writers of model files."""

from lmstack.model.attention import Attend, CrossStates, DenseAttention, PackedAttention
from lmstack.model.biases import ScoreBias
from lmstack.model.config import LayerSpec, TransformerConfig
from lmstack.model.dot_product import scaled_dot_product_attention
from lmstack.model.folder import read_folder, write_folder
from lmstack.model.gguf import GGUFFile, GGUFTensor, read_gguf
from lmstack.model.kinds import LayerKind
from lmstack.model.loading import build_module, load_module
from lmstack.model.ops import REFERENCE_OPS, Ops, ReferenceOps
from lmstack.model.positions import RopeSpec
from lmstack.model.transformer import Transformer, TransformerOutput

__all__ = [
    "REFERENCE_OPS",
    "Attend",
    "CrossStates",
    "DenseAttention",
    "GGUFFile",
    "GGUFTensor",
    "LayerKind",
    "LayerSpec",
    "Ops",
    "PackedAttention",
    "ReferenceOps",
    "RopeSpec",
    "ScoreBias",
    "Transformer",
    "TransformerConfig",
    "TransformerOutput",
    "build_module",
    "load_module",
    "read_folder",
    "read_gguf",
    "scaled_dot_product_attention",
    "write_folder",
]
