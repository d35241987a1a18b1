"""Citations that hold: the share of an answer's sentences that do.

A sentence holds where it cites sources that there are, as `[1]`, they bear it out, and each passage
that it quotes stands in one of them, word for word. What bears a sentence out is said by the check
that `lmstack ask` has, which the program lends. An answer without a sentence has 0. Whether the
answer answers the question is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from lmstack.core import InputError, UnsupportedError, check_text, shown
from lmstack.train.rewards.reward import Checks, Cited, CitedClaim, RewardFunction
from lmstack.train.rollouts.protocol import RolloutSample

__all__ = ["Citations"]

_QUOTED = re.compile(r"\"([^\"]+)\"|\u201c([^\u201c\u201d]+)\u201d|\u00ab([^\u00ab\u00bb]+)\u00bb")


@dataclass(frozen=True)
class Citations(RewardFunction):
    name: ClassVar[str] = "citations"
    columns: ClassVar[Mapping[str, str]] = {"sources": "a list of texts, the first cited as [1]"}
    # What `lent` puts on the instance: no field, so no setting.
    check: ClassVar[Cited | None] = None

    def lent(self, checks: Checks) -> Self:
        if checks.citations is None:
            raise UnsupportedError(
                f"the reward {self.name} needs a check of citations, and this program lends none",
                hint="lmstack train has one",
            )
        found = self.replace()
        object.__setattr__(found, "check", checks.citations())
        return found

    def check_row(self, row: Mapping[str, Any]) -> None:
        super().check_row(row)
        sources = row["sources"]
        if not isinstance(sources, list | tuple) or not sources:
            raise InputError(
                f"sources is {shown(sources)}, not a list of texts",
                hint='sources: ["the first", "the second"]',
                param="sources",
            )
        for source in sources:
            check_text("sources", source)

    def score(self, samples: Sequence[RolloutSample]) -> list[float]:
        return [self._score(sample.text, sample.row["sources"]) for sample in samples]

    def _score(self, answer: str, sources: Sequence[str]) -> float:
        assert self.check is not None, "lent() gives the check"
        claims = self.check.claims(answer, sources)
        held = [_holds(claim, sources) for claim in claims]
        return sum(held) / len(held) if held else 0.0


def _holds(claim: CitedClaim, sources: Sequence[str]) -> bool:
    cited = [_flat(sources[number - 1]) for number in claim.numbers]
    quoted = [_flat("".join(groups)) for groups in _QUOTED.findall(claim.text)]
    stands = all(any(quote in source for source in cited) for quote in quoted)
    return bool(cited) and claim.supported and stands


def _flat(text: str) -> str:
    return " ".join(text.split())
