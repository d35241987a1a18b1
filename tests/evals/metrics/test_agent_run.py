"""Runs of agents: success, what they took, and how they ended."""

from __future__ import annotations

from typing import Any

import pytest
from tests.errors import about
from tests.evals.metrics.outputs import asked

from lmstack.core import InputError
from lmstack.evals.metrics import AgentRun
from lmstack.evals.metrics.agent_run import last_number
from lmstack.evals.task import ModelOutput

OUTCOMES = ("ok", "ok", "error", "invalid_arguments", "outside_rights", "denied")


def ran(text: str, end: str = "answered", outcomes: tuple[str, ...] = OUTCOMES) -> ModelOutput:
    calls = [{"tool": "search", "outcome": each} for each in outcomes]
    return ModelOutput(text, facts={"end": end, "steps": 4, "calls": calls})


def test_steps_and_calls_are_counted_by_what_became_of_them() -> None:
    found = AgentRun().score(asked("372"), ran("It is 372."))
    counted = [found[name] for name in ("steps", "tool_calls", "failed_calls", "barred_calls")]
    assert counted == [4, 6, 2, 2]


@pytest.mark.parametrize("end", ["answered", "budget", "refused", "failed", "waiting", "cancelled"])
def test_a_run_has_one_end_and_its_answer_counts_whatever_that_is(end: str) -> None:
    found = AgentRun().score(asked("372"), ran("It is 372.", end))
    assert found["success"] == 1
    assert {name for name, value in found.items() if name.startswith("ended") and value} == {
        f"ended_{end}"
    }


@pytest.mark.parametrize(
    ("match", "target", "text", "success"),
    [
        ("holds", "372", "It is 372.", 1),
        ("holds", "372", "It is 1,372.", 0),
        ("equal", "It is 372", "it is 372.", 1),
        ("equal", "372", "It is 372.", 0),
        ("number", "372", "12 times 31 is 372.0", 1),
        ("number", "372", "372 is 12 times 31", 0),
        ("number", "1200", "They cost 1,200 euros", 1),
        ("number", "5", "none", 0),
        ("pattern", r"^3\d2$", "372", 1),
    ],
)
def test_answers_are_compared_as_the_task_says(
    match: Any, target: str, text: str, success: float
) -> None:
    assert AgentRun(match=match).score(asked(target), ran(text))["success"] == success


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(InputError, match="is of no agent", check=about("scorer")):
        AgentRun().score(asked("x"), ModelOutput("x"))
    with pytest.raises(InputError, match="ended as 'lost'", check=about("scorer")):
        AgentRun().score(asked("x"), ran("x", "lost"))
    with pytest.raises(InputError, match="is not a number", check=about("match")):
        AgentRun(match="number").score(asked("x"), ran("x"))
    with pytest.raises(InputError, match="no target", check=about("targets")):
        AgentRun().score(asked(), ran("x"))


def test_what_is_no_pattern_or_number_is_about_the_match() -> None:
    for match, target, said in (
        ("pattern", "(", "a regular expression"),
        ("number", "x", "a number"),
    ):
        with pytest.raises(InputError, match=f"is not {said}", check=about("match")):
            AgentRun(match=match).score(asked(target), ran("x"))  # type: ignore[arg-type]
    assert AgentRun().match == "holds"
    assert AgentRun(match="pattern").score(asked("^A"), ran("ab"))["success"] == 1
    assert AgentRun(match="equal").score(asked("the A", "b"), ran("B!"))["success"] == 1
    assert last_number("1,200 or -3.5 or 7.") == 7.0
    assert last_number("-3.5") == -3.5
    assert last_number("none") is None


def test_figures_of_runs_are_named_and_better_low_or_high() -> None:
    shown = [(m.name, m.better, m.is_share) for m in AgentRun().metrics]
    counts = ("steps", "tool_calls", "failed_calls", "barred_calls")
    ends = ("budget", "refused", "failed", "waiting", "cancelled")
    assert shown == [
        ("success", "higher", True),
        *((name, "lower", False) for name in counts),
        ("ended_answered", "higher", True),
        *((f"ended_{end}", "lower", True) for end in ends),
    ]
