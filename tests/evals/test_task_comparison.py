"""Two results compared: what the test is, which samples flipped, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tests.evals.tasks import ACCURACY
from tests.evals.test_results import LENGTH, result_of, rows_with

from lmstack.core import InputError
from lmstack.evals.clustered import swap_test
from lmstack.evals.pairs import BinaryPairs
from lmstack.evals.results import SampleResult, TaskResult
from lmstack.evals.statistics import holm, ratio_of, sign_flip
from lmstack.evals.task import Metric
from lmstack.evals.task_comparison import adjusted, compare_results, conclusions

BASE = [1.0, 1, 1, 0, 0, 0, 1, 0, 1, 0]
OTHER = [1.0, 1, 0, 1, 1, 1, 1, 1, 1, 0]


def pair(
    base: list[float] = BASE, other: list[float] = OTHER, *metrics: Metric, **more: Any
) -> tuple[TaskResult, TaskResult]:
    named = {"subject": "new", "subject_digest": "sha256:n"}
    clusters = more.pop("clusters", None)
    return (
        result_of(rows_with(base, clusters), *metrics, **more),
        result_of(rows_with(other, clusters), *metrics, **(named | more)),
    )


def test_a_share_has_mcnemars_exact_test() -> None:
    found = compare_results(*pair()).first
    assert found.test == "mcnemar"
    assert found.difference.value == pytest.approx(0.3)
    assert found.difference.p == pytest.approx(stats.binomtest(1, 5).pvalue)
    assert (found.base.value, found.other.value) == (0.5, 0.8)


def test_flips_are_named_both_ways() -> None:
    found = compare_results(*pair()).first
    assert found.gained == ("q3", "q4", "q5", "q7")
    assert found.lost == ("q2",)


def test_a_share_in_clusters_is_tested_by_cluster() -> None:
    clusters = ["a", "a", "b", "b", "b", "b", "c", "c", "", ""]
    found = compare_results(*pair(clusters=clusters)).first
    assert found.test == "sign-flip"
    assert (found.samples, found.clusters) == (10, 5)
    # By cluster the differences are 0, 2, 1, 0, 0: of four ways to sign them two are as large.
    assert found.difference.p == pytest.approx(0.5)


def test_a_mean_has_the_sign_flip_test_of_scipy() -> None:
    rng = np.random.default_rng(0)
    base, other = rng.normal(size=(2, 10))
    mean = Metric("m", ("correct",), is_share=False)
    found = compare_results(*pair(list(base), list(other), mean)).first
    exact = stats.permutation_test(
        (other - base,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert found.test == "sign-flip"
    assert found.difference.p == pytest.approx(exact.pvalue)


def test_a_figure_of_the_corpus_is_randomized_and_names_no_flips() -> None:
    ratio = Metric("r", ("correct", "length"), ratio_of, is_share=False)
    found = compare_results(*pair(BASE, OTHER, ratio)).first
    assert found.test == "randomization"
    assert (found.gained, found.lost) == ((), ())
    assert found.difference.value == pytest.approx(8 / 45 - 5 / 45)
    assert found.difference.low <= found.difference.value <= found.difference.high


def test_lower_can_be_better() -> None:
    base, other = pair([1.0, 1, 1], [1.0, 1, 1], LENGTH)
    longer = tuple(replace(r, scores={"length": r.scores["length"] + 1}) for r in other.samples)
    found = compare_results(base, replace(other, samples=longer)).first
    assert found.difference.value == 1
    assert found.gain == -1
    assert found.lost == ("q0", "q1", "q2")


def test_a_model_compared_with_itself_has_no_difference() -> None:
    base, _ = pair()
    found = compare_results(base, base).first
    assert (found.difference.value, found.difference.p) == (0, 1)
    assert (found.gained, found.lost) == ((), ())


def test_the_order_of_the_samples_does_not_matter() -> None:
    base, other = pair()
    turned = replace(other, samples=other.samples[::-1])
    assert compare_results(base, turned).first == compare_results(base, other).first


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": "u"}, "different tasks: 't' and 'u'"),
        ({"version": 2}, "different versions of the task: 1 and 2"),
        ({"dataset_digest": "sha256:e"}, "different data"),
        ({"protocol": {"solver": {"a": 2}}}, "different protocols: solver.a is 1 and 2"),
        ({"protocol": {"solver": {"a": 1}, "b": 3}}, "different protocols: b is None and 3"),
        ({"protocol": {"solver": {"a": True}}}, "solver.a is 1 and True"),
    ],
)
def test_what_is_not_the_same_on_both_sides_is_refused(change: dict[str, Any], said: str) -> None:
    base, other = pair()
    with pytest.raises(InputError, match=said):
        compare_results(base, replace(other, **change))


def test_other_samples_are_refused_and_one_is_named() -> None:
    base, other = pair()
    with pytest.raises(InputError, match=r"different samples: 1 are of one side alone, 'q9' of m"):
        compare_results(base, replace(other, samples=other.samples[:-1]))


def test_failures_are_refused_unless_allowed() -> None:
    base, other = pair()
    rows = list(other.samples)
    rows[3] = SampleResult("q3", failed="no connection")
    failed = replace(other, samples=tuple(rows))
    with pytest.raises(InputError, match=r"1 of 10 samples .* failed for new"):
        compare_results(base, failed)
    found = compare_results(base, failed, allow_failures=True).first
    assert found.samples == 9
    assert "q3" not in found.gained
    assert found.base.value == pytest.approx(5 / 9)


def test_nothing_left_to_compare_is_refused() -> None:
    base, other = pair()
    rows = tuple(SampleResult(row.id, failed="no") for row in other.samples)
    with pytest.raises(InputError, match="no sample"):
        compare_results(base, replace(other, samples=rows), allow_failures=True)


def test_other_metrics_are_refused() -> None:
    base, other = pair()
    renamed = tuple(replace(metric, name="other") for metric in other.metrics)
    with pytest.raises(InputError, match=r"the results of .* have different metrics"):
        compare_results(base, replace(other, metrics=renamed))


def test_results_without_metrics_are_refused() -> None:
    base, other = (replace(each, metrics=()) for each in pair())
    with pytest.raises(InputError, match="no metrics"):
        compare_results(base, other)


def test_p_of_several_tasks_is_adjusted() -> None:
    each = [compare_results(*pair(task=name)) for name in "abc"]
    each[1] = compare_results(*pair([0.0] * 10, [1.0] * 10, task="b"))
    tests = [one.first.difference.p or 0.0 for one in each]
    assert [one.p_adjusted for one in each] == tests
    assert [one.p_adjusted for one in adjusted(each)] == holm(tests)


def test_a_comparison_is_json() -> None:
    compared = compare_results(*pair(BASE, OTHER, ACCURACY, LENGTH))
    found, first = compared.to_json(), compared.first
    for name in ("base", "other", "difference"):
        assert found["metrics"][0][name] == getattr(first, name).to_json()
    plain = ("test", "samples", "clusters", "detectable")
    assert {n: found["metrics"][0][n] for n in plain} == {n: getattr(first, n) for n in plain}
    assert [(each["metric"], each["better"]) for each in found["metrics"]] == [
        (ACCURACY.name, ACCURACY.better),
        (LENGTH.name, LENGTH.better),
    ]
    for side in ("base", "other"):
        result = getattr(compared, side)
        names = {"subject": result.subject, "digest": result.subject_digest}
        assert found[side] == {**names, "result": result.digest}
    assert (found["task"], found["p_adjusted"]) == (compared.task, compared.p_adjusted)
    assert found["dataset_digest"] == compared.base.dataset_digest
    assert found["protocol"] == compared.base.protocol
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["metrics"][0]["gained"] == ["q3", "q4", "q5", "q7"]
    assert found["base"]["digest"] != found["other"]["digest"]


def test_the_detectable_difference_is_the_gates_at_both_sides() -> None:
    found = compare_results(*pair()).first
    assert found.detectable == BinaryPairs(4, 1, 10).detectable(0.0, 0.025, 0.8)
    assert 0.3 < found.detectable < 1
    mean = Metric("m", ("correct",), is_share=False)
    rng = np.random.default_rng(0)
    values = [list(each) for each in rng.normal(size=(2, 40))]
    few = [each[:10] for each in values]
    many, less = (compare_results(*pair(*each, mean)).first.detectable for each in (values, few))
    assert many < less


def test_where_nothing_changed_the_samples_still_say_what_they_would_have_shown() -> None:
    found = compare_results(*pair(BASE, BASE)).first
    assert 0 < found.detectable < 1
    assert found.to_json()["detectable"] == found.detectable


def test_one_cluster_tells_nothing() -> None:
    mean = Metric("m", ("correct",), is_share=False)
    found = compare_results(*pair(BASE, OTHER, mean, clusters=["a"] * 10)).first
    assert found.to_json()["detectable"] is None


def test_conclusions_name_what_was_shown_and_what_could_have_been() -> None:
    base, other = [0.0] * 30 + [1.0] * 10, [1.0] * 40
    better, same = compare_results(*pair(base, other)), compare_results(*pair(BASE, BASE))
    worse = replace(compare_results(*pair(other, base)), task="facts")
    found = conclusions(adjusted([better, worse, replace(same, task="others")]))
    assert found[0] == (
        "other is better on t and worse on facts (p at most 0.05, adjusted over tasks)."
    )
    assert len(found) == 4
    assert found[3].startswith("others accuracy: these 10 samples show a difference of 0.")
    assert conclusions([same])[0] == "No difference was shown between other and base."


@given(st.integers(0, 8), st.integers(0, 8))
@settings(max_examples=12, deadline=None)
def test_the_interval_of_a_share_leaves_nought_out_only_where_mcnemar_is_small(
    gained: int, lost: int
) -> None:
    base = [0.0] * gained + [1.0] * lost + [1.0] * 60
    other = [1.0] * gained + [0.0] * lost + [1.0] * 60
    found = compare_results(*pair(base, other)).first
    assert found.test == "mcnemar"
    assert found.difference.low is not None
    assert found.difference.high is not None
    is_outside = not found.difference.low <= 0 <= found.difference.high
    assert found.difference.p is not None
    assert not is_outside or found.difference.p < 0.1
    assert found.difference.low <= found.difference.value <= found.difference.high


def test_failures_are_refused_by_default_on_either_side() -> None:
    base, other = pair()
    failed = (SampleResult("q0", failed="no connection"),)
    for sides in (
        (replace(base, samples=failed + base.samples[1:]), other),
        (base, replace(other, samples=failed + other.samples[1:])),
    ):
        with pytest.raises(InputError, match="1 of 10 samples"):
            compare_results(*sides)
        assert compare_results(*sides, allow_failures=True).first.samples == 9


def test_samples_of_the_other_side_alone_are_counted_and_named() -> None:
    base, other = pair()
    match = "1 are of one side alone, 'q9' of new"
    with pytest.raises(InputError, match=match):
        compare_results(replace(base, samples=base.samples[:-1]), other)
    fewer = replace(base, samples=base.samples[2:])
    with pytest.raises(InputError, match="3 are of one side alone, 'q9' of m"):
        compare_results(fewer, replace(other, samples=other.samples[:-1]))


@pytest.mark.parametrize(
    ("one", "two", "said"),
    [
        ({"a": 1.0}, {"a": 1}, None),
        ({"a": float("nan")}, {"a": float("nan")}, None),
        ({"a": 1}, {"a": True}, "a is 1 and True"),
        ({"a": {"b": [1]}}, {"a": {"b": [2]}}, r"a\.b is \[1\] and \[2\]"),
        ({"a": {"b": 1}}, {"a": 3}, "a is .* and 3"),
        ({"b": 1, "a": 1}, {"b": 2, "a": 2}, "a is 1 and 2"),
        ({}, {"z": float("nan")}, "z is None and nan"),
    ],
)
def test_where_two_protocols_differ(one: Any, two: Any, said: str | None) -> None:
    base, other = pair(BASE, OTHER, protocol=one)[0], pair(BASE, OTHER, protocol=two)[1]
    if said is None:
        compare_results(base, other)
        return
    with pytest.raises(InputError, match=f"protocols: {said}"):
        compare_results(base, other)


def test_a_scorer_that_breaks_its_word_shows_nothing_of_what_could_be_found() -> None:
    found = compare_results(*pair(BASE, [2.0, *OTHER[1:]])).first
    assert np.isnan(found.detectable)
    assert found.test == "sign-flip"
    assert np.isnan(compare_results(*pair([-0.5, *BASE[1:]], OTHER)).first.detectable)
    said = conclusions([compare_results(*pair(BASE, [2.0, *OTHER[1:]]))])
    assert said[1] == "t accuracy: 10 samples are too few to say what they would have shown."

    def only_with_the_first(rows: Any) -> Any:
        return np.where((rows[..., 0] > 0.9).any(-1), rows[..., 0].mean(-1), np.nan)

    odd = Metric("m", ("correct",), only_with_the_first, is_share=False)
    alone = [1.0, *[0.5] * 9]
    assert np.isnan(compare_results(*pair(alone, alone, odd)).first.detectable)


def test_a_metric_that_no_sample_has_is_left_out_unless_it_is_the_first() -> None:
    never = Metric("never", ("never",))
    found = compare_results(*pair(BASE, OTHER, ACCURACY, never, LENGTH))
    assert [each.metric.name for each in found.metrics] == ["accuracy", "length"]
    with pytest.raises(InputError, match="no sample of t has never on both sides"):
        compare_results(*pair(BASE, OTHER, never, ACCURACY))
    base, other = pair(BASE, OTHER, ACCURACY, LENGTH)
    bare = tuple(replace(s, scores={"correct": s.scores["correct"]}) for s in other.samples)
    with pytest.raises(InputError, match="has length on both sides"):
        compare_results(base, replace(other, samples=bare))


def test_the_largest_changes_come_first_and_clusters_are_counted() -> None:
    mean = Metric("m", ("correct",), is_share=False)
    found = compare_results(*pair([0.0] * 5, [1.0, 3.0, -2.0, -5.0, 3.0], mean)).first
    assert (found.gained, found.lost) == (("q1", "q4", "q0"), ("q3", "q2"))
    assert (found.samples, found.clusters) == (5, 5)
    grouped = compare_results(*pair(BASE, OTHER, clusters=["a", "a", *[""] * 8])).first
    assert (grouped.samples, grouped.clusters, grouped.test) == (10, 9, "sign-flip")
    alone = compare_results(*pair(BASE, OTHER, clusters=["a", "b", *[""] * 8])).first
    assert (alone.clusters, alone.test) == (10, "mcnemar")


def test_a_share_of_halves_is_flipped_and_its_limits_are_those_of_the_pairs() -> None:
    halves = compare_results(*pair([0.5, *BASE[1:]], OTHER)).first
    assert halves.test == "sign-flip"
    assert compare_results(*pair(BASE, [0.5, *OTHER[1:]])).first.test == "sign-flip"
    found = compare_results(*pair()).first.difference
    test = BinaryPairs(4, 1, 10)
    assert (found.low, found.high) == (test.lower(0.025), test.upper(0.025))
    plain = Metric("m", ("correct",), is_share=False)
    assert compare_results(*pair(BASE, OTHER, plain)).first.test == "sign-flip"
    ps = [replace(compare_results(*pair()), p_adjusted=p) for p in (0.05, 0.051, None)]
    assert [conclusions([each])[0].startswith("other is better on t") for each in ps] == [
        True,
        False,
        False,
    ]


def test_p_of_a_figure_of_the_corpus_is_that_of_swaps() -> None:
    ratio = Metric("r", ("correct", "length"), ratio_of, is_share=False)
    base, other = pair(BASE, OTHER, ratio)
    found = compare_results(base, other).first.difference
    rows = [side.rows_of(ratio) for side in (base, other)]
    assert found.p == swap_test(rows[0], rows[1], [""] * 10, ratio_of)
    plain = Metric("m", ("correct",), is_share=False)
    base, other = pair([0.0, 0.5, 1.0], [1.0, 0.25, 3.0], plain)
    found = compare_results(base, other).first.difference
    assert found.p == sign_flip([1.0, -0.25, 2.0])
