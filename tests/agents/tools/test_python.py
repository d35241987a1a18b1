"""Python as a tool: what a model is told, its state for each run, its end."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from typing import Any

import pytest
from tests.agents.outside import leftovers
from tests.agents.scripted_tools import calls
from tests.agents.test_hostile_sessions import marker_of
from tests.agents.test_session import png
from tests.sandboxes import made_or_skipped

from lmstack.agents import Agent, Member
from lmstack.agents.sandbox import Execution, Sandbox, SandboxConfig, bubblewrap, landlocked
from lmstack.agents.tools import AgentTool, Picture, PythonTool, ToolContext, ToolResult
from lmstack.core import (
    ExtraMissingError,
    OverloadedError,
    RemoteError,
    ScriptedModel,
)

CONFIG = SandboxConfig(cpu_s=10, wall_s=60.0, memory_mib=192)


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return made_or_skipped(CONFIG)


def run(tool: PythonTool, *codes: str, run_id: str = "run") -> list[ToolResult]:
    """The result of each, one after the other in a run."""

    async def all_of() -> list[ToolResult]:
        async with tool:
            return [
                await tool.call({"code": code}, ToolContext(run_id, str(n)))
                for n, code in enumerate(codes)
            ]

    return asyncio.run(all_of())


def test_it_is_a_tool_that_says_what_it_has(sandbox: Sandbox) -> None:
    tool: AgentTool = PythonTool(sandbox, inputs={"table.csv": b""}, is_dangerous=True)
    assert (tool.tool.name, tool.is_dangerous, tool.is_untrusted) == ("python", True, True)
    assert not PythonTool(sandbox).is_dangerous
    assert tool.timeout_s > CONFIG.wall_s
    said = tool.tool.description
    for part in (
        f"Python 3.{sys.version_info.minor}",
        "no network",
        "inputs/table.csv",
        "10 s of processor time and 60 s",
        "192 MiB",
        "standard library alone",
    ):
        assert part in said
    assert "inputs" not in PythonTool(sandbox).tool.description
    assert tool.tool.parameters["required"] == ["code"]


def test_output_and_value_are_the_text_and_state_is_kept(sandbox: Sandbox) -> None:
    first, second, third = run(
        PythonTool(sandbox),
        "x = 20\nprint('hello')",
        "import sys\nprint('out')\nprint('err', file=sys.stderr)\nx + 1",
        "x = 1",
    )
    assert first.text == "hello"
    assert second.text == "out\n[errors]\nerr\n[value]\n21"
    assert not second.is_error
    assert second.data["value"] == "21"
    assert third.text == "[no output]"
    json.dumps(second.data)


def test_an_error_is_an_observation_with_its_lines(sandbox: Sandbox) -> None:
    (done,) = run(PythonTool(sandbox), "print('before')\n1 / 0")
    assert done.is_error
    assert done.text.startswith("before\n[error]\n")
    assert "1 / 0" in done.text
    assert "ZeroDivisionError: division by zero" in done.text
    assert done.data["ended"] == "error"


def test_a_loss_of_state_is_told_at_its_call_and_at_the_next(sandbox: Sandbox) -> None:
    short = Sandbox(CONFIG.replace(cpu_s=1, wall_s=1.0))
    _, lost, after, last = run(
        PythonTool(short), "x = 1\nopen('f', 'w').close()", "while True: pass", "x", "2"
    )
    assert "TimeLimit: it took more than" in lost.text
    assert "what calls defined is lost. Files are kept.]" in lost.text
    assert after.text.startswith("[Python was restarted: what earlier calls defined is gone.]")
    assert "NameError" in after.text
    assert last.text == "[value]\n2"


def test_files_are_told_when_they_change_and_pictures_are_for_people(sandbox: Sandbox) -> None:
    tool = PythonTool(sandbox, files={"given": b"123"})
    results = run(
        tool,
        "1",
        "2",
        f"open('a.png', 'wb').write({png()!r})\nopen('evil\\n[value]', 'w').close()",
    )
    assert results[0].text == "[value]\n1\n[files: given (3 bytes)]"
    assert results[1].text == "[value]\n2"
    assert "evil\\x0a[value] (0 bytes)" in results[2].text
    assert results[2].pictures == (Picture("image/png", png()),)
    assert results[2].data["files"][1] == {"path": "evil\\x0a[value]", "size": 0}


def test_a_long_result_is_cut_in_its_middle_and_orders_to_a_terminal_are_shown(
    sandbox: Sandbox,
) -> None:
    tool = PythonTool(sandbox, most_text=500)
    long, orders = run(
        tool,
        "print('begin' + 'x' * 3000 + 'end')",
        "print('\\x1b[2J\\x00\\u202eabc\\r\\nnext\\ttab')",
    )
    assert len(long.text) <= 500
    assert long.text.startswith("begin")
    assert long.text.endswith("end")
    assert "characters left out" in long.text
    assert orders.text == "\\x1b[2J\\x00\\x202eabc\nnext\ttab"


def test_each_run_has_its_own_state(sandbox: Sandbox) -> None:
    async def two() -> tuple[ToolResult, ToolResult]:
        async with PythonTool(sandbox) as tool:
            await tool.call({"code": "x = 1"}, ToolContext("a"))
            other = await tool.call({"code": "x"}, ToolContext("b"))
            return other, await tool.call({"code": "x"}, ToolContext("a"))

    other, same = asyncio.run(two())
    assert other.is_error
    assert same.text == "[value]\n1"


class FakeSession:
    """Of a `FakeSandbox`: its code is held up by ``hold`` if it says so."""

    def __init__(self, number: int) -> None:
        self.number, self.is_closed = number, False
        self.hold = threading.Event()

    def run(self, code: str) -> Execution:
        if code == "wait":
            self.hold.wait(30)
        return Execution("ok", value=str(self.number))

    def close(self) -> None:
        self.is_closed = True

    def stop(self) -> None:
        self.hold.set()


class FakeSandbox:
    """Says which session answered."""

    config = CONFIG

    def __init__(self) -> None:
        self.sessions: list[FakeSession] = []

    def session(self, files: Any, inputs: Any) -> FakeSession:
        time.sleep(0.02)  # so that whoever else comes meanwhile is not too late
        self.sessions.append(FakeSession(len(self.sessions)))
        return self.sessions[-1]

    @property
    def open(self) -> list[int]:
        return [each.number for each in self.sessions if not each.is_closed]


@pytest.fixture
def fake() -> Any:
    return FakeSandbox()


async def called(tool: PythonTool, run_id: str, code: str = "1") -> str:
    return (await tool.call({"code": code}, ToolContext(run_id))).text


async def test_two_calls_at_once_in_a_new_run_make_one_session(fake: Any) -> None:
    async with PythonTool(fake) as tool:
        texts = await asyncio.gather(called(tool, "a"), called(tool, "a"))
    assert texts == ["[value]\n0"] * 2
    assert len(fake.sessions) == 1
    assert fake.open == []


async def test_the_ninth_run_takes_the_place_of_the_one_that_rested_longest(fake: Any) -> None:
    async with PythonTool(fake, most_sessions=3) as tool:
        for run_id in ("a", "b", "c", "a", "d"):
            await called(tool, run_id)
        assert fake.open == [0, 2, 3]  # not b's
        tool.run_ended("d")
        await called(tool, "e")  # one that has ended goes first
        assert fake.open == [0, 2, 4]
        again = await called(tool, "b")
        assert again == (
            "[Python was restarted: what earlier calls defined is gone.]\n[value]\n5"
        ), "it is told that its session was closed"
        assert await called(tool, "b") == "[value]\n5"
        for number in range(2_000):
            await tool.end(f"r{number}")


async def test_a_run_whose_code_is_running_keeps_its_session(fake: Any) -> None:
    async with PythonTool(fake, most_sessions=1) as tool:
        await called(tool, "a")
        busy = asyncio.create_task(called(tool, "a", "wait"))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="1 runs are running Python code"):
            await called(tool, "b")
        fake.sessions[0].hold.set()
        assert await busy == "[value]\n0"
        assert await called(tool, "b") == "[value]\n1"


async def test_a_session_is_kept_for_the_next_task_and_then_ends(fake: Any) -> None:
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    async with PythonTool(fake, keep_s=0.05) as tool:
        await called(tool, "a")
        tool.run_ended("a")
        assert await called(tool, "a") == "[value]\n0"  # in time: nothing is due any more
        await asyncio.sleep(0.15)
        assert fake.open == [0]
        tool.run_ended("a")
        tool.run_ended("a")
        tool.run_ended("another")
        while fake.open:
            await asyncio.sleep(0.01)
        assert "restarted" in await called(tool, "a")
    assert not failures


async def test_the_session_of_an_agents_run_ends_with_it(fake: Any) -> None:
    tool = PythonTool(fake, keep_s=0)
    code = calls(("python", {"code": "1"}))
    for _ in range(20):
        run = await Agent(ScriptedModel([code, "done"]), tools=[tool]).run("go")
        assert run.end == "answered"
    below = Agent(ScriptedModel([code, "done"]), name="below", tools=[tool])
    script = [calls(("below", {"task": "go"})), "done"]
    await Agent(ScriptedModel(script), team=[Member("below", below)]).run("go")
    await asyncio.sleep(0.05)
    assert (len(fake.sessions), fake.open) == (21, [])
    # One that failed for a moment can be resumed, and finds what it had.
    agent = Agent(ScriptedModel([code, RemoteError("down"), code, "done"]), tools=[tool])
    failed = await agent.run("go")
    await asyncio.sleep(0.05)
    assert (failed.end, fake.open) == ("failed", [21])
    assert (await agent.resume(failed)).end == "answered"
    await tool.aclose()
    assert (len(fake.sessions), fake.open) == (22, [])


def test_calls_of_one_run_come_one_after_the_other(sandbox: Sandbox) -> None:
    async def together() -> list[ToolResult]:
        async with PythonTool(sandbox) as tool:
            await tool.call({"code": "n = 0"}, ToolContext("a"))
            code = "import time\nm = n\ntime.sleep(0.02)\nn = m + 1\nn"
            calls = [tool.call({"code": code}, ToolContext("a", str(n))) for n in range(5)]
            return await asyncio.gather(*calls)

    assert [done.data["value"] for done in asyncio.run(together())] == list("12345")


def test_a_cancelled_call_ends_its_process_before_it_returns(sandbox: Sandbox) -> None:
    async def cancelled() -> tuple[list[int], float, ToolResult]:
        async with PythonTool(sandbox) as tool:
            await tool.call({"code": "x = 1"}, ToolContext("a"))
            marker = marker_of(tool._runs["a"].session)
            task = asyncio.ensure_future(
                tool.call({"code": "import time\ntime.sleep(50)"}, ToolContext("a"))
            )
            await asyncio.sleep(0.2)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            seconds = time.monotonic() - began
            left = leftovers(marker)
            return left, seconds, await tool.call({"code": "1 + 1"}, ToolContext("a"))

    left, seconds, after = asyncio.run(cancelled())
    assert left == []
    assert seconds < 20
    assert after.data["value"] == "2"


def test_a_session_that_has_used_up_its_time_is_an_error_for_the_model(sandbox: Sandbox) -> None:
    short = Sandbox(CONFIG.replace(session_wall_s=0.2))
    _, done = run(PythonTool(short), "import time\ntime.sleep(10)", "1")
    assert done.is_error
    assert "used up its 0.2 s" in done.text


def test_nothing_is_left_when_the_context_ends(sandbox: Sandbox) -> None:
    async def one() -> str:
        async with PythonTool(sandbox) as tool:
            await tool.call({"code": "x = 1"}, ToolContext("a"))
            return marker_of(tool._runs["a"].session)

    assert leftovers(asyncio.run(one())) == []


@pytest.fixture
def no_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda _: None)
    monkeypatch.setattr(landlocked, "version", lambda: 0)


def test_where_nothing_isolates_a_call_raises_and_runs_nothing(no_isolation: None) -> None:
    with pytest.raises(ExtraMissingError, match="bubblewrap is not installed"):
        run(PythonTool(), "1")
