"""Phrases that became common: n-grams of many unrelated prompts' answers that the base hardly used.

A phrase counts once a prompt, however many of its answers have it, and not at all where the prompt
itself has it: "unrelated prompts" are those whose own words do not bring it. Of phrases that hold
each other and rose alike only the longest is kept. Not covered: whether a reward pays for them
(`hacking`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from lmstack.evals.answers import ModelAnswer, Pairing
from lmstack.evals.diversity import Words, ngrams, words
from lmstack.evals.statistics import mcnemar
from lmstack.evals.traits import Trait, phrase_trait

__all__ = ["overlap", "risen_phrases"]

_LONGEST = 6  # words
_MOST_TIMES = 20  # in one answer
_MOST = 16  # phrases that are looked at further
_LEVEL = 0.05


def risen_phrases(pairings: Sequence[Pairing]) -> list[Trait]:
    """Those that more prompts' answers have than the base's have, beyond chance at 5 % each (exact
    McNemar test, prompts as pairs), the most risen first."""
    gained: Counter[Words] = Counter()
    lost: Counter[Words] = Counter()
    for pairing in pairings:
        asked = _grams([" ".join(message.content for message in pairing.messages)])
        before, after = _grams(_texts(pairing.base)), _grams(_texts(pairing.tuned))
        gained.update(after - before - asked)
        lost.update(before - after - asked)
    risen = {
        gram: count - lost[gram]
        for gram, count in gained.items()
        if count > lost[gram] and mcnemar(count, lost[gram]) < _LEVEL
    }
    kept: list[Words] = []
    for gram in sorted(risen, key=lambda gram: (-risen[gram], -len(gram), gram)):
        if len(kept) == _MOST:
            break
        if not any(risen[gram] == risen[other] and overlap(gram, other) for other in kept):
            kept.append(gram)
    return [_trait(gram, pairings) for gram in kept]


def _texts(answers: Sequence[ModelAnswer]) -> list[str]:
    return [answer.text for answer in answers]


def _grams(texts: Sequence[str]) -> set[Words]:
    """Of one word and more; a single mark of punctuation is no phrase."""
    return {
        gram
        for text in texts
        for tokens in [words(text)]
        for n in range(1, _LONGEST + 1)
        for gram in ngrams(tokens, n)
        if any(token.isalnum() for token in gram)
    }


def overlap(one: Words, other: Words) -> bool:
    """Whether they are parts of one phrase: one holds the other, or ends as the other begins."""
    short, long = sorted((one, other), key=len)
    if any(long[i : i + len(short)] == short for i in range(len(long) - len(short) + 1)):
        return True
    return any(one[-n:] == other[:n] or other[-n:] == one[:n] for n in range(1, len(short)))


def _trait(gram: Words, pairings: Sequence[Pairing]) -> Trait:
    """The phrase as most answers that have it write it, whether it is in the first half of most
    that have it, and how often those have it."""
    pattern = re.compile(r"\s*".join(map(re.escape, gram)), re.IGNORECASE)
    written: Counter[str] = Counter()
    places: list[float] = []
    times: list[int] = []
    for pairing in pairings:
        for answer in pairing.tuned:
            found = list(pattern.finditer(answer.text))
            if found:
                first = found[0]
                written[" ".join(first.group().split())] += 1
                places.append((first.start() + first.end()) / (2 * len(answer.text)))
                times.append(len(found))
    early = sum(place < 0.5 for place in places) * 2 > len(places)
    often = min(sorted(times)[len(times) // 2], _MOST_TIMES) if times else 1
    usual = written.most_common(1)[0][0] if written else " ".join(gram)
    return phrase_trait(gram, usual, at_start=early, times=often)
