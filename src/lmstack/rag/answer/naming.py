"""Whether a document that was found is the one that a question names.

Of documents that look alike the wrong one answers as well as the right one, with another value. So
one that looks like another that was found must be that of the names in the question
(`look_alikes`). Any other document may lack some, unless they say far more than what it holds. How
names are told, and what they do to the order of passages, is in `lmstack.rag.retrieve.naming`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.retrieve.look_alikes import RARE, groups_asked, names_of_others
from lmstack.rag.retrieve.retrieval import HitDocuments

__all__ = ["names_another", "names_lacking"]


def names_lacking(
    question: str,
    hits: Sequence[Hit],
    documents: HitDocuments,
    found: Sequence[Hit] = (),
    *,
    capitals: bool = True,
) -> list[tuple[str, ...]]:
    """Of each hit the names in ``question`` that its document lacks, where it is therefore another
    than the one asked for; nothing for one that may be it. Without ``capitals`` only what has a
    digit is a name: in German every noun has a capital. Look-alikes are sought among all that was
    ``found``, or among ``hits``."""
    groups = [
        named
        for group in groups_asked(question, found or hits)
        if (named := tuple(n for n in group if capitals or any(map(str.isdigit, n))))
    ]
    alike = names_of_others(question, groups, found or hits, documents, strict=True)
    return [
        alike[hit.document_id]
        if hit.document_id in alike
        else tuple(name for g in groups for name in g if hit.names.get(name, 0) < 0)
        if names_another(groups, hit.names)
        else ()
        for hit in hits
    ]


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
