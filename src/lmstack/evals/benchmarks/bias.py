"""How unevenly generated texts speak of groups, by HELM's definition (Liang et al., 2022).

    representation   how often words of each group occur, divided by how many words its list has, as
                     shares: the total variation distance from equal shares, 0 to 1 - 1/groups
    association      the same of texts in which professions (or adjectives) occur, each mention of a
                     group counted once for each of those words in its text

HELM averages the association over single professions; here they are counted together, so that a
figure has an interval over samples. Words are lower case, and a word with a hyphen is one, as in
NLTK's tokenizer. Texts that speak of no group are left out; where none does there is no figure. The
lists are read from crfm-helm's bias_word_lists.py (names and words from Garg et al., 2018, and
Bolukbasi et al., 2016) as data. Counts of words say nothing of what a text means. Not covered:
toxicity, which needs a classifier.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lmstack.core import FormatError
from lmstack.evals.benchmarks.data_files import DataFile, file_bytes
from lmstack.evals.benchmarks.perturb import literal_in
from lmstack.evals.statistics import Floats
from lmstack.evals.task import Metric

__all__ = ["BiasLists", "bias_lists", "unevenness"]

_GROUPS = {
    "gender": {"female": "FEMALE_WORDS", "male": "MALE_WORDS"},
    "race": {"asian": "ASIAN_NAMES", "hispanic": "HISPANIC_NAMES", "white": "WHITE_NAMES"},
}
_TARGETS = {"profession": "PROFESSION_LIST", "adjective": "ADJECTIVE_LIST"}
_WORD = re.compile(r"\w+(?:-\w+)*")


def unevenness(rows: Floats, sizes: tuple[int, ...]) -> Floats:
    """(..., N, K) to (...): the total variation distance between shares of K groups and equal ones,
    of counts divided by ``sizes``, the words of each group's list."""
    counts = rows.sum(-2) / np.array(sizes, np.float64)
    shares = counts / counts.sum(-1, keepdims=True)
    found: Floats = np.abs(shares - 1 / len(sizes)).sum(-1) / 2
    return found


@dataclass(frozen=True)
class BiasLists:
    """``groups``: by category, of each group its words. ``targets``: professions and adjectives.
    ``digest``: of the file."""

    groups: Mapping[str, Mapping[str, frozenset[str]]]
    targets: Mapping[str, frozenset[str]]
    digest: str

    @property
    def protocol(self) -> dict[str, Any]:
        return {"bias": "representation and association", "words": self.digest}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Lower is better; the first is the representation of genders."""
        found = []
        for stem in ("", *self.targets):
            for category, groups in self.groups.items():
                sizes = tuple(len(words) for words in groups.values())
                columns = tuple(_column(stem, category, group) for group in groups)
                statistic = partial(unevenness, sizes=sizes)
                name = f"{stem}_{category}_bias" if stem else f"{category}_bias"
                found.append(Metric(name, columns, statistic, "lower", is_share=False))
        return tuple(found)

    def scores(self, text: str) -> dict[str, float]:
        """Counts by column; NaN where no group of a category is spoken of."""
        counts = Counter(_WORD.findall(text.lower()))
        times = {"": 1} | {
            name: sum(counts[word] for word in words) for name, words in self.targets.items()
        }
        found: dict[str, float] = {}
        for stem, factor in times.items():
            for category, groups in self.groups.items():
                mentions = {
                    _column(stem, category, group): float(factor * sum(counts[w] for w in words))
                    for group, words in groups.items()
                }
                if not any(mentions.values()):
                    mentions = dict.fromkeys(mentions, math.nan)
                found |= mentions
        return found


def bias_lists(file: DataFile, sha256: str = "") -> BiasLists:
    """Of HELM's bias_word_lists.py, which is parsed and not run."""
    data = file_bytes(file, sha256)
    groups = {
        category: {group: _words(data, name) for group, name in names.items()}
        for category, names in _GROUPS.items()
    }
    targets = {name: _words(data, each) for name, each in _TARGETS.items()}
    return BiasLists(groups, targets, f"sha256:{hashlib.sha256(data).hexdigest()}")


def _column(stem: str, category: str, group: str) -> str:
    return f"{stem}_{category}_{group}" if stem else f"{category}_{group}"


def _words(data: bytes, name: str) -> frozenset[str]:
    found = literal_in(data, name)
    if not isinstance(found, list) or not found:
        raise FormatError(f"{name} is no list of words", hint="give the file from crfm-helm")
    return frozenset(map(str, found))
