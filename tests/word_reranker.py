"""A reranker without weights: what it thinks of a text can be worked out by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lmstack.core import ModelInfo
from lmstack.rag.answer.confidence import Calibration

__all__ = ["CALIBRATION", "WordReranker"]

# Half of the words make a probability of a half, all of them 0.993, none of them 0.007.
CALIBRATION = Calibration(10.0, -5.0)


class WordReranker:
    """The share of the question's words that a text holds. ``read``: all texts scored."""

    info = ModelInfo("words")

    def __init__(self) -> None:
        self.read: list[str] = []

    def score(self, query: str, passages: Sequence[str]) -> npt.NDArray[np.float32]:
        self.read += passages
        asked = _words(query)
        return np.array(
            [len(asked & _words(text)) / max(1, len(asked)) for text in passages], np.float32
        )


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
