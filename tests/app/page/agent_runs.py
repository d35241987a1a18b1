"""Runs of agents for tests of their pages: one that holds everything, and ones that go on."""

from __future__ import annotations

import asyncio
import struct
import threading
import zlib
from collections.abc import Callable
from typing import Any

from tests.agents.scripted_tools import FakeTool, call, calls

from lmstack.agents import (
    Agent,
    AgentSpec,
    ApprovalDecision,
    ApprovalRequest,
    ApprovalStep,
    BegunStep,
    Budget,
    EndStep,
    Flow,
    Member,
    ModelStep,
    NoticeStep,
    ResumeStep,
    Run,
    RunStore,
    Step,
    TaskStep,
    ToolStep,
)
from lmstack.agents.tools import Picture, ToolResult
from lmstack.core import Price, Prompt, ScriptedModel, Span, ToolCall, Usage

HOSTILE = (
    "</pre></details></li></ol></script><script>window.hacked = 1</script>"
    '<img src=x onerror="window.hacked=1"><svg onload="window.hacked=1">'
    "\"'&amp;<!--\u202e\x1b[31m"
)
# The same as it is shown.
SEEN = HOSTILE.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")


def png(width: int = 24, height: int = 16) -> bytes:
    rows = b"".join(b"\0" + bytes((y * 9 % 256, 120, 90)) * width for y in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def hostile_run(depth: int = 1) -> Run:
    """Every field that holds text of others holds `HOSTILE`."""
    arguments = '{"text": "' + HOSTILE.replace("\\", "\\\\").replace('"', '\\"') + '"}'
    arguments = arguments.replace("\x1b", "\\u001b")
    made = ToolCall(HOSTILE, HOSTILE, arguments)
    broken = ToolCall("broken", "broken", f"{HOSTILE} is no JSON")
    request = ApprovalRequest(
        HOSTILE, HOSTILE, arguments, HOSTILE, (Flow(HOSTILE, HOSTILE, HOSTILE),), (HOSTILE,),
        HOSTILE, HOSTILE,
    )  # fmt: skip
    pictures = (
        Picture("image/png", png()),
        Picture("image/svg+xml", b'<svg onload="window.hacked=1">'),
        Picture(HOSTILE, HOSTILE.encode()),
        Picture("image/png", HOSTILE.encode()),
    )
    usage, below = Usage(7, 3, 1), "below"
    steps: tuple[Step, ...] = (
        TaskStep((Span(HOSTILE), Span(HOSTILE, untrusted=True, label=HOSTILE)), at=10.0),
        ModelStep(
            HOSTILE, (made, broken), usage, 1.0, HOSTILE, HOSTILE, "length",
            error=HOSTILE, error_code=HOSTILE, at=11.0,
        ),
        ModelStep(HOSTILE, (made, broken, ToolCall(below, below, "{}")), usage, 1.0, at=12.0),
        ApprovalStep(request, ApprovalDecision("denied", HOSTILE, HOSTILE), 1.0, at=13.0),
        ToolStep(
            made, "error", HOSTILE, {HOSTILE: [HOSTILE]}, pictures, 1.0, is_untrusted=True, at=14.0
        ),
        BegunStep(below, at=14.0),
        NoticeStep("stop", HOSTILE, at=14.5),
        ResumeStep(at=100.0),
        EndStep("failed", HOSTILE, HOSTILE, can_resume=True, at=101.0),
    )  # fmt: skip
    children = {below: hostile_run(depth - 1)} if depth else {}
    return Run(HOSTILE if depth else f"{HOSTILE}.below", AgentSpec(HOSTILE), steps, children)


async def clerk(approver: Any, store: RunStore | None = None, **options: Any) -> Run:
    """A run with a bit of everything: an agent below, a picture, approvals, errors, a notice."""
    told = "Backups run every night at two; questions go to ops@example.net. "
    search = FakeTool("search", told * 60, is_untrusted=True)
    plot = FakeTool("plot", ToolResult("plotted", pictures=(Picture("image/png", png(320, 120)),)))
    send = FakeTool("send", "sent", is_dangerous=True)
    broken = FakeTool("convert", ValueError("no such unit"))
    reader = Agent(
        ScriptedModel([call("search", "backups"), "At two. Write to ops@example.net."]),
        name="reader",
        tools=[search],
        price=Price(input=3, output=15),
    )
    script = [
        calls(
            ("reader", {"task": "Find out when backups run."}),
            ("plot", {"text": "sizes by day"}),
            text="I ask the reader, and plot the sizes meanwhile.",
        ),
        calls(("send", {"text": "ops@example.net: thank you"}), text="I thank them."),
        call("send", "everybody"),
        call("convert", "TB"),
        call("convert", "TB"),
        "Backups run **every night at two**.\n\nThe plot shows their sizes.",
    ]
    agent = Agent(
        ScriptedModel(script),
        name="clerk",
        tools=[plot, send, broken],
        team=[Member("reader", reader, "Reads.")],
        price=Price(input=3, output=15),
        budget=Budget(steps=12, tokens=200_000, money=1, seconds=60),
    )
    task = Prompt.of(
        "When do backups run? Plot their sizes, and thank whoever makes them. ",
        Span("Forwarded: please hurry.", untrusted=True, label="mail.txt"),
    )
    return await agent.run(task, approver=approver, store=store, **options)


def sender(*texts: str, **options: Any) -> tuple[Agent, FakeTool]:
    """An agent that sends each of ``texts``, and its dangerous tool."""
    tool = FakeTool("send", "sent", is_dangerous=True)
    script = [*(call("send", text) for text in texts), "All sent."]
    return Agent(ScriptedModel(script), name="clerk", tools=[tool], **options), tool


class Running:
    """A run in a thread with an event loop of its own. `wait` gives what it came to."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self._found: list[Run] = []
        self._thread = threading.Thread(target=self._go, args=(start,))
        self._thread.start()

    def _go(self, start: Callable[[], Any]) -> None:
        self._found.append(asyncio.run(start()))

    def wait(self) -> Run:
        self._thread.join(60)
        return self._found[0]


def ran(start: Callable[[], Any]) -> Run:
    """The run, where the test itself may not start a loop."""
    return Running(start).wait()


def stored(store: RunStore, run: Run) -> None:
    """Keep ``run`` as it is."""
    for each in run.walk():
        parent = None if each is run else run.id
        call_id = next((c for c, child in run.children.items() if child is each), None)
        store.create(each.id, each.spec, parent=parent, call_id=call_id)
        spent = each.spent
        for number, step in enumerate(each.steps):
            store.append(each.id, number, step, spent)
