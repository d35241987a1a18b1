"""A run killed with SIGKILL at every step and in every tool, and resumed by another process.

    python -m tests.agents.killed FOLDER

One line of JSON for each place where it was killed: what the processes did, and how it ended.
Processes are forked from this one, in which nothing runs then, so that each costs milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstack.agents import (
    Agent,
    ApprovalDecision,
    ApprovalRequest,
    Event,
    Member,
    RunStore,
    Stepped,
    run_to_json,
)
from lmstack.agents.tools import ToolContext, ToolResult
from lmstack.core import Message, Request, ScriptedModel, Tool, ToolCall

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
RUN = "run"


@dataclass
class Logged:
    """A tool that writes to a log that it ran, and may die before it answers."""

    name: str
    log: Path
    dies: bool = False
    is_dangerous: bool = False
    is_untrusted: bool = False
    timeout_s: float = 30.0

    @property
    def tool(self) -> Tool:
        return Tool(self.name, "A tool of a test.", TEXT)

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        write(self.log, f"{self.name} {arguments['text']}")
        await asyncio.sleep(0)
        if self.dies:
            die()
        return ToolResult(f"{self.name} did {arguments['text']}")


class Approver:
    """Approves, but for calls that may be done already."""

    async def decide(self, request: ApprovalRequest) -> ApprovalDecision:
        is_new = "had begun" not in request.reason
        return (
            ApprovalDecision("approved") if is_new else ApprovalDecision("denied", "it may be done")
        )


def write(log: Path, line: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def called(*made: tuple[str, str, str]) -> Message:
    found = (ToolCall("", name, json.dumps({key: text})) for name, key, text in made)
    return Message("assistant", "", tool_calls=tuple(found))


def above(log: Path) -> Callable[[Request], Message]:
    turns = (
        called(("look", "text", "a"), ("look", "text", "b")),
        called(("helper", "task", "dig")),
        called(("send", "text", "c")),
        Message("assistant", "finished"),
    )
    return say("above", log, turns)


def below(log: Path) -> Callable[[Request], Message]:
    turns = (called(("dig", "text", "d")), Message("assistant", "dug"))
    return say("below", log, turns)


def say(name: str, log: Path, turns: tuple[Message, ...]) -> Callable[[Request], Message]:
    """The next turn after those that the conversation has: the model itself remembers nothing."""

    def turn(request: Request) -> Message:
        number = sum(message.role == "assistant" for message in request.messages)
        write(log, f"asked {name} {number}")
        return turns[number]

    return turn


def agent(log: Path, dies: str = "") -> Agent:
    made = {name: Logged(name, log, dies == name, name == "send") for name in ("look", "send")}
    dig = Logged("dig", log, dies == "dig")
    helper = Agent(ScriptedModel([below(log)]), name="helper", tools=[dig])
    team = [Member("helper", helper)]
    return Agent(ScriptedModel([above(log)]), tools=made, team=team)


def kept(path: Path) -> RunStore:
    return RunStore(path, fsync=False)


def forked(work: Callable[[], None]) -> int:
    """The exit status of ``work`` in a process of its own."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(place: int | str, folder: Path) -> dict[str, Any]:
    """Run until ``place`` (the number of a stored step, or the name of a tool), then go on."""
    folder.mkdir()
    log, path = folder / "log", folder / "runs.sqlite"
    seen = 0

    def listen(event: Event) -> None:
        nonlocal seen
        if isinstance(event, Stepped):
            seen += 1
            if seen == place:
                die()

    def first() -> None:
        chosen = agent(log, place if isinstance(place, str) else "")
        run = chosen.run("go", store=kept(path), approver=Approver(), run_id=RUN, on_event=listen)
        asyncio.run(run)

    def second() -> None:
        asyncio.run(agent(log).resume(RUN, store=kept(path), approver=Approver()))

    code = forked(first)
    before = kept(path).load(RUN)
    resumed = forked(second) if before.end is None else None
    run = kept(path).load(RUN)
    return {
        "place": place,
        "code": code,
        "resumed": resumed,
        "log": log.read_text().splitlines() if log.exists() else [],
        "before": run_to_json(before),
        "run": run_to_json(run),
        "differences": [str(each) for each in agent(log).replay(run)],
    }


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    warm = agent(folder / "log").run("go", store=kept(folder / "runs"), approver=Approver())
    asyncio.run(warm)
    places: list[int | str] = ["look", "dig", "send"]
    for place in places:
        print(json.dumps(killed_at(place, folder / str(place))))
    number = 1
    while (found := killed_at(number, folder / str(number)))["code"] != 0:
        print(json.dumps(found))
        number += 1
    print(json.dumps({**found, "place": "never"}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
