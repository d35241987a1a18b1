"""When things go wrong on the page: refusals, a lost connection, a key that is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from lmstack.core import GuardError

pytestmark = pytest.mark.browser

GONE = r"Failed to load resource: net::ERR|ERR_INCOMPLETE_CHUNKED|ERR_CONNECTION"


def test_refusal_is_shown_in_its_place_with_what_to_do(
    workspace: Any, open_page: Any, ask: Any
) -> None:
    workspace.scripts = [[GuardError("the question holds a key", hint="leave it out")]]
    page = open_page(workspace)
    ask(page, "My key is sk-1?")
    alert = page.locator(".turn").get_by_role("alert")
    expect(alert).to_contain_text("The question holds a key")
    expect(alert).to_contain_text("Leave it out")


def test_fault_of_the_server_shows_no_inner_text(workspace: Any, open_page: Any, ask: Any) -> None:
    workspace.scripts = [[("nonsense",)]]  # a step that the workspace cannot unpack
    page = open_page(workspace)
    ask(page, "How?")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The server failed on this request")
    expect(alert.get_by_role("button", name="Retry")).to_be_visible()


def test_lost_connection_says_so_and_recovers_by_itself(
    workspace: Any, serve: Any, open_page: Any, ask: Any, shot: Any
) -> None:
    workspace.scripts = [
        [("delta", {"text": "Half an"}), 60.0],
        workspace.script("Whole answer."),
    ]
    server = serve(workspace)
    page = open_page(server, expect=GONE)
    ask(page, "How?")
    expect(page.locator(".answer")).to_have_text("Half an")
    server.cut()
    expect(page.locator("#state")).to_have_text("offline, reconnecting")
    expect(page.get_by_role("alert")).to_contain_text("The connection to lmstack was lost.")
    expect(page.locator(".answer")).to_have_text("Half an")
    shot(page, "offline")
    page.get_by_label("Your question").fill("A draft that must not be lost")
    serve(workspace, port=server.port)
    expect(page.locator("#state")).to_have_text("ready")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".answer")).to_have_text("Whole answer.")
    expect(page.get_by_label("Your question")).to_have_value("A draft that must not be lost")


def test_server_that_stops_on_purpose_ends_the_answer_with_a_reason(
    workspace: Any, serve: Any, open_page: Any, ask: Any
) -> None:
    workspace.scripts = [[("delta", {"text": "Half an"}), 60.0]]
    server = serve(workspace)
    page = open_page(server, expect=GONE)
    ask(page, "How?")
    expect(page.locator(".answer")).to_have_text("Half an")
    server.stop()
    expect(page.get_by_role("alert")).to_contain_text("The server is stopping")
    assert workspace.open_answers == 0


def test_stream_that_ends_without_its_end_is_an_error(
    workspace: Any, open_page: Any, ask: Any
) -> None:
    workspace.scripts = [[("delta", {"text": "Half an"})]]
    page = open_page(workspace)
    ask(page, "How?")
    expect(page.get_by_role("alert")).to_contain_text("The answer broke off.")


def test_question_while_offline_fails_in_place_and_can_be_retried(
    workspace: Any, serve: Any, open_page: Any, ask: Any
) -> None:
    workspace.scripts = [workspace.script("Answer.")]
    server = serve(workspace)
    page = open_page(server, expect=GONE)
    server.stop()
    ask(page, "Are you there?")
    expect(page.get_by_role("alert")).to_contain_text("The connection to lmstack was lost.")
    serve(workspace, port=server.port)
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".answer")).to_have_text("Answer.")


def test_page_asks_for_the_key_of_a_server_that_has_one(
    workspace: Any, serve: Any, open_page: Any, ask: Any, shot: Any
) -> None:
    workspace.scripts = [workspace.script("Answer.")]
    page = open_page(serve(workspace, api_keys=["sesame"]), expect="401")
    expect(page.locator("#state")).to_have_text("key needed")
    shot(page, "key")
    page.get_by_label("API key").fill("sesame")
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#state")).to_have_text("ready")
    expect(page.locator(".tries button")).to_have_count(3)
    ask(page, "How?")
    expect(page.locator(".answer")).to_have_text("Answer.")


@pytest.mark.parametrize("key", ["sesam", "ключ"], ids=["wrong", "no_header_can_carry_it"])
def test_wrong_key_is_said_to_be_wrong_and_can_be_corrected(
    workspace: Any, serve: Any, open_page: Any, shot: Any, key: str
) -> None:
    page = open_page(serve(workspace, api_keys=["sesame"]), expect="401")
    field = page.get_by_label("API key")
    field.fill(key)
    field.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The server did not accept this key.")
    expect(field).to_have_value(key)
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description("The server did not accept this key.")
    expect(page.locator(".key-form")).to_have_count(1)
    shot(page, "wrong-key")
    field.fill("sesame")
    field.press("Enter")
    expect(page.locator("#state")).to_have_text("ready")
    expect(page.locator(".key-form")).to_have_count(0)


def test_key_that_is_accepted_no_longer_is_asked_for_again(
    workspace: Any, serve: Any, open_page: Any
) -> None:
    server = serve(workspace, api_keys=["sesame"])
    page = open_page(server, expect=f"401|{GONE}")
    page.get_by_label("API key").fill("sesame")
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#state")).to_have_text("ready")
    server.stop()
    serve(workspace, port=server.port, api_keys=["another"])
    expect(page.locator("#welcome .trouble")).to_contain_text("no longer accepts the API key")


def test_wrong_key_beside_an_answer_is_said_to_be_wrong(
    workspace: Any, serve: Any, open_page: Any, ask: Any
) -> None:
    workspace.scripts = [workspace.script("Answer.")]
    page = open_page(serve(workspace, api_keys=["sesame"]), expect="401")
    ask(page, "How?")
    field = page.locator(".turn").get_by_label("API key")
    field.fill("sesam")
    field.press("Enter")
    expect(page.locator(".turn .key-form [role=alert]")).to_contain_text("did not accept this key")
    expect(field).to_have_value("sesam")
    field.fill("sesame")
    field.press("Enter")
    expect(page.locator(".answer")).to_have_text("Answer.")
