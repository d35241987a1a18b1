"""How alike answers are: distinct-n (Li et al., 2016) and Self-BLEU (Zhu et al., 2018).

Both change with the length of a text, so two models are compared on texts of the same number of
words: `cut_alike`. A word is what `words` gives, in lower case. Not covered: meaning; two answers
that say the same in other words count as different.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

__all__ = ["Words", "cut_alike", "distinct", "ngrams", "repeated_share", "self_bleu", "words"]

_WORD = re.compile(r"\w+|[^\w\s]")
_ORDER = 4  # of BLEU
Words = tuple[str, ...]


@lru_cache(maxsize=1 << 13)
def words(text: str) -> Words:
    """Words and single marks of punctuation, in lower case."""
    return tuple(_WORD.findall(text.lower()))


def ngrams(tokens: Sequence[str], n: int) -> Iterator[Words]:
    return (tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def distinct(texts: Iterable[Sequence[str]], n: int) -> float | None:
    """Different n-grams over all n-grams of ``texts``; None where there is none."""
    counts: Counter[Words] = Counter()
    for text in texts:
        counts.update(ngrams(text, n))
    total = counts.total()
    return len(counts) / total if total else None


def repeated_share(tokens: Sequence[str], n: int = 4) -> float:
    """Of the n-grams of one text, those that stood in it before (Welleck et al., 2020)."""
    share = distinct([tokens], n)
    return 0.0 if share is None else 1 - share


def cut_alike(
    one: Sequence[Sequence[str]], other: Sequence[Sequence[str]]
) -> tuple[list[Sequence[str]], list[Sequence[str]]]:
    """Both sides, the k-th longest text of each cut to the shorter of the two."""
    cut: tuple[list[Sequence[str]], list[Sequence[str]]] = ([], [])
    for first, second in zip(*(sorted(side, key=len) for side in (one, other)), strict=True):
        size = min(len(first), len(second))
        cut[0].append(first[:size])
        cut[1].append(second[:size])
    return cut


def self_bleu(texts: Sequence[Sequence[str]]) -> float | None:
    """The mean BLEU of each text against all the others: 1 where all are the same, nearer to 0 the
    more they differ. None for fewer than two texts."""
    if len(texts) < 2:
        return None
    scores = [_bleu(text, [*texts[:i], *texts[i + 1 :]]) for i, text in enumerate(texts)]
    return sum(scores) / len(scores)


def _bleu(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU-4 of one sentence (Papineni et al., 2002), an order without a match counting as half a
    match (Chen and Cherry, 2014, the first of their smoothings with 0.5). Orders for which the
    candidate is too short are left out."""
    if not candidate:
        return 1.0 if any(not reference for reference in references) else 0.0
    logs = []
    for n in range(1, min(_ORDER, len(candidate)) + 1):
        counts = Counter(ngrams(candidate, n))
        most: Counter[Words] = Counter()
        for reference in references:
            most |= Counter(ngrams(reference, n))
        matched = (counts & most).total()
        logs.append(math.log((matched or 0.5) / counts.total()))
    size = len(candidate)
    closest = min((abs(len(r) - size), len(r)) for r in references)[1]
    brevity = min(0.0, 1 - closest / size)
    return math.exp(brevity + sum(logs) / len(logs))
