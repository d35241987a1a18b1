"""Agents' runs on the page while they go on: followed, opened, approved and denied."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.agents.scripted_tools import FakeTool, call
from tests.app.page.agent_runs import (
    SEEN,
    Running,
    clerk,
    hostile_run,
    ran,
    sender,
    stored,
)
from tests.app.page.looks import CONTRASTS, TOO_WIDE

from lmstack.agents import Agent, RunStore, ScriptedApprover
from lmstack.app.page.agents.live import LiveRuns
from lmstack.app.server.approvals import PageApprover
from lmstack.core import ScriptedModel
from lmstack.serve.http.guard import key_digest

pytestmark = pytest.mark.browser

GONE = r"Failed to load resource: net::ERR|ERR_CONNECTION"
REFUSED = r"Failed to load resource: the server responded with a status of 4\d\d"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs.sqlite", fsync=False)


@pytest.fixture
def approver() -> Iterator[PageApprover]:
    made = PageApprover()
    yield made
    made.close()


Show = Callable[..., Page]


@pytest.fixture
def show(
    workspace: Any, serve: Any, open_page: Any, store: RunStore, approver: PageApprover
) -> Show:
    """``show("r")``: the page of the run ``r``; ``show()``: the list."""
    servers: list[Any] = []

    def start(run_id: str = "", **options: Any) -> Page:
        servers[:] = servers or [serve(workspace, agents=LiveRuns(store, approver))]
        path = f"/agents/{run_id}" if run_id else "/agents"
        page: Page = open_page(servers[0], path=path, **options)
        return page

    return start


class Gate:
    """A tool that answers when the test lets it."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.tool = FakeTool("wait", lambda text: self.opened.wait(60) and f"waited for {text}")


def test_a_run_is_followed_while_it_goes_on(
    show: Show, store: RunStore, until: Any, shot: Any
) -> None:
    gate = Gate()
    model = ScriptedModel([call("wait", "the kettle"), call("wait", "the tea"), "Tea is ready."])
    agent = Agent(model, name="cook", tools=[gate.tool])
    running = Running(lambda: agent.run("Make tea.", store=store, run_id="tea"))
    try:
        until(lambda: gate.tool.running)
        page = show("tea")
        expect(page.locator("#state")).to_have_text("live")
        row = page.locator(".step", has_text="the kettle").last
        expect(row.locator(".tag")).to_have_text("running")
        row.locator("summary").click()
        expect(row.get_by_label("Arguments")).to_be_visible()
        shot(page, "agents-live-running")
    finally:
        gate.opened.set()
    running.wait()
    expect(page.locator(".end-word")).to_have_text("Answered")
    expect(page.locator("#state")).to_have_text("")
    expect(page.locator("#live")).to_have_text("The run has ended: answered.")
    # What was opened while it ran is open, and shows the result.
    expect(page.get_by_text("waited for the kettle", exact=True)).to_be_visible()
    expect(page.get_by_text("waited for the tea", exact=True)).to_be_hidden()
    expect(page.locator(".step.end pre")).to_have_text("Tea is ready.")


def test_a_call_is_approved_from_the_keyboard(
    show: Show, store: RunStore, approver: PageApprover, until: Any, shot: Any
) -> None:
    agent, tool = sender("one", "two")
    running = Running(lambda: agent.run("Send.", approver=approver, store=store, run_id="r"))
    until(lambda: approver.pending)
    page = show("r")
    card = page.locator(".card")
    expect(card).to_contain_text("May clerk call send?")
    expect(card.get_by_label("Arguments")).to_have_text('{\n  "text": "one"\n}')
    expect(page).to_have_title(re.compile(r"^\(1\) Send\."))
    expect(page.locator("#live")).to_have_text("A call waits for your approval.")
    approve = card.get_by_role("button", name="Approve")
    expect(approve).to_be_enabled()
    shot(page, "agents-live-waiting")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.decide") == "approved":
            break
    page.keyboard.press("Enter")
    # The one that was decided leaves a moment after the next has come.
    expect(card.first.get_by_label("Arguments")).to_have_text('{\n  "text": "two"\n}')
    # The focus is not on the button of the next call, and not lost.
    assert page.evaluate("document.activeElement.id") in ("waiting", "timeline")
    assert tool.ran == [{"text": "one"}]
    card.get_by_role("button", name="Approve").click()
    expect(page.locator(".end-word")).to_have_text("Answered")
    expect(page.get_by_role("heading", name="Waits for a person")).to_have_count(0)
    assert running.wait().end == "answered"
    expect(page.locator(".step.person .tag")).to_have_text(["approved by ip:127.0.0.1"] * 2)
    expect(page).to_have_title(re.compile(r"^Send\."))


def test_a_call_is_denied_with_a_reason_that_survives_the_refreshes(
    show: Show, store: RunStore, approver: PageApprover, until: Any
) -> None:
    agent, tool = sender("one")
    running = Running(lambda: agent.run("Send.", approver=approver, store=store, run_id="r"))
    until(lambda: approver.pending)
    page = show("r")
    reason = page.get_by_label("Reason for denying")
    reason.fill("not on a Sunday")
    other, _ = sender("else")  # and another run that waits changes the list
    also = Running(lambda: other.run("Also.", approver=approver, store=store))
    page.wait_for_timeout(1500)
    expect(reason).to_have_value("not on a Sunday")
    page.get_by_role("button", name="Deny").click()
    expect(page.locator(".step.person .tag")).to_have_text("denied by ip:127.0.0.1")
    row = page.locator(".step.failed")
    row.locator("summary").click()
    expect(row).to_contain_text("the call was not approved: not on a Sunday")
    assert running.wait().end == "answered"
    assert tool.ran == []
    approver.close()
    also.wait()


def test_buttons_that_have_just_appeared_cannot_be_pressed_by_mistake(
    show: Show, store: RunStore, approver: PageApprover, until: Any
) -> None:
    agent, tool = sender("one", "two")
    running = Running(lambda: agent.run("Send.", approver=approver, store=store, run_id="r"))
    until(lambda: approver.pending)
    page = show("r")
    page.evaluate(
        "window.seen = []; new MutationObserver(() => {"
        " const button = document.querySelector('[data-decide]');"
        " if (button) window.seen.push([button.value, button.disabled]);"
        "}).observe(document.body, {childList: true, subtree: true})"
    )
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_label("Arguments").first).to_contain_text("two")
    first_seen = dict(reversed(page.evaluate("window.seen")))
    assert first_seen[approver.pending[0].id] is True
    approver.close()
    running.wait()
    assert tool.ran == [{"text": "one"}]


def test_an_answer_that_came_too_late_says_so(
    show: Show, store: RunStore, approver: PageApprover, until: Any
) -> None:
    agent, _ = sender("one")
    running = Running(lambda: agent.run("Send.", approver=approver, store=store, run_id="r"))
    until(lambda: approver.pending)
    page = show("r", expect=REFUSED)
    approve = page.get_by_role("button", name="Approve")
    expect(approve).to_be_enabled()
    # No news meanwhile, nor of what was asked for before.
    with page.expect_response(lambda response: response.status == 304):
        page.route("**/api/agents/**", lambda route: route.fulfill(status=304))
    approver.close()
    running.wait()
    approve.click()
    alert = page.locator(".card").get_by_role("alert")
    expect(alert).to_contain_text("No call waits for approval")
    expect(alert).to_contain_text("resume the run")


def test_the_list_shows_what_waits_and_leads_to_the_runs(
    show: Show, store: RunStore, approver: PageApprover, until: Any, shot: Any
) -> None:
    done = ran(lambda: clerk(ScriptedApprover("approved"), store))
    agent, tool = sender("one")
    running = Running(lambda: agent.run("Send it.", approver=approver, store=store, run_id="r"))
    until(lambda: approver.pending)
    page = show()
    runs = page.locator(".runs li")
    expect(runs).to_have_count(2)
    expect(runs.nth(0)).to_contain_text("waits for a person")
    expect(runs.nth(1)).to_contain_text("answered")
    expect(page.locator(".card")).to_contain_text("May clerk call send?")
    shot(page, "agents-list")
    page.get_by_role("button", name="Approve").click()
    expect(runs.nth(0)).to_contain_text("answered")
    running.wait()
    assert tool.ran == [{"text": "one"}]
    runs.nth(1).get_by_role("link").click()
    expect(page).to_have_url(re.compile(f"/agents/{done.id}$"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("When do backups run?")
    page.get_by_role("link", name="All runs").click()
    expect(runs).to_have_count(2)


def test_a_list_without_runs_says_so(show: Show) -> None:
    expect(show().get_by_text("No agent has run yet.")).to_be_visible()


def test_hostile_text_is_read_and_runs_nowhere(show: Show, store: RunStore) -> None:
    stored(store, hostile_run())
    page = show()
    expect(page.locator(".runs li")).to_contain_text("window.hacked")
    page.get_by_role("link").filter(has_text="window.hacked").click()
    page.get_by_role("button", name="Open all").click()
    expect(page.get_by_role("button", name="Close all")).to_be_visible()
    assert page.locator("main").inner_text().count(SEEN) >= 20
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img").count() == 2
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth === 24)")


def test_a_lost_connection_says_so_and_recovers(
    workspace: Any, serve: Any, open_page: Any, store: RunStore
) -> None:
    agent, _ = sender()
    ran(lambda: agent.run("go", store=store, run_id="r"))
    server = serve(workspace, agents=LiveRuns(store))
    page = open_page(server, path="/agents", expect=GONE)
    expect(page.locator("#state")).to_have_text("live")
    server.cut()
    expect(page.locator("#state")).to_have_text("offline, reconnecting")
    expect(page.locator(".runs li")).to_have_count(1)
    serve(workspace, port=server.port, agents=LiveRuns(store))
    expect(page.locator("#state")).to_have_text("live")


def test_a_server_with_keys_asks_for_one_and_refuses_who_does_not_operate_it(
    workspace: Any, serve: Any, open_page: Any, store: RunStore
) -> None:
    agent, _ = sender()
    ran(lambda: agent.run("secret task", store=store, run_id="r"))
    operator = [key_digest("sesame")]
    server = serve(
        workspace,
        api_keys=["sesame", "barley"],
        operator_digests=operator,
        agents=LiveRuns(store),
    )
    page = open_page(server, path="/agents/r", expect=REFUSED)
    expect(page.get_by_text("This server asks for an API key.")).to_be_visible()
    expect(page.get_by_text("secret task")).to_have_count(0)
    page.get_by_label("API key").fill("barley")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("this key is not the operator's")
    page.evaluate("sessionStorage.clear()")
    page.reload()
    page.get_by_label("API key").fill("sesame")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="secret task")).to_be_visible()


def test_the_key_in_an_address_is_kept_and_taken_out_of_it(
    workspace: Any, serve: Any, open_page: Any, store: RunStore
) -> None:
    agent, _ = sender()
    ran(lambda: agent.run("secret task", store=store, run_id="r"))
    server = serve(workspace, api_keys=["sesame"], agents=LiveRuns(store))
    page = open_page(server, path="/agents#key=sesame")
    expect(page.locator(".runs li")).to_have_count(1)
    assert page.url == f"{server.url}/agents"
    page.goto(f"{server.url}/agents/r")
    expect(page.get_by_role("heading", name="secret task")).to_be_visible()


def test_a_run_that_is_not_there_says_so(show: Show) -> None:
    page = show("none", expect=REFUSED)
    expect(page.get_by_role("alert")).to_contain_text("There is no run 'none'")


def test_the_first_page_leads_to_the_runs_where_there_are_some(
    workspace: Any, serve: Any, open_page: Any, store: RunStore
) -> None:
    page = open_page(serve(workspace, agents=LiveRuns(store)), width=320)
    page.get_by_role("link", name="Agents").click()
    expect(page.get_by_role("heading", name="Agents")).to_be_visible()
    page = open_page(workspace)
    expect(page.get_by_role("link", name="Agents")).to_be_hidden()


@pytest.mark.parametrize(
    ("width", "theme"),
    [(320, "light"), pytest.param(320, "dark", marks=pytest.mark.long), (1600, "dark")],
)
def test_what_waits_fits_and_can_be_read(
    width: int,
    theme: Any,
    show: Show,
    store: RunStore,
    approver: PageApprover,
    until: Any,
    shot: Any,
) -> None:
    running = Running(lambda: clerk(approver, store, run_id="r"))
    until(lambda: approver.pending)
    for name in ("", "r"):
        page = show(name, width=width, theme=theme, reduced_motion="reduce")
        expect(page.get_by_role("button", name="Approve")).to_be_enabled()
        shot(page, f"agents-{name or 'list'}-{width}-{theme}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(TOO_WIDE.replace('".hidden, pre"', '".hidden, pre, .said"')) == []
        assert [found for found in page.evaluate(CONTRASTS) if found[1] < 4.5] == []
    approver.close()
    running.wait()
