"""What is in preference data and what is wrong with it, and the pairs that are fit to train on."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError
from lmstack.core.files import store_error
from lmstack.train.data.copies import place_of
from lmstack.train.data.fingerprint import DataFile, data_files
from lmstack.train.data.leaks import EvaluationSet
from lmstack.train.data.length_bias import LengthBias
from lmstack.train.data.personal import personal_kinds
from lmstack.train.data.preference_checks import PairChecks, check_pairs
from lmstack.train.data.preferences import (
    Collected,
    PlacedPair,
    Told,
    collect,
    text_of_turns,
)
from lmstack.train.data.ratings import RatingConfig
from lmstack.train.data.rows import find_data

__all__ = ["FAULTS", "PreferenceData", "PreferenceReport", "examine_preferences"]

# Pairs with one of these are left out; the others are only counted.
FAULTS = ("exact", "contradicted", "leaked")
_SHOWN = 20
_BARS = 30
_VALUE = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\[.*\]|\{.*\}|\d+")


@dataclass(frozen=True)
class Spread:
    """Of numbers. ``bars``: how many lie between each two of ``edges``."""

    count: int = 0
    least: float = 0.0
    median: float = 0.0
    most: float = 0.0
    edges: Sequence[float] = ()
    bars: Sequence[int] = ()

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if not values:
            return cls()
        bars, edges = np.histogram(values, _BARS)
        least, median, most = map(float, np.quantile(values, (0, 0.5, 1)))
        return cls(len(values), least, median, most, edges.tolist(), bars.tolist())


@dataclass(frozen=True)
class PreferenceReport:
    """``pairs``: found, of ``prompts``; ``kept``: those without a fault. ``answers``: that were
    rated, ``unpaired`` of them with nothing to compare to; ``ties`` and ``disputed``: of their
    comparisons. ``faults``: pairs by fault. ``places``: the first few by fault. ``doubted``: pairs
    whose judge finds the rejected answer the better one. ``items``: of the evaluation sets,
    ``unread`` of them unusable. ``personal``: pairs with personal data, by kind."""

    rows: int
    bad_rows: int
    reasons: Mapping[str, int]
    bad: Sequence[Mapping[str, str]]
    files: Sequence[Mapping[str, Any]]
    pairs: int
    prompts: int
    kept: int
    answers: int
    unpaired: int
    ties: int
    disputed: int
    faults: Mapping[str, int]
    places: Mapping[str, Sequence[str]]
    items: int
    unread: int
    doubted: int
    margins: Spread
    probabilities: Spread
    length: LengthBias
    personal: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        plain = {**vars(self), "length": self.length.to_json()}
        return {**plain, "margins": vars(self.margins), "probabilities": vars(self.probabilities)}


@dataclass(frozen=True)
class PreferenceData:
    """All pairs that were found, ``kept`` saying which are fit to train on."""

    pairs: Sequence[PlacedPair]
    kept: npt.NDArray[np.bool_]
    report: PreferenceReport
    _checks: PairChecks = field(repr=False)

    def sides(self, share: float) -> tuple[list[PlacedPair], list[PlacedPair]]:
        """The kept pairs to train on, and a ``share`` to validate with: all pairs of a prompt,
        and of its near copies, are on one side."""
        sides: tuple[list[PlacedPair], list[PlacedPair]] = ([], [])
        for place in np.flatnonzero(self.kept).tolist():
            held = place_of(f"0 {int(self._checks.hashes[place])}") < share
            sides[held].append(self.pairs[place])
        return sides


def examine_preferences(
    files: Sequence[str],
    config: RatingConfig | None = None,
    *,
    against: Sequence[str] = (),
    keep: Sequence[str] = (),
    told: Told = lambda _doing, _done, _total: None,
) -> PreferenceData:
    """The pairs in ``files``, checked. ``against``: evaluation sets. ``keep``: of `FAULTS`, those
    that leave no pair out. `InputError`: there is no pair."""
    paths = find_data(files)
    hashed = data_files(paths)
    found = collect(paths, config, told=told)
    if not found.pairs:
        raise _no_pair(files, found)
    evaluation = EvaluationSet(find_data(against))
    total = sum(file.size for file in hashed)

    def checked(done: int) -> None:
        told("checking", total * done // len(found.pairs), total)

    try:
        with tempfile.TemporaryDirectory() as folder:
            checks = check_pairs(found.pairs, Path(folder), evaluation, told=checked)
    except OSError as error:
        raise store_error(error, Path(tempfile.gettempdir()), "writing") from error
    kept = np.ones(len(found.pairs), np.bool_)
    for fault in FAULTS:
        if fault not in keep:
            kept &= ~getattr(checks, fault)
    report = _report(found, checks, kept, hashed, evaluation)
    return PreferenceData(found.pairs, kept, report, checks)


def _report(
    found: Collected,
    checks: PairChecks,
    kept: npt.NDArray[np.bool_],
    files: Sequence[DataFile],
    evaluation: EvaluationSet,
) -> PreferenceReport:
    names = ("exact", "near", "contradicted", "opposed", "alike", "leaked")
    probabilities = [p.pair.probability for p in found.pairs if p.pair.probability is not None]
    margins = [p.pair.margin for p in found.pairs if p.pair.margin is not None]
    bias = [checks.chosen, checks.rejected, checks.prompts]
    chosen, rejected, prompts = (np.array(values)[kept].tolist() for values in bias)
    return PreferenceReport(
        rows=found.rows,
        bad_rows=len(found.bad),
        reasons=dict(Counter(_VALUE.sub("…", bad.reason) for bad in found.bad).most_common()),
        bad=[{"place": bad.place, "reason": bad.reason} for bad in found.bad[:_SHOWN]],
        files=[file.to_json() for file in files],
        pairs=len(found.pairs),
        prompts=len(np.unique(checks.prompts)),
        kept=int(kept.sum()),
        answers=found.ratings.answers,
        unpaired=found.ratings.unpaired,
        ties=found.ratings.ties,
        disputed=found.ratings.disputed,
        faults={name: int(getattr(checks, name).sum()) for name in names},
        places={name: _places(name, found.pairs, checks) for name in names},
        items=evaluation.items,
        unread=evaluation.unread,
        doubted=sum(probability < 0.5 for probability in probabilities),
        margins=Spread.of(margins),
        probabilities=Spread.of(probabilities),
        length=LengthBias.of(chosen, rejected, prompts),
        personal=_personal(found.pairs),
    )


def _places(name: str, pairs: Sequence[PlacedPair], checks: PairChecks) -> list[str]:
    shown = np.flatnonzero(getattr(checks, name))[:_SHOWN].tolist()
    if name == "leaked":
        return [f"{pairs[place].place} as {checks.leaks[place]}" for place in shown]
    return [pairs[place].place for place in shown]


def _personal(pairs: Sequence[PlacedPair]) -> dict[str, int]:
    counts = Counter[str]()
    for placed in pairs:
        pair = placed.pair
        counts.update(personal_kinds(text_of_turns((*pair.prompt, *pair.chosen, *pair.rejected))))
    return dict(counts)


def _no_pair(files: Sequence[str], found: Collected) -> InputError:
    reasons = "; ".join(f"{bad.place}: {bad.reason}" for bad in found.bad[:2])
    ratings = found.ratings
    if ratings.answers:
        reasons = (
            f"{ratings.answers} answers were rated, {ratings.unpaired} of them with no other answer"
            f" to compare to, and {ratings.ties} comparisons are ties"
        )
    return InputError(
        f"there is no pair in {', '.join(map(str, files))}" + (f" ({reasons})" if reasons else ""),
        hint="rows have prompt, chosen and rejected, or prompt, completion and rating",
        param="data",
    )
