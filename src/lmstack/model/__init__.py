"""One Transformer, its configs and ops, and readers and writers of model files."""

from lmstack.model.attention import Attend, DenseAttention
from lmstack.model.config import LayerSpec, TransformerConfig
from lmstack.model.ops import REFERENCE_OPS, Ops, ReferenceOps
from lmstack.model.positions import RopeSpec
from lmstack.model.transformer import Transformer, TransformerOutput

__all__ = [
    "REFERENCE_OPS",
    "Attend",
    "DenseAttention",
    "LayerSpec",
    "Ops",
    "ReferenceOps",
    "RopeSpec",
    "Transformer",
    "TransformerConfig",
    "TransformerOutput",
]
