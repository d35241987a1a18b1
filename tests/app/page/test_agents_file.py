"""A run as a file: all of it can be read, nothing of it becomes part of the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Page, expect
from tests.app.page.agent_runs import HOSTILE, SEEN, clerk, hostile_run, png, ran
from tests.app.page.looks import CONTRASTS, TOO_WIDE

from lmstack.agents import (
    AgentSpec,
    ApprovalDecision,
    BegunStep,
    EndStep,
    ModelStep,
    ResumeStep,
    Run,
    ScriptedApprover,
    TaskStep,
    ToolStep,
    run_from_json,
    run_to_json,
)
from lmstack.agents.tools import Picture
from lmstack.agents.tools.results import exact
from lmstack.app.formats import printable
from lmstack.app.page.agents import run_page
from lmstack.app.page.agents.axis import TimeAxis
from lmstack.app.page.agents.markup import to_json
from lmstack.app.page.agents.texts import MOST
from lmstack.app.report.pages import environment
from lmstack.core import Span, ToolCall


class Parsed(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}


def ended(*steps: Any, **changes: Any) -> Run:
    task = TaskStep((Span("go"),), at=1.0)
    return Run("r", AgentSpec("clerk"), (task, *steps), **changes)


def called(text: str = "done", **changes: Any) -> ToolStep:
    call = ToolCall("call_1", "echo", changes.pop("arguments", "{}"))
    return ToolStep(call, changes.pop("outcome", "ok"), text, at=2.0, **changes)


# ---- without a browser


def test_hostile_text_in_every_field_makes_no_element_and_no_attribute() -> None:
    found = Parsed(run_page(hostile_run()))
    own = Parsed(run_page(run_from_json(_with_plain_text(run_to_json(hostile_run())))))
    assert found.tags() == own.tags()
    for (tag, attributes), (own_tag, own_attributes) in zip(
        found.elements, own.elements, strict=True
    ):
        assert (tag, attributes.keys()) == (own_tag, own_attributes.keys())
    assert [tag for tag, _ in found.elements].count("script") == 1


def _with_plain_text(values: Any) -> Any:
    """The same with harmless text of the same kind in place of `HOSTILE`."""
    if isinstance(values, dict):
        return {_plain(name): _with_plain_text(value) for name, value in values.items()}
    if isinstance(values, list):
        return [_with_plain_text(each) for each in values]
    return _plain(values) if isinstance(values, str) else values


def _plain(text: str) -> str:
    escaped = HOSTILE.replace('"', '\\"').replace("\x1b", "\\u001b")
    return text.replace(HOSTILE, "x" * len(HOSTILE)).replace(escaped, "x" * len(HOSTILE))


def test_nothing_that_could_ask_another_host_is_in_it() -> None:
    page = run_page(hostile_run())
    found = Parsed(page)
    for tag, attributes in found.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form", "audio", "video"}
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "data", "action", "srcset", "poster"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/png;base64,", "data:image/jpeg;base64,"))
    policy = next(a["content"] for t, a in found.elements if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "img-src data:;" in policy
    assert "unsafe" not in policy


@given(st.text())
def test_any_text_is_text_in_html_and_in_json(text: str) -> None:
    template = environment().from_string('<p title="{{ text }}">{{ text | lines }}!</p>')
    html = template.render(text=text)
    assert [tag for tag, _ in Parsed(html).elements] == ["p"]
    assert "<" not in html[3:-4]
    shown = printable(text, one_line=True)
    assert to_json(html) == ["p", {"title": shown}, printable(text) + "!"]


def test_a_line_end_at_the_beginning_of_a_text_is_not_lost() -> None:
    assert ">\n\nx</pre>" in run_page(ended(called("\nx")))
    assert to_json("<pre>\n\nx</pre>") == ["pre", {}, "\nx"]


def test_what_lays_out_a_template_is_no_text_of_the_page() -> None:
    made = to_json('<p hidden data-key="k">\n<b>a</b> <i>b</i>\n<input>\n</p>')
    assert made == [
        "p",
        {"hidden": "", "data-key": "k"},
        ["b", {}, "a"],
        " ",
        ["i", {}, "b"],
        ["input", {}],
    ]


def test_only_pictures_that_are_png_or_jpeg_are_shown() -> None:
    jpeg = b"\xff\xd8\xff\xe0" + b"0" * 20
    pictures = (
        Picture("image/png", png()),
        Picture("image/jpeg", jpeg),
        Picture("image/jpeg", png()),
        Picture("image/svg+xml", b"<svg/>"),
        Picture("text/html", b"<script>"),
        Picture("image/gif", b"GIF89a"),
    )
    found = Parsed(run_page(ended(called(pictures=pictures))))
    sources = [str(a["src"])[:22] for tag, a in found.elements if tag == "img"]
    assert sources == ["data:image/png;base64,", "data:image/jpeg;base64"]
    assert found.text.count("is not shown") == 4


@pytest.mark.parametrize(
    "hidden",
    ["\u200b", "\u202e", "\u2066", "\u00ad", "\u00a0", "\ufe0f", "\U000e0041", "\u3164", "\x00"],
)
def test_what_cannot_be_seen_in_arguments_is_shown_by_its_number(hidden: str) -> None:
    arguments = '{"to": "a' + (hidden if hidden != "\x00" else "\\u0000") + 'b"}'
    text = Parsed(run_page(ended(called(arguments=arguments)))).text
    assert hidden not in text.replace("\n", "")
    escape = "\\u0000" if hidden == "\x00" else hidden.encode("unicode_escape").decode()
    assert f'"to": "a{escape}b"' in text


@given(st.text())
def test_arguments_that_look_alike_are_alike(text: str) -> None:
    shown = exact(text)
    assert all(c.isprintable() or c in "\n\t" for c in shown)


def test_long_arguments_are_never_cut_and_long_results_say_how_much_is_left_out() -> None:
    arguments = '{"text": "' + "a" * (MOST + 5000) + 'THE END"}'
    text = Parsed(run_page(ended(called("b" * (MOST + 1234), arguments=arguments)))).text
    assert "aTHE END" in text
    assert "1,234 more characters are in the run's JSON" in text
    assert text.count("b") < MOST + 1000


def test_times_that_are_none_do_no_harm() -> None:
    odd = [float("nan"), float("inf"), -1e300, 1e300, -5.0, 0.0]
    for at in odd:
        steps = [ModelStep("x", seconds=seconds, at=at) for seconds in odd]
        page = run_page(ended(*steps, EndStep("answered", "yes", at=at)))
        for value in re.findall(r'(?:x|width)="([^"]*)%"', page):
            assert 0 <= float(value) <= 100


def test_a_night_of_waiting_is_cut_out_of_the_axis() -> None:
    steps = (
        ModelStep("x", seconds=2.0, at=3.0),
        EndStep("waiting", at=3.0, can_resume=True),
        ResumeStep(at=40_000.0),
        ModelStep("y", seconds=1.0, at=40_001.0),
    )
    axis = TimeAxis.of(ended(*steps))
    assert (axis.place(3.0), axis.place(40_000.0), axis.total) == (2.0, 2.0, 3.0)
    assert axis.ticks() == (0.0, 1.0, 2.0, 3.0)


@given(st.floats(1e-6, 1e9))
def test_ticks_are_few_and_within_the_axis(total: float) -> None:
    ticks = TimeAxis(0.0, (), total).ticks()
    assert 2 <= len(ticks) <= 6 or total < 1e-5
    assert ticks[0] == 0
    assert ticks[-1] <= total


def test_a_run_without_steps_has_a_page() -> None:
    assert "A run of clerk" in run_page(Run("r", AgentSpec("clerk"), ()))


def test_a_call_that_was_killed_and_one_that_was_not_made_are_there() -> None:
    made = tuple(ToolCall(f"call_{n}", f"tool{n}", "{}") for n in (1, 2))
    run = ended(ModelStep("", made, at=2.0), BegunStep("call_1", at=2.0))
    assert [word for word in ("running", "not made yet") if word in run_page(run)] != []
    stopped = replace(run, steps=(*run.steps, EndStep("cancelled", at=3.0, can_resume=True)))
    text = Parsed(run_page(stopped)).text
    assert "tool1 {}interrupted" in text
    assert "tool2 {}not made yet" in text


def test_what_waits_is_on_top_with_where_its_arguments_come_from() -> None:
    run = ran(lambda: clerk(None))
    assert run.end == "waiting"
    text = Parsed(run_page(run)).text
    assert "Waits for a person" in text
    assert "May clerk call send?tainted arguments" in text
    assert "/text holds text of reader (call_1), which others wrote" in text
    assert "Approve" not in text


# ---- in a browser


Open = Callable[..., Page]


@pytest.fixture(scope="module")
def run() -> Run:
    approver = ScriptedApprover(
        ApprovalDecision("approved", by="key:1f2e3d4c5b6a"),
        ApprovalDecision("denied", "not everybody", "ada"),
    )
    return ran(lambda: clerk(approver))


@pytest.fixture
def opened(open_file: Open, tmp_path: Path) -> Open:
    def start(run: Run, **options: Any) -> Page:
        file = tmp_path / "run.html"
        file.write_text(run_page(run), encoding="utf-8")
        return open_file(file, **options)

    return start


@pytest.mark.browser
def test_hostile_text_can_be_read_and_runs_nowhere(opened: Open) -> None:
    page = opened(hostile_run())
    page.get_by_role("button", name="Open all").click()
    text = page.locator("main").inner_text()
    assert text.count(SEEN) >= 20
    assert page.evaluate("window.hacked") is None
    assert page.locator("script").count() == 1
    assert page.locator("main img").count() == 2  # the PNG of this run and of the one below
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth === 24)")


@pytest.mark.browser
def test_the_timeline_says_what_happened_in_order(opened: Open, run: Run, shot: Any) -> None:
    page = opened(run)
    kinds = page.locator(".steps > .step > details > summary .kind, .steps > .step > .row .kind")
    expect(kinds).to_have_text(
        [
            *("Task", "Turn 1"),
            *("Call", "Agent", "Task", "Turn 1", "Call", "Turn 2", "End"),
            *("Turn 2", "Asked", "Call", "Turn 3", "Asked", "Call"),
            *("Turn 4", "Call", "Turn 5", "Call", "Notice", "Turn 6", "End"),
        ]
    )
    asked = page.locator(".step.person")
    expect(asked.nth(0)).to_contain_text("approved by key:1f2e3d4c5b6a")
    expect(asked.nth(0)).to_contain_text("tainted arguments")
    expect(asked.nth(1)).to_contain_text("denied by ada")
    expect(page.locator(".below .step.call .tag")).to_have_text("untrusted")
    expect(page.locator(".step.failed .tag").first).to_have_text("denied")
    head = page.locator(".head")
    expect(head.get_by_text("6 of 12")).not_to_be_attached()
    expect(head).to_contain_text("8 of 12")  # turns, those of the agent below among them
    expect(page.get_by_role("heading", level=1)).to_have_text(
        "When do backups run? Plot their sizes, and thank whoever makes them."
    )
    shot(page, "agents-file")


@pytest.mark.browser
def test_a_row_opens_with_the_keyboard_and_shows_arguments_result_and_picture(
    opened: Open, run: Run, shot: Any
) -> None:
    page = opened(run)
    for _ in range(40):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.textContent")
        if "plot" in focused and "Call" in focused:
            break
    style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert style != "none"
    page.keyboard.press("Enter")
    row = page.locator(".step.call", has_text="plot").first
    expect(row.get_by_text("plotted")).to_be_visible()
    expect(row.get_by_label("Arguments")).to_have_text('{\n  "text": "sizes by day"\n}')
    expect(row.get_by_role("img", name="Picture 1 of plot")).to_be_visible()
    shot(page, "agents-file-row")
    page.keyboard.press("Enter")
    expect(row.get_by_text("plotted")).to_be_hidden()


@pytest.mark.browser
def test_the_rest_of_a_long_result_opens(opened: Open, run: Run) -> None:
    page = opened(run)
    row = page.locator(".below .step.call")
    row.locator("summary").first.click()
    rest = row.locator(".rest")
    expect(rest.locator("pre")).to_be_hidden()
    rest.get_by_text("more characters").click()
    expect(rest.locator("pre")).to_be_visible()


@pytest.mark.browser
def test_bars_stand_on_one_axis(opened: Open, run: Run) -> None:
    page = opened(run)
    lanes = page.locator("svg.lane")
    edges = lanes.evaluate_all(
        "all => all.map((lane) => {const b = lane.getBoundingClientRect();"
        " return [Math.round(b.left), Math.round(b.right)].join()})"
    )
    assert len(set(edges)) == 1
    assert len(edges) > 10


@pytest.mark.browser
def test_without_a_script_all_of_it_opens(opened: Open, run: Run) -> None:
    page = opened(run, java_script_enabled=False)
    expect(page.get_by_role("button", name="Open all")).to_be_hidden()
    page.locator(".step.call summary", has_text="plot").first.click()
    expect(page.get_by_text("plotted")).to_be_visible()


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_has_the_contrast_of_wcag_aa_and_the_theme_switches(
    theme: Any, opened: Open, run: Run, shot: Any
) -> None:
    page = opened(run, color_scheme=theme, reduced_motion="reduce")
    page.get_by_role("button", name="Open all").click()
    shot(page, f"agents-file-{theme}")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 80
    assert [found for found in contrasts if found[1] < 4.5] == []
    button = page.get_by_role("button", name="Dark theme")
    expect(button).to_have_attribute("aria-pressed", str(theme == "dark").lower())
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    button.click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 700, 3440])
def test_nothing_is_wider_than_the_window(width: int, opened: Open, run: Run, shot: Any) -> None:
    too_wide = TOO_WIDE.replace('".hidden, pre"', '".hidden, pre, .said"')  # these are cut
    for name, each in (("clerk", run), ("hostile", hostile_run(2))):
        page = opened(each, width=width)
        shot(page, f"agents-file-{name}-{width}-closed")
        page.get_by_role("button", name="Open all").click()
        shot(page, f"agents-file-{name}-{width}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(too_wide) == []
