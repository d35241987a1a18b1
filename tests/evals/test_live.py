"""The live comparison: differences that hold at every look, and a canary that is stopped in time
and seldom in vain."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from tests.errors import about

from lmstack.core import InputError
from lmstack.evals.clustered import cluster_sums
from lmstack.evals.live import FailureWatch, LiveAnswer, _so_far, compare_live
from lmstack.evals.sequential import BettingMean, BettingProcess, capitals, quantile_limits
from lmstack.evals.statistics import wilson

SHARE = 0.2


def answers(
    count: int, stable: float, candidate: float, seed: int = 0, share: float = SHARE
) -> list[LiveAnswer]:
    """A canary whose versions fail at these rates."""
    rng = np.random.default_rng(seed)
    found = []
    for order in range(count):
        is_candidate = rng.random() < share
        failed = rng.random() < (candidate if is_candidate else stable)
        found.append(
            LiveAnswer(
                "candidate" if is_candidate else "stable",
                order,
                f"unit {order}",
                share,
                f"request {order}",
                "failed" if failed else "answered",
                first_token_s=float(rng.exponential(0.2 if is_candidate else 0.1)),
                total_s=1.0,
                completion_tokens=10,
            )
        )
    return found


def difference(report: Any, name: str) -> Any:
    return next(each for each in report.differences if each.name == name)


def paired(stable: dict[str, Any], candidate: dict[str, Any], order: int = 0) -> list[LiveAnswer]:
    base = LiveAnswer("stable", order, f"u{order}", 1.0, f"r{order}", "answered")
    other = dataclasses.replace(base, side="candidate")
    return [dataclasses.replace(base, **stable), dataclasses.replace(other, **candidate)]


def test_the_weighted_difference_is_that_of_the_rates() -> None:
    found = difference(compare_live("canary", answers(8_000, 0.05, 0.15)), "failed")
    assert found.low < 0.1 < found.high
    assert abs(found.value - 0.1) < 0.04
    assert found.p is not None
    assert found.p < 1e-6


def test_equal_shares_of_nearly_all_answers_are_no_difference() -> None:
    data = [dataclasses.replace(each, finish="length") for each in answers(400, 0, 0)]
    found = difference(compare_live("canary", data), "cut at the limit")
    assert found.value == 0
    assert -0.1 < found.low <= 0 <= found.high < 0.1


def test_a_version_that_has_not_answered_has_no_difference_yet() -> None:
    data = [each for each in answers(30, 0, 0) if each.side == "stable"]
    found = compare_live("canary", data).to_json()["differences"][0]
    assert found["value"] is None


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_equal_versions_are_seldom_told_apart_by_looking_after_every_answer(rate: float) -> None:
    rng = np.random.default_rng(0)
    drawn, failed = rng.random((1000, 300)) < SHARE, rng.random((1000, 300)) < rate
    weights = np.where(drawn, 1 / SHARE, -1 / (1 - SHARE))
    centred = failed - np.stack([_so_far(row) for row in failed.astype(float)])
    for values, least in ((weights * failed, -1 / (1 - SHARE)), (weights * centred, -1 / SHARE)):
        for sign in (1, -1) if least == -1 / SHARE else (1,):
            alarms = int((capitals(sign * values, 0.0, least).max(1) >= 20).sum())
            assert wilson(alarms, 1000).low <= 0.05


def test_a_slower_first_token_is_shown() -> None:
    found = difference(compare_live("canary", answers(5000, 0, 0)), "first token s p50")
    assert 0 < found.low < 0.1 * math.log(2) < found.high


def test_only_the_first_request_of_a_conversation_is_drawn_for() -> None:
    one = answers(1, 0, 1, share=0.999)[0]
    again = [dataclasses.replace(one, order=order) for order in range(50)]
    report = compare_live("canary", again)
    assert difference(report, "failed").count == 1
    assert report.arms[one.side].requests == 50


def test_requests_that_are_refused_say_nothing_of_a_version() -> None:
    data = [dataclasses.replace(each, outcome="refused") for each in answers(20, 0, 0)]
    report = compare_live("canary", data)
    assert report.differences == ()
    assert report.arms["stable"].refused_requests == report.arms["stable"].requests


def test_pairs_of_a_shadow_are_compared_as_pairs() -> None:
    data = [
        each
        for order in range(60)
        for each in paired({}, {"outcome": "failed"} if order % 2 else {}, order)
    ]
    found = difference(compare_live("shadow", data), "failed")
    assert (found.value, found.count) == (0.5, 60)
    assert found.low > 0.2


def test_a_pair_of_which_one_is_missing_is_left_out() -> None:
    data = [*paired({}, {}), paired({}, {}, 1)[0]]
    assert difference(compare_live("shadow", data), "failed").count == 1


def test_equal_texts_agree_and_similar_words_are_similar() -> None:
    data = [
        *paired({"digest": "a", "text": "the red house"}, {"digest": "a", "text": "the red house"}),
        *paired({"digest": "a", "text": "red house"}, {"digest": "b", "text": "red tower"}, 1),
    ]
    report = compare_live("shadow", data)
    assert report.same is not None
    assert report.same.value == 0.5
    assert report.similar is not None
    assert report.similar.value == 0.75


def test_texts_that_are_not_kept_leave_no_similarity() -> None:
    report = compare_live("shadow", paired({"digest": "a"}, {"digest": "a"}))
    assert report.similar is None
    assert report.same is not None


def test_thumbs_count_once_for_an_answer_of_several_parts() -> None:
    part = LiveAnswer("candidate", 0, "u", SHARE, "r", "answered", thumb=False)
    report = compare_live("canary", [part, dataclasses.replace(part, order=1)])
    assert report.arms["candidate"].thumbs == (0, 1)


@pytest.mark.parametrize("mode", ["canary", "shadow"])
def test_nothing_seen_is_a_report_of_nothing(mode: Any) -> None:
    report = compare_live(mode, [])
    assert report.differences == ()
    assert report.to_json()["arms"]["stable"]["shares"]["failed"] is None


def run(watch: FailureWatch, rates: dict[str, float], late: dict[str, int], seed: int) -> bool:
    """Whether ``watch`` ever says that the candidate is worse: 400 requests, one a second, whose
    failures come ``late`` seconds after them."""
    rng = np.random.default_rng(seed)
    events = []
    for order in range(400):
        side = "candidate" if rng.random() < watch.share else "stable"
        failed = bool(rng.random() < rates[side])
        events.append((float(order), 0, order, side, failed))
        events.append((order + (late[side] if failed else 0.5), 1, order, side, failed))
    for now, is_end, order, side, failed in sorted(events):
        if is_end:
            watch.ended(order, side, failed=failed, now=now)  # type: ignore[arg-type]
        else:
            watch.begun(order, str(order), now)
        if watch.is_worse:
            return True
    return False


def test_a_candidate_that_fails_no_more_often_is_seldom_stopped_however_soon_it_fails() -> None:
    rates, late = {"stable": 0.2, "candidate": 0.2}, {"stable": 60, "candidate": 0}
    stopped = sum(run(FailureWatch(SHARE, alpha=0.05), rates, late, seed) for seed in range(50))
    assert stopped <= 7  # of 50, where 2.5 are allowed: more come once in 120 such tests


def test_a_candidate_that_fails_more_often_is_stopped() -> None:
    rates, late = {"stable": 0.02, "candidate": 0.5}, {"stable": 1, "candidate": 1}
    stopped = [run(FailureWatch(SHARE), rates, late, seed) for seed in range(10)]
    assert sum(stopped) >= 9


def test_one_that_never_ends_holds_nothing_up_for_longer_than_the_patience() -> None:
    watch = FailureWatch(SHARE, patience_s=10)
    watch.begun(0, "hangs", 0.0)
    for order in range(1, 9):
        watch.begun(order, str(order), 0.0)
        watch.ended(order, "candidate", failed=True, now=1.0)
    assert not watch.is_worse
    watch.look(11.0)
    assert watch.is_worse


def test_a_second_request_of_a_conversation_is_not_bet_upon() -> None:
    watch = FailureWatch(SHARE)
    for order in range(50):
        watch.begun(order, "one unit", 0.0)
        watch.ended(order, "candidate", failed=True, now=0.0)
    assert watch.failures["candidate"] == 1
    assert not watch.is_worse


def test_it_is_the_test_of_the_report() -> None:
    data, watch = answers(300, 0.05, 0.3), FailureWatch(SHARE)
    for each in data:
        watch.begun(each.order, each.unit, 0.0)
        watch.ended(each.order, each.side, failed=each.outcome == "failed", now=0.0)
    signs = [1 / SHARE if each.side == "candidate" else -1 / (1 - SHARE) for each in data]
    values = [sign * (each.outcome == "failed") for sign, each in zip(signs, data, strict=True)]
    test = BettingMean(cluster_sums(values), -1 / (1 - SHARE), 1 / SHARE)
    assert watch._test.capital == pytest.approx(1 / test.p_above(0.0), rel=1e-6)


def test_half_of_what_may_be_wrong_of_a_quantile_goes_to_each_version() -> None:
    data = answers(600, 0, 0)
    by_side = {
        side: [each.first_token_s for each in data if each.side == side]
        for side in ("stable", "candidate")
    }
    least, most = quantile_limits(by_side["stable"], 0.5, 0.05 / 2)
    low, high = quantile_limits(by_side["candidate"], 0.5, 0.05 / 2)
    found = difference(compare_live("canary", data), "first token s p50")
    assert (found.low, found.high) == (low - most, high - least)


def test_the_mean_so_far_is_of_what_came_before() -> None:
    assert _so_far(np.array([1.0, 0.0, 1.0])).tolist() == [0.5, 0.75, 0.5]
    assert _so_far(np.array([1.0, 0.0, 0.0])).tolist() == [0.5, 0.75, 0.5]


def test_each_request_of_a_conversation_has_its_thumb() -> None:
    one = LiveAnswer("candidate", 0, "u", SHARE, "r0", "answered", thumb=True)
    other = dataclasses.replace(one, order=1, request="r1", thumb=False)
    assert compare_live("canary", [one, other]).arms["candidate"].thumbs == (1, 1)


@pytest.mark.parametrize(("seconds", "failures"), [(10.0, 1), (10.5, 0)])
def test_a_failure_counts_within_the_patience_alone(seconds: float, failures: int) -> None:
    watch = FailureWatch(SHARE, patience_s=10)
    watch.begun(0, "u", 0.0)
    watch.ended(0, "candidate", failed=True, now=seconds)
    assert watch.failures["candidate"] == failures
    assert (watch.p < 1) == bool(failures)


def test_an_answer_that_did_not_fail_is_no_failure_however_late() -> None:
    watch = FailureWatch(SHARE, patience_s=10)
    watch.begun(0, "u", 0.0)
    watch.ended(0, "candidate", failed=False, now=20.0)
    assert watch.failures == {"stable": 0, "candidate": 0}


def test_a_report_is_json_with_every_part_in_its_place() -> None:
    one = {"digest": "a", "text": "x", "prompt_tokens": 3, "completion_tokens": 5, "total_s": 2.0}
    data = [
        *paired(one, {**one, "first_token_s": 0.5, "refusal": True}),
        *paired({**one, "thumb": True}, {"outcome": "cancelled", "finish": "length"}, 1),
        *paired({"outcome": "refused"}, {}, 2),
    ]
    report = compare_live("shadow", data)
    written = report.to_json()
    assert list(written) == ["mode", "arms", "differences", "same", "similar"]
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert (written["mode"], list(written["arms"])) == ("shadow", ["stable", "candidate"])
    nothing = [None, None]
    assert written["arms"]["stable"] == {
        **{"requests": 3, "cancelled": 0, "refused_requests": 1},
        "shares": dict.fromkeys(
            ("failed", "refused to answer", "cut at the limit", "thumbs down"), 0.0
        ),
        "quantiles": {"first token s": nothing, "total s": [2.0, 2.0], "tokens": [5.0, 5.0]},
        **{"prompt_tokens": 6, "completion_tokens": 10, "thumbs": {"up": 1, "down": 0}},
    }
    candidate = written["arms"]["candidate"]
    assert (candidate["requests"], candidate["cancelled"]) == (3, 1)
    assert candidate["shares"]["refused to answer"] == pytest.approx(1 / 3)
    assert candidate["shares"]["cut at the limit"] == pytest.approx(1 / 3)
    assert candidate["quantiles"]["total s"] == [0.0, 2.0]
    assert report.same is not None
    assert report.similar is not None
    assert written["same"] == report.same.to_json()
    assert written["similar"] == report.similar.to_json()
    first, shown = report.differences[0], written["differences"][0]
    assert shown == {
        **{"name": "failed", "value": first.value, "low": first.low, "high": first.high},
        **{"count": 2, "p": first.p},
    }
    empty = compare_live("canary", []).to_json()
    assert (empty["same"], empty["similar"], empty["differences"]) == (None, None, [])


def test_pairs_differ_by_each_share_but_thumbs_and_by_quantiles() -> None:
    data = [
        each
        for order in range(40)
        for each in paired(
            {"total_s": 1.0, "completion_tokens": order, "refusal": order < 10},
            {"total_s": 1.0 + order, "completion_tokens": 2 * order, "thumb": False},
            order,
        )
    ]
    report = compare_live("shadow", data)
    names = [each.name for each in report.differences]
    assert names == [
        *("failed", "refused to answer", "cut at the limit"),
        *("total s p50", "total s p95", "tokens p50", "tokens p95"),
    ]
    refused = difference(report, "refused to answer")
    assert (refused.value, refused.count) == (-0.25, 40)
    test = BettingMean(cluster_sums([-1.0] * 10 + [0.0] * 30), -1.0, 1.0)
    limits = (max(-1.0, test.lower(0.025)), min(1.0, test.upper(0.025)))
    assert (refused.low, refused.high) == limits
    p = min(1.0, 2 * min(test.p_above(0.0), test.p_below(0.0)))
    assert refused.p == pytest.approx(min(1.0, 3 * p))
    assert difference(report, "total s p50").value == 19.0
    assert difference(report, "total s p95").value == 37.0
    assert difference(report, "tokens p95").count == 40
    assert difference(report, "tokens p50").p is None
    same = report.same
    assert same is not None
    agreed = BettingMean(cluster_sums([1.0] * 40), 0.0, 1.0)
    assert (same.value, same.low, same.high) == (1.0, agreed.lower(0.025), agreed.upper(0.025))


def test_a_canarys_shares_are_weighed_less_the_mean_so_far() -> None:
    data = [dataclasses.replace(each, refusal=each.order % 3 == 0) for each in answers(60, 0, 0)]
    report = compare_live("canary", data)
    bad = np.array([float(each.refusal) for each in data])
    weights = np.array([1 / SHARE if e.side == "candidate" else -1 / (1 - SHARE) for e in data])
    candidate = weights > 0
    test = BettingMean(cluster_sums(weights * (bad - _so_far(bad))), -1 / SHARE, 1 / SHARE)
    found = difference(report, "refused to answer")
    assert found.value == pytest.approx(bad[candidate].mean() - bad[~candidate].mean())
    assert (found.low, found.high) == (
        max(-1.0, test.lower(0.025)),
        min(1.0, test.upper(0.025)),
    )
    high = [dataclasses.replace(each, share=0.9) for each in data]
    wide = difference(compare_live("canary", high), "refused to answer")
    assert wide.count == 60
    assert compare_live("canary", data[::-1]) == report


def test_shares_that_changed_meanwhile_bound_what_an_answer_weighs() -> None:
    """By the smallest and the largest share of all."""
    data = [
        dataclasses.replace(each, share=0.1 if each.order < 30 else 0.6)
        for each in answers(60, 0.3, 0.6)
    ]
    weights = np.array([1 / e.share if e.side == "candidate" else -1 / (1 - e.share) for e in data])
    bad = np.array([float(each.outcome == "failed") for each in data])
    test = BettingMean(cluster_sums(weights * bad), -1 / 0.4, 1 / 0.1)
    found = difference(compare_live("canary", data), "failed")
    assert found.low == max(-1.0, test.lower(0.025))
    assert found.high == min(1.0, test.upper(0.025))


@pytest.mark.parametrize("name", ["share", "alpha"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_shares_and_levels_are_between_nought_and_one(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name, check=about(name)):
        FailureWatch(**{"share": 0.5, name: value})


def test_no_more_conversations_are_watched_than_told() -> None:
    watch = FailureWatch(SHARE, max_units=2)
    for order in range(4):
        watch.begun(order, f"u{order}", 0.0)
        watch.ended(order, "stable", failed=True, now=1.0)
    assert (watch.count, watch.failures["stable"]) == (2, 2)
    usual = FailureWatch(SHARE)
    assert (usual.alpha, usual.patience_s, usual.max_units) == (0.01, 120.0, 1_000_000)
    bet = BettingProcess(0.0, -1 / (1 - SHARE), 1 / SHARE)
    bet.add([-1 / (1 - SHARE)])
    bet.add([-1 / (1 - SHARE)])
    assert watch.p == bet.p


def test_failures_are_taken_in_by_the_order_of_the_requests() -> None:
    watch = FailureWatch(SHARE)
    for order in (3, 1, 2):
        watch.begun(order, str(order), 0.0)
    watch.ended(2, "candidate", failed=True, now=1.0)
    watch.ended(2, "candidate", failed=True, now=1.0)
    assert watch.failures == {"stable": 0, "candidate": 0}
    watch.ended(1, "stable", failed=False, now=2.0)
    assert watch.failures == {"stable": 0, "candidate": 1}
    watch.ended(3, "stable", failed=True, now=3.0)
    assert watch.failures == {"stable": 1, "candidate": 1}
