"""Two versions compared on what people ask: figures of each, and differences that may be looked at
as often as one likes.

    LiveAnswer      what is known of one answer
    compare_live    the report of a canary (people are divided by lot) or of a shadow (both versions
                    answer the same requests)
    FailureWatch    whether a canary is shown to fail more often, as its answers come

Of a canary the first request of each conversation counts: later ones go to the same version
without a lot being drawn. An answer counts as 1 / share for the version that it was drawn for, so
that the mean of what the candidate's answers give less what the stable version's take is their
difference, whatever the traffic does meanwhile (inverse probability weighting); that mean is bet
upon (`sequential`). Of a shadow the difference of each pair is. Times and tokens have no largest
value, so that their quantiles are compared: a confidence sequence of each version's, the difference
within both. Not covered: how an answer was drawn for and kept.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lmstack.core import check_range
from lmstack.evals.clustered import cluster_sums
from lmstack.evals.metrics.text_match import word_f1
from lmstack.evals.sequential import BettingMean, BettingProcess, quantile_limits
from lmstack.evals.statistics import Estimate, Floats, holm

__all__ = [
    "ArmFigures",
    "Difference",
    "FailureWatch",
    "LiveAnswer",
    "LiveReport",
    "compare_live",
]

Mode = Literal["canary", "shadow"]
Side = Literal["stable", "candidate"]
ALPHA = 0.05
# A canary that fails no more often is stopped at most so often.
STOP_ALPHA = 0.01
# An answer that is not done by then has not failed, whichever version gives it.
PATIENCE_S = 120.0
_QUANTILES = (0.5, 0.95)


@dataclass(frozen=True, slots=True)
class LiveAnswer:
    """``order``: of arrival; the two answers of a shadow have one. ``unit``: the conversation.
    ``request``: an id, under which several answers may lie. ``thumb``: whether the person who asked
    found it helpful. ``digest``: of its text."""

    side: Side
    order: int
    unit: str
    share: float
    request: str
    outcome: str
    first_token_s: float | None = None
    total_s: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish: str | None = None
    refusal: bool = False
    thumb: bool | None = None
    digest: str = ""
    text: str | None = field(default=None, repr=False)

    @property
    def counts(self) -> bool:
        """Whether it says something of its version: not where the request was refused."""
        return self.outcome != "refused"


# What is bad about an answer, by name.
SHARES: dict[str, Callable[[LiveAnswer], bool]] = {
    "failed": lambda each: each.outcome == "failed",
    "refused to answer": lambda each: each.refusal,
    "cut at the limit": lambda each: each.finish == "length",
    "thumbs down": lambda each: each.thumb is False,
}
# What is better small, or only tells (tokens).
SIZES: dict[str, Callable[[LiveAnswer], float | None]] = {
    "first token s": lambda each: each.first_token_s,
    "total s": lambda each: each.total_s if each.outcome == "answered" else None,
    "tokens": lambda each: each.completion_tokens if each.outcome == "answered" else None,
}


@dataclass(frozen=True)
class ArmFigures:
    """``quantiles``: of each of `SIZES` the median and the 95th percentile, NaN where there is
    nothing. ``thumbs``: up and down."""

    requests: int
    cancelled: int
    refused_requests: int
    shares: dict[str, float]
    quantiles: dict[str, tuple[float, float]]
    prompt_tokens: int
    completion_tokens: int
    thumbs: tuple[int, int]


@dataclass(frozen=True)
class Difference:
    """Candidate less stable. ``low`` to ``high`` hold at every look, with all looks together wrong
    in one comparison of 20. ``p``: of no difference, adjusted for the number of shares that are
    tested; None of quantiles. ``count``: requests or pairs."""

    name: str
    value: float
    low: float
    high: float
    count: int
    p: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), **Estimate(self.value, self.low, self.high, self.p).to_json()}


@dataclass(frozen=True)
class LiveReport:
    """``same``: the share of pairs whose texts are equal; ``similar``: the mean F1 of their words,
    where texts are kept. Both None of a canary."""

    mode: Mode
    arms: dict[Side, ArmFigures]
    differences: tuple[Difference, ...]
    same: Estimate | None = None
    similar: Estimate | None = None

    def to_json(self) -> dict[str, Any]:
        arms = {
            side: {
                **vars(arm),
                "shares": {name: _number(value) for name, value in arm.shares.items()},
                "quantiles": {
                    name: [_number(value) for value in pair] for name, pair in arm.quantiles.items()
                },
                "thumbs": {"up": arm.thumbs[0], "down": arm.thumbs[1]},
            }
            for side, arm in self.arms.items()
        }
        return {
            "mode": self.mode,
            "arms": arms,
            "differences": [each.to_json() for each in self.differences],
            "same": None if self.same is None else self.same.to_json(),
            "similar": None if self.similar is None else self.similar.to_json(),
        }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def compare_live(mode: Mode, answers: Sequence[LiveAnswer]) -> LiveReport:
    """The report of ``answers`` in any order."""
    ordered = sorted(answers, key=lambda each: each.order)
    sides: tuple[Side, Side] = ("stable", "candidate")
    arms = {side: _figures([each for each in ordered if each.side == side]) for side in sides}
    if mode == "canary":
        return LiveReport(mode, arms, _divided(_first_of_each(ordered)))
    pairs = _pairs(ordered)
    same = [float(one.digest == other.digest) for one, other in pairs if _both_said(one, other)]
    texts = [
        word_f1(other.text, one.text)[2]
        for one, other in pairs
        if one.text is not None and other.text is not None
    ]
    return LiveReport(mode, arms, _paired(pairs), _at_any_look(same), _at_any_look(texts))


def _figures(answers: Sequence[LiveAnswer]) -> ArmFigures:
    counted = [each for each in answers if each.counts]
    thumbs = {each.request: each.thumb for each in counted if each.thumb is not None}
    return ArmFigures(
        requests=len(answers),
        cancelled=sum(each.outcome == "cancelled" for each in answers),
        refused_requests=len(answers) - len(counted),
        shares={
            name: float(np.mean([is_bad(each) for each in counted])) if counted else math.nan
            for name, is_bad in SHARES.items()
        },
        quantiles={name: _quantiles(_sizes(counted, name)) for name in SIZES},
        prompt_tokens=sum(each.prompt_tokens for each in answers),
        completion_tokens=sum(each.completion_tokens for each in answers),
        thumbs=(sum(thumbs.values()), len(thumbs) - sum(thumbs.values())),
    )


def _sizes(answers: Sequence[LiveAnswer], name: str) -> Floats:
    found = [SIZES[name](each) for each in answers]
    return np.array([each for each in found if each is not None], np.float64)


def _quantiles(values: Floats) -> tuple[float, float]:
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, _QUANTILES, method="inverted_cdf")
    return float(low), float(high)


def _first_of_each(answers: Sequence[LiveAnswer]) -> list[LiveAnswer]:
    found: dict[str, LiveAnswer] = {}
    for each in answers:
        found.setdefault(each.unit, each)
    return [each for each in found.values() if each.counts]


def _pairs(answers: Sequence[LiveAnswer]) -> list[tuple[LiveAnswer, LiveAnswer]]:
    by_order: dict[int, dict[Side, LiveAnswer]] = {}
    for each in answers:
        by_order.setdefault(each.order, {})[each.side] = each
    found = [(both["stable"], both["candidate"]) for both in by_order.values() if len(both) == 2]
    return [(one, other) for one, other in found if one.counts and other.counts]


def _both_said(one: LiveAnswer, other: LiveAnswer) -> bool:
    return one.outcome == other.outcome == "answered"


def weight(answer: LiveAnswer) -> float:
    """What a 1 of ``answer`` adds to the difference."""
    is_candidate = answer.side == "candidate"
    return 1 / answer.share if is_candidate else -1 / (1 - answer.share)


def _divided(answers: Sequence[LiveAnswer]) -> tuple[Difference, ...]:
    if not answers:
        return ()
    shares = np.array([each.share for each in answers])
    weights = np.array([weight(each) for each in answers])
    bound = 1 / min(float(shares.min()), 1 - float(shares.max()))
    found = []
    for name, is_bad in SHARES.items():
        bad = np.array([is_bad(each) for each in answers], np.float64)
        value = _rate_difference(bad, weights > 0)
        if name == "failed":  # rare, and as `FailureWatch` has it
            least, most = -1 / (1 - float(shares.max())), 1 / float(shares.min())
            found.append(_shown(name, weights * bad, least, most, value))
        else:
            found.append(_shown(name, weights * (bad - _so_far(bad)), -bound, bound, value))
    return (*_adjusted(found), *_of_quantiles(answers))


def _so_far(values: Floats) -> Floats:
    """The mean before each of ``values``. What is taken from both versions alike and was known
    before the lot was drawn changes no difference, and leaves less to weigh."""
    counts = np.arange(len(values))
    found: Floats = (np.concatenate([[0.0], values.cumsum()[:-1]]) + 0.5) / (counts + 1)
    return found


def _rate_difference(bad: Floats, is_candidate: npt.NDArray[np.bool_]) -> float:
    if is_candidate.all() or not is_candidate.any():
        return math.nan
    return float(bad[is_candidate].mean() - bad[~is_candidate].mean())


def _paired(pairs: Sequence[tuple[LiveAnswer, LiveAnswer]]) -> tuple[Difference, ...]:
    if not pairs:
        return ()
    found = []
    for name, is_bad in SHARES.items():
        if name != "thumbs down":  # nobody saw the shadow's
            values = np.array([float(is_bad(other)) - is_bad(one) for one, other in pairs])
            found.append(_shown(name, values, -1.0, 1.0, float(values.mean())))
    return (*_adjusted(found), *_of_quantiles([each for pair in pairs for each in pair]))


def _shown(name: str, values: Floats, least: float, most: float, value: float) -> Difference:
    """The limits of the mean of ``values``, which are between ``least`` and ``most``, with the
    ``value`` as people count it. A share cannot differ by more than 1, whatever a few heavy answers
    say."""
    test = BettingMean(cluster_sums(values), least, most)
    low, high = max(-1.0, test.lower(ALPHA / 2)), min(1.0, test.upper(ALPHA / 2))
    p = min(1.0, 2 * min(test.p_above(0.0), test.p_below(0.0)))
    return Difference(name, value, low, high, len(values), p)


def _adjusted(found: Sequence[Difference]) -> list[Difference]:
    adjusted = holm([each.p if each.p is not None else 1.0 for each in found])
    return [
        Difference(each.name, each.value, each.low, each.high, each.count, p)
        for each, p in zip(found, adjusted, strict=True)
    ]


def _of_quantiles(answers: Sequence[LiveAnswer]) -> list[Difference]:
    found = []
    for name in SIZES:
        one, other = (
            _sizes([each for each in answers if each.side == side and each.counts], name)
            for side in ("stable", "candidate")
        )
        if not len(one) or not len(other):
            continue
        for place, quantile in enumerate(_QUANTILES):
            # Half of what may be wrong for each version.
            least, most = quantile_limits(one, quantile, ALPHA / 2)
            low, high = quantile_limits(other, quantile, ALPHA / 2)
            value = _quantiles(other)[place] - _quantiles(one)[place]
            named = f"{name} p{round(100 * quantile)}"
            found.append(
                Difference(named, value, low - most, high - least, min(len(one), len(other)))
            )
    return found


def _at_any_look(values: Sequence[float]) -> Estimate | None:
    if not values:
        return None
    test = BettingMean(cluster_sums(values), 0.0, 1.0)
    return Estimate(test.value, test.lower(ALPHA / 2), test.upper(ALPHA / 2))


@dataclass
class FailureWatch:
    """Whether a canary's candidate is shown to fail more often than the stable version, at the
    level ``alpha`` over all looks. `begun` and `ended` are told of the first request of each
    conversation, with the ``share`` that it was drawn by, the same for all; others are left out.

    Answers are taken in the order in which requests came, whatever order they end in: one that
    fails at once must not count before one that fails late. One that takes longer than
    ``patience_s`` counts as not failed. Mutable, and for one thread at a time."""

    share: float
    alpha: float = STOP_ALPHA
    patience_s: float = PATIENCE_S
    max_units: int = 1_000_000
    failures: dict[Side, int] = field(default_factory=lambda: {"stable": 0, "candidate": 0})
    count: int = 0
    _test: BettingProcess = field(init=False, repr=False)
    _known: set[str] = field(default_factory=set, repr=False)
    _open: dict[int, float] = field(default_factory=dict, repr=False)
    _begun: list[int] = field(default_factory=list, repr=False)
    _done: list[tuple[int, Side]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        check_range("share", self.share, 0, 1, low_open=True, high_open=True)
        check_range("alpha", self.alpha, 0, 1, low_open=True, high_open=True)
        self._test = BettingProcess(0.0, -1 / (1 - self.share), 1 / self.share)

    @property
    def p(self) -> float:
        """Of a candidate that fails no more often, valid at every look."""
        return self._test.p

    @property
    def is_worse(self) -> bool:
        return self.p <= self.alpha

    def begun(self, order: int, unit: str, now: float) -> None:
        """A request came. ``order`` grows; ``now`` is in seconds of any clock that does not jump.
        Beyond ``max_units`` conversations no more are taken in."""
        if unit in self._known or len(self._known) >= self.max_units:
            return
        self._known.add(unit)
        self._open[order] = now
        heapq.heappush(self._begun, order)
        self.count += 1

    def ended(self, order: int, side: Side, *, failed: bool, now: float) -> None:
        start = self._open.pop(order, None)
        if start is None:
            return
        if failed and now - start <= self.patience_s:
            heapq.heappush(self._done, (order, side))
        self.look(now)

    def look(self, now: float) -> None:
        """Take in what can be: all before the earliest request that is still open."""
        while self._begun:
            start = self._open.get(self._begun[0])
            if start is not None and now - start <= self.patience_s:
                break
            self._open.pop(heapq.heappop(self._begun), None)
        earliest = self._begun[0] if self._begun else math.inf
        while self._done and self._done[0][0] < earliest:
            _, side = heapq.heappop(self._done)
            self.failures[side] += 1
            # Answers that did not fail weigh nothing: only whose the failures are is bet upon.
            value = 1 / self.share if side == "candidate" else -1 / (1 - self.share)
            self._test.add([value])
