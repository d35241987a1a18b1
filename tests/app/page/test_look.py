"""How the page looks and is reached: widths, themes, contrast, names, focus, motion."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.app.page.looks import (
    CONTRASTS,
    LARGE,
    LOOKS,
    TOO_WIDE,
    WIDE,
    Look,
    family_of,
)

pytestmark = pytest.mark.browser

LONG = "verylongwordwithoutanyplacetobreakit" * 4
TEXT = f"Start it [1]. A {LONG} word and `{LONG}`, then click a number [2]. It also makes coffee."
START = "Start the server and the page with `lmstack up docs`."
CLICK = "Click a number to open the passage it came from."


@pytest.fixture
def filled(workspace: Any, open_page: Any, ask: Any) -> Any:
    """A page with everything on it: an answer with an unsupported sentence, a problem file."""

    def show(**options: Any) -> Page:
        sources = [workspace.source(1, "serving.md", START), workspace.source(2, "page.md", CLICK)]
        start = TEXT.index("It also")
        sentence = {"start": start, "end": len(TEXT), "supported": False}
        workspace.problem_files = {
            f"old/{LONG}.md": {"message": "is not valid UTF-8", "hint": "convert it: iconv FILE"}
        }
        workspace.uploads = object()
        workspace.answers = "write"
        where = {"field": "format", "op": "=", "value": "md"}
        values = [{"value": LONG, "count": 1234, "where": where}]
        workspace.facet_list = [{"field": "a", "title": "Tags", "values": values, "more": 2}]
        conflict = {**workspace.source(None, "page.md", CLICK), "citation": 1, "date": "2019-03-04"}
        said = {"relation": "older", **conflict}
        workspace.scripts = [
            workspace.script(
                TEXT,
                sources,
                sentences=[sentence],
                request_id="r",
                conflicts=[said],
                outcome="closest",
                confidence=0.2,
            )
        ]
        page: Page = open_page(workspace, **options)
        ask(page, "How do I open the page?")
        page.locator(".meta").wait_for()
        page.get_by_role("button", name="Source 1 is wrong").click()
        page.get_by_role("button", name="Not helpful", pressed=False).click()
        page.locator(".feedback-note:not(:empty)").wait_for()
        page.get_by_role("button", name="Filter", exact=True).click()
        page.get_by_label(LONG).check()
        page.get_by_role("button", name="Close").click()
        return page

    return show


def in_looks(*ordinary: Look) -> pytest.MarkDecorator:
    """In each of them, which is a browser of its own; those that are not ``ordinary`` in the long
    suite."""
    looks = [
        pytest.param(each, marks=[pytest.mark.long] * (each not in ordinary)) for each in LOOKS
    ]
    return pytest.mark.parametrize("browser", looks, indirect=True, ids=str)


@in_looks(WIDE, LARGE)
def test_fonts_and_size_are_those_of_the_look(
    browser: Any, workspace: Any, open_page: Any, request: pytest.FixtureRequest
) -> None:
    look: Look = request.node.callspec.params["browser"]
    page = open_page(workspace)
    assert family_of(page, ".brand") == look.family
    assert page.evaluate("getComputedStyle(document.body).fontSize") == f"{look.size}px"


# Widths apart from browsers: parametrized as pairs, each pair would launch a browser of its own.
@pytest.mark.parametrize("width", [320, 700])
@in_looks(LARGE)
def test_nothing_is_wider_than_a_small_window(
    browser: Any, width: int, filled: Any, shot: Any, request: pytest.FixtureRequest
) -> None:
    assert_nothing_is_wider(request.node.callspec.params["browser"], width, filled, shot)


@pytest.mark.parametrize("width", [1600, 3440])
@pytest.mark.parametrize("browser", [WIDE], indirect=True, ids=str)
def test_nothing_is_wider_than_a_large_window(
    browser: Any, width: int, filled: Any, shot: Any, request: pytest.FixtureRequest
) -> None:
    assert_nothing_is_wider(request.node.callspec.params["browser"], width, filled, shot)


def assert_nothing_is_wider(look: Look, width: int, filled: Any, shot: Any) -> None:
    page = filled(width=width, height=720)
    for state, act in {
        "answer": lambda: None,
        "filters": lambda: page.get_by_role("button", name="Filter", exact=True).click(),
        "closed": lambda: page.get_by_role("button", name="Close").click(),
        "source": lambda: page.keyboard.press("1"),
        "sources": lambda: page.get_by_role("button", name="All sources").click(),
    }.items():
        act()
        if state == "source":
            page.locator("mark").wait_for()
        if state == "sources":
            page.locator(".file.problem").wait_for()
        shot(page, f"{look}-{width}-{state}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(TOO_WIDE) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_has_the_contrast_of_wcag_aa(theme: str, filled: Any, shot: Any) -> None:
    page = filled(theme=theme, width=1600, height=950, reduced_motion="reduce")
    page.keyboard.press("1")
    page.locator("mark").wait_for()
    shot(page, f"{theme}-source")
    contrasts = page.evaluate(CONTRASTS)
    page.get_by_role("button", name="All sources").click()
    page.locator(".file.problem").wait_for()
    contrasts += page.evaluate(CONTRASTS)
    assert len(contrasts) > 40
    assert [found for found in contrasts if found[1] < 4.5] == []


def test_theme_follows_the_system_until_it_is_switched_and_is_then_remembered(
    workspace: Any, open_page: Any
) -> None:
    page = open_page(workspace, theme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Dark theme", pressed=True).click()
    assert page.evaluate(ground) != dark
    page.reload()
    expect(page.get_by_role("button", name="Dark theme", pressed=False)).to_be_visible()
    assert page.evaluate(ground) != dark


def test_every_control_has_a_name_and_every_place_a_landmark(filled: Any) -> None:
    page = filled()
    page.keyboard.press("1")
    page.locator("mark").wait_for()
    client = page.context.new_cdp_session(page)
    nodes = client.send("Accessibility.getFullAXTree")["nodes"]
    shown = [node for node in nodes if not node["ignored"]]

    def names(*roles: str) -> list[str]:
        found = [node for node in shown if node["role"]["value"] in roles]
        return [node.get("name", {}).get("value", "") for node in found]

    controls = names("button", "textbox", "searchbox", "link", "combobox")
    assert len(controls) > 8
    assert "" not in controls
    assert names("main") != []
    assert names("banner") != []
    assert names("region")[0] == "Conversation"
    assert names("complementary") == ["serving.md"]
    assert names("heading")[0] == "lmstack"


def test_focus_can_be_seen_on_every_stop_of_the_tab_key(filled: Any) -> None:
    page = filled()
    page.get_by_role("heading", name="lmstack").click()
    seen = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            "(() => { const node = document.activeElement, style = getComputedStyle(node);"
            " if (node === document.body) return ['body', true];"
            " const box = node.closest('.ask') ?? node;"
            " const name = node.id || node.ariaLabel || node.textContent.trim();"
            " return [name, style.outlineStyle != 'none'"
            " || getComputedStyle(box).boxShadow != 'none']; })()"
        )
        if stop[0] in {"body", *seen}:
            break
        seen.add(stop[0])
        assert stop[1], f"no focus ring on {stop[0]!r}"
    assert {"folder", "theme", "question", "Copy"} <= seen


def test_the_focus_goes_on_when_nothing_more_is_below(filled: Any) -> None:
    page = filled(height=320)
    page.keyboard.press("Tab")
    page.locator("#scroll").evaluate("node => { node.scrollTop = 0; }")
    below = page.locator("#below")
    below.focus()
    page.keyboard.press("Enter")
    below.wait_for(state="hidden")
    assert page.evaluate("document.activeElement.id") == "question"


@in_looks(WIDE, LARGE)
def test_lines_of_an_answer_are_comfortable_to_read(
    browser: Any, workspace: Any, open_page: Any, ask: Any
) -> None:
    prose = "The quick brown fox jumps over the lazy dog and runs on into the quiet forest. " * 8
    workspace.scripts = [workspace.script(prose.strip())]
    page = open_page(workspace, width=2560)
    ask(page, "How?")
    page.locator(".meta").wait_for()
    height, line = page.locator(".answer p").evaluate(
        "node => [node.clientHeight, parseFloat(getComputedStyle(node).lineHeight)]"
    )
    assert 62 <= len(prose) / round(height / line) <= 78


def test_nothing_moves_for_those_who_asked_for_less_motion(
    workspace: Any, open_page: Any, ask: Any
) -> None:
    workspace.scripts = [[("delta", {"text": "One"}), 60.0]]
    page = open_page(workspace, reduced_motion="reduce")
    ask(page, "How?")
    page.locator(".streaming").wait_for()
    assert page.evaluate("document.getAnimations().length") == 0


@in_looks(LARGE)
def test_panel_takes_the_window_of_a_phone_and_gives_it_back(browser: Any, filled: Any) -> None:
    page = filled(width=320, height=640)
    page.locator(".cite").first.click()
    page.locator("mark").wait_for()
    assert page.locator("#talk").evaluate("node => node.inert")
    box = page.locator("#panel").bounding_box()
    assert box
    assert (box["width"], box["height"]) == (320, 640)
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#panel")).to_be_hidden()
    assert not page.locator("#talk").evaluate("node => node.inert")


@pytest.mark.parametrize("browser", [LARGE], indirect=True, ids=str)
def test_large_buttons_leave_the_title_of_the_panel_its_line(browser: Any, filled: Any) -> None:
    page = filled(width=320, height=720)
    page.keyboard.press("1")
    page.locator("mark").wait_for()
    lines = "node => node.clientHeight / parseFloat(getComputedStyle(node).lineHeight)"
    assert round(page.locator("#panel-title").evaluate(lines)) == 1


def test_touching_beside_the_sheet_closes_it(filled: Any) -> None:
    page = filled(width=700, height=1000)
    page.locator(".cite").first.click()
    page.locator("mark").wait_for()
    page.mouse.click(350, 100)
    expect(page.locator("#panel")).to_be_hidden()
    page.locator(".cite").last.click()  # and opening it is no touch beside it
    expect(page.locator("mark")).to_have_text(CLICK)
