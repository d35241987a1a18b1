"""Token ids in, token ids out: paged KV cache, continuous batching, sampling, grammars.

Names are looked up when they are used: asking for the native ops loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstack.lazy_names import lazy_names

if TYPE_CHECKING:
    from lmstack.engine.config import EngineConfig
    from lmstack.engine.constraints.tool_grammar import MAX_CALLS, Piece, ToolGrammar
    from lmstack.engine.constraints.vocabulary import GrammarVocabulary
    from lmstack.engine.cpu.library import problem as native_problem
    from lmstack.engine.engine import Engine
    from lmstack.engine.request import (
        EngineAdapter,
        EngineRequest,
        EngineStats,
        TokenEvent,
        TokenScore,
    )
    from lmstack.engine.speculative.draft_model import check_vocabularies
    from lmstack.engine.torch.prepacked import PrepackedOps, inference_context

__all__ = [
    "MAX_CALLS",
    "Engine",
    "EngineAdapter",
    "EngineConfig",
    "EngineRequest",
    "EngineStats",
    "GrammarVocabulary",
    "Piece",
    "PrepackedOps",
    "TokenEvent",
    "TokenScore",
    "ToolGrammar",
    "check_vocabularies",
    "inference_context",
    "native_problem",
]

__getattr__, __dir__ = lazy_names(__name__)
