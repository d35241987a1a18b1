"""Two sides that do not match are refused, and the test is chosen by what the scores are."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from tests.errors import about
from tests.evals.gate.samples import (
    ACCURACY,
    PER_TOKEN,
    SECONDS,
    TOXICITY,
    comparison,
    equal_clusters,
    pairs,
    scores,
)

from lmstack.core import InputError
from lmstack.evals.gate import GateComparison, TaskScores
from lmstack.evals.noninferiority import BoundedMean, StudentizedMean
from lmstack.evals.pairs import BinaryPairs
from lmstack.evals.sequential import BettingMean
from lmstack.evals.statistics import mean_of
from lmstack.evals.task import Dataset, Sample, Task


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"protocol": "p2"}, "protocol is different: 'p2' of the baseline, 'p1' of the candidate"),
        ({"data": "sha256:2"}, "data are different"),
        ({"task": "gsm8k"}, "task is different"),
        ({"ids": ("0", "1", "9")}, "samples are different: 2 on one side alone, such as '2'"),
        ({"clusters": ("a", "a", "b")}, "clusters are different"),
        ({"metric": replace(ACCURACY, better="lower")}, "metric is different"),
    ],
)
def test_sides_that_do_not_match_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(
        InputError, check=about("clusters", "data", "metric", "protocol", "samples", "task")
    ) as error:
        GateComparison(scores([1, 0, 1]), scores([1, 0, 1], "old", **change))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("values", "change", "said"),
    [
        ([1, math.nan, math.nan], {}, "no finite score for 2 of 3 samples, '1' the first"),
        ([1, math.inf, 0], {"metric": SECONDS}, "no finite score for 1 of 3"),
        ([1, 2, 0], {}, "has the score 2.0, and accuracy is a share"),
        ([], {}, "has no samples"),
        ([1, 0], {"ids": ("a", "a")}, "scores a sample twice"),
        ([1, 0], {"ids": ("a",)}, "shape (2, 1) for 1 samples"),
        ([1, 0], {"clusters": ("a",)}, "names 1 clusters for 2 samples"),
        ([1, 0], {"protocol": ""}, "says no protocol"),
        ([1, 0], {"data": ""}, "says no data"),
        ([1, 0], {"metric": PER_TOKEN}, "shape (2, 1) for 2 samples and 2 columns"),
    ],
)
def test_scores_that_cannot_be_used_are_refused(
    values: list[float], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as error:
        scores(values, **change)
    assert said in str(error.value)


def test_samples_are_put_in_one_order() -> None:
    new = scores([1, 0, 0, 1], ids=("a", "b", "c", "d"), clusters=("x", "x", "y", ""))
    old = scores([0, 1, 0, 0], "old", ids=("d", "a", "b", "c"), clusters=("", "x", "x", "y"))
    found = GateComparison(new, old)
    assert found.baseline is not None
    assert found.baseline.rows[:, 0].tolist() == [1, 0, 0, 0]
    assert found.gain.value == 0.25


def test_right_and_wrong_alone_are_tested_as_pairs() -> None:
    found = pairs(5, 3, 40).test()
    assert isinstance(found, BinaryPairs)
    assert (found.gained, found.lost, found.total) == (5, 3, 40)


def test_less_is_better_where_the_metric_says_so() -> None:
    found = comparison([0, 0, 1, 0], [1, 1, 1, 0], metric=TOXICITY).gain
    assert isinstance(found, BinaryPairs)
    assert (found.gained, found.lost) == (2, 0)
    alone = scores([0, 0, 1, 0], metric=TOXICITY).test()
    assert alone.value == -0.25
    assert alone.p_above(-0.9) < 0.05  # toxicity below 0.9


@pytest.mark.parametrize(
    ("candidate", "change", "kind"),
    [
        ([1, 0, 1, 1], {"clusters": equal_clusters(2, 2)}, BoundedMean),
        ([1, 0.5, 1, 1], {}, BoundedMean),
        ([1, 0, 1, 1], {"clusters": ("", "", "", "")}, BinaryPairs),
        ([1, 0, 1, 1], {"clusters": equal_clusters(4, 1)}, BinaryPairs),
        ([1.5, 2, 3, 4], {"metric": SECONDS}, StudentizedMean),
        ([1, 0, 1, 1], {"metric": replace(ACCURACY, statistic=lambda r: r[..., 0].max(-1))},
         StudentizedMean),
        ([1, 0, 1, 1], {"metric": replace(ACCURACY, statistic=mean_of)}, BinaryPairs),
    ],
)  # fmt: skip
def test_the_test_follows_from_the_scores(
    candidate: list[float], change: dict[str, Any], kind: type
) -> None:
    assert isinstance(comparison(candidate, [1, 0, 0, 1], **change).test(), kind)


def test_any_look_is_a_bet() -> None:
    assert isinstance(pairs(5, 3, 40).test(any_look=True), BettingMean)
    with pytest.raises(InputError, match="no share from 0 to 1", check=about("looks")):
        comparison([1, 2], [3, 4], metric=SECONDS).test(any_look=True)


def test_a_figure_of_a_corpus_is_compared_by_its_statistic() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 50, 80)
    old = np.stack([tokens * 2.0, tokens], axis=1)
    new = np.stack([tokens * 1.9 + rng.normal(0, 0.1, 80), tokens], axis=1)
    found = comparison(new, old, metric=PER_TOKEN).gain
    assert found.value == pytest.approx(0.1, abs=0.005)
    assert found.p_above(0.05) < 0.001


class Silent:
    """Neither asks nor judges."""

    protocol: ClassVar = {"shots": 5}


def silent_task(count: int = 3) -> Task:
    samples = tuple(Sample(str(i), "?", cluster="a" if i else "") for i in range(count))
    return Task("mmlu", Dataset("d", samples, "here"), Silent(), Silent(), (ACCURACY,))  # type: ignore[arg-type]


def test_scores_of_a_task_carry_its_protocol_and_data() -> None:
    rows = {"0": {"correct": 1.0}, "1": {"correct": math.nan}, "2": {"correct": 0.0, "seconds": 3}}
    found = TaskScores.of_task(silent_task(), ACCURACY, rows, "new")
    assert (found.ids, found.clusters) == (("0", "2"), ("", "a"))
    assert found.value == 0.5
    assert found.data == silent_task().dataset.digest
    assert found.protocol.startswith("sha256:")
    other = TaskScores.of_task(replace(silent_task(), version=2), ACCURACY, rows, "old")
    with pytest.raises(InputError, match="protocol is different", check=about("protocol")):
        GateComparison(found, other)


def test_a_metric_that_applies_to_other_samples_of_each_is_refused() -> None:
    def without(place: int) -> TaskScores:
        rows = {str(i): {"correct": math.nan if i == place else 1.0} for i in range(3)}
        return TaskScores.of_task(silent_task(), ACCURACY, rows, f"without {place}")

    with pytest.raises(InputError, match="samples are different", check=about("samples")):
        GateComparison(without(0), without(1))


def test_a_task_that_did_not_run_to_its_end_is_refused() -> None:
    with pytest.raises(InputError, match="2 of 3 samples of mmlu have no scores, '1' the first"):
        TaskScores.of_task(silent_task(), ACCURACY, {"0": {"correct": 1.0}}, "new")
    rows = {str(i): {"right": 1.0} for i in range(3)}
    with pytest.raises(InputError, match="mmlu does not score correct"):
        TaskScores.of_task(silent_task(), ACCURACY, rows, "new")


def test_without_a_baseline_there_is_no_gain() -> None:
    with pytest.raises(InputError, match="no baseline"):
        _ = GateComparison(scores([1, 0])).gain


def test_a_score_of_its_own_is_tested_with_its_sign() -> None:
    rng = np.random.default_rng(3)
    values = rng.gamma(2.0, size=30)
    clusters = equal_clusters(10, 3)
    seconds = scores(values, metric=SECONDS, clusters=clusters)
    test = seconds.test()
    assert isinstance(test, StudentizedMean)
    assert test.value == pytest.approx(-values.mean())
    assert (test.samples, len(test.values)) == (30, 10)
    toxic = scores((values > 2).astype(float), metric=TOXICITY).test()
    assert isinstance(toxic, BoundedMean)
    assert (toxic.least, toxic.most) == (-1.0, 0.0)
    assert toxic.value == pytest.approx(-(values > 2).mean())
    right = scores((values > 2).astype(float)).test()
    assert isinstance(right, BoundedMean)
    assert (right.least, right.most, right.value) == (0.0, 1.0, pytest.approx((values > 2).mean()))
    assert isinstance(scores(values > 2).test(any_look=True), BettingMean)
    with pytest.raises(InputError, match="is no share from 0 to 1", check=about("looks")):
        seconds.test(any_look=True)
    of_gain = comparison(values, values + 1, metric=SECONDS)
    with pytest.raises(InputError, match="is no share", check=about("looks")):
        of_gain.test(any_look=True)
    assert of_gain.gain.value == pytest.approx(1.0)
    assert isinstance(comparison([1.0, 0.5], [0.5, 0.5]).test(any_look=True), BettingMean)
    assert isinstance(comparison([1.0, 0.0], [0.0, 0.0]).test(any_look=True), BettingMean)
    assert isinstance(comparison([1.0, 0.0], [0.0, 0.0]).gain, BinaryPairs)


@pytest.mark.parametrize("name", ["task", "protocol", "data"])
def test_what_is_not_the_same_on_both_sides_is_named_with_its_field(name: str) -> None:
    mine, theirs = scores([1.0, 0.0]), scores([1.0, 0.0], "old", **{name: "other"})
    verb = "are" if name == "data" else "is"
    match = f"cannot be compared: {name} {verb} different: 'other' of the baseline"
    with pytest.raises(InputError, match=match, check=about(name)):
        GateComparison(mine, theirs)


def test_samples_of_one_side_alone_and_other_metrics_or_clusters_are_named() -> None:
    mine = scores([1.0, 0.0])
    match = "samples are different: 2 on one side alone, such as '1'"
    with pytest.raises(InputError, match=match, check=about("samples")):
        GateComparison(mine, scores([1.0, 0.0], "old", ids=("0", "9")))
    with pytest.raises(InputError, match="metric is different", check=about("metric")):
        GateComparison(mine, scores([1.0, 0.0], "old", metric=TOXICITY))
    with pytest.raises(InputError, match="clusters are different", check=about("clusters")):
        GateComparison(mine, scores([1.0, 0.0], "old", clusters=("a", "b")))
    GateComparison(mine, scores([1.0, 0.0], "old", clusters=("", "")))
    turned = scores([0.0, 1.0], "old", ids=("1", "0"), clusters=("b", "a"))
    found = GateComparison(scores([1.0, 1.0], clusters=("a", "b")), turned).baseline
    assert found is not None
    assert (found.ids, found.clusters, found.rows[:, 0].tolist()) == (
        ("0", "1"),
        ("a", "b"),
        [1, 0],
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ids": ("a",)}, r"scores of the shape \(2, 1\) for 1 samples and 1 columns"),
        ({"ids": ("a", "a")}, "scores a sample twice"),
        ({"clusters": ("a",)}, "names 1 clusters for 2 samples"),
        ({"protocol": ""}, "says no protocol"),
        ({"data": ""}, "says no data"),
        ({"digest": ""}, "says no digest"),
        ({"metric": PER_TOKEN}, "shape"),
    ],
)
def test_scores_that_do_not_hold_together_say_why(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"mmlu .* of .*{said}") as error:
        scores([1.0, 0.0], **change)
    hint = "give each sample" if "twice" in said else "a score without" if "says no" in said else ""
    assert (error.value.hint or "").startswith(hint)
    assert bool(error.value.hint) == bool(hint)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, math.nan], "no finite score for 1 of 2 samples, '1' the first"),
        ([math.inf, math.nan], "no finite score for 2 of 2 samples, '0' the first"),
        ([1.0, 1.5], "has the score 1.5, and accuracy is a share"),
        ([-0.5, 1.0], "has the score -0.5"),
    ],
)
def test_scores_that_are_none_are_named(values: list[float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        scores(values)
    with pytest.raises(InputError, match="has no samples"):
        scores([], ids=())
    scores([-0.5, 1.5], metric=SECONDS)
