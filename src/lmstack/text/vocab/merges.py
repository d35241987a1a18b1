"""Which merge makes each token of a ranked vocabulary: what tokenizer.json lists and tiktoken and
SentencePiece files leave out.

Those files give every token a rank; encoding joins, again and again, the neighbours whose joined
text ranks best, the leftmost of equals. A token that arises inside a longer text went through the
same steps as it does alone, since any step that crossed its edges would have kept it from arising.
So the last step of the token alone is the only pair that ever makes it, and one merge a token
gives equal ids on every text. Where only one cut of a token has both parts in the vocabulary no
other pair can make it, so the steps need not be walked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TypeVar

__all__ = ["merges_of"]

Text = TypeVar("Text", str, bytes)
_NEVER = 1 << 62


def merges_of(ranks: Mapping[Text, int]) -> list[tuple[Text, Text]]:
    """The merges of a vocabulary, best rank first. Tokens that no merge reaches have none."""
    made = sorted((rank, token) for token, rank in ranks.items() if len(token) > 1)
    pairs = (_last_pair(token, ranks) for _, token in made)
    return [pair for pair in pairs if pair is not None]


def _last_pair(token: Text, ranks: Mapping[Text, int]) -> tuple[Text, Text] | None:
    cuts = _cuts(token, ranks)
    first = next(cuts, None)
    if first is None or next(cuts, None) is None:
        return first
    parts = [token[i : i + 1] for i in range(len(token))]
    scores = [ranks.get(left + right, _NEVER) for left, right in pairwise(parts)]
    while len(scores) > 1:
        best = min(scores)
        if best == _NEVER:
            return None
        at = scores.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        del scores[at]
        if at:
            scores[at - 1] = ranks.get(parts[at - 1] + parts[at], _NEVER)
        if at < len(scores):
            scores[at] = ranks.get(parts[at] + parts[at + 1], _NEVER)
    left, right = parts
    return (left, right) if left in ranks and right in ranks else None


def _cuts(token: Text, ranks: Mapping[Text, int]) -> Iterator[tuple[Text, Text]]:
    for at in range(1, len(token)):
        left, right = token[:at], token[at:]
        if left in ranks and right in ranks:
            yield left, right
