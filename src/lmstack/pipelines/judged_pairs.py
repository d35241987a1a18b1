"""Pairs of answers that a model is judging, on their way into a file of preferences.

Reads preference pairs, which have a label already, and rows of a prompt with completions, each two
of which are a pair without one. Does not cover how a pair is judged (`lmstack.evals.judging`).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmstack.core import Message
from lmstack.evals.judging import PairJudge, Verdict
from lmstack.pipelines.judging import asked_of_all, each_once
from lmstack.pipelines.output_journal import OutputJournal
from lmstack.train.data.formats import Preference, completions_of, preference_of
from lmstack.train.data.length_bias import clustered_interval
from lmstack.train.data.preferences import row_of, text_of_turns
from lmstack.train.data.rows import BadRow, Row

__all__ = ["CandidatePair", "JudgedPairs", "candidates", "judge_all"]

Turns = tuple[Message, ...]


@dataclass(frozen=True)
class CandidatePair:
    """Two answers to a prompt; where ``labelled``, ``first`` is said to be the better one."""

    prompt: Turns
    first: Turns
    second: Turns
    labelled: bool

    @property
    def key(self) -> str:
        row = row_of(Preference(self.prompt, self.first, self.second))
        text = json.dumps([row, self.labelled], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def candidates(files: Sequence[Path]) -> tuple[list[CandidatePair], list[BadRow]]:
    """The pairs in ``files``, each once, and the rows that hold none."""
    return each_once(files, _of)


def _of(row: Row) -> Iterator[CandidatePair]:
    if row.values.get("completions") is None:
        pair = preference_of(row)
        yield CandidatePair(pair.prompt, pair.chosen, pair.rejected, labelled=True)
        return
    prompt, answers = completions_of(row)
    for one, other in itertools.combinations(dict.fromkeys(answers), 2):
        yield CandidatePair(prompt, one, other, labelled=False)


def judge_all(
    judge: PairJudge, pairs: Sequence[CandidatePair], batch: int
) -> AsyncIterator[tuple[CandidatePair, Verdict | None]]:
    """In the order of ``pairs``, ``batch`` of them at a time; None of what is too long for the
    judge."""

    async def compared(pair: CandidatePair) -> Verdict:
        first, second = text_of_turns(pair.first), text_of_turns(pair.second)
        return await judge.compare(pair.prompt, first, second)

    return asked_of_all(compared, pairs, batch)


class JudgedPairs(OutputJournal):
    """A journal of verdicts. ``relabel``: a pair with a label gets the judge's, too; otherwise it
    keeps its own, and the probability says what the judge thinks of it. ``agreeing``: only pairs
    of which both orders name the same answer are written."""

    def __init__(
        self, path: Path, settings: Mapping[str, Any], *, relabel: bool, agreeing: bool
    ) -> None:
        super().__init__(path, settings)
        self._relabel, self._agreeing = relabel, agreeing

    def keep(self, pair: CandidatePair, verdict: Verdict | None) -> None:
        odds = [None, None] if verdict is None else [verdict.forward, verdict.backward]
        self.add(pair.key, {"odds": odds, "fits": verdict is not None})

    def rows(self, pairs: Sequence[CandidatePair], judge: str) -> list[dict[str, Any]]:
        """Of the pairs that were decided. ``judge``: the name that they carry."""
        rows = []
        for pair, verdict in self._decided(pairs):
            if self._agreeing and not verdict.agrees:
                continue
            first, second, probability = pair.first, pair.second, verdict.probability
            if probability < 0.5 and (self._relabel or not pair.labelled):
                first, second, probability = second, first, 1 - probability
            made = Preference(pair.prompt, first, second, probability=probability)
            rows.append({**row_of(made), "judge": judge})
        return rows

    def summary(self, pairs: Sequence[CandidatePair]) -> dict[str, Any]:
        """``agree``: pairs of which both orders name the same answer; ``place``: the mean log-odds
        that the place shown first is worth; ``probabilities``: whether the judge gave them;
        ``undecided``, ``too_long``: pairs without a label of
        the judge; ``right``: how often it agrees with the labels that there are, ``low`` to
        ``high``."""
        decided = list(self._decided(pairs))
        places = [place for _, verdict in decided if (place := verdict.place) is not None]
        known = [(pair, verdict) for pair, verdict in decided if pair.labelled]
        found: dict[str, Any] = {
            "pairs": len(pairs),
            "decided": len(decided),
            "agree": sum(verdict.agrees for _, verdict in decided),
            "place": sum(places) / len(places) if places else None,
            "probabilities": len(places) == len(decided),
            **self._left_out(pairs, len(decided)),
        }
        if known:
            right = np.array([verdict.probability > 0.5 for _, verdict in known], np.float64)
            numbers = {pair.prompt: n for n, (pair, _) in enumerate(known)}
            low, high = clustered_interval(right, np.array([numbers[p.prompt] for p, _ in known]))
            found |= {"labelled": len(known), "right": right.mean(), "low": low, "high": high}
        return found

    def _decided(self, pairs: Sequence[CandidatePair]) -> Iterator[tuple[CandidatePair, Verdict]]:
        for pair in pairs:
            forward, backward = self.items[pair.key]["odds"]
            verdict = Verdict(forward, backward)
            if not math.isclose(verdict.probability, 0.5, abs_tol=1e-12):
                yield pair, verdict

    def _left_out(self, pairs: Sequence[CandidatePair], decided: int) -> dict[str, int]:
        fits = Counter(self.items[pair.key]["fits"] for pair in pairs)
        return {"undecided": fits[True] - decided, "too_long": fits[False]}
