"""What a run tells while it runs, and that stopping it leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.agents.scripted_tools import FakeTool, call, calls

from lmstack.agents import (
    Agent,
    Ended,
    EndStep,
    Event,
    Member,
    ModelStep,
    PartialText,
    RunStore,
    ScriptedApprover,
    Started,
    Stepped,
)
from lmstack.agents.tools import ToolContext, ToolResult
from lmstack.core import ScriptedModel

ROOT = Path(__file__).parents[2]


async def test_events_come_in_order_and_end_with_the_run() -> None:
    agent = Agent(ScriptedModel([call(), "one two"]), tools=[FakeTool()])
    events = [event async for event in agent.stream("go")]
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Ended)
    assert [e.step for e in events if isinstance(e, Stepped)] == list(events[-1].run.steps)
    assert [e.number for e in events if isinstance(e, Stepped)] == list(range(6))
    assert "".join(e.text for e in events if isinstance(e, PartialText)) == "one two"


async def test_text_comes_before_its_step() -> None:
    events = [event async for event in Agent(ScriptedModel(["one two"])).stream("go")]
    places = [n for n, event in enumerate(events) if isinstance(event, PartialText)]
    [turn] = [n for n, e in enumerate(events) if isinstance(getattr(e, "step", None), ModelStep)]
    assert max(places) < turn


async def test_events_of_agents_below_say_whose_they_are() -> None:
    helper = Agent(ScriptedModel([call("dig"), "dug"]), name="h", tools=[FakeTool("dig")])
    script = [calls(("helper", {"task": "x"})), "done"]
    agent = Agent(ScriptedModel(script), name="planner", team=[Member("helper", helper)])
    events = [event async for event in agent.stream("go")]
    below = [event for event in events if event.agents == ("planner", "helper")]
    assert isinstance(below[0], Started)
    assert isinstance(below[-1], Ended)
    assert {event.run_id for event in below} == {f"{events[0].run_id}.call_1"}
    assert events.index(below[-1]) < len(events) - 1


async def test_a_resumed_run_says_so(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs", fsync=False)
    agent = Agent(ScriptedModel([call(), "x"]), tools=[FakeTool(is_dangerous=True)])
    waiting = await agent.run("go", store=store)
    approver = ScriptedApprover("approved")
    resumed = agent.stream_resumed(waiting.id, store=store, approver=approver)
    events = [event async for event in resumed]
    assert events[0] == Started(waiting.id, ("agent",), resumed=True)
    assert events[-1].run.end == "answered"  # type: ignore[union-attr]


async def test_a_listener_that_fails_stops_the_run(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs", fsync=False)
    model = ScriptedModel(["one two three"], delay_s=0.001)

    def listen(event: Event) -> None:
        if isinstance(event, PartialText):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Agent(model).run("go", store=store, run_id="r", on_event=listen)
    assert model.open_streams == 0
    assert (await Agent(model).resume("r", store=store)).end == "answered"


def others() -> set[Any]:
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize("place", range(10))
async def test_closing_the_stream_at_any_event_leaves_nothing(place: int, tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs", fsync=False)
    tool = FakeTool(delay_s=0.01)
    model = ScriptedModel([call(), "one two"], delay_s=0.001)
    agent = Agent(model, tools=[tool])
    stream = agent.stream("go", store=store, run_id="r")
    for _ in range(place + 1):
        await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert (others(), model.open_streams, tool.running) == (set(), 0, 0)
    stopped = store.load("r")
    if place > 5:  # after its last word nothing has to be waited for
        assert stopped.end == "answered"
        return
    assert stopped.end == "cancelled"
    run = await agent.resume("r", store=store)
    assert run.end == "answered"
    assert run.steps[: len(stopped.steps)] == stopped.steps
    assert agent.replay(run) == ()


async def stopped_when(ready: Any, agent: Agent, store: RunStore, approver: Any = None) -> None:
    task = asyncio.create_task(agent.run("go", store=store, run_id="r", approver=approver))
    while not ready():
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert others() == set()


async def test_cancelling_while_tools_run_stops_them_all(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs", fsync=False)
    tool = FakeTool(delay_s=60)
    script = [calls(*(("echo", {"text": str(n)}) for n in range(3))), "x"]
    await stopped_when(lambda: tool.running == 3, Agent(ScriptedModel(script), tools=[tool]), store)
    assert tool.running == 0
    assert store.load("r").end == "cancelled"


async def test_cancelling_while_the_model_writes_keeps_what_it_cost(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs", fsync=False)
    model = ScriptedModel(["word " * 1000], delay_s=0.001)
    await stopped_when(lambda: model.open_streams == 1, Agent(model), store)
    run = store.load("r")
    [step] = [step for step in run.steps if isinstance(step, ModelStep)]
    assert (model.open_streams, step.error_code, run.end) == (0, "cancelled", "cancelled")
    assert run.usage.prompt_tokens > 0


async def test_cancelling_while_a_person_thinks_asks_again(tmp_path: Path) -> None:
    class Never:
        asked = 0

        async def decide(self, request: Any) -> Any:
            self.asked += 1
            await asyncio.sleep(60)

    store, never = RunStore(tmp_path / "runs", fsync=False), Never()
    tool = FakeTool(is_dangerous=True)
    agent = Agent(ScriptedModel([call(), "x"]), tools=[tool])
    await stopped_when(lambda: never.asked, agent, store, never)
    approver = ScriptedApprover("approved")
    run = await agent.resume("r", store=store, approver=approver)
    assert (run.end, len(approver.requests), len(tool.ran)) == ("answered", 1, 1)


async def test_cancelling_stops_agents_below_too(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs", fsync=False)
    dig = FakeTool("dig", delay_s=60)
    helper = Agent(ScriptedModel([call("dig"), "dug"]), name="h", tools=[dig])
    script = [calls(("helper", {"task": "x"})), "done"]
    agent = Agent(ScriptedModel(script), team=[Member("helper", helper)])
    await stopped_when(lambda: dig.running, agent, store)
    assert [each.end for each in store.load("r").walk()] == ["cancelled", "cancelled"]
    dig.delay_s = 0
    run = await agent.resume("r", store=store)
    assert (run.end, run.answer) == ("answered", "done")
    [child] = run.children.values()
    assert [s.end for s in child.steps if isinstance(s, EndStep)] == ["cancelled", "answered"]


async def test_a_tool_that_cancels_itself_is_an_error_and_ends_nothing() -> None:
    def cancel(text: str) -> str:
        raise asyncio.CancelledError

    tool = FakeTool(reply=cancel)
    run = await Agent(ScriptedModel([call(), "odd"]), tools=[tool]).run("go")
    assert (run.end, run.answer, len(tool.ran)) == ("answered", "odd", 1)
    assert "the tool cancelled itself" in run.messages[-2].content


PROGRAM = """
import asyncio, sys
from lmstack.agents import Agent, RunStore
from lmstack.agents.tools import ToolResult
from lmstack.core import ScriptedModel
from tests.agents.scripted_tools import FakeTool, call
from tests.agents.test_events import Sleeper

async def main():
    agent = Agent(ScriptedModel([call(), "x"]), tools=[Sleeper()])
    await agent.run("go", store=RunStore(sys.argv[1]), run_id="r")

asyncio.run(main())
"""


class Sleeper(FakeTool):
    """Runs a process of its own, as a tool that ends its work when it is cancelled does."""

    async def call(self, arguments: Any, context: ToolContext) -> ToolResult:
        process = await asyncio.create_subprocess_exec("sleep", "600")
        print(process.pid, flush=True)
        try:
            await process.wait()
        finally:
            process.kill()
            await process.wait()
        return ToolResult("slept")


def test_ctrl_c_leaves_no_process_and_a_run_that_can_be_resumed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "runs")]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        sleeping = int(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    with pytest.raises(ProcessLookupError):
        os.kill(sleeping, 0)
    run = RunStore(tmp_path / "runs").load("r")
    assert (run.end, run.can_resume) == ("cancelled", True)
