"""What sways a judge beside the quality of what it judges.

    position         the place shown first is worth something: log-odds where the judge gives them,
                     else how much more often that place is named than the other
    length           longer answers are rated higher, for each doubling of the length
    self-preference  answers by the judge's own model are rated higher

Length and self-preference are slopes with the quality held: by what people said of the same items
where they have labels, else (self-preference alone) by what other judges said. Without either a
length slope may be quality, and says so; self-preference is then not measured. A label holds
quality as far as it tells it: what is left of quality within one label is not held.

A bias is named where its 95 % interval leaves out none and its p, adjusted for all biases that were
looked at (Holm), is at most 0.05: a report on a judge without a bias names one in at most one of
twenty cases. Not covered: how judgements vary and agree (`report`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lmstack.evals.association import partial_slope
from lmstack.evals.statistics import Estimate, Floats, holm

__all__ = ["LEVEL", "JudgeBias", "JudgedTable", "find_biases"]

LEVEL = 0.05
LEAST = 10  # clusters, below which a bias is not looked for
POSITION, LENGTH, SELF = "position", "length", "self-preference"


@dataclass(frozen=True)
class JudgedTable:
    """Judgements of one judge, (N,) each, NaN where something is not known.

    ``value``: what it said: a rating, or of two answers how much it prefers the first (in log-odds
    where it gives them, else from -1 to 1). ``place``: what the place shown first is worth, in the
    same unit. ``doublings``: log2 of the length, or of how much longer the first is. ``own``:
    whether its own model wrote the answer; of two answers 1 for the first, -1 for the second, 0 for
    neither or both. ``label``: what people said, on any scale; ``others``: what other judges said.
    ``is_pair``: all of it changes its sign where the answers change places. ``unit``: of
    ``value``. ``toward``: of two labels the one that a higher value names, "" for quality."""

    value: Floats
    doublings: Floats
    own: Floats
    label: Floats
    others: Floats
    clusters: Sequence[str]
    is_pair: bool
    unit: str
    place: Floats | None = None
    toward: str = ""

    def rows(self, kept: Any) -> JudgedTable:
        """Those at which ``kept`` (N,) is true."""
        clusters = [name for name, keep in zip(self.clusters, kept, strict=True) if keep]
        found = {
            name: getattr(self, name)[kept]
            for name in ("value", "doublings", "own", "label", "others")
        }
        place = None if self.place is None else self.place[kept]
        return replace(self, **found, clusters=clusters, place=place)


@dataclass(frozen=True)
class JudgeBias:
    """``estimate``: none is 0; its p is not adjusted. ``p``: adjusted for all biases that were
    looked at. ``held``: what held the quality, "" for nothing. ``toward``: see `JudgedTable`."""

    name: str
    estimate: Estimate
    p: float
    unit: str
    samples: int
    held: str = ""
    toward: str = ""

    @property
    def is_named(self) -> bool:
        return self.estimate.is_apart and self.p <= LEVEL

    @property
    def sentence(self) -> str:
        """What it means, for people; "" where it is not named."""
        if not self.is_named:
            return ""
        up, toward = self.estimate.value > 0, self.toward
        if self.name == POSITION:
            what = "label listed" if toward else "place shown"
            return f"prefers the {what} {'first' if up else 'second'}"
        if self.name == SELF:
            if toward:
                return f"says {toward} {'more' if up else 'less'} often of its own model's answers"
            return f"rates its own model's answers {'higher' if up else 'lower'}"
        which = "longer" if up else "shorter"
        said = f"rates {which} answers higher"
        if toward:
            said = f"says {toward} more often of {which} answers"
        return said if self.held else f"{said} (no labels say whether rightly)"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "named": self.is_named,
            **self.estimate.to_json(),
            "p_adjusted": self.p,
            "unit": self.unit,
            "samples": self.samples,
            "quality_held_by": self.held,
            "sentence": self.sentence,
        }


@dataclass
class _Search:
    found: list[tuple[str, Estimate, str, int, str]] = field(default_factory=list)
    unmeasured: dict[str, str] = field(default_factory=dict)

    def look(self, name: str, unit: str, table: JudgedTable, trait: Floats, held: str = "") -> None:
        """The slope of the value on ``trait``, at the rows where all of it is known."""
        controls = [] if not held else [table.label if held == "labels" else table.others]
        if not table.is_pair and name != POSITION:
            controls.append(np.ones(len(table.value)))
        value = table.value if name != POSITION or table.place is None else table.place
        count = len(set(table.clusters))
        if count < LEAST:
            self.unmeasured[name] = f"{count} prompts are too few, {LEAST} are needed"
            return
        columns = np.column_stack(controls) if controls else np.empty((len(value), 0))
        estimate = partial_slope(value, trait, columns, table.clusters)
        if math.isnan(estimate.value):
            self.unmeasured[name] = "it does not vary among the items"
            return
        self.found.append((name, estimate, unit, len(value), held))


def find_biases(table: JudgedTable) -> tuple[list[JudgeBias], Mapping[str, str]]:
    """Those that could be looked for, and why others could not, by name."""
    search = _Search()
    table = table.rows(np.isfinite(table.value))
    if table.place is None:
        search.unmeasured[POSITION] = "one answer has no place"
    else:
        known = table.rows(np.isfinite(table.place))
        unit = "log-odds" if table.unit == "log-odds" else "of verdicts"
        search.look(POSITION, unit, known, np.ones(len(known.value)))
    _look_at_length(search, table)
    _look_at_own(search, table)
    adjusted = holm([estimate.p or 0.0 for _, estimate, *_ in search.found])
    biases = [
        JudgeBias(name, estimate, p, unit, samples, held, table.toward)
        for (name, estimate, unit, samples, held), p in zip(search.found, adjusted, strict=True)
    ]
    return biases, search.unmeasured


def _look_at_length(search: _Search, table: JudgedTable) -> None:
    labelled = table.rows(np.isfinite(table.label))
    is_held = len(set(labelled.clusters)) >= LEAST
    used = labelled if is_held else table
    unit = f"{table.unit} a doubling"
    search.look(LENGTH, unit, used, used.doublings, "labels" if is_held else "")


def _look_at_own(search: _Search, table: JudgedTable) -> None:
    known = table.rows(np.isfinite(table.own))
    if not len(known.value) or not np.abs(known.own).any():
        search.unmeasured[SELF] = "no answer is known to be by the judge's own model"
        return
    for held, beside in (("labels", known.label), ("other judges", known.others)):
        used = known.rows(np.isfinite(beside))
        if len(set(used.clusters)) >= LEAST:
            search.look(SELF, table.unit, used, used.own, held)
            return
    search.unmeasured[SELF] = "it needs labels by people, or other judges of the same items"
