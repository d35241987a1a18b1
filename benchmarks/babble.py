"""Whether an answer babbles, by rules that anybody can check.

An answer babbles if it does not end by itself within its limit of tokens, or if it loops: the same
run of `RUN` words comes `REPEATS` times or more. Lists and verses repeat a word or two; runs of
this length repeat where a model has lost its thread. Does not judge whether an answer is right.
"""

from __future__ import annotations

import re
from collections import Counter

__all__ = ["BUDGET", "babbles", "loops", "words"]

BUDGET = 256
RUN, REPEATS = 5, 3
_WORD = re.compile(r"\w+(?:['’]\w+)*")


def words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def loops(text: str) -> bool:
    found = words(text)
    runs = Counter(tuple(found[at : at + RUN]) for at in range(len(found) - RUN + 1))
    return max(runs.values(), default=0) >= REPEATS


def babbles(text: str, finish_reason: str) -> bool:
    """``finish_reason``: as the API gives it."""
    return finish_reason == "length" or loops(text)
