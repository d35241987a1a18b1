"""Whether a model writes answers or quotes them, where nobody says.

A small model that writes says less that is right than the passages themselves do; a large one
writes what no passage says in one place. Remote models are taken for large ones: whoever names one
wants what it can do. Does not cover how answers are made (`lmstack.rag`).
"""

from __future__ import annotations

from lmstack.core import ModelInfo
from lmstack.rag.answer.answer import AnswerConfig

__all__ = ["MIN_PARAMETERS", "usual_answers"]

# As few as a model that writes may have. Below, its sentences are checked and dropped so often
# that a quotation says more.
MIN_PARAMETERS = 1_500_000_000
# Passages that a local model is shown: of five a small one more often answers from the wrong one.
FEW = 3
# Above this confidence it says of as many answers as gaps that the documents do not say
# (docs/decisions.md), so its word counts below.
CERTAIN = 0.5
# Questions before a follow-up that a local model is shown to write it in full.
EARLIER = 3


def usual_answers(model: ModelInfo) -> AnswerConfig:
    """The defaults, with the strategy that suits ``model``. One that writes well also says what
    kind of text is asked for, and what its sentences are borne out by; a local one, which takes
    its answer from earlier passages as readily, writes a follow-up in full before."""
    is_remote = model.digest is None
    writes = is_remote or model.parameters >= MIN_PARAMETERS
    rewrites = writes and not is_remote
    return AnswerConfig(
        strategy="write" if writes else "quote",
        shown=AnswerConfig.shown if is_remote else FEW,
        certain=AnswerConfig.certain if is_remote else CERTAIN,
        history_turns=EARLIER if rewrites else AnswerConfig.history_turns,
        rewrite="model" if rewrites else "rules",
        plans=writes,
        judges=writes,
    )
