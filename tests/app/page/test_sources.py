"""Sources on the page: citations open their passage, documents are shown as text."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

TEXT = "Start it [1]. Then click a number [2]."
START = "Start the server and the page with `lmstack up docs`."
CLICK = "Click a number to open the passage it came from."


@pytest.fixture
def answered(workspace: Any, open_page: Any, ask: Any) -> Page:
    """A page with one answer that cites two documents."""
    sources = [workspace.source(1, "serving.md", START), workspace.source(2, "page.md", CLICK)]
    workspace.scripts = [workspace.script(TEXT, sources)]
    page: Page = open_page(workspace)
    ask(page, "How do I open the page?")
    page.locator(".meta").wait_for()
    return page


def test_citation_opens_its_passage_highlighted_in_the_document(answered: Page, shot: Any) -> None:
    answered.locator(".answer .cite").first.click()
    mark = answered.locator("mark")
    expect(mark).to_have_text(START)
    expect(mark).to_be_in_viewport()
    panel = answered.get_by_role("complementary", name="serving.md")
    expect(panel).to_contain_text("Press Ctrl-C.")
    expect(panel).to_contain_text("Found by: meaning 1, words 3")
    shot(answered, "source")


def test_what_documents_say_stands_there_before_the_answer_and_stays(
    workspace: Any, open_page: Any, ask: Any, shot: Any
) -> None:
    start, click = workspace.source(1, "serving.md", START), workspace.source(2, "page.md", CLICK)
    steps = workspace.script("Click a number [1].", [click | {"id": 1}], quotes=[start, click])
    steps[2:2] = [("quotes", {"quotes": [start, click]}), 2.0]
    workspace.scripts = [steps]
    page = open_page(workspace)
    ask(page, "How do I open the page?")
    sources = page.locator(".sources .where")
    expect(sources).to_have_text(["serving.md", "page.md"])
    expect(page.locator(".meta")).to_have_count(0)
    shot(page, "evidence")
    page.locator(".sources .source").first.click()
    expect(page.locator("mark")).to_have_text(START)
    page.locator(".meta").wait_for()
    # What is cited comes first; what was found besides stays below.
    expect(sources).to_have_text(["page.md", "serving.md"])
    page.locator(".answer .cite").click()
    expect(page.locator("mark")).to_have_text(CLICK)
    page.keyboard.press("2")
    expect(page.locator("mark")).to_have_text(START)


LONGER = (
    "The page is at http://127.0.0.1:8000 and needs no account. It opens while the index is still "
    "being built."
)
POINT = "It opens while the index is still being built."


def test_point_of_a_quote_stands_out_in_the_panel_and_alone_in_the_list(
    workspace: Any, open_page: Any, ask: Any, shot: Any
) -> None:
    source = workspace.source(1, "serving.md", LONGER, POINT)
    source["section"] = ["Serving", "Start the server"]
    workspace.scripts = [workspace.script(f"{LONGER} [1]", [source])]
    page = open_page(workspace)
    ask(page, "When does it open?")
    expect(page.locator(".source .quote")).to_have_text(POINT)
    expect(page.locator(".source .where")).to_have_text("serving.md Start the server")
    page.keyboard.press("1")
    expect(page.locator("mark")).to_have_text(LONGER)
    expect(page.locator("mark .focus")).to_have_text(POINT)
    grounds = [
        page.locator(part).evaluate("node => getComputedStyle(node).backgroundColor")
        for part in ("mark", "mark .focus")
    ]
    assert grounds[0] != grounds[1]
    shot(page, "source-focus")


def test_point_far_down_a_long_quote_is_scrolled_to(
    workspace: Any, open_page: Any, ask: Any
) -> None:
    quote = "A line of a long quote.\n" * 200 + "Needle 🚀 here."
    workspace.texts = {"long.md": "🚀 Before.\n\n" + quote + "\n\nMore.\n" * 200}
    source = workspace.source(1, "long.md", quote, "Needle 🚀 here.")
    workspace.scripts = [workspace.script("So [1].", [source])]
    page = open_page(workspace)
    ask(page, "How?")
    page.locator(".meta").wait_for()
    page.keyboard.press("1")
    expect(page.locator("mark .focus")).to_have_text("Needle 🚀 here.")
    expect(page.locator("mark .focus")).to_be_in_viewport()


def test_digits_open_sources_and_next_goes_round(answered: Page) -> None:
    answered.keyboard.press("2")
    expect(answered.locator("mark")).to_have_text(CLICK)
    expect(answered.locator(".cite[data-cite='2']")).to_have_attribute("aria-current", "true")
    answered.get_by_role("button", name="Next source").click()
    expect(answered.locator("mark")).to_have_text(START)
    answered.get_by_role("button", name="Previous source").click()
    expect(answered.locator("mark")).to_have_text(CLICK)


def test_digits_typed_in_the_box_are_text(answered: Page) -> None:
    answered.get_by_label("Your question").press_sequentially("12")
    expect(answered.get_by_label("Your question")).to_have_value("12")
    expect(answered.locator("#panel")).to_be_hidden()


def test_hover_and_focus_preview_the_quote_and_escape_hides_it(answered: Page) -> None:
    cite = answered.locator(".answer .cite").first
    preview = answered.locator("#preview")
    cite.hover()
    expect(preview).to_be_visible()
    expect(preview).to_contain_text("Start the server and the page")
    preview.hover()  # the pointer may go into it
    answered.wait_for_timeout(300)
    expect(preview).to_be_visible()
    answered.mouse.move(5, 400)
    expect(preview).to_be_hidden()
    answered.keyboard.press("Tab")
    cite.focus()
    expect(preview).to_be_visible()
    expect(preview).to_contain_text("Start the server and the page")
    assert cite.get_attribute("aria-describedby") == "preview"
    answered.keyboard.press("Escape")
    expect(preview).to_be_hidden()
    expect(cite).to_be_focused()


def test_everything_can_be_done_from_the_keyboard(workspace: Any, open_page: Any) -> None:
    sources = [workspace.source(1, "serving.md", START), workspace.source(2, "page.md", CLICK)]
    workspace.scripts = [workspace.script(TEXT, sources)]
    page = open_page(workspace)
    page.keyboard.type("How?")  # the box has the focus from the start
    page.keyboard.press("Enter")
    expect(page.locator(".meta")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator(".answer .cite").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("mark")).to_have_text(START)
    expect(page.locator("#panel")).to_be_focused()
    page.keyboard.press("2")
    expect(page.locator("mark")).to_have_text(CLICK)
    page.keyboard.press("Escape")
    expect(page.locator("#panel")).to_be_hidden()
    expect(page.locator(".answer .cite").first).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Your question")).to_be_focused()
    expect(page.get_by_label("Your question")).to_have_value("")


def test_quote_after_astral_characters_is_the_one_highlighted(
    workspace: Any, open_page: Any, ask: Any
) -> None:
    workspace.texts = {"emoji.md": "🚀" * 300 + "\n\n𝒳 before. The quote is here. After 🚀."}
    source = workspace.source(1, "emoji.md", "The quote is here.")
    workspace.scripts = [workspace.script("So [1].", [source])]
    page = open_page(workspace)
    ask(page, "How?")
    page.locator(".meta").wait_for()
    page.keyboard.press("1")
    expect(page.locator("mark")).to_have_text("The quote is here.")


def test_passage_far_down_a_long_document_is_scrolled_to(
    workspace: Any, open_page: Any, ask: Any
) -> None:
    body = "# Long\n\n" + "A line of a long document.\n" * 4000 + "Needle here.\n" + "More.\n" * 500
    workspace.texts = {"long.md": body}
    workspace.page_characters = 60_000
    workspace.scripts = [
        workspace.script("So [1].", [workspace.source(1, "long.md", "Needle here.")])
    ]
    page = open_page(workspace)
    ask(page, "How?")
    page.locator(".meta").wait_for()
    page.keyboard.press("1")
    expect(page.locator("mark")).to_have_text("Needle here.")
    expect(page.locator("mark")).to_be_in_viewport()
    page.get_by_role("button", name="Show from the start").click()
    expect(page.locator(".document").first).to_contain_text("# Long")
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".document")).to_have_count(2)


HOSTILE = """# <script>document.title = "owned"</script>

<img src=x onerror="document.title = 'owned'"> and <a href="javascript:alert(1)">a link</a>,
[a link](javascript:alert(1)), <svg onload=alert(1)>, `</pre><script>alert(1)</script>`.
Pay \u202e000,01\u202c euro, \u2066isolated\u2069, <style>body{display:none}</style>.
"""


def test_hostile_text_is_shown_as_text_everywhere(
    workspace: Any, open_page: Any, ask: Any, shot: Any
) -> None:
    evil = "<img src=x onerror=alert(1)>.md"
    workspace.texts = {evil: HOSTILE}
    workspace.questions = ["<script>alert(1)</script>?"]
    quote = HOSTILE.split("\n\n")[1].strip()
    source = workspace.source(1, evil, quote)
    answer = "**<b>x</b>** <img src=x onerror=alert(1)> \u202egnp.exe [1] ```\n<script>\n```"
    workspace.scripts = [workspace.script(answer, [source])]
    page = open_page(workspace)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    expect(page.locator(".tries button")).to_have_text("<script>alert(1)</script>?")
    ask(page, "<img src=x onerror=alert(1)>?")
    page.locator(".meta").wait_for()
    expect(page.locator(".turn h2")).to_have_text("<img src=x onerror=alert(1)>?")
    expect(page.locator(".answer")).to_contain_text("<img src=x onerror=alert(1)>")
    page.locator(".cite").first.hover()
    expect(page.locator("#preview")).to_contain_text("<img src=x onerror=")
    page.keyboard.press("1")
    expect(page.locator(".document")).to_contain_text('<script>document.title = "owned"</script>')
    shot(page, "hostile")
    expect(page.locator("#panel h2")).to_have_text(evil)
    # Characters that reorder text are shown by number and do nothing.
    expect(page.locator(".document .control")).to_have_text(
        ["U+202E", "U+202C", "U+2066", "U+2069"]
    )
    page.locator("#folder").click()
    expect(page.locator(".file .name")).to_have_text(evil)
    made = page.locator("main :is(img, script, style, svg, iframe, a[href^='javascript:'])")
    expect(made).to_have_count(0)
    assert dialogs == []
    assert page.title() == "docs · lmstack"


def test_browser_refuses_to_write_text_as_html(workspace: Any, open_page: Any) -> None:
    page = open_page(workspace, expect="TrustedHTML")
    refused = page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x</b>'; return ''; }"
        " catch (error) { return error.name; } }"
    )
    assert refused == "TypeError"


def test_sources_list_shows_problems_with_what_to_do(
    workspace: Any, open_page: Any, shot: Any
) -> None:
    workspace.problem_files = {
        "scan.md": {"message": "is not valid UTF-8", "hint": "convert it: iconv FILE"}
    }
    page = open_page(workspace)
    page.get_by_role("button", name="docs").click()
    row = page.locator(".file.problem")
    expect(row).to_contain_text("scan.md")
    expect(row).to_contain_text("convert it: iconv FILE")
    expect(page.locator("#folder")).to_contain_text("1 problem")
    shot(page, "problems")
    page.get_by_role("button", name="serving.md").click()
    expect(page.locator(".document")).to_contain_text("Press Ctrl-C.")


@pytest.mark.parametrize("width", [1280, 320])
def test_indexing_shows_the_time_left_without_opening_anything(
    workspace: Any, open_page: Any, shot: Any, width: int
) -> None:
    workspace.state, workspace.remaining_s = "indexing", 200.4
    page = open_page(workspace, width=width)
    note = page.locator("#welcome-index")
    expect(note).to_have_text(
        "Files are still being read: 1 of 2 files, about 4 min left. "
        "Answers already use what is in."
    )
    expect(page.locator("#folder-count")).to_have_text("(1 of 2 files, about 4 min left)")
    shot(page, f"time-left-{width}")
    workspace.remaining_s = 12.0
    expect(note).to_contain_text("about 12 s left")
    workspace.remaining_s = None
    expect(note).to_contain_text("1 of 2 files. Answers")
    workspace.state = "ready"
    expect(note).to_be_hidden()
    expect(page.locator("#folder-count")).to_have_text("(2 files, up to date)")


def test_indexing_shows_how_far_it_is_and_then_that_it_is_done(
    workspace: Any, open_page: Any, ask: Any, shot: Any
) -> None:
    workspace.state = "indexing"
    workspace.scripts = [workspace.script("It works already.")]
    page = open_page(workspace)
    expect(page.locator("#state")).to_have_text("indexing")
    expect(page.locator("#folder")).to_contain_text("1 of 2 files")
    page.locator("#folder").click()
    expect(page.get_by_role("progressbar")).to_have_attribute("value", "1")
    shot(page, "indexing")
    ask(page, "Already?")
    expect(page.locator(".answer")).to_have_text("It works already.")
    workspace.state = "ready"
    expect(page.locator("#state")).to_have_text("ready")
    expect(page.locator("#folder")).to_contain_text("(2 files, up to date)")
    expect(page.get_by_role("progressbar")).to_be_hidden()
    page.get_by_role("button", name="Check for changes").click()
    expect(page.get_by_role("button", name="Checking")).to_be_visible()
    assert workspace.indexing_calls == 1


def test_long_list_of_files_is_filtered_by_name(workspace: Any, open_page: Any) -> None:
    workspace.texts = {f"chapter-{number:02}.md": "Text." for number in range(40)}
    page = open_page(workspace)
    page.locator("#folder").click()
    expect(page.locator(".file")).to_have_count(40)
    page.get_by_label("Filter files").fill("CHAPTER-07")
    expect(page.locator(".file .name")).to_have_text(["chapter-07.md"])
    page.get_by_label("Filter files").fill("nothing")
    expect(page.locator(".files + .panel-note")).to_have_text("No file has this in its name.")
