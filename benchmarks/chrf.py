"""chrF: the F-score of character n-grams (Popović, 2015), as sacrebleu computes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

__all__ = ["chrf"]

ORDER, BETA = 6, 2.0


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Of a corpus, in [0, 100]: n-grams of 1 to 6 characters without white space, counted over all
    sentences; recall counts twice."""
    precision = recall = orders = 0.0
    for n in range(1, ORDER + 1):
        matched = found = wanted = 0
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            ours, theirs = _ngrams(hypothesis, n), _ngrams(reference, n)
            matched += (ours & theirs).total()
            found, wanted = found + ours.total(), wanted + theirs.total()
        if found and wanted:
            precision, recall = precision + matched / found, recall + matched / wanted
            orders += 1
    if not precision or not recall:
        return 0.0
    precision, recall = precision / orders, recall / orders
    return 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)


def _ngrams(text: str, n: int) -> Counter[str]:
    letters = "".join(text.split())
    return Counter(letters[i : i + n] for i in range(len(letters) - n + 1))
