"""Steps and runs as text for people: each kind, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from lmstack.agents import (
    AgentSpec,
    ApprovalDecision,
    EndStep,
    ModelStep,
    NoticeStep,
    Run,
    Spent,
    ToolStep,
)
from lmstack.agents.approval import ApprovalRequest
from lmstack.agents.dataflow import Flow
from lmstack.agents.runs.rendering import run_to_text, step_to_text
from lmstack.agents.steps import ApprovalStep, BegunStep, ResumeStep, TaskStep
from lmstack.agents.tools import Picture
from lmstack.core import Price, Span, ToolCall, Usage

CALL = ToolCall("c1", "ec\x1bho", '{"a": 1}')
PICTURE = Picture("image/png", b"")


def request(*flows: Flow) -> ApprovalRequest:
    return ApprovalRequest("c1", "echo", '{"a": 1}', reason="it is dangerous", flows=flows)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (TaskStep((Span("go"), Span(" on"))), "task\n      go on"),
        (ModelStep("hi", usage=Usage(3, 4), seconds=1.25, model="m\x1b"),
         "m�: 3 + 4 tokens, 1.2 s\n      hi"),
        (ModelStep("", (CALL, ToolCall("c2", "b", "{}")), error="it broke", model="m"),
         "m: 0 + 0 tokens, 0.0 s\n      -> ec�ho c1 {\"a\": 1}\n      -> b c2 {}\n"
         "      error: it broke"),
        (ToolStep(CALL, "ok", "done\x07\n\tso", seconds=2.0),
         "ec�ho c1: ok, 2.0 s\n      done�\n      \tso"),
        (ToolStep(CALL, "error", "", pictures=(PICTURE,), is_untrusted=True),
         "ec�ho c1: error, 0.0 s, 1 picture (untrusted)"),
        (ToolStep(CALL, "ok", "", pictures=(PICTURE,) * 1200),
         "ec�ho c1: ok, 0.0 s, 1,200 pictures"),
        (ApprovalStep(request(), ApprovalDecision("denied", by="key:\x1b"), 3.0),
         "approval of echo c1: denied by key:�, 3.0 s\n      it is dangerous"),
        (ApprovalStep(request(Flow("web c0", "a", "evil")), ApprovalDecision("later", "no time")),
         "approval of echo c1: later, 0.0 s\n      it is dangerous\n"
         "      a holds text of web c0: evil\n      no time"),
        (NoticeStep("stop", "The model repeats."), "notice (stop)\n      The model repeats."),
        (EndStep("answered", "42"), "end: answered\n      42"),
        (EndStep("failed", "half", "why"), "end: failed\n      why\n      half"),
        (ResumeStep(), "resumed"),
        (BegunStep("c1"), "began c1"),
    ],
)  # fmt: skip
def test_a_step_is_a_title_and_its_text_below(step: Any, text: str) -> None:
    assert step_to_text(step) == text


def test_a_long_text_is_cut() -> None:
    assert "y" * 1000 in step_to_text(NoticeStep("stop", "y" * 1000))
    assert "y" * 1001 not in step_to_text(NoticeStep("stop", "y" * 1001))
    assert "yyy" not in step_to_text(NoticeStep("stop", "y" * 90), text_chars=2)


def test_a_run_is_its_sum_its_steps_and_the_runs_below_in_their_places() -> None:
    child = Run("b" * 8, AgentSpec("helper"), (EndStep("answered", "yes"),), parent="a" * 8)
    steps = (
        TaskStep((Span("go"),)),
        ModelStep("", (CALL,), Usage(1_000, 234), model="m"),
        BegunStep("c1"),
        ToolStep(CALL, "ok", "yes", spent=Spent(1, Usage(1, 0))),
        EndStep("answered", "yyy", clock_s=2.5),
    )
    run = Run("a" * 8, AgentSpec("boss", price=Price(input=1000, output=0)), steps, {"c1": child})
    assert run_to_text(run, text_chars=1).splitlines() == [
        "run aaaaaaaa of boss: answered, 2 turns, 1,235 tokens, 2.5 s, cost 1",
        "  0 task",
        *step_to_text(steps[0], text_chars=1).splitlines()[1:],
        "  1 m: 1000 + 234 tokens, 0.0 s",
        *step_to_text(steps[1], text_chars=1).splitlines()[1:],
        "  3 ec�ho c1: ok, 0.0 s",
        *step_to_text(steps[3], text_chars=1).splitlines()[1:],
        "      run bbbbbbbb of helper: answered, 0 turns, 0 tokens, 0.0 s",
        "        0 end: answered",
        *(f"      {line}" for line in step_to_text(child.steps[0], text_chars=1).splitlines()[1:]),
        "  4 end: answered",
        *step_to_text(steps[4], text_chars=1).splitlines()[1:],
    ]
    begun = run_to_text(Run("a", AgentSpec("boss"), steps[:2]))
    assert begun.startswith("run a of boss: not ended, 1 turn, 1,234 tokens, 0.0 s\n  0 task\n")
    assert begun.endswith('{"a": 1}\n')
