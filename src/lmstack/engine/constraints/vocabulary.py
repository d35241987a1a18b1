"""What the engine knows about tokens: their bytes and which of them end a text.

Not covered: turning text into ids; that is a tokenizer's work and happens outside the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmstack.core import InputError, shown

__all__ = ["GrammarVocabulary"]


@dataclass(frozen=True)
class GrammarVocabulary:
    """``token_bytes[id]``: the exact bytes of a token, ``b""`` for control tokens.

    ``eos_ids`` end a text. ``special_ids`` are control tokens; no grammar can produce them.
    A model may have more rows than this has tokens (padding); the engine never picks those.
    """

    token_bytes: Sequence[bytes]
    eos_ids: frozenset[int]
    special_ids: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if not self.token_bytes:
            raise InputError("a vocabulary needs at least one token", param="token_bytes")
        for name in ("eos_ids", "special_ids"):
            outside = [i for i in getattr(self, name) if not 0 <= i < len(self.token_bytes)]
            if outside:
                raise InputError(
                    f"{name} holds {shown(outside)}, outside [0, {len(self.token_bytes)})",
                    param=name,
                )

    def __len__(self) -> int:
        return len(self.token_bytes)
