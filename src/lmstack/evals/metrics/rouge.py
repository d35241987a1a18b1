"""ROUGE-1, -2, -L and -Lsum (Lin, 2004) with precision, recall and F1, as rouge-score has them.

Words are runs of ASCII letters and digits in lower case, as in ROUGE-1.5.5: a text in another
script has none, and scores 0. ROUGE-Lsum takes lines for sentences. Of several targets the one with
the highest F1 counts. Stemming, off by default as in rouge-score and lm-evaluation-harness, is
NLTK's (the extra ``evals``), for rouge-score has no other. Not covered: cutting a text into
sentences.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from lmstack.core import InputError, allowed, nearest, require, shown
from lmstack.evals.diversity import ngrams
from lmstack.evals.metrics.scoring import ConfiguredScorer, average, needed_targets
from lmstack.evals.task import Metric, ModelOutput, Sample

__all__ = ["ROUGE_TYPES", "Overlap", "Rouge", "rouge"]

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
_WORD = re.compile(r"[a-z0-9]+")
Words = Sequence[str]


class Overlap(NamedTuple):
    precision: float
    recall: float
    f1: float


def rouge(
    text: str, target: str, types: Sequence[str] = ROUGE_TYPES, *, stemming: bool = False
) -> dict[str, Overlap]:
    """Of ``text`` against one target, by the types asked for: also rouge3 to rouge9. ``stemming``:
    words of more than three letters are compared by their stem (Porter's, with NLTK's
    extensions)."""
    ours, theirs = _words(text, stemming), _words(target, stemming)
    found = {}
    for kind in types:
        if kind == "rougeL":
            found[kind] = _overlap(_lcs_length(theirs, ours), len(ours), len(theirs))
        elif kind == "rougeLsum":
            lines = _lines(text, stemming), _lines(target, stemming)
            found[kind] = _summary_overlap(*lines)
        else:
            found[kind] = _ngram_overlap(ours, theirs, int(kind.removeprefix("rouge")))
    return found


def _words(text: str, stemming: bool) -> list[str]:
    words = _WORD.findall(text.lower())
    if not stemming:
        return words
    stem = _stemmer().stem
    return [stem(word) if len(word) > 3 else word for word in words]


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    return require("nltk.stem.porter", "evals").PorterStemmer()


def _lines(text: str, stemming: bool) -> list[list[str]]:
    return [_words(line, stemming) for line in text.split("\n") if line]


def _overlap(matches: int, ours: int, theirs: int) -> Overlap:
    precision, recall = matches / max(ours, 1), matches / max(theirs, 1)
    total = precision + recall
    return Overlap(precision, recall, 2 * precision * recall / total if total else 0.0)


def _ngram_overlap(ours: Words, theirs: Words, n: int) -> Overlap:
    one, other = Counter(ngrams(ours, n)), Counter(ngrams(theirs, n))
    return _overlap((one & other).total(), one.total(), other.total())


def _lcs_length(one: Words, other: Words) -> int:
    """Of the longest common subsequence, a row of the table as the bits of a number (Hyyrö,
    2004), many times as fast as cell by cell."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(one)) - 1
    row = full
    for word in other:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & full
    return len(one) - row.bit_count()


def _summary_overlap(ours: Sequence[Words], theirs: Sequence[Words]) -> Overlap:
    """Each sentence of the target against all sentences of the text: the union of their longest
    common subsequences, a word counting no oftener than both texts have it."""
    left = Counter(word for line in ours for word in line)
    wanted = Counter(word for line in theirs for word in line)
    matches, num_ours, num_theirs = 0, left.total(), wanted.total()
    for target in theirs:
        union = sorted({place for line in ours for place in _lcs_places(target, line)})
        for word in (target[place] for place in union):
            if left[word] > 0 and wanted[word] > 0:
                matches += 1
                left[word] -= 1
                wanted[word] -= 1
    return _overlap(matches, num_ours, num_theirs)


def _lcs_places(target: Words, line: Words) -> list[int]:
    """Places in ``target`` of one longest common subsequence: the one that rouge-score finds."""
    table = [[0] * (len(line) + 1)]
    for word in target:
        above, row = table[-1], [0]
        for j, other in enumerate(line):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
        table.append(row)
    found = []
    i, j = len(target), len(line)
    while i and j:
        if target[i - 1] == line[j - 1]:
            i, j = i - 1, j - 1
            found.append(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return found


@dataclass(frozen=True)
class Rouge(ConfiguredScorer):
    """``types``: of rouge1 to rouge9, rougeL and rougeLsum."""

    name: ClassVar[str] = "rouge"
    types: tuple[str, ...] = ROUGE_TYPES
    stemming: bool = allowed(False, bool)

    def __post_init__(self) -> None:
        super().__post_init__()
        known = (*(f"rouge{n}" for n in range(1, 10)), "rougeL", "rougeLsum")
        types = (self.types,) if isinstance(self.types, str) else self.types
        if not types:
            raise InputError("rouge has no types", hint=f"some of {', '.join(ROUGE_TYPES)}")
        for kind in types:
            if kind not in known:
                guess = nearest(str(kind), known)
                hint = f"did you mean {guess!r}?" if guess else f"known: {', '.join(known)}"
                raise InputError(f"rouge has no type {shown(kind)}", hint=hint, param="types")
        object.__setattr__(self, "types", tuple(types))

    @property
    def protocol(self) -> Mapping[str, Any]:
        nltk = require("nltk", "evals").__version__ if self.stemming else None
        return {**super().protocol, "nltk": nltk}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        sides = ("f1", "precision", "recall")
        return tuple(average(f"{kind}_{side}") for kind in self.types for side in sides)

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        each = [
            rouge(output.text, target, self.types, stemming=self.stemming)
            for target in needed_targets(sample)
        ]
        best = {kind: max((one[kind] for one in each), key=lambda o: o.f1) for kind in self.types}
        return {
            f"{kind}_{side}": value
            for kind, overlap in best.items()
            for side, value in overlap._asdict().items()
        }
