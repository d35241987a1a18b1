"""Python as a tool: what a model is told, its state for each run, its end."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import pytest
from tests.agents.outside import leftovers
from tests.agents.test_hostile_sessions import marker_of
from tests.agents.test_session import png
from tests.sandboxes import made_or_skipped

from lmstack.agents.sandbox import Sandbox, SandboxConfig, bubblewrap, landlocked
from lmstack.agents.tools import AgentTool, Picture, PythonTool, ToolContext, ToolResult
from lmstack.core import ExtraMissingError, InputError, OverloadedError

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


def test_each_run_has_its_own_state_and_there_are_only_so_many(sandbox: Sandbox) -> None:
    async def two() -> tuple[ToolResult, ToolResult]:
        async with PythonTool(sandbox, most_sessions=2) as tool:
            await tool.call({"code": "x = 1"}, ToolContext("a"))
            other = await tool.call({"code": "x"}, ToolContext("b"))
            with pytest.raises(OverloadedError, match="2 runs"):
                await tool.call({"code": "x"}, ToolContext("c"))
            await tool.end("b")
            await tool.end("b")
            await tool.call({"code": "1"}, ToolContext("c"))
            return other, await tool.call({"code": "x"}, ToolContext("a"))

    other, same = asyncio.run(two())
    assert other.is_error
    assert same.text == "[value]\n1"


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


@pytest.mark.parametrize("setting", [{"most_text": 1}, {"most_sessions": 0}])
def test_a_setting_out_of_range_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(setting))):
        PythonTool(**setting)
