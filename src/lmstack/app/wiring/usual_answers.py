"""Whether a model writes answers or quotes them, where nobody says.

A small model that writes says less that is right than the passages themselves do; a large one
writes what no passage says in one place. Remote models are taken for large ones: whoever names one
wants what it can do. Does not cover how answers are made (`lmstack.rag`).
"""

from __future__ import annotations

from lmstack.core import ModelInfo
from lmstack.rag import AnswerConfig

__all__ = ["MIN_PARAMETERS", "usual_answers"]

# As few as a model that writes may have. Below, its sentences are checked and dropped so often
# that a quotation says more.
MIN_PARAMETERS = 1_500_000_000


def usual_answers(model: ModelInfo, config: AnswerConfig | None = None) -> AnswerConfig:
    """``config``, or the defaults, with the strategy that suits ``model``. One that writes well
    also says what kind of text is asked for, and what its sentences are borne out by."""
    is_remote = model.digest is None
    writes = is_remote or model.parameters >= MIN_PARAMETERS
    strategy = "write" if writes else "quote"
    return (config or AnswerConfig()).replace(strategy=strategy, plans=writes, judges=writes)
