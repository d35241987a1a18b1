"""Pictures of an evaluation: values are at their places, labels lie on nothing."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.app.page.evaluation_results import made_result

from lmstack.app.page.evaluation.calibrated import (
    calibration_of,
    reliability_diagram,
    selective_accuracy,
)
from lmstack.app.page.evaluation.costs import MEASURES, cost_of, score_against_cost
from lmstack.app.page.evaluation.intervals import IntervalMark, PlotRow, interval_plot
from lmstack.app.page.evaluation.radar import point_of, radar
from lmstack.app.page.evaluation.report import report_of
from lmstack.app.report.charts.axes import Axis, axis_over
from lmstack.app.report.charts.labels import (
    Box,
    abridged,
    beside,
    shortened,
    width_of,
    wrapped,
)
from lmstack.app.report.charts.shapes import mark, series_class
from lmstack.evals.metrics.calibration import brier, calibration_error
from lmstack.evals.statistics import Estimate
from lmstack.evals.task import Metric

finite = st.floats(-1e9, 1e9)
TEXT = st.text(st.characters(codec="utf-8"), max_size=60)


def centres(drawn: str, shape: str = "circle") -> list[tuple[float, float]]:
    pattern = rf'<{shape} class="mark[^"]*" cx="([\d.-]+)" cy="([\d.-]+)"'
    return [(float(x), float(y)) for x, y in re.findall(pattern, drawn)]


# ---- axes


def test_a_value_lies_where_its_share_of_the_axis_is() -> None:
    axis = Axis(0.0, 50.0, 10.0, 110.0)
    assert [axis(v) for v in (0, 25, 50, -9, 99)] == [10, 60, 110, 10, 110]
    down = Axis(0.0, 1.0, 200.0, 100.0)
    assert down(0.25) == 175
    log = Axis(0.1, 1000.0, 0.0, 400.0, is_log=True)
    assert [round(log(v)) for v in (0.1, 1, 10, 100, 0)] == [0, 100, 200, 300, 0]


@given(st.lists(finite | st.just(math.nan), max_size=6), st.booleans())
def test_every_value_is_on_its_axis_and_marks_are_round_and_few(
    values: list[float], may_be_log: bool
) -> None:
    amounts = [abs(v) for v in values] if may_be_log else values
    axis = axis_over(amounts, 0.0, 300.0, may_be_log=may_be_log)
    assert axis.low < axis.high
    for value in amounts:
        assert math.isnan(value) or axis.holds(value)
    assert all(axis.holds(tick) or tick == pytest.approx(axis.low) for tick in axis.ticks)
    assert 0 < len(axis.ticks) <= 12
    places = [axis(tick) for tick in axis.ticks]
    assert places == sorted(places)


def test_marks_of_shares_are_in_per_cent_and_told_apart() -> None:
    axis = axis_over([0.41, 0.47], 0, 300, is_share=True, whole=(0.0, 1.0))
    words = [axis.text(tick) for tick in axis.ticks]
    assert len(set(words)) == len(words) >= 3
    assert all(word.endswith(" %") for word in words)
    whole = axis_over([0.0, 1.0], 0, 300, is_share=True, whole=(0.0, 1.0))
    assert (whole.low, whole.high) == (0.0, 1.0)


# ---- labels


@given(TEXT, st.floats(20, 200))
def test_a_shortened_text_fits_and_a_short_one_is_whole(text: str, room: float) -> None:
    for cut in (shortened(text, room, 12), abridged(text, room, 12)):
        assert width_of(cut, 12) <= room or cut == "…"
        if width_of(text, 12) <= room:
            assert cut == text


def test_names_that_differ_at_the_end_stay_apart() -> None:
    one, two = (abridged(f"smollm2-135m-instruct{end}", 120, 12) for end in ("", "+int8"))
    assert one != two
    assert two.endswith("int8")


@given(TEXT, st.floats(40, 120), st.integers(1, 3))
def test_lines_of_a_wrapped_text_fit(text: str, room: float, lines: int) -> None:
    found = wrapped(text, room, 12, lines)
    assert len(found) <= lines
    assert all(width_of(each, 12) <= room or len(each) <= 1 for each in found)


def test_a_name_is_broken_after_a_mark() -> None:
    assert wrapped("truthfulqa_mc1", 80, 12, 2) == ["truthfulqa_", "mc1"]


@given(
    st.lists(st.tuples(st.floats(60, 330), st.floats(10, 200)), min_size=1, max_size=8),
    st.lists(st.text("abcdefgh-", min_size=1, max_size=14), min_size=8, max_size=8),
)
def test_labels_lie_on_no_other_on_no_point_and_inside(
    points: list[tuple[float, float]], texts: list[str]
) -> None:
    frame = Box(50, 0, 340, 210)
    wall = Box(100, 90, 240, 92)
    found = beside(points, texts[: len(points)], 12, frame, [wall])
    boxes = [box for box in found if box is not None]
    for place, box in enumerate(boxes):
        assert frame.holds(box)
        assert not box.meets(wall)
        assert not any(box.meets(other) for other in boxes[place + 1 :])
        assert not any(box.left < x < box.right and box.top < y < box.bottom for x, y in points)


# ---- pictures


def test_models_differ_in_mark_or_dash_and_not_in_colour_alone() -> None:
    shapes = [mark(0, 0, n) for n in range(12)]
    looks = [
        (shape.tag, shape.attributes.get("points"), series_class(n).split()[1])
        for n, shape in enumerate(shapes)
    ]
    assert len(set(looks)) == 12


def test_a_radar_has_nought_at_its_centre_and_goes_clockwise() -> None:
    middle = point_of(0, 4, 0.0)
    top, right, bottom, left = (point_of(axis, 4, 1.0) for axis in range(4))
    assert top[1] < middle[1] < bottom[1]
    assert left[0] < middle[0] < right[0]
    half = point_of(1, 4, 0.5)
    assert half[0] == pytest.approx((middle[0] + right[0]) / 2)


def test_a_radar_draws_what_was_measured_and_says_it() -> None:
    drawn = radar(["a", "b", "c"], [(0, "m <b>", [0.5, None, 1.0])]).__html__()
    assert centres(drawn) == [
        pytest.approx(point_of(0, 3, 0.5), abs=0.06),
        pytest.approx(point_of(2, 3, 1.0), abs=0.06),
    ]
    assert drawn.count('class="curve') == 1  # no line through what is missing
    said = unescape(re.findall("<desc>(.*?)</desc>", drawn)[0])
    assert said == "m <b>: a 50.0 %, b not measured, c 100.0 %"
    numbered = radar([f"task {n}" for n in range(9)], [(0, "m", [0.5] * 9)]).__html__()
    assert ">9<title>task 8</title></text>" in numbered


def test_intervals_and_bounds_are_at_their_values() -> None:
    rows = [
        PlotRow("one", (IntervalMark(0.5, 0.25, 0.75), IntervalMark(0.0, number=1)), bound=1.0),
        PlotRow("two", (IntervalMark(math.nan),)),
    ]
    drawn = interval_plot("Plot", rows, is_share=False).__html__()
    [(x, _)] = centres(drawn)
    lines = re.findall(r'<line class="interval[^"]*" x1="([\d.]+)"[^>]* x2="([\d.]+)"', drawn)
    low, high = map(float, lines[0])
    assert (low + high) / 2 == pytest.approx(x, abs=0.1)
    bound = float(re.findall(r'<line class="bound" x1="([\d.]+)"', drawn)[0])
    assert (bound - x) / (high - low) == pytest.approx(1.0, abs=0.01)
    assert "nan" not in drawn.replace("nan)", "").lower().split("<desc>")[0]


def test_a_reliability_diagram_has_a_point_and_a_count_a_bin() -> None:
    result = made_result("t", "m", 0.3, samples=60)
    found = calibration_of(result)
    assert found is not None
    rows = np.array([[s.scores["confidence"], s.scores["acc"]] for s in result.samples])
    assert found.figures["ece"].value == pytest.approx(calibration_error(*rows.T))
    assert found.figures["brier"].value == pytest.approx(brier(*rows.T))
    report = report_of([result])
    drawn = reliability_diagram(report.rows[0], report.models[0], found).__html__()
    x, y = Axis(0, 1, 48, 330), Axis(0, 1, 182, 10)
    expected = [(x(each.confidence), y(each.accuracy)) for each in found.bins]
    assert centres(drawn) == [pytest.approx(point, abs=0.06) for point in expected]
    counts = re.findall(r'text-anchor="middle">(\d+)</text>', drawn)
    assert [int(count) for count in counts] == [each.count for each in found.bins]
    assert sum(each.count for each in found.bins) == 60
    curve = selective_accuracy(report.rows[0], [(report.models[0], found)]).__html__()
    assert f"{100 * found.accuracy:.1f} % at 100 %" in curve


def test_the_confidence_is_of_the_likeliest_choice_whatever_the_first_metric_is() -> None:
    result = made_result("t", "m", 0.3, samples=20, metrics=[Metric("acc_norm", ("acc_norm",))])
    samples = [replace(each, scores={**each.scores, "acc_norm": 1.0}) for each in result.samples]
    found = calibration_of(replace(result, samples=tuple(samples)))
    assert found is not None
    assert found.column == "acc"
    assert found.accuracy == np.mean([each.scores["acc"] for each in samples])


@pytest.mark.parametrize("kind", ["answer", "text"])
def test_what_says_no_confidence_has_no_calibration(kind: str) -> None:
    assert calibration_of(made_result("t", "m", 0.3, samples=5, kind=kind)) is None


def test_cost_and_score_are_where_their_means_are() -> None:
    results = [
        made_result("t", name, level, samples=20, kind="answer", speed=speed)
        for name, level, speed in (("m", 0.3, 0.2), ("n", 1.0, 0.9))
    ]
    report = report_of(results)
    row, measure = report.rows[0], MEASURES[0]
    points = []
    for model, result in zip(report.models, results, strict=True):
        cost, score = cost_of(result, measure), row.figure(model.number)
        assert cost is not None
        assert score is not None
        mean = np.mean([sample.seconds for sample in result.samples])
        assert cost.value == pytest.approx(mean)
        assert cost.low < cost.value < cost.high
        points.append((model, cost, score))
    drawn = score_against_cost(row, measure, points).__html__()
    [first] = centres(drawn)
    square = re.findall(r'<polygon class="mark[^"]*" points="([\d.]+),([\d.]+)', drawn)
    second = tuple(float(each) + 3.7 for each in square[0])
    assert second[0] > first[0]  # slower
    assert second[1] < first[1]  # better
    words = re.findall(r'class="of s\d d\d">([^<]*)<', drawn)
    assert words == ["m", "n"]


def test_what_costs_nothing_that_is_known_is_not_drawn() -> None:
    result = made_result("t", "m", 0.3, samples=5)
    assert cost_of(result, MEASURES[2]) is None
    assert cost_of(made_result("t", "m", 0.3, samples=2, failed=(0, 1)), MEASURES[0]) is None
    assert isinstance(cost_of(result, MEASURES[1]), Estimate)
