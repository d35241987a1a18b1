"""Preference pairs from files: pairs as they stand and pairs of ratings, and rows of them again.

Reads JSON Lines and Parquet (`rows`), rows of pairs and of ratings side by side. All pairs are held
in memory. Does not cover what is wrong with them (`preference_checks`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, InputError, Message
from lmstack.train.data.formats import Preference, Rated, preference_of, ratings_of
from lmstack.train.data.ratings import PairedRatings, RatingConfig, paired
from lmstack.train.data.rows import BadRow, Row, Rows

__all__ = [
    "Collected",
    "PlacedPair",
    "as_written",
    "collect",
    "row_of",
    "text_of_turns",
]

Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class PlacedPair:
    """``place``: of its row, for messages; of a pair of ratings the row that the prompt came with
    first."""

    pair: Preference
    place: str


@dataclass
class Collected:
    """``ratings``: what became of rated answers. ``bad``: rows that are neither."""

    pairs: list[PlacedPair] = field(default_factory=list)
    ratings: PairedRatings = field(default_factory=PairedRatings)
    bad: list[BadRow] = field(default_factory=list)
    rows: int = 0


def collect(
    files: Sequence[Path],
    config: RatingConfig | None = None,
    *,
    told: Told = lambda _doing, _done, _total: None,
) -> Collected:
    """The pairs in ``files``, those that are pairs first. ``told``: called with what is going on,
    bytes read, and all bytes."""
    found = Collected()
    rated: list[Rated] = []
    places: dict[tuple[Message, ...], str] = {}
    rows = Rows(files)
    for row in rows:
        told("reading", rows.done, rows.total)
        found.rows += 1
        if isinstance(row, BadRow):
            found.bad.append(row)
            continue
        try:
            if _is_pair(row):
                found.pairs.append(PlacedPair(preference_of(row), row.place))
                continue
            given = ratings_of(row)
        except (InputError, FormatError) as error:
            found.bad.append(BadRow(row.place, str(error)))
            continue
        rated += given
        for each in given:
            places.setdefault(each.prompt, row.place)
    found.ratings = paired(rated, config)
    found.pairs += [PlacedPair(pair, places[pair.prompt]) for pair in found.ratings.pairs]
    return found


def row_of(pair: Preference) -> dict[str, Any]:
    """The row that `preference_of` reads ``pair`` from."""
    row: dict[str, Any] = {
        "prompt": as_written(pair.prompt, "user"),
        "chosen": as_written(pair.chosen, "assistant"),
        "rejected": as_written(pair.rejected, "assistant"),
    }
    known = {"margin": pair.margin, "probability": pair.probability}
    return {**row, **{name: value for name, value in known.items() if value is not None}}


def text_of_turns(turns: Sequence[Message]) -> str:
    """All that ``turns`` say, calls of tools included."""
    said = []
    for turn in turns:
        said.append(turn.content)
        said += [f"{call.name} {call.arguments}" for call in turn.tool_calls]
    return "\n".join(said)


def _is_pair(row: Row) -> bool:
    return any(row.values.get(name) is not None for name in ("chosen", "rejected"))


def as_written(turns: Sequence[Message], role: str) -> str | list[dict[str, Any]]:
    """A text where ``turns`` are one of ``role`` that says no more; otherwise messages."""
    if list(turns) == [Message(turns[0].role, turns[0].content)] and turns[0].role == role:
        return turns[0].content
    return [_turn(turn) for turn in turns]


def _turn(turn: Message) -> dict[str, Any]:
    calls = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
        for c in turn.tool_calls
    ]
    more = {"name": turn.name, "tool_calls": calls or None, "tool_call_id": turn.tool_call_id}
    present = {name: value for name, value in more.items() if value is not None}
    return {"role": turn.role, "content": turn.content, **present}
