"""Runs on disk: private, whole, listed, and refused where they are not what they should be."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sqlite3
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agents.scripted_tools import FakeTool, call, calls

from lmstack.agents import (
    Agent,
    AgentSpec,
    ApprovalDecision,
    ApprovalRequest,
    ApprovalStep,
    Budget,
    Flow,
    Member,
    Rights,
    Run,
    RunStore,
    ScriptedApprover,
    Spent,
    Step,
    ToolSpec,
    run_from_json,
    run_to_json,
    run_to_text,
    step_to_text,
)
from lmstack.agents.runs.run import (
    TYPES,
    spec_from_json,
    spec_to_json,
    step_from_json,
    step_to_json,
)
from lmstack.agents.runs.store import run_lock
from lmstack.agents.tools import Picture, ToolResult
from lmstack.core import (
    FormatError,
    IntegrityError,
    LmstackError,
    NotFoundError,
    Price,
    SamplingParams,
    ScriptedModel,
    StoreError,
    Tool,
)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs.sqlite", fsync=False)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_only_the_owner_can_read_runs(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = RunStore(tmp_path / "made" / "runs.sqlite")
        seen = {}
        listen = lambda _: seen.update({p.name: mode(p) for p in store.path.parent.iterdir()})  # noqa: E731
        await Agent(ScriptedModel(["x"])).run("secret", store=store, on_event=listen)
    finally:
        os.umask(before)
    assert mode(tmp_path / "made") == 0o700
    assert set(seen.values()) == {0o600}
    assert {"runs.sqlite", "runs.sqlite.lock"} <= set(seen)


def test_a_new_file_is_never_open_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even between its making and a change of its mode."""
    before = os.umask(0)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(Path, "chmod", lambda *_: pytest.fail("it was made with wider rights"))
            RunStore(tmp_path / "runs.sqlite")
    finally:
        os.umask(before)


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    path.touch(0o644)
    RunStore(path)
    assert mode(path) == 0o600


async def test_runs_are_listed_latest_first_and_by_their_end(store: RunStore) -> None:
    helper = Agent(ScriptedModel(["x"]), name="helper")
    script = [calls(("helper", {"task": "a"})), "done"]
    price = Price(input=1, output=1)
    team = [Member("helper", helper)]
    first = await Agent(ScriptedModel(script), team=team, price=price).run("one", store=store)
    danger = FakeTool("send", is_dangerous=True)
    second = await Agent(ScriptedModel([call("send")]), tools=[danger]).run("two", store=store)
    assert [each.id for each in store.latest()] == [second.id, first.id]
    assert [each.id for each in store.latest(limit=1)] == [second.id]
    assert [each.id for each in store.latest(end="waiting")] == [second.id]
    assert [each.parent for each in store.latest(nested=True)].count(first.id) == 1
    summary = store.latest()[1]
    assert (summary.agent, summary.task, summary.turns) == ("agent", "one", 3)
    assert summary.money == pytest.approx(first.cost)
    assert summary.created < summary.updated


async def test_a_resumed_run_is_listed_without_the_end_that_it_had(store: RunStore) -> None:
    ends: list[Any] = []
    waits: list[int] = []

    def sent(text: str) -> str:
        ends.extend(each.end for each in store.latest())
        waits.append(len(store.latest(end="waiting")))
        return "sent"

    tool = FakeTool("send", sent, is_dangerous=True)
    agent = Agent(ScriptedModel([call("send"), "done"]), tools=[tool])
    waiting = await agent.run("go", store=store)
    assert [each.end for each in store.latest()] == ["waiting"]
    await agent.resume(waiting.id, store=store, approver=ScriptedApprover("approved"))
    assert (ends, waits) == ([None], [0])
    assert [each.end for each in store.latest()] == ["answered"]


async def test_a_run_is_deleted_with_all_below_it(store: RunStore) -> None:
    helper = Agent(ScriptedModel(["x"]), name="helper")
    script = [calls(("helper", {"task": "a"})), "done"]
    run = await Agent(ScriptedModel(script), team=[Member("helper", helper)]).run("a", store=store)
    store.delete(run.id)
    assert store.latest(nested=True) == []
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("SELECT count(*) FROM steps").fetchone() == (0,)
    connection.close()
    with pytest.raises(NotFoundError):
        store.load(run.id)


async def test_an_id_is_taken_once(store: RunStore) -> None:
    agent = Agent(ScriptedModel(["x"]))
    await agent.run("a", store=store, run_id="mine")
    with pytest.raises(StoreError, match="'mine' already"):
        await agent.run("b", store=store, run_id="mine")


async def test_steps_are_stored_in_letters_that_a_search_of_the_file_finds(
    store: RunStore, tmp_path: Path
) -> None:
    run = await Agent(ScriptedModel(["x"])).run("für 日本", store=store)
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.sqlite")) as connection:
        bodies = [body for (body,) in connection.execute("SELECT body FROM steps ORDER BY number")]
    assert len(bodies) == len(run.steps)
    assert any("für 日本" in body for body in bodies)


async def test_a_step_is_written_once(store: RunStore) -> None:
    run = await Agent(ScriptedModel(["x"])).run("a", store=store)
    with pytest.raises(StoreError, match="stored already"):
        store.append(run.id, 1, run.steps[1], Spent())
    assert store.load(run.id) == run


async def test_a_disk_that_is_full_stops_the_run_and_leaves_what_was_stored(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = FakeTool(delay_s=0)
    append = RunStore.append

    def full(self: RunStore, run_id: str, number: int, *rest: Any) -> None:
        if number == 3:
            raise StoreError("the disk is full")
        append(self, run_id, number, *rest)

    agent = Agent(ScriptedModel([call(), "done"]), tools=[tool])
    with monkeypatch.context() as patched:
        patched.setattr(RunStore, "append", full)
        with pytest.raises(StoreError, match="full"):
            await agent.run("go", store=store, run_id="r")
    assert [type(step).__name__ for step in store.load("r").steps] == [
        *("TaskStep", "ModelStep", "BegunStep")
    ]
    assert (await agent.resume("r", store=store)).answer == "done"


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"not a database, but long enough to be one" * 30, IntegrityError), (b"", None)],
)
def test_a_file_that_holds_no_runs_is_refused(
    tmp_path: Path, content: bytes, error: type[LmstackError] | None
) -> None:
    path = tmp_path / "runs.sqlite"
    path.write_bytes(content)
    if error is None:
        assert RunStore(path).latest() == []
    else:
        with pytest.raises(error, match="damaged or holds no runs"):
            RunStore(path)


def test_another_database_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE runs (id TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(FormatError, match="does not hold runs"):
        RunStore(path)


def test_a_later_format_is_refused(store: RunStore) -> None:
    connection = sqlite3.connect(store.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(FormatError, match="has the format 99"):
        RunStore(store.path)


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        RunStore(tmp_path / "file" / "runs.sqlite")


def test_threads_share_a_store(store: RunStore) -> None:
    def write(name: str) -> None:
        for number in range(20):
            store.create(f"{name}-{number}", AgentSpec(name))

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.latest(limit=1000)) == 80


def test_locks_of_one_file_are_each_their_own(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with run_lock(path, 1, "one"):
        with run_lock(path, 2, "two"), pytest.raises(StoreError), run_lock(path, 1, "one"):
            pass
        with pytest.raises(StoreError), run_lock(path, 1, "one"):
            pass
    with run_lock(path, 1, "one"):
        pass


def test_a_fork_neither_holds_nor_frees_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with run_lock(path, 1, "one"):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with run_lock(path, 1, "one"):
                    pass
            except StoreError:
                code = 7
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        pid = os.fork()
        if pid == 0:
            os._exit(0 if _is_free(path) else 7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert _is_free(path)


def test_a_run_that_ended_is_free_for_others_while_another_runs_here(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with run_lock(path, 1, "one"):
        with run_lock(path, 2, "two"):
            assert not _is_free_elsewhere(path, 2)
        assert _is_free_elsewhere(path, 2)
        assert not _is_free_elsewhere(path, 1)
    assert _is_free_elsewhere(path, 1)


def _is_free_elsewhere(path: Path, number: int) -> bool:
    """Whether another process could lock it."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if _is_free(path, number) else 7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _is_free(path: Path, number: int = 1) -> bool:
    try:
        with run_lock(path, number, "one"):
            return True
    except StoreError:
        return False


texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
floats = st.floats(allow_nan=False, allow_infinity=False)
CHOSEN: dict[str, Any] = {
    **dict.fromkeys(("at", "clock_s", "seconds"), floats),
    "data": json_values,
    "spent": st.builds(Spent, steps=..., usage=..., money=floats),
}


def any_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    names = [each.name for each in dataclasses.fields(kind)]
    return st.builds(kind, **{name: CHOSEN.get(name, ...) for name in names})


any_step = st.one_of([any_of(kind) for kind in TYPES.values()])


@given(any_step)
def test_every_step_is_the_same_after_json(step: Step) -> None:
    written = json.loads(json.dumps(step_to_json(step)))
    assert step_from_json(written) == step
    assert step_to_text(step)


def test_a_spec_is_the_same_after_json() -> None:
    tool = ToolSpec(Tool("a", "b", {"type": "object"}), True, True, 3.5, True, 0.25, ("c",))
    spec = AgentSpec(
        "name",
        "do",
        "react",
        (tool,),
        Rights(tools={"a"}, roots={"r"}, dangerous={"a"}, ask_after_untrusted=True),
        Budget(steps=3, tokens=4, money=0.5, seconds=6.5),
        Price(input=1.5, cached=0.25),
        SamplingParams(temperature=0.5, stop=("x",), logit_bias={7: -1.0}, max_tokens=9),
        is_constrained=False,
        must_call=True,
        result={"type": "string"},
        result_chars=500,
    )
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec


async def run_with_all() -> Run:
    picture = ToolResult("see", data={"n": [1]}, pictures=(Picture("image/png", b"\x89\x00"),))
    helper = Agent(ScriptedModel(["x"]), name="helper")
    script = [calls(("echo", {"text": "a"}), ("helper", {"task": "b"})), "done"]
    tools = [FakeTool(reply=picture)]
    return await Agent(ScriptedModel(script), tools=tools, team=[Member("helper", helper)]).run("a")


async def test_a_run_is_the_same_after_json() -> None:
    run = await run_with_all()
    assert run_from_json(json.loads(json.dumps(run_to_json(run)))) == run


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": None},
        {"steps": {}},
        {"steps": [{}]},
        {"steps": [{"type": "nothing"}]},
        {"steps": [{"type": "end", "end": "won"}]},
        {"steps": [{"type": "end", "end": "failed", "extra": 1}]},
        {"steps": [{"type": "tool", "pictures": [{"data": "!"}]}]},
        {"agent": {"name": "a", "protocol": "telepathy"}},
        {"agent": None},
        {"parent": 5},
        {"children": []},
        {"children": {"c": {}}},
    ],
    ids=str,
)
async def test_what_is_no_run_is_refused(change: dict[str, Any]) -> None:
    values = run_to_json(await run_with_all())
    with pytest.raises(FormatError):
        run_from_json({**values, **change})


async def test_a_run_as_text_shows_every_step_and_steers_no_terminal() -> None:
    tool = FakeTool(reply="\x1b[2Jgone\x07 and \u202edrow", is_untrusted=True)
    agent = Agent(ScriptedModel([call(), "done"]), tools=[tool], price=Price(input=1))
    run = await agent.run("look")
    text = run_to_text(run)
    assert not any(c in text for c in "\x1b\x07\u202e")
    for shown in ("look", "echo call_1: ok", "(untrusted)", "gone", "end: answered", "cost"):
        assert shown in text
    assert "x" * 50 not in run_to_text(
        await Agent(ScriptedModel(["x" * 99])).run("a"), text_chars=40
    )


def test_each_origin_of_an_argument_has_a_line_of_its_own() -> None:
    flows = (Flow("page", "/to", "mallory"), Flow("mail", "/text/0", "pay", is_untrusted=False))
    request = ApprovalRequest("call_1", "send", "{}", "send is dangerous", flows)
    step = ApprovalStep(request, ApprovalDecision("denied", "not today", by="ada"), 2.0)
    lines = [line.strip() for line in step_to_text(step).splitlines()]
    assert lines == [
        "approval of send call_1: denied by ada, 2.0 s",
        "send is dangerous",
        "/to holds text of page: mallory",
        "/text/0 holds text of mail: pay",
        "not today",
    ]
