"""What a load came to: percentiles of what people wait for, rates, errors by kind.

    first token   from the arrival of a request to its first text
    between       from one piece of text to the next, over all answers
    a token       an answer's time after its first text over the tokens that followed
    answer        from the arrival to the end

Only answers that ended well count for the times. Percentiles are interpolated between the two
nearest, as numpy does.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lmstack.app.loadgen.run import Level, Outcome
from lmstack.app.loadgen.stream import UNFINISHED, Row

__all__ = ["SLOW_GAP_S", "Spread", "Summary", "summarize"]

SLOW_GAP_S = 0.2
PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Spread:
    """Of ``count`` times, in seconds."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None where there is nothing to tell of."""
        if not values:
            return None
        p50, p90, p95, p99 = np.percentile(values, PERCENTILES).tolist()
        return cls(len(values), float(np.mean(values)), p50, p90, p95, p99, max(values))


@dataclass(frozen=True)
class Summary:
    """``tokens_per_s``: output of all answers together, over ``seconds``. ``slow_gaps``: times
    between pieces over `SLOW_GAP_S`. ``counted_by``: who counted the output tokens."""

    level: Level
    seconds: float
    requests: int
    succeeded: int
    errors: dict[str, int]
    unfinished: int
    requests_per_s: float
    tokens_per_s: float
    prompt_tokens: float | None
    output_tokens: float
    tokens_a_piece: float
    counted_by: str
    first_token: Spread | None
    between: Spread | None
    a_token: Spread | None
    answer: Spread | None
    slow_gaps: int
    held_up: float
    interrupted: bool

    @property
    def slow_share(self) -> float:
        """Of the times between pieces, those over `SLOW_GAP_S`."""
        return self.slow_gaps / self.between.count if self.between else 0.0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "load": self.level.load, "slow_gap_share": self.slow_share}


def summarize(outcome: Outcome) -> Summary:
    rows = outcome.rows
    good = [row for row in rows if row.error is None]
    # Tokens of answers that broke off were served as well; only their times are left out.
    seconds = max((row.end for row in rows), default=0.0)
    gaps = [b - a for row in good for a, b in itertools.pairwise(row.pieces)]
    errors = Counter(row.error for row in rows if row.error not in (None, UNFINISHED))
    known = [row.prompt_tokens for row in good if row.prompt_tokens is not None]
    pieces = sum(len(row.pieces) for row in good)
    tokens = sum(row.tokens for row in good)
    return Summary(
        level=outcome.level,
        seconds=seconds,
        requests=len(rows),
        succeeded=len(good),
        errors={str(kind): count for kind, count in sorted(errors.items(), key=str)},
        unfinished=sum(row.error == UNFINISHED for row in rows),
        requests_per_s=len(good) / seconds if seconds else 0.0,
        tokens_per_s=sum(row.tokens for row in rows) / seconds if seconds else 0.0,
        prompt_tokens=sum(known) / len(known) if known else None,
        output_tokens=tokens / len(good) if good else 0.0,
        tokens_a_piece=tokens / pieces if pieces else 0.0,
        counted_by=_counted_by(good),
        first_token=Spread.of([row.pieces[0] - row.due for row in good if row.pieces]),
        between=Spread.of(gaps),
        a_token=Spread.of([_each(row) for row in good if row.tokens > 1 and row.pieces]),
        answer=Spread.of([row.end - row.due for row in good]),
        slow_gaps=sum(gap > SLOW_GAP_S for gap in gaps),
        held_up=outcome.held_up,
        interrupted=outcome.interrupted,
    )


def _each(row: Row) -> float:
    return (row.pieces[-1] - row.pieces[0]) / (row.tokens - 1)


def _counted_by(rows: Sequence[Row]) -> str:
    told = sum(row.output_tokens is not None for row in rows)
    if told == len(rows):
        return "usage"
    return "usage, and chunks where there is none" if told else "chunks"
