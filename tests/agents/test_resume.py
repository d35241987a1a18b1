"""Runs that were killed or stopped go on where they were."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.agents.scripted_tools import FakeTool, call, calls, outcomes
from tests.errors import about

from lmstack.agents import (
    Agent,
    ApprovalDecision,
    Budget,
    Decided,
    EndStep,
    Member,
    ModelStep,
    Rights,
    Run,
    RunStore,
    ScriptedApprover,
    run_from_json,
)
from lmstack.core import (
    InputError,
    Message,
    NotFoundError,
    RemoteError,
    ScriptedModel,
    StoreError,
)

ROOT = Path(__file__).parents[2]
ASKED = ["above 0", "above 1", "above 2", "above 3", "below 0", "below 1"]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs.sqlite", fsync=False)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.agents.killed", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_run_was_killed_at_every_step_and_in_every_tool(killed: list[dict[str, Any]]) -> None:
    *places, never = killed
    steps = sum(len(run.steps) for run in run_from_json(never["run"]).walk())
    assert [each["place"] for each in places] == ["look", "dig", "send", *range(1, steps + 1)]
    assert {each["code"] for each in places} == {-signal.SIGKILL}
    assert {each["resumed"] for each in places[:-1]} == {0}


def test_a_killed_run_ends_as_one_that_was_not(killed: list[dict[str, Any]]) -> None:
    for each in killed:
        run = run_from_json(each["run"])
        assert (run.end, run.answer) == ("answered", "finished"), each["place"]
        assert [child.answer for child in run.children.values()] == ["dug"]
        assert each["differences"] == []


def test_no_finished_step_is_done_again(killed: list[dict[str, Any]]) -> None:
    for each in killed:
        before, after = run_from_json(each["before"]), run_from_json(each["run"])
        kept = {run.id: run.steps for run in after.walk()}
        for run in before.walk():
            assert kept[run.id][: len(run.steps)] == run.steps
        asked = sorted(line[6:] for line in each["log"] if line.startswith("asked"))
        assert asked == ASKED, each["place"]


def test_a_call_that_ran_is_repeated_only_if_it_was_safe_and_not_finished(
    killed: list[dict[str, Any]],
) -> None:
    for each in killed:
        made = Counter(line for line in each["log"] if not line.startswith("asked"))
        before = run_from_json(each["before"])
        ended = {t.split(" did ")[1] for r in before.walk() for t in texts(r) if " did " in t}
        for line, times in made.items():
            name, text = line.split()
            most = 1 if name == "send" or text in ended else 2
            assert times <= most, (each["place"], line)
        assert set(made) >= {"look a", "look b", "dig d"}


def test_a_dangerous_call_that_was_interrupted_is_asked_about_and_known(
    killed: list[dict[str, Any]],
) -> None:
    [inside] = [each for each in killed if each["place"] == "send"]
    assert inside["log"].count("send c") == 1
    run = run_from_json(inside["run"])
    assert outcomes(run)[-1] == "unfinished"
    assert "may or may not be done" in texts(run)[-1]
    assert "may be done already" in [a.request.reason for a in approvals(run)][-1]


def texts(run: Run) -> list[str]:
    return [step.text for step in run.steps if hasattr(step, "call")]


def approvals(run: Run) -> list[Any]:
    return [step for step in run.steps if hasattr(step, "decision")]


HOLD = """
import asyncio, sys
from pathlib import Path
from lmstack.agents import Agent, RunStore
from lmstack.core import ScriptedModel
from tests.agents.scripted_tools import FakeTool, call

async def main():
    tool = FakeTool(reply=lambda text: print("inside", flush=True), delay_s=0)
    hold = FakeTool(delay_s=600, timeout_s=1000)
    agent = Agent(ScriptedModel([call(), "done"]), tools=[hold])
    told = lambda event: print(type(getattr(event, "step", event)).__name__, flush=True)
    await agent.run("wait", store=RunStore(sys.argv[1]), run_id="held", on_event=told)

asyncio.run(main())
"""


async def test_a_run_of_another_process_is_refused_until_that_is_dead(
    tmp_path: Path, store: RunStore
) -> None:
    agent = Agent(ScriptedModel(["done"]), tools=[FakeTool()])
    command = [sys.executable, "-c", HOLD, str(store.path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "BegunStep":
            assert process.poll() is None
        with pytest.raises(StoreError, match="running already"):
            await agent.resume("held", store=store)
        with pytest.raises(StoreError, match="running already"):
            store.delete("held")
        process.kill()
    run = await agent.resume("held", store=store)
    assert (run.end, run.answer, outcomes(run)) == ("answered", "done", ["ok"])


async def test_of_two_resumes_at_once_one_is_refused(store: RunStore) -> None:
    tool = FakeTool("send", is_dangerous=True, delay_s=0.05)
    agent = Agent(ScriptedModel([call("send"), "sent"]), tools=[tool])
    run = await agent.run("go", store=store)
    both = [
        agent.resume(run.id, store=store, approver=ScriptedApprover("approved")) for _ in range(2)
    ]
    found = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(each).__name__ for each in found) == ["Run", "StoreError"]
    assert len(tool.ran) == 1


async def test_two_runs_at_once_share_a_store_and_an_agent(store: RunStore) -> None:
    tool = FakeTool(delay_s=0.01, reply=lambda text: text.upper())

    def say(request: Any) -> Message:
        [task] = [m.content for m in request.messages if m.role == "user"]
        found = [m.content for m in request.messages if m.role == "tool"]
        return Message("assistant", found[0]) if found else call(text=task)

    agent = Agent(ScriptedModel([say]), tools=[tool])
    runs = await asyncio.gather(*(agent.run(task, store=store) for task in ("one", "two")))
    assert [run.answer for run in runs] == ["ONE", "TWO"]
    assert tool.most_running == 2
    assert [store.load(run.id) for run in runs] == runs


async def test_a_waiting_run_goes_on_with_what_was_decided(store: RunStore) -> None:
    tool = FakeTool("send", is_dangerous=True)
    agent = Agent(ScriptedModel([call("send"), "sent"]), tools=[tool])
    waiting = await agent.run("go", store=store)
    [request] = waiting.pending
    assert (request.tool, request.arguments, request.run_id) == ("send", '{"text":"x"}', waiting.id)
    still = await agent.resume(waiting.id, store=store, approver=Decided({}))
    assert (still.end, tool.ran) == ("waiting", [])
    decided = Decided({request.digest: ApprovalDecision("approved")})
    run = await agent.resume(waiting.id, store=store, approver=decided)
    assert (run.end, run.answer, run.pending) == ("answered", "sent", ())
    assert len(tool.ran) == 1


async def test_who_cancelled_when_asked_is_asked_again_when_the_run_goes_on(
    store: RunStore,
) -> None:
    tool = FakeTool("send", is_dangerous=True)
    agent = Agent(ScriptedModel([call("send"), "sent"]), tools=[tool])
    approver = ScriptedApprover("cancelled", "later", "approved")
    cancelled = await agent.run("go", store=store, approver=approver)
    assert (cancelled.end, tool.ran) == ("cancelled", [])
    assert (await agent.resume(cancelled.id, store=store, approver=approver)).end == "waiting"
    run = await agent.resume(cancelled.id, store=store, approver=approver)
    assert (run.end, len(tool.ran), len(approver.requests)) == ("answered", 1, 3)


async def test_the_run_of_an_agent_below_waits_and_goes_on(store: RunStore) -> None:
    dig = FakeTool("dig", is_dangerous=True)
    helper = Agent(ScriptedModel([call("dig"), "dug"]), name="helper", tools=[dig])
    model = ScriptedModel([calls(("helper", {"task": "dig"})), "it is dug"])
    agent = Agent(model, name="planner", team=[Member("helper", helper)])
    waiting = await agent.run("go", store=store)
    [request] = waiting.pending
    assert (waiting.end, request.tool) == ("waiting", "dig")
    approver = ScriptedApprover("approved")
    run = await agent.resume(store.load(waiting.id), store=store, approver=approver)
    assert (run.end, run.answer, len(dig.ran)) == ("answered", "it is dug", 1)
    assert [each.agent for each in approver.requests] == ["planner/helper"]
    [child] = run.children.values()
    assert [step.end for step in child.steps if isinstance(step, EndStep)] == [
        "waiting",
        "answered",
    ]
    assert agent.replay(run) == ()
    with pytest.raises(InputError, match=f"part of the run {run.id}"):
        await helper.resume(child.id, store=store)


async def test_a_run_that_failed_asks_the_model_again(store: RunStore) -> None:
    tool = FakeTool()
    model = ScriptedModel([call(), RemoteError("502"), "done"])
    agent = Agent(model, tools=[tool])
    failed = await agent.run("go", store=store)
    run = await agent.resume(failed.id, store=store)
    assert (failed.end, run.end, run.answer, len(tool.ran)) == ("failed", "answered", "done", 1)
    assert agent.replay(run) == ()


async def test_a_run_without_a_store_is_resumed_from_memory() -> None:
    agent = Agent(ScriptedModel([call(), RemoteError("502"), "done"]), tools=[FakeTool()])
    failed = await agent.run("go")
    assert (await agent.resume(failed)).answer == "done"


async def test_what_has_ended_for_good_is_not_resumed(store: RunStore) -> None:
    agent = Agent(ScriptedModel(["done"]))
    run = await agent.run("go", store=store)
    with pytest.raises(InputError, match="nothing to resume"):
        await agent.resume(run.id, store=store)
    with pytest.raises(NotFoundError):
        await agent.resume("nowhere", store=store)
    with pytest.raises(InputError, match="no store", check=about("store")):
        await agent.resume("nowhere")


async def test_rights_are_those_of_the_beginning_and_never_more(store: RunStore) -> None:
    send = FakeTool("send")

    def agent(rights: Rights, *script: Any) -> Agent:
        return Agent(ScriptedModel(script), tools=[send], rights=rights)

    none = Rights(tools=frozenset())
    failed = await agent(none, RemoteError("502")).run("go", store=store)
    run = await agent(Rights(), call("send"), "no").resume(failed.id, store=store)
    assert (outcomes(run), send.ran) == (["outside_rights"], [])
    failed = await agent(Rights(), RemoteError("502")).run("go", store=store)
    run = await agent(none, call("send"), "no").resume(failed.id, store=store)
    assert (outcomes(run), send.ran) == (["outside_rights"], [])


def cancelled(*_: Any, **__: Any) -> Any:
    raise asyncio.CancelledError


async def test_rights_that_became_narrower_hold_below_too(store: RunStore) -> None:
    dig = FakeTool("dig")

    def planner(rights: Rights, *script: Any) -> Agent:
        helper = Agent(ScriptedModel(script), name="helper", tools=[dig])

        def plan(request: Any) -> Message:
            has_result = any(m.role == "tool" for m in request.messages)
            return Message("assistant", "ok") if has_result else calls(("helper", {"task": "dig"}))

        return Agent(ScriptedModel([plan]), team=[Member("helper", helper)], rights=rights)

    stopped = await planner(Rights(), cancelled).run("go", store=store, run_id="r")
    assert [each.end for each in stopped.walk()] == ["cancelled", "cancelled"]
    run = await planner(Rights(tools={"helper"}), call("dig"), "no").resume("r", store=store)
    [child] = run.children.values()
    assert (outcomes(child), dig.ran) == (["outside_rights"], [])


async def test_a_tool_that_has_become_dangerous_is_asked_about(store: RunStore) -> None:
    failed = await Agent(ScriptedModel([RemoteError("502")]), tools=[FakeTool()]).run(
        "go", store=store
    )
    now = Agent(ScriptedModel([call()]), tools=[FakeTool(is_dangerous=True)])
    assert (await now.resume(failed.id, store=store)).end == "waiting"


@pytest.mark.parametrize(
    "tools", [[], [FakeTool(description="Another.")], [FakeTool(parameters={"type": "object"})]]
)
async def test_a_tool_that_changed_or_went_refuses_the_run(
    store: RunStore, tools: list[FakeTool]
) -> None:
    model = ScriptedModel([RemoteError("502")])
    failed = await Agent(model, tools=[FakeTool()]).run("go", store=store)
    with pytest.raises(InputError, match="since the run began", check=about("tools")):
        await Agent(ScriptedModel(["x"]), tools=tools).resume(failed.id, store=store)


async def test_the_clock_goes_on_where_it_was(store: RunStore) -> None:
    model = ScriptedModel([call(), RemoteError("502"), "done"])
    agent = Agent(model, tools=[FakeTool(delay_s=0.05)], budget=Budget(seconds=60))
    failed = await agent.run("go", store=store)
    await asyncio.sleep(0.2)
    run = await agent.resume(failed.id, store=store)
    ended, resumed = run.steps[len(failed.steps) - 1 : len(failed.steps) + 1]
    assert 0.05 <= ended.clock_s <= resumed.clock_s
    assert (resumed.at - ended.at) - (resumed.clock_s - ended.clock_s) > 0.19


async def test_another_task_follows_with_a_budget_of_its_own(store: RunStore) -> None:
    agent = Agent(
        ScriptedModel([call(), "one", call(), "two"]), tools=[FakeTool()], budget=Budget(steps=3)
    )
    first = await agent.run("a", store=store)
    run = await agent.run("b", store=store, after=first.id)
    assert (run.id, run.answer, run.task, run.end) == (first.id, "two", "b", "answered")
    assert [m.role for m in run.messages] == [*("user", "assistant", "tool", "assistant")] * 2
    assert agent.replay(run) == ()
    third = await Agent(ScriptedModel(["three"]), tools=[FakeTool()]).run("c", after=run)
    assert third.answer == "three"


async def test_no_task_follows_a_run_that_has_not_ended(store: RunStore) -> None:
    agent = Agent(ScriptedModel([call("send")]), tools=[FakeTool("send", is_dangerous=True)])
    waiting = await agent.run("a", store=store)
    with pytest.raises(InputError, match="has not ended"):
        await agent.run("b", after=waiting.id, store=store)


async def test_a_model_that_forgets_ids_gets_one_for_each_call(store: RunStore) -> None:
    twice = calls(("echo", {"text": "a"}), ("echo", {"text": "b"}), ids=("call_1", "call_1"))
    again = calls(("echo", {"text": "c"}), ids=("call_1",))
    strange = calls(("echo", {"text": "d"}), ids=("../../x y",))
    agent = Agent(ScriptedModel([twice, again, strange, "done"]), tools=[FakeTool()])
    run = await agent.run("go", store=store)
    ids = [c.id for s in run.steps if isinstance(s, ModelStep) for c in s.calls]
    assert len(set(ids)) == 4
    assert ids[0] == "call_1"
    assert all(id_.startswith("call_") for id_ in ids)
    answered = [m.tool_call_id for m in run.messages if m.role == "tool"]
    assert answered == ids
