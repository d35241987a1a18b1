"""Figures of a load: whose times count, what is slow, and how they are told."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.app.loadgen import Level, Outcome, Row, Summary, summarize
from lmstack.app.loadgen.report import draw_load, figures_of, notes_of, table_of
from lmstack.app.loadgen.summary import Spread

CLOSED = Level(2, None, 4, None)


def row(index: int, due: float, pieces: list[float], error: str | None = None, **more: int) -> Row:
    end = pieces[-1] + 0.5 if pieces else due
    return Row(index, due, due, end, pieces, error=error, finish_reason="stop", **more)


def outcome() -> Outcome:
    """Two good answers of 3 and 2 pieces, one that broke off, one refused, one unfinished."""
    return Outcome(
        CLOSED,
        [
            row(0, 0.0, [1.0, 1.1, 1.5], prompt_tokens=10, output_tokens=3),
            row(1, 1.0, [2.0, 2.15], prompt_tokens=20, output_tokens=2),
            row(2, 1.0, [9.0, 9.9], "broken off"),
            row(3, 1.0, [], "429"),
            row(4, 1.0, [1.2], "unfinished"),
        ],
    )


def test_only_answers_that_ended_well_count_for_the_times() -> None:
    found = summarize(outcome())
    assert (found.requests, found.succeeded, found.unfinished) == (5, 2, 1)
    assert found.errors == {"429": 1, "broken off": 1}
    assert found.first_token == Spread.of([1.0, 1.0])
    assert found.between is not None
    assert found.between.count == 3
    assert found.answer is not None
    assert found.answer.max == pytest.approx(2.0)


def test_rates_count_every_token_over_the_whole_time() -> None:
    found = summarize(outcome())
    assert found.seconds == pytest.approx(10.4)
    assert found.tokens_per_s == pytest.approx((3 + 2 + 2 + 1) / 10.4)
    assert found.requests_per_s == pytest.approx(2 / 10.4)
    assert (found.prompt_tokens, found.output_tokens) == (15, 2.5)


def test_a_gap_of_exactly_200_ms_is_not_over_it() -> None:
    rows = [row(0, 0.0, [1.0, 1.25, 1.25 + 0.125, 2.0])]
    found = summarize(Outcome(CLOSED, rows))
    assert (found.slow_gaps, found.slow_share) == (2, pytest.approx(2 / 3))
    assert summarize(Outcome(CLOSED, [row(0, 0.0, [0.0, 0.2])])).slow_gaps == 0


def test_time_a_token_shares_a_piece_among_its_tokens() -> None:
    found = summarize(Outcome(CLOSED, [row(0, 0.0, [1.0, 2.0], output_tokens=5)]))
    assert found.a_token is not None
    assert found.a_token.p50 == pytest.approx(1 / 4)
    assert found.tokens_a_piece == 2.5


def test_an_answer_of_one_token_or_none_has_no_time_a_token() -> None:
    found = summarize(Outcome(CLOSED, [row(0, 0.0, [1.0]), row(1, 0.0, [])]))
    assert (found.a_token, found.between) == (None, None)
    assert found.first_token is not None
    assert found.first_token.count == 1


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([3, 3], "usage"),
        ([None, None], "chunks"),
        ([3, None], "usage, and chunks where there is none"),
    ],
)
def test_who_counted_is_said(counts: list[int | None], expected: str) -> None:
    rows = [Row(i, 0, 0, 1, [0.5], None, n, "stop", None) for i, n in enumerate(counts)]
    assert summarize(Outcome(CLOSED, rows)).counted_by == expected


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=50))
def test_percentiles_are_ordered_and_numpys(values: list[float]) -> None:
    found = Spread.of(values)
    assert found is not None
    assert found.p95 == pytest.approx(np.percentile(values, 95))
    assert min(values) <= found.p50 <= found.p90 <= found.p95 <= found.p99 <= found.max
    assert found.max == max(values)


def test_a_load_without_an_answer_has_no_times_and_no_division_by_zero() -> None:
    found = summarize(Outcome(CLOSED))
    assert (found.answer, found.tokens_per_s, found.slow_share) == (None, 0.0, 0.0)
    assert "0 of 0 requests answered" in figures_of(found)[0]
    assert list(notes_of([found], 8)) == []


def test_the_figures_of_one_load_are_a_block() -> None:
    text = "\n".join(figures_of(summarize(outcome())))
    assert "2 at once: 2 of 5 requests answered in 10.4 s" in text
    assert "first token      1.00 s     1.00 s" in text
    assert "over 200 ms between pieces: 1 of 3 (33.33 %)" in text
    assert "errors: 429 x 1, broken off x 1, unfinished x 1" in text


def test_several_loads_are_a_line_each() -> None:
    lines = table_of([summarize(outcome()), summarize(Outcome(Level(None, 2.5, 1, None)))])
    assert len(lines) == 3
    assert lines[1].startswith("2 at once")
    assert lines[2].startswith("2.5 requests/s  0 of 0")
    assert lines[2].rstrip().endswith("none")


def noted(*, asked: int | None = None, held_up: float = 0.0) -> str:
    one = Outcome(CLOSED, [row(0, 0.0, [1.0, 2.0], output_tokens=4)], held_up)
    return "\n".join(notes_of([summarize(one)], asked))


def test_notes_say_what_a_figure_would_hide() -> None:
    assert "4 tokens out on average; output counted by the server's usage" in noted()
    assert "before the 8 tokens" in noted(asked=8)
    assert "before the" not in noted(asked=4)
    assert "a piece holds 2.0 tokens" in noted()
    assert "held up for 80 ms" in noted(held_up=0.08)
    assert "held up" not in noted(held_up=0.01)


def summaries() -> list[Summary]:
    found = []
    for rate in (1.0, 2.0, 4.0):
        rows = [row(i, i / rate, [i / rate + 0.1 * rate, i / rate + 0.4]) for i in range(5)]
        found.append(summarize(Outcome(Level(None, rate, 5, None), rows)))
    return found


def test_the_picture_names_its_panels_and_is_the_same_again(tmp_path: Path) -> None:
    draw_load(tmp_path / "a.svg", "m at $x$", summaries())
    draw_load(tmp_path / "b.svg", "m at $x$", summaries()[::-1])  # whatever their order
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    words = " ".join(ElementTree.fromstring(text).itertext())
    for expected in (
        *("m at $x$", "Time to first token, ms", "Between two pieces of text, ms"),
        *("Whole answer, ms", "tokens/s", "requests arriving a second", "p95", "200 ms"),
    ):
        assert expected in words


def test_the_picture_draws_loads_where_nothing_was_slow_enough_to_tell(tmp_path: Path) -> None:
    rows = [row(0, 0.0, [0.001])]
    found = [summarize(Outcome(Level(n, None, 1, None), rows)) for n in (1, 2)]
    draw_load(tmp_path / "a.png", "m", found)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_json_has_no_number_that_json_lacks() -> None:
    def numbers(value: object) -> list[float]:
        if isinstance(value, dict):
            return [n for item in value.values() for n in numbers(item)]
        return [value] if isinstance(value, float) else []

    assert all(math.isfinite(n) for n in numbers(summarize(Outcome(CLOSED)).to_json()))
    assert all(math.isfinite(n) for n in numbers(summarize(outcome()).to_json()))
