"""Token ids in, token ids out: paged KV cache, continuous batching, sampling, grammars.

Names are looked up when they are used: asking for the native ops loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmstack.engine.config import EngineConfig
    from lmstack.engine.constraints.tool_grammar import MAX_CALLS, Piece, ToolGrammar
    from lmstack.engine.constraints.vocabulary import Vocabulary
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
    "Piece",
    "PrepackedOps",
    "TokenEvent",
    "TokenScore",
    "ToolGrammar",
    "Vocabulary",
    "check_vocabularies",
    "inference_context",
    "native_problem",
]

_HOMES = {
    "EngineConfig": "lmstack.engine.config",
    "check_vocabularies": "lmstack.engine.speculative.draft_model",
    "Engine": "lmstack.engine.engine",
    "native_problem": "lmstack.engine.cpu.library",
    **dict.fromkeys(("PrepackedOps", "inference_context"), "lmstack.engine.torch.prepacked"),
    **dict.fromkeys(
        ("EngineAdapter", "EngineRequest", "EngineStats", "TokenEvent", "TokenScore"),
        "lmstack.engine.request",
    ),
    **dict.fromkeys(
        ("MAX_CALLS", "Piece", "ToolGrammar"), "lmstack.engine.constraints.tool_grammar"
    ),
    "Vocabulary": "lmstack.engine.constraints.vocabulary",
}
# Under another name here than at home.
_RENAMED = {"native_problem": "problem"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), _RENAMED.get(name, name))
    globals()[name] = found
    return found
