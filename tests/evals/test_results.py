"""A result: its figures, and what of it survives a file."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about
from tests.evals.tasks import ACCURACY

from lmstack.core import FormatError, InputError
from lmstack.evals.results import SampleResult, TaskResult
from lmstack.evals.statistics import Estimate, bootstrap, ratio_of, wilson
from lmstack.evals.task import Metric

LENGTH = Metric("length", ("length",), better="lower", is_share=False)


def result_of(rows: list[SampleResult], *metrics: Metric, **more: Any) -> TaskResult:
    values: dict[str, Any] = {
        "task": "t",
        "version": 1,
        "protocol": {"solver": {"a": 1}},
        "dataset": "d",
        "dataset_digest": "sha256:d",
        "source": "made",
        "dataset_samples": len(rows),
        "subject": "m",
        "subject_digest": "sha256:m",
        "date": "2026-01-02T03:04:05Z",
        "versions": {"lmstack": "0.1.0"},
        "seconds": 2.5,
    }
    return TaskResult(metrics=metrics or (ACCURACY,), samples=tuple(rows), **(values | more))


def rows_with(values: list[float], clusters: list[str] | None = None) -> list[SampleResult]:
    names = clusters or [""] * len(values)
    return [
        SampleResult(f"q{n}", name, {"correct": value, "length": float(n)}, seconds=0.1 * n)
        for n, (value, name) in enumerate(zip(values, names, strict=True))
    ]


SCORES = st.dictionaries(st.sampled_from(["correct", "length"]), st.floats(), min_size=1)
ROWS = st.lists(
    st.builds(
        SampleResult,
        id=st.text(min_size=1, max_size=4),
        cluster=st.sampled_from(["", "a", "b"]),
        scores=SCORES,
        answer=st.text(max_size=4),
        finish_reason=st.sampled_from(["stop", ""]),
        prompt_tokens=st.integers(0, 99),
        completion_tokens=st.integers(0, 99),
        seconds=st.floats(0, 9),
    )
    | st.builds(SampleResult, id=st.text(min_size=1, max_size=4), failed=st.just("no answer")),
    min_size=1,
    max_size=6,
    unique_by=lambda row: row.id,
)


@settings(max_examples=30, deadline=None)
@given(ROWS)
def test_a_result_survives_a_file_byte_for_byte(rows: list[SampleResult]) -> None:
    with np.errstate(all="ignore"):
        result = result_of(rows, ACCURACY, LENGTH)
        text = json.dumps(result.to_json(), allow_nan=False)
        again = TaskResult.from_json(json.loads(text))
        assert json.dumps(again.to_json()) == text


def test_a_share_has_wilsons_interval() -> None:
    result = result_of(rows_with([1, 1, 1, 0, 1]))
    assert result.figures()["accuracy"] == wilson(4, 5)


def test_clusters_widen_the_interval() -> None:
    values = [1.0] * 20 + [0.0] * 20 + [1.0] * 20 + [0.0] * 20
    names = [f"c{n // 20}" for n in range(80)]
    alone = result_of(rows_with(values)).figures()["accuracy"]
    grouped = result_of(rows_with(values, names)).figures()["accuracy"]
    assert grouped.value == alone.value == 0.5
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_a_figure_that_is_no_share_is_resampled() -> None:
    rows = rows_with([1, 0, 1, 0])
    result = result_of(rows, LENGTH)
    assert result.figures()["length"] == bootstrap([0.0, 1.0, 2.0, 3.0])


def test_a_metric_that_no_sample_has_is_not_a_number() -> None:
    rows = [SampleResult("a", failed="no"), SampleResult("b", scores={"correct": math.nan})]
    assert math.isnan(result_of(rows).figures()["accuracy"].value)


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(InputError, match="accuracy", check=about("metric")):
        result_of(rows_with([1])).rows_of("acuracy")


def test_times_are_not_part_of_the_digest() -> None:
    one = result_of(rows_with([1, 0]))
    later = replace(
        one,
        date="2027-01-01T00:00:00Z",
        seconds=9.0,
        samples=tuple(replace(row, seconds=7.0) for row in one.samples),
    )
    other = replace(one, samples=tuple(replace(row, answer="x") for row in one.samples))
    assert one.digest == later.digest != other.digest


def test_a_ratio_survives_a_file() -> None:
    ratio = Metric("ratio", ("correct", "length"), ratio_of, is_share=False)
    result = result_of(rows_with([1, 2, 3]), ratio)
    again = TaskResult.from_json(json.loads(json.dumps(result.to_json())))
    assert again.metrics[0].statistic is ratio_of


def odd(rows: Any) -> Any:
    return np.exp(rows[..., 0].mean(-1))


def test_a_statistic_that_no_file_holds_comes_with_the_tasks_metrics() -> None:
    metric = Metric("odd", ("correct",), odd, is_share=False)
    result = result_of(rows_with([1, 0, 1]), metric)
    data = json.loads(json.dumps(result.to_json()))
    alone = TaskResult.from_json(data)
    assert alone.figures() == result.figures()
    with pytest.raises(InputError, match="not in the file", check=about("metrics")):
        alone.metrics[0].statistic(alone.rows_of("odd"))
    assert TaskResult.from_json(data, [metric]).metrics == (metric,)
    with pytest.raises(InputError, match="another", check=about("metrics")):
        TaskResult.from_json(data, [replace(metric, better="lower")])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "no result"),
        ({"format_version": 9}, "format version 9"),
        ({"tusk": 1}, "did you mean 'task'"),
        ({"version": "1"}, "version of a result is '1'"),
        ({"version": True}, "version of a result is True"),
        ({"samples": [1]}, "not an object"),
        ({"subject": {"name": "m"}}, "lacks the field 'digest'"),
        ({"figures": {}}, "lacks the figure"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused(change: dict[str, Any], said: str) -> None:
    data = result_of(rows_with([1])).to_json() | change
    with pytest.raises(FormatError, match=said):
        TaskResult.from_json(data)


@pytest.mark.parametrize("missing", ["task", "samples", "date", "format"])
def test_a_file_that_lacks_a_field_is_refused(missing: str) -> None:
    data = result_of(rows_with([1])).to_json()
    del data[missing]
    with pytest.raises(FormatError):
        TaskResult.from_json(data)


def test_a_score_that_is_no_number_is_refused() -> None:
    data = result_of(rows_with([1])).to_json()
    data["samples"][0]["scores"]["correct"] = "many"
    with pytest.raises(FormatError, match="not a number"):
        TaskResult.from_json(data)


def test_a_sample_twice_is_refused() -> None:
    with pytest.raises(InputError, match="twice"):
        result_of([SampleResult("a"), SampleResult("a")])


def test_a_figure_is_that_of_the_rows_whatever_the_file_claims() -> None:
    data = result_of(rows_with([1, 0])).to_json()
    data["figures"]["accuracy"] = Estimate(0.99, 0.98, 1.0).to_json()
    assert TaskResult.from_json(data).figures()["accuracy"].value == 0.5


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("dataset",), {"name": "d"}, "the dataset of a result"),
        (("subject",), {"name": "m"}, "the subject of a result"),
        (("metrics", 0), 3, "a metric is 3"),
        (("metrics", 0, "better"), "best", "better of a metric is 'best'"),
        (("metrics", 0, "statistic"), "mode", "statistic of the metric accuracy is 'mode'"),
        (("figures", "accuracy"), 3, "the figure accuracy is 3"),
        (("samples", 0), {}, "a sample of a result"),
        (("samples", 0, "scores"), 3, "scores of a sample of a result is 3"),
        (("samples", 0, "scores"), {"correct": "x"}, "correct of the scores of q0 is 'x'"),
        (("samples", 0, "seconds"), "x", "seconds of a sample of a result is 'x'"),
        (("samples", 0, "id"), "", "the sample '' of a result contradicts itself"),
        (("samples", 0, "failed"), "no", "the sample 'q0' of a result contradicts itself"),
        (("protocol",), {"a": float("nan")}, "the protocol of a result"),
        (("figures",), {"other": Estimate(1.0).to_json()}, "lacks the figure 'accuracy'"),
    ],
)
def test_which_part_of_a_file_is_wrong(path: tuple[Any, ...], value: Any, said: str) -> None:
    data = json.loads(json.dumps(result_of(rows_with([1.0])).to_json()))
    place = data
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises((FormatError, InputError), match=said):
        TaskResult.from_json(data)


def test_a_metric_twice_is_refused() -> None:
    with pytest.raises(InputError, match="a metric twice"):
        result_of(rows_with([1.0]), ACCURACY, LENGTH, ACCURACY)
    with pytest.raises(InputError, check=about("metric")) as error:
        result_of(rows_with([1.0]), ACCURACY, LENGTH).metric("zzz")
    assert error.value.hint == "it has accuracy, length"


def test_a_result_comes_back_with_all_that_it_had() -> None:
    kept = {"answer": "x", "finish_reason": "stop", "prompt_tokens": 3, "completion_tokens": 4}
    rows = [replace(row, **kept) for row in rows_with([1.0, 0.0], ["a", "b"])]
    failed = SampleResult("bad", "c", failed="no")
    ratio = Metric("r", ("correct", "length"), ratio_of, is_share=False, decimals=1)
    result = result_of([*rows, failed], ACCURACY, LENGTH, ratio, dataset_samples=9)
    again = TaskResult.from_json(json.loads(json.dumps(result.to_json())))
    assert again == replace(result, kept_figures=again.kept_figures)
    assert again.kept_figures == result.figures()
    assert (again.prompt_tokens, again.completion_tokens) == (6, 8)
    assert [row.id for row in again.failures] == ["bad"]
    timeless = result.to_json(times=False)
    assert not {"date", "seconds"} & set(timeless)
    assert "seconds" not in timeless["samples"][0]
    assert again.rows_of(ratio).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert again.rows_of(Metric("n", ("never", "x"))).shape == (0, 2)
