"""The page over a real index: from a folder to a quote that is highlighted in its file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def test_question_about_a_folder_ends_with_its_quote_highlighted(
    make: Any, docs: Path, open_page: Any, ask: Any, shot: Any
) -> None:
    workspace = make()
    page = open_page(workspace)
    workspace.start_indexing()
    expect(page.locator("#state")).to_have_text("ready")
    expect(page.locator("#folder")).to_contain_text("(2 files, up to date)")
    expect(page.locator(".tries button").first).to_have_text("How do I start the server?")
    ask(page, "How do I start the server?")
    expect(page.locator(".meta")).to_contain_text("passages cited")
    expect(page.locator(".answer")).to_contain_text("Start the server with the command lmstack up")
    page.keyboard.press("1")
    quote = page.locator("mark").inner_text()
    assert quote in (docs / "serving.md").read_text()
    expect(page.locator("#panel .why")).to_have_text(re.compile(r"Found by: meaning \d, words \d"))
    shot(page, "real-source")
    ask(page, "Quantum chromodynamics lattice?")
    expect(page.locator(".turn").last).to_contain_text("Searched 2 files")
    expect(page.locator(".turn").last.locator(".answer")).to_contain_text("Nothing about this")


def test_passage_of_a_file_that_changed_is_found_again_or_said_to_be_gone(
    make: Any, docs: Path, open_page: Any, ask: Any, until: Any
) -> None:
    workspace = make(rescan_s=0.05)

    def indexed(text: str) -> bool:
        found = workspace.documents("garden.md")["documents"]
        return bool(found) and text in workspace.document_text(found[0]["id"], "docs/garden.md")

    workspace.start_indexing()
    page = open_page(workspace)
    expect(page.locator("#state")).to_have_text("ready")
    ask(page, "When do roses need water?")
    page.locator(".meta").wait_for()
    garden = docs / "garden.md"
    text = garden.read_text()
    garden.write_text("A new first line.\n\n" + text)
    until(lambda: indexed("A new first line."))
    page.keyboard.press("1")
    expect(page.locator(".document")).to_contain_text("A new first line.")
    expect(page.locator("mark")).to_contain_text("Roses need water")
    garden.write_text("# Garden\n\nNothing grows here.\n")
    until(lambda: indexed("Nothing grows"))
    page.keyboard.press("1")
    expect(page.locator("#panel")).to_contain_text("Nothing grows here.")
    expect(page.locator("#panel").get_by_role("status")).to_contain_text("has changed")
