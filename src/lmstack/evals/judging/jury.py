"""Several judges on the same items: what they say together, and how far they agree.

    ratings   the mean or the median over the judges
    verdicts  what more than half of the judges that decided name; anything else is a tie (of two
              labels: undecided)

Judges that err together are worth fewer than they are: with the mean correlation r of the errors of
k judges, k / (1 + (k - 1) r) independent ones (a design effect). Not covered: one judge (`report`).
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lmstack.core import InputError, shown
from lmstack.evals.agreement import krippendorff_alpha
from lmstack.evals.judging.items import Item
from lmstack.evals.judging.judgements import Judgement, JudgeRules
from lmstack.evals.judging.report import SIGNS, label_of, value_of
from lmstack.evals.statistics import Estimate, Floats

__all__ = ["Aggregate", "Jury", "jury_of"]

Aggregate = Literal["mean", "median"]


@dataclass(frozen=True)
class Jury:
    """``decisions``: by the key of an item: a rating, or first, second or tie; None where nothing
    was decided. ``alpha``: Krippendorff's, of intervals for ratings and of names for verdicts.
    ``error_correlation``: the mean over two judges each, of their errors on labelled items; None
    where fewer than two judges err or nothing is labelled. ``effective``: independent judges that
    they are worth."""

    judges: tuple[str, ...]
    decisions: Mapping[str, float | str | None]
    alpha: Estimate
    error_correlation: float | None
    effective: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "judges": list(self.judges),
            "alpha": self.alpha.to_json(),
            "error_correlation": self.error_correlation,
            "effective_judges": self.effective,
        }


def jury_of(
    items: Sequence[Item],
    judgements: Sequence[Judgement],
    rules: JudgeRules,
    *,
    aggregate: Aggregate = "mean",
) -> Jury:
    """Of all judges that ``judgements`` are by, two at least; repeats do not count."""
    first = [each for each in judgements if not each.repeat]
    names = tuple(dict.fromkeys(each.judge for each in first))
    if len(names) < 2:
        raise InputError(
            f"a jury of {len(names)} is none", hint="name two judges or more", param="judge"
        )
    by_item: dict[str, list[Judgement]] = defaultdict(list)
    for each in first:
        by_item[each.item].append(each)
    table = _table(items, by_item, names, rules)
    correlation = _error_correlation(items, table, rules)
    count = len(names)
    effective = None if correlation is None else count / (1 + (count - 1) * max(correlation, 0.0))
    return Jury(
        judges=names,
        decisions={
            item.key: _decision(by_item[item.key], rules, aggregate)
            for item in items
            if item.key in by_item
        },
        alpha=krippendorff_alpha(table, level="interval" if rules.kind == "rubric" else "nominal"),
        error_correlation=correlation,
        effective=effective,
    )


def _decision(
    each: Sequence[Judgement], rules: JudgeRules, aggregate: Aggregate
) -> float | str | None:
    if rules.kind == "rubric":
        ratings = [value for one in each if (value := one.overall) is not None]
        if aggregate not in ("mean", "median"):
            raise InputError(f"ratings are aggregated by {shown(aggregate)}", param="aggregate")
        how = statistics.fmean if aggregate == "mean" else statistics.median
        return float(how(ratings)) if ratings else None
    votes = [vote for one in each if (vote := one.named(rules.kind)) is not None]
    if not votes:
        return None
    name, count = Counter(votes).most_common(1)[0]
    if 2 * count > len(votes):
        return name
    return "tie" if rules.kind == "pair" else None


def _table(
    items: Sequence[Item],
    by_item: Mapping[str, Sequence[Judgement]],
    names: Sequence[str],
    rules: JudgeRules,
) -> Floats:
    """(judges, items): ratings, or the sign of what was named; NaN for nothing."""
    place = {name: number for number, name in enumerate(names)}
    table = np.full((len(names), len(items)), math.nan)
    for column, item in enumerate(items):
        for each in by_item.get(item.key, ()):
            named = each.named(rules.kind)
            value = value_of(each, rules) if rules.kind == "rubric" else SIGNS.get(named or "")
            table[place[each.judge], column] = math.nan if value is None else value
    return table


def _error_correlation(items: Sequence[Item], table: Floats, rules: JudgeRules) -> float | None:
    labels = np.array([label_of(item, rules) for item in items])
    errors = np.abs(table - labels)
    if rules.kind != "rubric":
        errors = np.where(np.isnan(errors), math.nan, errors > 0)
    found = []
    for one, other in itertools.combinations(errors, 2):
        known = np.isfinite(one) & np.isfinite(other)
        a, b = one[known], other[known]
        if len(a) > 2 and a.std() > 0 and b.std() > 0:
            found.append(float(np.corrcoef(a, b)[0, 1]))
    return statistics.fmean(found) if found else None
