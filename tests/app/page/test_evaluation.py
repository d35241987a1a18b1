"""The page of an evaluation: numbers are where they belong, and no text becomes markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page, expect
from tests.app.page.evaluation_results import digest, made_result, suite
from tests.app.page.looks import CONTRASTS, TOO_WIDE

from lmstack.app.formats import printable
from lmstack.app.page.evaluation import EvaluationReport, evaluation_page, report_of
from lmstack.app.page.evaluation.samples import MOST
from lmstack.app.report.pages import environment
from lmstack.core import InputError
from lmstack.evals.gate import GateConfig, decide
from lmstack.evals.gating import comparisons, task_scores

HOSTILE = (
    "</p></details></li></ol></script><script>window.hacked = 1</script>"
    '<img src=x onerror="window.hacked=1"><svg onload="window.hacked=1">'
    "\"'&amp;<!--\u202e\x1b[31m"
)
BASE, INT8, LARGE = "smollm2-135m-instruct", "smollm2-135m-instruct", "gemma3-270m"
RULES = [
    {"task": "hellaswag", "margin": 0.1},
    {"task": "boolq", "kind": "superior"},
    {"task": "mmlu", "kind": "at_least", "threshold": 0.2},
]
VOID = ("meta", "input")  # of HTML; elements of SVG close themselves


def whole_report() -> EvaluationReport:
    """A base, a form of it that is a little worse, and a larger model that was cut short once and
    whose answers are hostile."""
    int8 = digest(BASE, "int8")
    answers = {"gsm8k/1": HOSTILE, "gsm8k/2": "word " * 400}
    base = suite(BASE, -0.2)
    small = suite(INT8, -0.4, speed=0.1, subject_digest=int8, answers=answers)
    large = suite(LARGE, 0.4, speed=0.35, answers=answers)
    large[1] = made_result("truthfulqa_mc1", LARGE, -0.4, samples=20, of=100, failed=(3, 7))
    config = GateConfig.from_mapping({"rules": RULES})
    production = {each.task: each for each in base}
    candidate = {each.task: each for each in small}
    pairs = comparisons(
        config,
        lambda rule: task_scores(rule, candidate[rule.task]),
        lambda rule: task_scores(rule, production[rule.task]),
    )
    verdict = decide(config, pairs)
    decisions = {int8: verdict, digest(LARGE): f"no result of {HOSTILE}"}
    return report_of([*small, *large], base, decisions)


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    return whole_report()


@pytest.fixture(scope="module")
def page_text(report: EvaluationReport) -> str:
    return evaluation_page(report)


class Tags(HTMLParser):
    """Which elements there are with what attributes, and that each is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.found.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


# ---- what is on it


def test_every_element_is_closed_and_no_text_has_become_one(page_text: str) -> None:
    tags = Tags(page_text)
    assert tags.open == []
    assert tags.found.count("script") == 1
    assert "img" not in tags.found
    assert not {name for name in tags.attributes if name.startswith("on") or name == "style"}
    assert "\x1b" not in page_text
    assert "\u202e" not in page_text


def test_the_policy_allows_what_is_in_the_file_and_no_more(page_text: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page_text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy[1]
    assert not re.findall(r'(?:src|href)="(?!#)', page_text)


def test_each_number_can_be_traced(report: EvaluationReport, page_text: str) -> None:
    words = " ".join(Tags(page_text).words)
    for row in report.rows:
        for number, result in row.results.items():
            model = report.models[number]
            assert model.digest in words
            assert result.digest in words
            assert result.dataset_digest in words
            figure = row.figure(number)
            assert figure is not None
            if row.metric is not None and row.metric.is_share:
                assert f"{100 * figure.value:.1f} %" in words
                assert f"({100 * figure.low:.1f} to {100 * figure.high:.1f})" in words
    assert "temperature 0.0, max_tokens 256, seed 0" in words
    assert "20 of 100 samples" in words
    assert "2 failed" in words
    assert "nan" not in words.lower().split()


def test_a_form_of_the_same_weights_is_named_by_the_form(report: EvaluationReport) -> None:
    assert [model.label for model in report.models] == [BASE, f"{BASE}+int8", LARGE]


def test_models_of_one_name_are_told_apart_by_their_weights() -> None:
    results = [made_result("t", "m", 0.0, samples=4, subject_digest=digest(x)) for x in "ab"]
    assert [model.label for model in report_of(results).models] == ["m@6100000", "m@6200000"]


@pytest.mark.parametrize(
    ("changes", "unlike"),
    [
        ({"samples": 5, "of": 8}, "5 samples"),
        ({"protocol": {"solver": {"sampling": {"temperature": 1.0}}}}, "another protocol"),
    ],
)
def test_what_was_not_asked_the_same_never_shares_a_row(
    changes: dict[str, Any], unlike: str
) -> None:
    results = [
        made_result("t", "one", 0.0, samples=8),
        made_result("t", "two", 0.0, **({"samples": 8} | changes)),
    ]
    found = report_of(results)
    assert [sorted(row.results) for row in found.rows] == [[0], [1]]
    assert [row.unlike for row in found.rows] == ["", unlike]
    assert found.pairs == ()


def test_the_same_result_twice_is_one_and_two_results_of_a_model_are_refused() -> None:
    one = made_result("t", "m", 0.0, samples=6)
    assert len(report_of([one, one]).rows) == 1
    other = made_result("t", "m", 2.0, samples=6)
    with pytest.raises(InputError, match="two results of t for m"):
        report_of([one, other])


def test_a_base_of_several_models_is_refused() -> None:
    results = [made_result("t", name, 0.0, samples=6) for name in ("one", "two")]
    with pytest.raises(InputError, match="several models"):
        report_of([], results)
    with pytest.raises(InputError, match="no result"):
        report_of([])


def test_one_model_is_shown_without_comparisons() -> None:
    text = evaluation_page(report_of(suite("alone", 0.1)))
    assert 'id="differences"' not in text
    assert 'id="filters"' not in text
    assert "Radar of the suite" in text
    assert Tags(text).open == []


def test_samples_without_a_score_are_no_page_that_breaks() -> None:
    failed = [made_result("t", "m", 0.0, samples=3, failed=range(3)) for _ in range(1)]
    other = made_result("t", "n", 0.0, samples=3)
    text = evaluation_page(report_of([*failed, other]))
    assert "no sample of t has acc on both sides" in text


def test_a_page_says_how_many_changes_it_leaves_out() -> None:
    count = MOST + 40
    results = [made_result("t", name, level, samples=count) for name, level in
               (("good", 9.0), ("bad", -9.0))]  # fmt: skip
    text = evaluation_page(report_of(results))
    assert text.count('<li class="entry"') == MOST
    assert "t, bad: 40 more" in text


@given(st.text())
def test_escaped_text_is_text_alone(text: str) -> None:
    for written in ("{{ text }}", "{{ text | lines }}"):
        template = environment().from_string(f'<p title="{written}">{written}</p>')
        tags = Tags(template.render(text=text))
        assert (tags.found, tags.open) == (["p"], [])
        assert tags.attributes == {"title"}


@settings(max_examples=6, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_no_string_of_a_result_becomes_markup(words: str) -> None:
    name = f"{words}<b onclick=x>"
    results = [
        made_result(f"t{name}", model, level, samples=3, kind="answer", clusters=2,
                    answers={f"t{name}/{n}": name for n in range(3)},
                    protocol={name: [name, {"sampling": {name: name}}]})
        for model, level in ((f"m{name}", 3.0), (f"n{name}", -3.0))
    ]  # fmt: skip
    found = report_of(results, decisions={digest(f"m{name}"): name})
    tags = Tags(evaluation_page(found))
    assert tags.open == []
    assert "b" not in tags.found
    assert "onclick" not in tags.attributes
    assert tags.found.count("script") == 1


@given(st.text(max_size=2000))
def test_folding_keeps_every_character(text: str) -> None:
    template: Any = environment().get_template("page/evaluation/templates/answer.html").module
    found = "".join(
        word for word in Tags(template.folded(text)).words if not word.endswith(" more characters")
    )
    assert found == printable(text)


# ---- in a browser


Open = Callable[..., Page]


@pytest.fixture(scope="module")
def file(page_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page_text, encoding="utf-8")
    return path


@pytest.fixture
def opened(open_file: Open, file: Path) -> Open:
    return partial(open_file, file)


@pytest.mark.browser
def test_filters_leave_what_fits_and_say_how_many(opened: Open, report: EvaluationReport) -> None:
    page = opened()
    total = sum(len(pair.changes) for pair in report.pairs)
    count = page.get_by_role("status")
    expect(count).to_have_text(f"{total} of {total} samples")
    pair = next(p for p in report.pairs if p.row.task == "gsm8k" and p.other.label == LARGE)
    page.get_by_label("Task", exact=True).select_option("gsm8k")
    page.get_by_label("Model", exact=True).select_option(LARGE)
    page.get_by_label("Direction", exact=True).select_option("worse than the base")
    assert pair.found is not None
    lines = page.locator(".entry:visible .line")
    expect(lines).to_have_count(len(pair.found.lost))
    assert sorted(lines.all_text_contents()) == sorted(pair.found.lost)
    page.get_by_label("Direction", exact=True).select_option("any")
    page.get_by_label("Search").fill("nowhere to be found")
    expect(lines).to_have_count(0)
    expect(page.get_by_text("No sample is like that.")).to_be_visible()


@pytest.mark.browser
def test_a_hostile_answer_stays_text_beside_the_other(opened: Open) -> None:
    page = opened()
    page.get_by_label("Search").fill("window.hacked")
    entry = page.locator(".entry:visible").first
    entry.locator("summary").first.click()
    visible = HOSTILE.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")
    expect(entry.locator(".pair > .block")).to_have_count(2)
    expect(entry.get_by_text(visible).first).to_be_visible()
    assert page.evaluate("window.hacked") is None


@pytest.mark.browser
def test_a_long_answer_is_folded_and_opens(opened: Open) -> None:
    page = opened()
    page.get_by_label("Search").fill("more characters word")
    entry = page.locator(".entry:visible").first
    entry.locator("summary").first.click()
    rest = entry.locator(".rest").first
    assert rest.locator("p").is_hidden()
    rest.locator("summary").click()
    expect(rest.locator("p")).to_be_visible()


@pytest.mark.browser
def test_a_tasks_name_opens_what_its_number_comes_from(opened: Open) -> None:
    page = opened()
    assert page.get_by_text("Hash of the protocol").first.is_hidden()
    page.locator("#figures").get_by_role("link", name="gsm8k").click()
    source = page.locator(".source:target")
    source.locator("summary").first.click()
    source.get_by_text("Protocol", exact=True).click()
    expect(source.get_by_text('"max_tokens": 256')).to_be_visible()


@pytest.mark.browser
def test_pictures_are_named_and_say_their_numbers(opened: Open, report: EvaluationReport) -> None:
    page = opened()
    expect(page.get_by_role("img", name="Radar of the suite")).to_be_visible()
    said = page.locator("svg.picture desc").first.evaluate("node => node.textContent")
    row = report.rows[0]
    radar = page.locator("svg.picture", has=page.locator("title", has_text="Radar"))
    said = radar.locator("desc").evaluate("node => node.textContent")
    for number in row.results:
        figure = row.figure(number)
        assert figure is not None
        assert f"{row.task} {100 * figure.value:.1f} %" in said
    expect(page.locator("#calibration svg.picture:visible")).to_have_count(4)
    assert page.locator("#gate svg.picture").count() == 2


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_and_its_words_can_be_read(theme: str, opened: Open) -> None:
    page = opened(width=320, color_scheme=theme)
    page.evaluate("for (const d of document.querySelectorAll('section:not(#samples) details'))"
                  " d.open = true")  # fmt: skip
    page.locator(".entry summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    allowed = page.evaluate(f"({TOO_WIDE})()")
    inside = page.evaluate("[...document.querySelectorAll('.wide *')].length")
    assert len(allowed) <= inside  # tables scroll in their own box
    faint = [each for each in page.evaluate(CONTRASTS) if each[1] < 4.5]
    assert faint == []


@pytest.mark.browser
def test_letters_of_pictures_lie_on_no_others(opened: Open) -> None:
    page = opened()
    page.evaluate("for (const d of document.querySelectorAll('section:not(#samples) details'))"
                  " d.open = true")  # fmt: skip
    overlaps = page.evaluate(
        """() => [...document.querySelectorAll("svg.picture")].flatMap((svg) => {
          const boxes = [...svg.querySelectorAll("text")].map((t) => [t.textContent, t.getBBox()]);
          const frame = svg.viewBox.baseVal;
          const out = boxes.filter(([, b]) => b.x < -1 || b.x + b.width > frame.width + 1)
            .map(([t]) => `outside: ${t}`);
          return out.concat(boxes.flatMap(([one, a], i) => boxes.slice(i + 1)
            .filter(([, b]) => a.x < b.x + b.width - 1 && b.x < a.x + a.width - 1
              && a.y + 2 < b.y + b.height - 2 && b.y + 2 < a.y + a.height - 2)
            .map(([other]) => `${svg.querySelector("title").textContent}: ${one} on ${other}`)));
        })"""
    )
    assert overlaps == []
