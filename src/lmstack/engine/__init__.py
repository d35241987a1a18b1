"""Token ids in, token ids out: paged KV cache, continuous batching, sampling, grammars."""

from lmstack.engine.config import EngineConfig
from lmstack.engine.draft_model import check_vocabularies
from lmstack.engine.engine import Engine
from lmstack.engine.kernels.library import problem as native_problem
from lmstack.engine.packed import PackedOps, inference_ops
from lmstack.engine.request import EngineRequest, EngineStats, TokenEvent, TokenScore
from lmstack.engine.vocabulary import Vocabulary

__all__ = [
    "Engine",
    "EngineConfig",
    "EngineRequest",
    "EngineStats",
    "PackedOps",
    "TokenEvent",
    "TokenScore",
    "Vocabulary",
    "check_vocabularies",
    "inference_ops",
    "native_problem",
]
