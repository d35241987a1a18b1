"""The report on a judge: its biases, how its judgements vary, how far it agrees with people.

Everything is computed from judgements that are kept (`judgements`). What could not be read or was
too long is counted and left out. Beside the agreement with people stands what always naming the
most frequent label would reach. Not covered: several judges together (`jury`).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmstack.evals.agreement import cohen_kappa
from lmstack.evals.clustered import clustered_mean
from lmstack.evals.judging.biases import JudgeBias, JudgedTable, find_biases
from lmstack.evals.judging.items import Item
from lmstack.evals.judging.judgements import TOO_LONG, Judgement, JudgeRules
from lmstack.evals.judging.rubric import HIGHEST, LOWEST
from lmstack.evals.statistics import Estimate, Floats, bootstrap, wilson

__all__ = ["Agreement", "JudgeReport", "Repeats", "judge_report", "label_of", "value_of"]

SIGNS = {"first": 1.0, "tie": 0.0, "second": -1.0}


@dataclass(frozen=True)
class Agreement:
    """With what people said. ``kappa``: beyond chance; of ratings weighted by the squared distance.
    ``accuracy``: the share of ``items`` on which both say the same. ``largest``: the share of the
    most frequent label, which is what naming it always would reach."""

    kappa: Estimate
    accuracy: Estimate
    largest: float
    items: int

    def to_json(self) -> dict[str, Any]:
        return {
            "kappa": self.kappa.to_json(),
            "accuracy": self.accuracy.to_json(),
            "largest_class": self.largest,
            "items": self.items,
        }


@dataclass(frozen=True)
class Repeats:
    """Of ``items`` judged at least twice at a temperature: ``spread``, the standard deviation of
    ratings of one item, or the probability that two verdicts on one item differ."""

    spread: Estimate
    items: int

    def to_json(self) -> dict[str, Any]:
        return {"spread": self.spread.to_json(), "items": self.items}


@dataclass(frozen=True)
class JudgeReport:
    """``scores``: what it said: the mean rating and that of each criterion, or the share of each
    verdict. ``flips``: pairs of which both orders named the same place. ``first_place``: how much
    more often the place shown first was named. ``retried``: items whose first reply was not valid.
    ``unread``, ``too_long``: items without a judgement."""

    judge: str
    kind: str
    items: int
    unread: int
    too_long: int
    retried: int
    undecided: int
    scores: Mapping[str, Estimate]
    flips: Estimate | None
    first_place: Estimate | None
    biases: Sequence[JudgeBias]
    repeats: Repeats | None
    agreement: Agreement | None
    unmeasured: Mapping[str, str]

    @property
    def named(self) -> list[JudgeBias]:
        return [bias for bias in self.biases if bias.is_named]

    def to_json(self) -> dict[str, Any]:
        def optional(found: Any) -> Any:
            return None if found is None else found.to_json()

        counts = ("judge", "kind", "items", "unread", "too_long", "retried", "undecided")
        return {
            **{name: getattr(self, name) for name in counts},
            "scores": {name: each.to_json() for name, each in self.scores.items()},
            "flips": optional(self.flips),
            "first_place": optional(self.first_place),
            "biases": [bias.to_json() for bias in self.biases],
            "repeats": optional(self.repeats),
            "agreement": optional(self.agreement),
            "unmeasured": dict(self.unmeasured),
        }


def judge_report(
    items: Sequence[Item],
    judgements: Sequence[Judgement],
    judge: str,
    rules: JudgeRules,
    *,
    own: Collection[str] = (),
) -> JudgeReport:
    """On ``judge``, from its judgements of ``items`` and those of others. ``own``: the sources that
    are its own model, under whatever name."""
    mine = {each.item: each for each in judgements if each.judge == judge and not each.repeat}
    pairs = [(item, mine[item.key]) for item in items if item.key in mine]
    decided = [(item, each) for item, each in pairs if not each.problem]
    table = _table(decided, judgements, judge, rules, own)
    biases, unmeasured = find_biases(table)
    missing = dict(unmeasured)
    repeats = _repeats(judgements, judge, rules)
    if repeats is None:
        missing["repeats"] = "no item was judged twice at a temperature"
    agreement = _agreement(decided, rules, missing)
    verdicts = [each.verdict for _, each in decided if each.verdict is not None]
    clusters = [item.group for item, each in decided if each.verdict is not None]
    return JudgeReport(
        judge=judge,
        kind=rules.kind,
        items=len(pairs),
        unread=sum(bool(each.problem) and each.problem != TOO_LONG for _, each in pairs),
        too_long=sum(each.problem == TOO_LONG for _, each in pairs),
        retried=sum(each.rating is not None and each.rating.attempts > 1 for _, each in pairs),
        undecided=sum(rules.kind == "label" and each.named("label") is None for _, each in decided),
        scores=_scores(decided, rules),
        flips=wilson(sum(v.is_flip for v in verdicts), len(verdicts)) if verdicts else None,
        first_place=clustered_mean([v.first_place or 0.0 for v in verdicts], clusters)
        if verdicts
        else None,
        biases=biases,
        repeats=repeats,
        agreement=agreement,
        unmeasured=missing,
    )


def value_of(judgement: Judgement, rules: JudgeRules) -> float:
    """A rating, or how much a pair's first answer (the first label) is preferred, from -1 to 1; NaN
    where there is none."""
    if rules.kind == "rubric":
        return math.nan if judgement.overall is None else judgement.overall
    if judgement.problem or judgement.verdict is None:
        return math.nan
    one, other = judgement.verdict.named
    return math.nan if one is None or other is None else (SIGNS[one] + SIGNS[other]) / 2


def label_of(item: Item, rules: JudgeRules) -> float:
    """What people said, as `value_of` says it; NaN where that is not known, or on no scale."""
    label = item.label
    if rules.kind == "rubric":
        return label if isinstance(label, float) else math.nan
    names = ("first", "second") if rules.kind == "pair" else rules.labels
    signs = {"tie": 0.0} if rules.kind == "pair" else {}
    return (signs | dict(zip(names, (1.0, -1.0), strict=True))).get(str(label), math.nan)


def _table(
    decided: Sequence[tuple[Item, Judgement]],
    judgements: Sequence[Judgement],
    judge: str,
    rules: JudgeRules,
    own: Collection[str],
) -> JudgedTable:
    verdicts = [each.verdict for _, each in decided if each.verdict is not None]
    places = [verdict.place for verdict in verdicts]
    has_odds = bool(places) and None not in places
    values = [value_of(each, rules) for _, each in decided]
    place: Floats | None = None
    if verdicts:
        first = places if has_odds else [verdict.first_place for verdict in verdicts]
        place = np.array([math.nan if each is None else each for each in first])
    if has_odds:
        values = [((v.forward or 0.0) + (v.backward or 0.0)) / 2 for v in verdicts]
    others = _others(judgements, judge, rules)
    items = [item for item, _ in decided]
    return JudgedTable(
        value=np.array(values),
        doublings=np.array([item.doublings for item in items]),
        own=np.array([_own(item, own) for item in items]),
        label=np.array([label_of(item, rules) for item in items]),
        others=np.array([others.get(item.key, math.nan) for item in items]),
        clusters=[item.group for item in items],
        is_pair=rules.kind == "pair",
        unit="points" if rules.kind == "rubric" else "log-odds" if has_odds else "of preference",
        place=place,
        toward=rules.labels[0] if rules.labels else "",
    )


def _own(item: Item, own: Collection[str]) -> float:
    if not own or not item.sources or not all(item.sources):
        return math.nan
    mine = [float(source in own) for source in item.sources]
    return mine[0] - mine[1] if item.is_pair else mine[0]


def _others(judgements: Sequence[Judgement], judge: str, rules: JudgeRules) -> dict[str, float]:
    """The mean of what other judges said of an item."""
    found: dict[str, list[float]] = defaultdict(list)
    for each in judgements:
        value = value_of(each, rules)
        if each.judge != judge and not each.repeat and math.isfinite(value):
            found[each.item].append(value)
    return {item: sum(values) / len(values) for item, values in found.items()}


def _scores(decided: Sequence[tuple[Item, Judgement]], rules: JudgeRules) -> dict[str, Estimate]:
    if not decided:
        return {}
    clusters = [item.group for item, _ in decided]
    if rules.kind == "rubric":
        rated = [each.rating for _, each in decided if each.rating is not None]
        found = {"overall": clustered_mean([rating.overall or 0.0 for rating in rated], clusters)}
        for criterion in rules.criteria:
            scores = [float(rating.scores[criterion.name]) for rating in rated]
            found[criterion.name] = clustered_mean(scores, clusters)
        return found
    named = [each.named(rules.kind) for _, each in decided]
    return {
        shown_as: wilson(sum(each == name for each in named), len(named))
        for name, shown_as in _shown_as(rules).items()
    }


def _shown_as(rules: JudgeRules) -> dict[str, str]:
    """What the report calls that which a judgement names."""
    if rules.kind == "label":
        first, second = rules.labels
        return {"first": first, "second": second}
    return {name: name for name in SIGNS}


def _agreement(
    decided: Sequence[tuple[Item, Judgement]], rules: JudgeRules, missing: dict[str, str]
) -> Agreement | None:
    labelled = [(item, each) for item, each in decided if item.label is not None]
    if not labelled:
        missing["agreement"] = "no item has a label"
        return None
    sides: list[tuple[Any, Any]] = []
    if rules.kind == "rubric":
        scale = range(LOWEST, HIGHEST + 1)
        if not all(item.label in scale for item, _ in labelled):
            missing["agreement"] = f"labels are not whole numbers from {LOWEST} to {HIGHEST}"
            return None
        sides = [(int(float(item.label or 0)), _rounded(each)) for item, each in labelled]
        return _agreed(sides, list(scale), "quadratic")
    known: Sequence[str] = tuple(SIGNS) if rules.kind == "pair" else rules.labels
    other = next((item for item, _ in labelled if item.label not in known), None)
    if other is not None:
        missing["agreement"] = f"the label {other.label!r} is none of {', '.join(known)}"
        return None
    for item, each in labelled:
        named = each.named(rules.kind)
        if named is not None:
            sides.append((item.label, _shown_as(rules)[named]))
    if not sides:
        missing["agreement"] = "the judge decided nothing"
        return None
    return _agreed(sides, list(known), None)


def _rounded(each: Judgement) -> int:
    return math.floor((each.overall or 0.0) + 0.5)


def _agreed(sides: Sequence[tuple[Any, Any]], labels: list[Any], weights: Any) -> Agreement:
    people, judged = [one for one, _ in sides], [other for _, other in sides]
    same = sum(one == other for one, other in sides)
    return Agreement(
        kappa=cohen_kappa(people, judged, weights=weights, labels=labels),
        accuracy=wilson(same, len(sides)),
        largest=Counter(people).most_common(1)[0][1] / len(people),
        items=len(sides),
    )


def _repeats(judgements: Sequence[Judgement], judge: str, rules: JudgeRules) -> Repeats | None:
    """Resampled by item."""
    by_item: dict[str, list[float]] = defaultdict(list)
    for each in judgements:
        if each.judge != judge or not each.repeat or each.problem:
            continue
        if rules.kind == "rubric":
            by_item[each.item].append(value_of(each, rules))
        elif (named := each.named("pair")) is not None:
            by_item[each.item].append(SIGNS[named])
    groups = [np.array(values) for values in by_item.values() if len(values) > 1]
    if not groups:
        return None
    if rules.kind == "rubric":
        spread = bootstrap(np.array([group.var(ddof=1) for group in groups]), _root_of_mean)
    else:
        spread = bootstrap(np.array([_differing(group) for group in groups]))
    return Repeats(spread, len(groups))


def _root_of_mean(rows: Floats) -> Floats:
    found: Floats = np.sqrt(rows[..., 0].mean(-1))
    return found


def _differing(values: Floats) -> float:
    """The share of pairs among ``values`` that differ."""
    count = len(values)
    same = sum(int(n) * (int(n) - 1) for n in np.unique(values, return_counts=True)[1])
    return 1 - same / (count * (count - 1))
