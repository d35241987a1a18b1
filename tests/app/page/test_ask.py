"""Asking on the page: streaming, stopping, what stands under an answer."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
from playwright.sync_api import expect

from lmstack.core import OverloadedError

pytestmark = pytest.mark.browser

TEXT = "Run `lmstack up docs` first [1]. Then click a number [2]. It also makes coffee."
START = "Start the server and the page with `lmstack up docs`."
CLICK = "Click a number to open the passage it came from."


@pytest.fixture
def sources(workspace: Any) -> list[dict[str, Any]]:
    return [workspace.source(1, "serving.md", START), workspace.source(2, "page.md", CLICK)]


def test_what_a_follow_up_was_searched_for_stands_under_its_answer(
    workspace: Any, sources: Any, open_page: Any, ask: Any
) -> None:
    full = "How do I open the page on Sundays?"
    workspace.scripts = [
        workspace.script(TEXT, sources, query="How do I open the page?"),
        workspace.script(TEXT, sources, query=full),
    ]
    page = open_page(workspace)
    ask(page, "How do I open the page?")
    expect(page.locator(".meta")).to_contain_text("tokens/s")
    assert "searched for" not in page.locator(".meta").inner_text()
    ask(page, "And on Sundays?")
    expect(page.locator(".meta").nth(1)).to_contain_text(f"searched for “{full}”")


def test_answer_streams_word_by_word_and_ends_with_its_facts(
    workspace: Any, sources: Any, open_page: Any, ask: Any, shot: Any
) -> None:
    workspace.scripts = [workspace.script(TEXT, sources, pause=0.04)]
    page = open_page(workspace)
    ask(page, "How do I open the page?")
    answer = page.locator(".answer")
    expect(answer).to_contain_text("Run lmstack up docs")
    partial = answer.inner_text()
    assert "coffee" not in partial
    expect(page.locator(".meta")).to_contain_text("0.4 s to first token")
    expect(page.locator(".meta")).to_contain_text("152 tokens/s")
    expect(page.locator(".meta")).to_contain_text("2 of 8 passages cited")
    assert answer.inner_text().startswith(partial)
    assert answer.locator("code").inner_text() == "lmstack up docs"
    shot(page, "answer")


def test_empty_page_says_what_it_is_and_a_suggestion_asks(
    workspace: Any, open_page: Any, shot: Any
) -> None:
    workspace.scripts = [workspace.script("Yes.")]
    page = open_page(workspace)
    expect(page.locator(".tries button")).to_have_count(3)
    shot(page, "empty")
    page.get_by_role("button", name="How do I stop the server?").click()
    expect(page.locator(".turn h2")).to_have_text("How do I stop the server?")
    expect(page.locator("#welcome")).to_be_hidden()
    expect(page.locator(".meta")).to_be_visible()
    assert workspace.asked[0][0] == "How do I stop the server?"


def test_empty_folder_says_what_to_put_in(workspace: Any, open_page: Any) -> None:
    workspace.texts = {}
    workspace.questions = []
    page = open_page(workspace)
    expect(page.locator("#welcome")).to_contain_text("There is no text, Markdown or HTML file")
    workspace.texts = {"new.md": "# New"}
    page.evaluate("dispatchEvent(new Event('online'))")  # look now, not at the next turn
    expect(page.locator("#welcome-none")).to_be_hidden()


def test_page_says_where_a_remote_model_runs(
    workspace: Any, open_page: Any, monkeypatch: Any
) -> None:
    status = workspace.status()
    status["model"] = {"name": "gpt-x", "digest": None}
    monkeypatch.setattr(workspace, "status", lambda _client: status)
    page = open_page(workspace)
    expect(page.locator("#model")).to_have_text("gpt-x")
    expect(page.locator("#welcome")).to_contain_text("gpt-x, which runs on another machine")


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stop_ends_the_answer_on_the_server_too(
    how: str, workspace: Any, open_page: Any, ask: Any, until: Any
) -> None:
    workspace.scripts = [[("delta", {"text": "One word"}), 60.0]]
    page = open_page(workspace)
    ask(page, "Go on forever?")
    expect(page.locator(".answer")).to_contain_text("One word")
    if how == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    until(lambda: workspace.open_answers == 0, seconds=2)
    expect(page.locator(".turn")).to_contain_text("Stopped")
    expect(page.locator(".answer")).to_have_text("One word")
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()


def test_stop_works_before_the_first_word(
    workspace: Any, open_page: Any, ask: Any, until: Any
) -> None:
    workspace.scripts = [[("searching", {}), 60.0]]
    page = open_page(workspace)
    ask(page, "Nothing yet?")
    expect(page.locator(".progress")).to_have_text("Searching")
    page.keyboard.press("Escape")
    until(lambda: workspace.open_answers == 0, seconds=2)
    expect(page.locator(".progress")).to_be_hidden()


def test_nothing_moves_while_text_streams_in_below(
    workspace: Any, sources: Any, open_page: Any, ask: Any
) -> None:
    text = TEXT + " And so on for many more words of this answer." * 30
    workspace.scripts = [workspace.script("First."), workspace.script(text, sources, pause=0.004)]
    page = open_page(workspace, height=500)
    ask(page, "First?")
    expect(page.locator(".meta")).to_have_count(1)
    ask(page, "How?")
    cite = page.locator(".turn:last-child .cite").first
    cite.wait_for()
    places = set()
    while page.locator(".turn:last-child .meta").count() == 0:
        box, heading = cite.bounding_box(), page.locator("h2").last.bounding_box()
        assert box
        assert heading
        places.add((box["x"], box["y"], heading["y"]))
    assert len(places) == 1
    assert 0 < heading["y"] < 150  # the question stands at the top
    expect(page.get_by_role("button", name="More below")).to_be_visible()


def test_opening_a_source_leaves_the_question_where_it_is(
    workspace: Any, sources: Any, open_page: Any, ask: Any
) -> None:
    workspace.scripts = [workspace.script(TEXT, sources)]
    page = open_page(workspace, width=1600)
    for number, question in enumerate(["One?", "Two?"], 1):
        ask(page, question)
        expect(page.locator(".meta")).to_have_count(number)
    before = page.locator("h2", has_text="Two?").bounding_box()
    page.keyboard.press("1")
    page.locator("mark").wait_for()
    after = page.locator("h2", has_text="Two?").bounding_box()
    assert before
    assert after
    assert before["y"] == after["y"]


def test_more_below_follows_until_the_reader_scrolls_up(
    workspace: Any, open_page: Any, ask: Any, until: Any
) -> None:
    ended = threading.Event()
    words = [("delta", {"text": "word " * 10}), 0.01]
    endless = itertools.takewhile(lambda _: not ended.is_set(), itertools.cycle(words))
    *before_it, done = workspace.script("Long.")
    workspace.scripts = [itertools.chain(before_it, endless, [done])]
    page = open_page(workspace, height=500)
    ask(page, "Long?")
    page.get_by_role("button", name="More below").click()

    def place() -> tuple[float, float]:
        return tuple(
            page.evaluate(
                "(s => [s.scrollTop, s.scrollHeight - s.scrollTop - s.clientHeight])"
                "(document.getElementById('scroll'))"
            )
        )

    before = place()[0]
    until(lambda: place()[0] > before + 100 and place()[1] < 60)
    page.mouse.move(500, 250)
    page.mouse.wheel(0, -200)
    until(lambda: place()[1] > 60)
    here, left = place()
    until(lambda: place()[1] > left + 100)
    assert place()[0] == here
    ended.set()


def test_focused_citation_keeps_the_focus_while_text_streams(
    workspace: Any, sources: Any, open_page: Any, ask: Any
) -> None:
    workspace.scripts = [workspace.script(TEXT, sources, pause=0.05)]
    page = open_page(workspace)
    ask(page, "How?")
    page.locator(".streaming .cite[data-cite='1']").focus()
    expect(page.locator(".meta")).to_be_visible()
    expect(page.locator(".answer .cite[data-cite='1']")).to_be_focused()


def test_unsupported_sentence_is_marked_where_it_is_even_after_an_emoji(
    workspace: Any, sources: Any, open_page: Any, ask: Any
) -> None:
    text = "🚀🚀 Start it [1]. It also makes coffee. Then click [2]."
    start = text.index("It also")
    sentences = [{"start": start, "end": start + len("It also makes coffee."), "supported": False}]
    workspace.scripts = [workspace.script(text, sources, sentences=sentences)]
    page = open_page(workspace)
    ask(page, "How?")
    expect(page.locator(".unsupported")).to_have_text("It also makes coffee.")
    expect(page.locator(".unsupported + .flag")).to_have_text("no source")


def test_of_a_markdown_link_only_the_words_are_shown(
    workspace: Any, open_page: Any, ask: Any
) -> None:
    workspace.texts = {"a.md": "## Next\n\nSee [the **guide**](guide.md) and `run`."}
    source = workspace.source(1, "a.md", workspace.texts["a.md"])
    text = "See [the guide](javascript:alert) now [1]. Not [2](x.md), but [1](y)."
    workspace.scripts = [workspace.script(text, [source])]
    page = open_page(workspace)
    ask(page, "How?")
    page.locator(".meta").wait_for()
    expect(page.locator(".answer")).to_have_text("See the guide now 1. Not 2, but 1.")
    expect(page.locator(".answer .cite")).to_have_count(1)
    expect(page.locator(".answer a")).to_have_count(0)
    expect(page.locator(".source .quote")).to_have_text("Next See the guide and run.")


def test_citation_number_without_a_source_stays_text(
    workspace: Any, sources: Any, open_page: Any, ask: Any
) -> None:
    workspace.scripts = [workspace.script("One [1]. Seven [7].", sources[:1])]
    page = open_page(workspace)
    ask(page, "How?")
    expect(page.locator(".meta")).to_be_visible()
    expect(page.locator(".answer .cite")).to_have_count(1)
    expect(page.locator(".answer")).to_contain_text("Seven [7].")


def test_what_is_closest_is_marked_as_such_from_its_first_word_on(
    workspace: Any, open_page: Any, ask: Any
) -> None:
    text = ("delta", {"text": "Start the"})
    workspace.scripts = [[("outcome", {"outcome": "closest"}), text, 60.0]]
    page = open_page(workspace)
    ask(page, "Who won the cup?")
    expect(page.locator(".answer.streaming")).to_contain_text("Start the")
    expect(page.locator(".closest")).to_have_text("Closest in your documents. It may not answer.")


def test_what_is_closest_stays_marked_and_says_what_was_searched(
    workspace: Any, sources: Any, open_page: Any, ask: Any, shot: Any
) -> None:
    text = f"{START} [1]\n\n{CLICK} [2]"
    facts = {"outcome": "closest", "confidence": 0.124}
    workspace.scripts = [workspace.script(text, sources, **facts)]
    page = open_page(workspace)
    ask(page, "Who won the cup?")
    expect(page.locator(".under")).to_contain_text("Searched 2 files")
    expect(page.locator(".closest")).to_be_visible()
    expect(page.locator(".meta")).to_contain_text("12 % likely right")
    expect(page.locator("#live")).to_contain_text("End of the closest passages, 2 sources.")
    shot(page, "closest")
    page.keyboard.press("2")
    expect(page.locator("mark")).to_have_text(CLICK)


def test_nothing_found_says_what_was_searched(
    workspace: Any, open_page: Any, ask: Any, shot: Any
) -> None:
    text = "Nothing about this was found in the documents."
    facts = {"outcome": "nothing", "confidence": 0.01}
    workspace.scripts = [workspace.script(text, **facts), workspace.script("First.")]
    page = open_page(workspace)
    ask(page, "Who won the cup?")
    expect(page.locator(".under")).to_contain_text("Searched 2 files by meaning and by words.")
    expect(page.locator(".closest")).to_be_hidden()
    expect(page.locator(".meta")).not_to_contain_text("likely right")
    expect(page.locator(".source")).to_have_count(0)
    shot(page, "nothing")


def test_how_likely_an_answer_is_right_is_shown_where_it_is_known(
    workspace: Any, open_page: Any, ask: Any
) -> None:
    shown = {0.873: "87 % likely right", 0.9999: "99 %", None: ""}
    workspace.scripts = [workspace.script("Yes.", confidence=each) for each in shown]
    page = open_page(workspace)
    for number, text in enumerate(shown.values()):
        ask(page, "Is it?")
        meta = page.locator(".meta").nth(number)
        expect(meta).to_contain_text("cited")
        if text:
            expect(meta).to_contain_text(text)
        else:
            expect(meta).not_to_contain_text("likely right")
    assert page.locator(".closest:visible").count() == 0


def test_a_follow_up_sends_answers_but_not_that_nothing_was_found(
    workspace: Any, open_page: Any, ask: Any, until: Any
) -> None:
    workspace.scripts = [workspace.script("First."), workspace.script("None.", outcome="nothing")]
    page = open_page(workspace)
    for number, question in enumerate(["One?", "Two?", "Three?"], 1):
        ask(page, question)
        expect(page.locator(".meta")).to_have_count(number)
    history = [(message.role, message.content) for message in workspace.asked[2][1]]
    assert history == [("user", "One?"), ("assistant", "First.")]


def test_screen_reader_hears_sentences_and_not_tokens(
    workspace: Any, open_page: Any, ask: Any
) -> None:
    sentence = "This sentence has quite a few words in it, so it is long enough. "
    workspace.scripts = [workspace.script((sentence * 4).strip(), pause=0.002)]
    page = open_page(workspace)
    ask(page, "How?")
    expect(page.locator("#live")).to_contain_text("End of the answer, 0 sources.")
    spoken = page.locator("#live p").all_inner_texts()
    assert spoken[1:-1] == [sentence.strip()] * 4


def test_copy_gives_the_answer_with_its_sources(
    workspace: Any, sources: Any, open_page: Any, ask: Any
) -> None:
    workspace.scripts = [workspace.script(TEXT, sources)]
    page = open_page(workspace, permissions=["clipboard-read", "clipboard-write"])
    ask(page, "How?")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f'{TEXT}\n\n[1] serving.md  "{START}"\n[2] page.md  "{CLICK}"'


def test_new_conversation_forgets_the_old_one(workspace: Any, open_page: Any, ask: Any) -> None:
    workspace.scripts = [workspace.script("First.")]
    page = open_page(workspace)
    ask(page, "One?")
    expect(page.locator(".meta")).to_be_visible()
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.locator(".tries button")).to_have_count(3)
    ask(page, "Two?")
    expect(page.locator(".meta")).to_be_visible()
    assert workspace.asked[1][1] == ()


def test_reload_keeps_the_conversation_and_its_sources(
    workspace: Any, sources: Any, open_page: Any, ask: Any
) -> None:
    still_connected = 60.0
    workspace.scripts = [[*workspace.script(TEXT, sources), still_connected]]
    page = open_page(workspace)
    ask(page, "How?")
    page.locator(".meta").wait_for()
    assert "coffee" in (page.evaluate("sessionStorage.getItem('lmstack-turns')") or "")
    page.reload()
    expect(page.locator(".turn h2")).to_have_text("How?")
    expect(page.locator(".answer")).to_contain_text("coffee")
    page.locator(".answer .cite").last.click()
    expect(page.locator("mark")).to_have_text(CLICK)


def test_error_in_mid_answer_keeps_what_came_and_retries_in_place(
    workspace: Any, open_page: Any, ask: Any, shot: Any
) -> None:
    full = OverloadedError("the queue is full", hint="try again in a few seconds")
    workspace.scripts = [[("delta", {"text": "Half an"}), full], workspace.script("Whole answer.")]
    page = open_page(workspace)
    ask(page, "How?")
    expect(page.get_by_role("alert")).to_contain_text("The queue is full")
    expect(page.get_by_role("alert")).to_contain_text("Try again in a few seconds")
    expect(page.locator(".answer")).to_have_text("Half an")
    shot(page, "error")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".answer")).to_have_text("Whole answer.")
    expect(page.locator(".turn")).to_have_count(1)
    assert [question for question, _ in workspace.asked] == ["How?", "How?"]


def test_enter_during_an_answer_keeps_the_draft(workspace: Any, open_page: Any, ask: Any) -> None:
    workspace.scripts = [[("delta", {"text": "One"}), 60.0]]
    page = open_page(workspace)
    ask(page, "One?")
    expect(page.locator(".answer")).to_have_text("One")
    ask(page, "Too early")
    expect(page.get_by_label("Your question")).to_have_value("Too early")
    assert len(workspace.asked) == 1


def test_offsets_of_python_are_found_in_javascript_text(workspace: Any, open_page: Any) -> None:
    texts = ["", "plain", "é\u0301🚀x", "🚀" * 5, "a\U0001f468\u200d\U0001f469z", "𝒳\n𝒴"]
    page = open_page(workspace)
    cases = [
        (text, count, len(text[:count].encode("utf-16-le")) // 2)
        for text in texts
        for count in range(len(text) + 1)
    ]
    found = page.evaluate(
        "async (cases) => { const {unitOffset} = await import('/static/text.js');"
        " return cases.map(([text, count]) => unitOffset(text, count)); }",
        [list(case[:2]) for case in cases],
    )
    assert found == [case[2] for case in cases]


def test_writing_or_quoting_is_a_choice_where_the_model_writes_well(
    workspace: Any, open_page: Any, ask: Any, shot: Any
) -> None:
    workspace.answers = "write"
    workspace.scripts = [workspace.script("First.")]
    page = open_page(workspace)
    write, quote = (page.get_by_role("button", name=name) for name in ("Write", "Quote"))
    expect(write).to_have_attribute("aria-pressed", "true")
    ask(page, "One?")
    expect(page.locator(".meta")).to_have_count(1)
    quote.click()
    shot(page, "manner")
    ask(page, "Two?")
    expect(page.locator(".meta")).to_have_count(2)
    page.reload()
    expect(quote).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="New conversation").click()
    expect(write).to_have_attribute("aria-pressed", "true")
    assert [wishes.answers for wishes in workspace.wishes] == [None, "quote"]


def test_a_model_that_quotes_offers_no_choice(workspace: Any, open_page: Any) -> None:
    page = open_page(workspace)
    expect(page.get_by_role("button", name="Filter", exact=True)).to_be_visible()
    expect(page.get_by_role("group", name="Answers")).to_be_hidden()
