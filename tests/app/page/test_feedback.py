"""Feedback: who may judge which answer, what is kept of it, and how the page asks."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from lmstack.core import InputError, Message, NotFoundError, StoreError
from lmstack.rag import AnswerConfig
from lmstack.release.feedback import FeedbackJudgement, FeedbackStore, RecentAnswers

FULL = "When do roses need water?"
ANSWERED = {
    "question": "When?",
    "answer": "Then [1].",
    "citations": [{"id": 1, "path": "docs/a.md", "start": 0, "end": 4, "quote": "Then"}],
    "passages": [],
}


def test_judgement_is_kept_once_and_can_be_changed_and_taken_back(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path)
    store.save("r1", "ip:1", FeedbackJudgement("helpful"), ANSWERED)
    store.save("r1", "ip:1", FeedbackJudgement("not_helpful", "no year", (1, 1)), ANSWERED)
    [record] = store.all()
    assert (record["verdict"], record["comment"]) == ("not_helpful", "no year")
    assert record["wrong_sources"] == [1]
    assert record["question"] == "When?"
    store.save("r1", "ip:1", FeedbackJudgement(None), ANSWERED)
    assert store.all() == []


def test_only_sources_that_were_cited_can_be_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no source 2"):
        FeedbackStore(tmp_path).save("r", "c", FeedbackJudgement(None, "", (2,)), ANSWERED)


def test_answers_of_others_and_of_yesterday_are_unknown() -> None:
    clock = [0.0]
    recent = RecentAnswers(lambda: clock[0])
    recent.remember("r", "ada", ANSWERED)
    assert recent.answered("r", "ada") == ANSWERED
    for request_id, client in (("r", "bob"), ("s", "ada")):
        with pytest.raises(NotFoundError):
            recent.answered(request_id, client)
    clock[0] = 86_401.0
    with pytest.raises(NotFoundError):
        recent.answered("r", "ada")


def test_cleared_file_holds_nothing_of_what_was_said(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path)
    store.save("r", "c", FeedbackJudgement("helpful", "something private"), ANSWERED)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert b"something private" in store.path.read_bytes()
    assert store.clear() == 1
    assert b"something private" not in store.path.read_bytes()
    assert FeedbackStore(tmp_path / "nowhere").clear() == 0


def test_file_of_another_version_or_kind_is_left_alone(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path)
    store.path.write_bytes(b"no database at all, but longer than a header of SQLite" * 3)
    with pytest.raises(StoreError, match="cannot be used"):
        store.all()


def test_file_of_the_version_before_is_kept_and_nobody_has_agreed(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path)
    with closing(sqlite3.connect(store.path)) as old:
        old.execute(
            "CREATE TABLE feedback (request_id TEXT PRIMARY KEY, time TEXT NOT NULL, client TEXT"
            " NOT NULL, verdict TEXT, comment TEXT NOT NULL, wrong_sources TEXT NOT NULL, answered"
            " TEXT NOT NULL)"
        )
        row = ("r", "2026-01-01T00:00:00Z", "c", "helpful", "", "[]", json.dumps(ANSWERED))
        old.execute("INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        old.execute("PRAGMA user_version = 1")
        old.commit()
    [record] = store.all()
    assert (record["verdict"], record["edit"], record["consent"]) == ("helpful", "", False)
    store.save("s", "c", FeedbackJudgement(None, "", (), "Then, in May [1].", True), ANSWERED)
    assert [(r["edit"], r["consent"]) for r in store.all()][-1] == ("Then, in May [1].", True)
    assert FeedbackJudgement(None, consent=True).is_empty


def test_asker_judges_a_real_answer(make: Any, until: Any, last_event: Any, tmp_path: Path) -> None:
    workspace = make()
    workspace.start_indexing()
    until(lambda: workspace.status()["state"] == "ready")
    done = last_event(
        lambda: workspace.ask("When do roses need water?", client="key:ada", request_id="r7")
    )
    assert done["request_id"] == "r7"
    with pytest.raises(NotFoundError):
        workspace.judge("r7", FeedbackJudgement("helpful"), "key:bob")
    workspace.judge("r7", FeedbackJudgement("helpful"), "key:ada")
    [record] = FeedbackStore(tmp_path / "index").all()
    assert record["client"] == "key:ada"
    assert record["answer"] == done["answer"]
    assert [c["quote"] for c in record["citations"]] == [c["quote"] for c in done["citations"]]
    assert record["passages"]
    assert (record["past"], record["task"]) == ([], "answer")
    assert record["embedder"] == {"name": "hashing", "digest": "sha256:" + "1" * 64}
    assert record["model"]["name"] == done["model"]["name"]


def test_a_follow_up_in_full_is_what_is_kept_of_it(
    make: Any, until: Any, last_event: Any, tmp_path: Path
) -> None:
    """The model answered that, and is trained on what it saw."""
    workspace = make(said=[FULL], answer=AnswerConfig(rewrite="model"))
    workspace.start_indexing()
    until(lambda: workspace.status()["state"] == "ready")
    past = (Message("user", "When do roses bloom?"), Message("assistant", "In May."))
    last_event(lambda: workspace.ask("And when do they need water?", past, request_id="r"))
    workspace.judge("r", FeedbackJudgement("helpful"))
    [record] = FeedbackStore(tmp_path / "index").all()
    assert (record["question"], record["past"]) == (FULL, [])


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"request_id": ""},
        {"request_id": "r", "verdict": "splendid"},
        {"request_id": "r", "comment": "x" * 2001},
        {"request_id": "r", "wrong_sources": ["1"]},
        {"request_id": "r", "stars": 5},
        {"request_id": "r", "edit": "x" * 20_001},
        {"request_id": "r", "consent": "yes"},
    ],
)
def test_what_is_no_judgement_is_refused(wrong: Any, workspace: Any, serve: Any) -> None:
    response = httpx.post(serve(workspace).url + "/api/feedback", json=wrong)
    assert response.status_code in (400, 422)
    assert workspace.judged == []


def test_other_sites_cannot_judge(workspace: Any, serve: Any) -> None:
    url = serve(workspace).url + "/api/feedback"
    foreign = {"Origin": "http://evil.example"}
    assert httpx.post(url, json={"request_id": "r"}, headers=foreign).status_code == 403


@pytest.mark.browser
def test_page_keeps_what_one_thinks_and_shows_it_after_a_reload(
    workspace: Any, open_page: Any, ask: Any, shot: Any, until: Any
) -> None:
    start = "Start the server and the page with `lmstack up docs`."
    stop = "The server ends what it is streaming"
    click = "Click a number to open the passage it came from."
    sources = [workspace.source(1, "serving.md", start), workspace.source(2, "page.md", click)]
    conflict = {
        **workspace.source(None, "serving.md", stop),
        "citation": 1,
        "relation": "older",
        "date": "2019-03-04",
    }
    workspace.scripts = [
        workspace.script(
            "Start it [1], then click [2].", sources, request_id="r1", conflicts=[conflict]
        )
    ]
    page = open_page(workspace)
    ask(page, "How do I open the page?")
    page.get_by_role("button", name="Not helpful").click()
    expect(page.locator(".feedback-note")).to_have_text("Kept. Thank you.")
    page.get_by_role("button", name="Source 2 is wrong").click()
    page.get_by_label("What about it?").fill("It says <b>nothing</b>.")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".feedback-note")).to_have_text("Kept. Thank you.")
    assert workspace.judged[-1] == (
        "r1",
        FeedbackJudgement("not_helpful", "It says <b>nothing</b>.", (2,)),
    )
    page.get_by_role("button", name="Correct it").click()
    draft = page.get_by_label("How the answer should read")
    expect(draft).to_have_value("Start it [1], then click [2].")
    draft.fill("Start it [1].")
    page.get_by_role("button", name="Keep").click()
    agree = page.get_by_label("This may be used to train models")
    expect(agree).not_to_be_checked()
    agree.check()
    until(lambda: workspace.judged[-1][1].consent)
    edited = FeedbackJudgement(
        "not_helpful", "It says <b>nothing</b>.", (2,), "Start it [1].", True
    )
    assert workspace.judged[-1] == ("r1", edited)
    shot(page, "feedback")
    page.get_by_role("button", name="Source 2 is wrong").scroll_into_view_if_needed()
    page.reload()
    for name in ("Not helpful", "Source 2 is wrong"):
        expect(page.get_by_role("button", name=name, pressed=True)).to_be_visible()
    expect(page.get_by_label("This may be used to train models")).to_be_checked()
    page.get_by_role("button", name="Correct it").click()
    expect(page.get_by_label("How the answer should read")).to_have_value("Start it [1].")
    otherwise = page.get_by_role("list", name="Passages that say otherwise")
    expect(otherwise).to_contain_text("An older edition (2019-03-04), against [1]")
    otherwise.get_by_role("button").click()
    expect(page.locator("mark")).to_have_text(stop)


def test_command_lists_exports_and_clears(tmp_path: Path, run: Any) -> None:
    FeedbackStore(tmp_path).save(
        "r", "ip:1", FeedbackJudgement("not_helpful", "no year", (1,)), ANSWERED
    )
    where = ["--index", str(tmp_path)]
    listed = run("feedback", "list", *where)
    assert "not helpful: When?" in listed.out
    assert "wrong source: docs/a.md Then" in listed.out
    exported = json.loads(run("feedback", "export", *where).out)
    assert exported["question"] == "When?"
    assert json.loads(run("feedback", "clear", *where, "--json").out) == {"cleared": 1}
    assert json.loads(run("feedback", "list", *where, "--json").out) == []
