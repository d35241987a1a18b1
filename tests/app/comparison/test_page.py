"""The page of a comparison: everything is on it, and nothing that a model wrote can act on it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.evals.synthetic import paired_answers
from tests.evals.test_comparison import scores, text_scores

from lmstack.app.comparison.files import write_report
from lmstack.app.comparison.pictures import calibration_curves, histograms, interval_line
from lmstack.app.comparison.report import Report
from lmstack.evals.comparison import compare
from lmstack.evals.metrics.calibration import Bin
from lmstack.evals.statistics import Estimate

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\u202e"
VOID = ("meta", "line", "circle", "rect", "path", "polyline")


class Tags(HTMLParser):
    """Which elements there are, and that each is closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.append(tag)
        if tag not in VOID and tag not in ("li", "p"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.found.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("li", "p"):
            assert self.open.pop() == tag


def words_of(_prompt: str, text: str) -> float:
    return 0.05 * len(text.split())


@pytest.fixture(scope="module")
def report() -> Report:
    pairings = paired_answers(words_of, seed=1, longer=3)
    first = pairings[0]
    pairings[0] = replace(
        first, tuned=(replace(first.tuned[0], text=HOSTILE, reward=99.0), *first.tuned[1:])
    )

    def rescore(texts):  # type: ignore[no-untyped-def]
        return [words_of("", text) for _, text in texts]

    found = compare(pairings, scores=scores(24, 0.3), text=text_scores(0.2, 0.3), rescore=rescore)
    return Report("base <b>", "tuned & co", found, {"base": "sha256:1", "tuned": None}, {"seed": 0})


def test_everything_is_on_the_page_and_in_the_file(report: Report, tmp_path: Path) -> None:
    values, page = write_report(report, tmp_path / "made")
    kept = json.loads(values.read_text())
    assert kept["conclusions"][0].startswith("Reward hacking. The reward pays for longer answers")
    text = page.read_text()
    for figure in report.comparison.figures:
        assert figure.title in text
    for part in ("KL to the base, nats an answer", "Win rate by the reward", "named", "gained"):
        assert part in text
    assert text.count('<svg class="picture"') == 3
    assert "nan" not in re.sub(r"<[^>]*>", "", text).lower().split()
    tags = Tags()
    tags.feed(text)
    assert tags.open == []


def test_what_models_write_cannot_act(report: Report, tmp_path: Path) -> None:
    text = write_report(report, tmp_path)[1].read_text()
    tags = Tags()
    tags.feed(text)
    assert not {"script", "img", "b<"} & set(tags.found)
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "default-src 'none'" in text
    assert "tuned &amp; co against base &lt;b&gt;" in text


@pytest.mark.parametrize("values", [([1.0], [1.0]), ([0.0, 5.0], [-3.0, 2.0]), ([0.0] * 9, [0.0])])
def test_any_values_can_be_drawn(values: tuple[list[float], list[float]]) -> None:
    drawn = histograms(*values, "reward").__html__()
    assert "nan" not in drawn
    assert "infinity" not in drawn.lower()
    assert drawn.count("<rect") >= 1


def interval(value: float, low: float = math.nan, high: float = math.nan) -> str:
    drawn = interval_line(Estimate(value, low, high))
    return "" if drawn is None else drawn.__html__()


def test_intervals_are_on_their_side_of_the_line() -> None:
    above = interval(0.5, 0.2, 0.8)
    assert 'class="interval s0' in above
    assert float(re.findall(r'cx="([\d.]+)"', above)[0]) > 60
    assert 'class="interval undecided"' in interval(0.0, -1.0, 1.0)
    assert interval(1.0) == ""
    assert interval(0.0, 0.0, 0.0) == ""


def test_a_calibration_curve_has_a_point_a_bin() -> None:
    bins = [Bin(0.1, 0.2, 5), Bin(0.9, 0.7, 5)]
    assert calibration_curves(bins, bins[:1]).__html__().count("<circle") == 3
