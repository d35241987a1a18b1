"""The page of a constitutional run, opened as a file: all of it can be read, found and filtered."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from lmstack.app.page.constitution import constitution_page
from lmstack.core import Message
from lmstack.pipelines.constitution.labels import PairLabel, PrincipleVerdict
from lmstack.pipelines.constitution.principles import Constitution, Principle
from lmstack.pipelines.constitution.record import PromptRecord, Record, RevisionRound, WrittenText

HOSTILE = (
    "</p></details></li></ol><script>window.hacked = 1</script>"
    '<img src=x onerror="window.hacked=1">'
    "\"'&amp;<!--\u202e\x1b[31m"
)
NAMES = ("kind", "honest <b>", "clear")


def entry(number: int, **changes: Any) -> PromptRecord:
    prompt = (Message("user", f"Question {number}: are llamas tall?"),)
    rounds = (
        RevisionRound(
            NAMES[number % 3], WrittenText(f"critique {number}"), WrittenText(f"better {number}")
        ),
    )
    given: dict[str, Any] = {
        "key": f"{number:016x}",
        "prompt": prompt,
        "draft": WrittenText(f"draft {number}"),
        "rounds": rounds,
        "answers": (WrittenText(f"first answer {number}"), WrittenText(f"second answer {number}")),
        "label": PairLabel(
            (PrincipleVerdict("kind", 0.9, 0.7, 0.8), PrincipleVerdict("clear", 0.8, 0.6, 0.7))
        ),
        "in_sft": True,
        "in_dpo": True,
    }
    return PromptRecord(**{**given, **changes})


ENTRIES = (
    entry(0),
    entry(
        1,
        prompt=(Message("system", HOSTILE), Message("user", HOSTILE)),
        draft=WrittenText(HOSTILE),
        rounds=(RevisionRound(NAMES[1], WrittenText(HOSTILE), WrittenText(problem=HOSTILE)),),
        answers=(WrittenText(HOSTILE), WrittenText("fine", cut=True)),
        in_sft=False,
        in_dpo=False,
    ),
    entry(
        2,
        label=PairLabel(
            (PrincipleVerdict("kind", 0.9, 0.7, 0.8), PrincipleVerdict("clear", 0.4, 0.2, 0.3))
        ),
    ),
    entry(3, label=PairLabel((PrincipleVerdict("honest <b>", 0.9, 0.3, 0.6),)), rounds=()),
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    principles = tuple(Principle(name, "c?", "r!", f"which is {name}?") for name in NAMES)
    recipe = {"base": "tiny", "writer": None, "judge": "openai:<judge>", "output": "mine"}
    record = Record(recipe, Constitution(principles, "Ours & <theirs>"), ENTRIES, {}, {})
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(constitution_page(record, "mine"), encoding="utf-8")
    return path


Open = Callable[..., Page]


@pytest.fixture
def opened(open_file: Open, file: Path) -> Open:
    return partial(open_file, file)


def lines(page: Page) -> Locator:
    """Of the entries that are shown; `expect` waits for them."""
    return page.locator(".entry:visible .line")


def test_every_text_can_be_read_and_none_becomes_part_of_the_page(opened: Open) -> None:
    page = opened()
    page.get_by_role("button", name="Open all").click()
    entries = page.locator("#entries")
    expect(entries).to_contain_text("second answer 2", use_inner_text=True)
    text = entries.inner_text()
    for word in ("draft", "critique", "better", "first answer", "second answer"):
        for number in (0, 2):
            assert f"{word} {number}" in text
    visible = HOSTILE.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")
    assert text.count(visible) >= 6  # system, prompt, draft, critique, problem, answer
    assert page.evaluate("window.hacked") is None
    assert page.locator("script").count() == 1
    assert page.locator("main img").count() == page.locator("main b").count() == 0
    expect(page.get_by_role("heading", level=1)).to_have_text("Ours & <theirs>")


def test_filters_and_search_leave_what_fits_and_say_how_many(opened: Open) -> None:
    page = opened()
    count = page.get_by_role("status")
    expect(count).to_have_text("4 of 4 prompts")
    page.get_by_label("Show").select_option("disagree")
    expect(lines(page)).to_have_text([re.compile(r"^\s*Question 2:")])
    expect(count).to_have_text("1 of 4 prompts")
    page.get_by_label("Show").select_option("flips")
    expect(lines(page)).to_have_text([re.compile(r"^\s*Question 3:")])
    page.get_by_label("Show").select_option("every prompt")
    page.get_by_label("Principle", exact=True).select_option("honest <b>")
    expect(lines(page)).to_have_count(2)
    page.get_by_label("Search").fill("LLAMAS")
    expect(lines(page)).to_have_text([re.compile(r"^\s*Question 3:")])
    page.get_by_label("Search").fill("llamas nowhere")
    expect(lines(page)).to_have_count(0)
    expect(page.get_by_text("No prompt is like that.")).to_be_visible()


def test_a_principle_of_the_table_filters_by_it(opened: Open) -> None:
    page = opened()
    row = page.get_by_role("row").filter(has_text="honest <b>").first
    assert row.get_by_role("cell").all_inner_texts()[:5] == ["1", "0%", "1", "100%", "100%"]
    row.get_by_role("button").click()
    expect(lines(page)).to_have_count(2)
    assert page.get_by_label("Principle", exact=True).input_value() == "honest <b>"


def test_the_table_of_disagreement_counts_pairs_that_both_decided(opened: Open) -> None:
    row = opened().locator("section").nth(1).locator("tbody tr")
    assert row.all_inner_texts() == ["clear\tkind\t3\t1\t33%"]


def test_a_label_shows_both_orders_and_its_probability(opened: Open) -> None:
    page = opened()
    page.locator("summary").nth(2).click()
    label = page.locator(".entry").nth(2)
    expect(label.get_by_text("answer 1 with the probability 0.55")).to_be_visible()
    assert label.locator("tbody tr").first.inner_text().split("\t")[:4] == (
        ["kind", "0.90", "0.70", "0.80"]
    )
    expect(label.get_by_text("chosen")).to_be_visible()


def test_without_a_script_all_of_it_opens(opened: Open) -> None:
    page = opened(java_script_enabled=False)
    expect(page.locator("#filters")).to_be_hidden()
    page.locator("summary").first.click()
    expect(page.get_by_text("critique 0")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_and_follows_the_theme(theme: Any, opened: Open) -> None:
    page = opened(width=320, color_scheme=theme)
    page.get_by_role("button", name="Open all").click()
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    button = page.get_by_role("button", name="Dark theme")
    expect(button).to_have_attribute("aria-pressed", str(theme == "dark").lower())
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    button.click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
