"""Whether a document that was found is the one that a question names.

Of documents that look alike the wrong one answers as well as the right one, with another value. So
one that looks like another that was found must hold each rare name and number of the question, the
words of a name together, and what stands before a number where that is part of a name. Any other
document may lack some, unless they say far more than what it holds. How names are told, and what
they do to the order of passages, is in `lmstack.rag.retrieve.naming`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.retrieve.look_alikes import look_alikes
from lmstack.rag.retrieve.retrieval import HitDocuments
from lmstack.rag.words import STOP_WORDS, holds_together, name_groups

__all__ = ["names_another", "names_lacking", "words_of_numbers"]

# Names that one passage in ten holds say little of which document is meant.
RARE = math.log(10)


def names_lacking(
    question: str,
    hits: Sequence[Hit],
    documents: HitDocuments,
    *,
    capitals: bool = True,
) -> list[tuple[str, ...]]:
    """Of each hit the names in ``question`` that its document lacks, where it is therefore another
    than the one asked for; nothing for one that may be it. Without ``capitals`` only what has a
    digit is a name: in German every noun has a capital."""
    groups = [
        named
        for group in name_groups(question)
        if (named := tuple(n for n in group if capitals or any(map(str.isdigit, n))))
    ]
    before = words_of_numbers(question, [f"{hit.prefix} {hit.text}" for hit in hits])
    alike = look_alikes(hits)
    found = []
    for hit in hits:
        lacking: tuple[str, ...] = ()
        if hit.document_id in alike:
            document = documents.of(hit)
            text = f"{hit.prefix}\n{hit.text}"
            if document is not None:
                text = f"{document.title}\n{document.text}"
            rare = [g for g in groups if sum(abs(hit.names.get(name, 0)) for name in g) >= RARE]
            lacking = tuple(
                name for group in rare if not holds_together(text, group) for name in group
            ) or tuple(sorted(before - set(_WORD.findall(text.casefold()))))
        elif names_another(groups, hit.names):
            lacking = tuple(name for g in groups for name in g if hit.names.get(name, 0) < 0)
        found.append(lacking)
    return found


def names_another(groups: Sequence[Sequence[str]], names: Mapping[str, float]) -> bool:
    """Whether ``groups`` of names are, by something rare, those of another document than the one
    whose ``names`` are given (as `Naming.of` does), or of one that is not there. A document must
    hold all of a group ("Anna Keller" is not Maria Keller); of several groups it may lack some,
    as where two are compared, unless what it holds says far less than what it lacks."""
    held = lacked = 0.0
    for group in groups:
        weights = [names[name] for name in group if name in names]
        lack = -sum(weight for weight in weights if weight < 0)
        lacked += lack
        held += 0 if lack else sum(weights)
    return lacked >= RARE and lacked > 2 * held


_WORD = re.compile(r"[^\W_]+")
# Words before a number that may be part of a name: "pump controller version 4.3".
_BEFORE = 4


def words_of_numbers(question: str, texts: Sequence[str]) -> set[str]:
    """Words before a number in ``question`` that stand before a number too in one of ``texts``,
    which were found for it: with it they name a thing, as those of "pump controller 4.3" do where
    passages say "pump controller 5.1", and "signed" of "who signed 4711" does not. In small
    letters."""
    asked = [word.casefold() for word in _WORD.findall(question)]
    found = " \n ".join(" ".join(_WORD.findall(text.casefold())) for text in texts)
    words: set[str] = set()
    for place, word in enumerate(asked):
        if not word[0].isdigit() or (place and asked[place - 1][0].isdigit()):
            continue
        for first in range(max(0, place - _BEFORE), place):
            before = asked[first:place]
            if STOP_WORDS.isdisjoint(before) and re.search(
                rf"(?<!\w){re.escape(' '.join(before))} \d", found
            ):
                words.update(before)
                break
    return words
