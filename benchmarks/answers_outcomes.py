"""Verdicts on items, and their sums: proportions with intervals, and areas under curves.

English collections are pooled as they are sampled, so each counts about alike; those where all of
the scope is gold (`Collection.trivial`) count for refusals there, not for what is right or precise.
Kinds and other languages are summed up apart. Nothing of a question's words is kept.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from answers_data import Collection, Item, Status
from answers_judge import Shown, is_right, keeps, num_precise
from questions import share

from lmstack.evals.metrics.calibration import auc

__all__ = ["Outcome", "judged", "read_outcomes", "summaries", "summary", "write_outcomes"]


@dataclass(frozen=True)
class Outcome:
    """What a system made of one item. ``kept``: whether the patterns of a `bounded` item were;
    ``holds``: whether what was shown answers, had it been shown as an answer; ``sampled``: False
    for an item that was asked for the sake of its kind alone."""

    collection: str
    language: str
    trivial: bool
    system: str
    status: Status
    kinds: tuple[str, ...]
    right: bool
    refused: bool
    confidence: float
    citations: int
    precise: int
    valid: int
    words: int
    seconds: float
    conflict: bool
    kept: bool
    holds: bool = False
    sampled: bool = True
    asked_in: str = ""

    @property
    def fine(self) -> bool:
        if self.status == "bounded":
            return self.kept
        return self.right if self.status == "answerable" else self.refused


def judged(
    collection: Collection, system: str, item: Item, shown: Shown, texts: Mapping[str, str]
) -> Outcome:
    answered = item.status == "answerable" and not shown.refused
    return Outcome(
        collection.name,
        collection.language,
        collection.trivial,
        system,
        item.status,
        item.kinds,
        is_right(item, shown, texts),
        shown.refused,
        shown.confidence,
        len(shown.spans),
        num_precise(item, shown.spans, texts) if answered else 0,
        shown.valid,
        len(shown.text.split()),
        shown.seconds,
        shown.conflict,
        item.patterns is None or keeps(item.patterns, shown.text),
        is_right(item, dataclasses.replace(shown, refused=False), texts),
        asked_in=collection.asked_in,
    )


def write_outcomes(path: Path, outcomes: Iterable[Outcome]) -> None:
    path.write_text(json.dumps([dataclasses.asdict(each) for each in outcomes]))


def read_outcomes(path: Path) -> list[Outcome]:
    rows = json.loads(path.read_text())
    return [Outcome(**row | {"kinds": tuple(row["kinds"])}) for row in rows]


def _share(outcomes: Sequence[Outcome], holds: Callable[[Outcome], bool]) -> dict[str, Any]:
    return share(sum(map(holds, outcomes)), len(outcomes))


def _area(above: Sequence[Outcome], below: Sequence[Outcome]) -> dict[str, Any]:
    known = len({o.confidence for o in (*above, *below)}) > 1
    if len(above) < 2 or len(below) < 2 or not known:
        return {"area": None, "low": None, "high": None, "above": len(above), "below": len(below)}
    area = auc([o.confidence for o in above], [o.confidence for o in below])
    return {
        **{"area": area.value, "low": area.low, "high": area.high},
        **{"above": len(above), "below": len(below)},
    }


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Of one system."""
    of = {
        status: [o for o in outcomes if o.status == status]
        for status in ("answerable", "taken_away", "near_miss", "bounded")
    }
    judged_ones = [o for o in of["answerable"] if not o.trivial]
    answered = [o for o in judged_ones if not o.refused]
    cited = [o for o in outcomes if not o.refused]
    timed = [o.seconds for o in outcomes if o.seconds]
    return {
        "right": _share(judged_ones, lambda o: o.right),
        "precise": share(sum(o.precise for o in answered), sum(o.citations for o in answered)),
        "valid": share(sum(o.valid for o in cited), sum(o.citations for o in cited)),
        "refused_wrongly": _share(of["answerable"], lambda o: o.refused),
        "refused_taken_away": _share(of["taken_away"], lambda o: o.refused),
        "refused_near_miss": _share(of["near_miss"], lambda o: o.refused),
        "auc_taken_away": _area(_beside(of, "taken_away"), of["taken_away"]),
        "auc_near_miss": _area(_beside(of, "near_miss"), of["near_miss"]),
        "patterns_kept": _share(of["bounded"], lambda o: o.kept),
        "conflict_shown": _share(
            [o for o in of["answerable"] if "disputed" in o.kinds], lambda o: o.conflict
        ),
        "median_words": statistics.median([o.words for o in cited]) if cited else None,
        "seconds_an_answer": statistics.mean(timed) if timed else None,
    }


def _beside(of: Mapping[str, Sequence[Outcome]], status: str) -> list[Outcome]:
    """Answerable ones of the collections that have items of ``status``."""
    names = {o.collection for o in of[status]}
    return [o for o in of["answerable"] if o.collection in names]


def by_system(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        name: summary([o for o in outcomes if o.system == name])
        for name in dict.fromkeys(o.system for o in outcomes)
    }


def summaries(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Pooled over the collections in English, of each collection, of each language, and of each
    kind in English, to which items count that were not sampled. What was written was written about
    a sample: the others on that are not told apart."""
    english = [o for o in outcomes if o.language == "en"]
    kinds = sorted({kind for o in english for kind in o.kinds})
    sampled = [o for o in outcomes if o.sampled]
    return {
        "english": by_system([o for o in sampled if o.language == "en"]),
        "collections": {
            name: by_system([o for o in sampled if o.collection == name])
            for name in dict.fromkeys(o.collection for o in sampled)
        },
        "languages": {
            name: by_system([o for o in sampled if _language(o) == name])
            for name in sorted({_language(o) for o in sampled})
        },
        "kinds": {kind: by_system([o for o in english if kind in o.kinds]) for kind in kinds},
        "calibration": calibration([o for o in sampled if o.language == "en"]),
    }


def _language(outcome: Outcome) -> str:
    asked_in = outcome.asked_in
    return f"{asked_in} on {outcome.language}" if asked_in else outcome.language


def calibration(outcomes: Sequence[Outcome], bins: int = 10) -> list[dict[str, Any]]:
    """Of `lmstack ask`, where the gold is there or was taken away: tenths of the questions by
    their confidence, with its mean and the share of them that what was shown answers."""
    known = sorted(
        (
            o
            for o in outcomes
            if o.system == "default" and not o.trivial and o.status in ("answerable", "taken_away")
        ),
        key=lambda o: o.confidence,
    )
    edges = [len(known) * n // bins for n in range(bins + 1)]
    parts = [known[low:high] for low, high in pairwise(edges) if low < high]
    return [
        {
            "confidence": statistics.mean(max(0.0, o.confidence) for o in part),
            **_share(part, lambda o: o.holds),
        }
        for part in parts
    ]
