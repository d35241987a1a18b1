"""Which of the documents found look alike, as those do that one template made.

A model that reads one passage cannot tell them apart: only the names in them differ. Among other
documents it can, and a name that is mentioned says less than what it reads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lmstack.rag.retrieve.hybrid import Hit

__all__ = ["look_alikes"]

_WORD = re.compile(r"[^\W_]+")
# Share of the words of two passages, names and numbers aside, that both have if one template made
# them: pages of twelve templates share .48 or more with one of 39 others. At .3 pages of ordinary
# collections count as alike too, and answers are lost (docs/decisions.md).
ALIKE = 0.4


def look_alikes(hits: Sequence[Hit]) -> set[int]:
    """The ids of documents of which a passage says nearly the same as one of another document
    among ``hits``, but for names and numbers."""
    words = [
        (hit.document_id, frozenset(filter(str.islower, _WORD.findall(hit.text)))) for hit in hits
    ]
    return {
        number
        for number, own in words
        for other, theirs in words
        if other != number and len(own & theirs) >= ALIKE * max(1, len(own | theirs))
    }
