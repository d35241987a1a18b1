"""Of the top of a run's page: what it was asked, who took part, what it used of what it was given,
and the axis of the bars."""

from __future__ import annotations

from collections.abc import Callable

from lmstack.agents.progress import RunProgress
from lmstack.agents.runs.run import Run
from lmstack.agents.steps import ApprovalStep, ModelStep, TaskStep
from lmstack.app.page.agents.axis import TimeAxis
from lmstack.app.page.agents.figures import duration, model_name, money
from lmstack.app.page.agents.texts import line

__all__ = ["axis_ticks", "budget_used", "models_of", "run_title", "waited_for"]


def run_title(run: Run) -> str:
    """What the user asked at last; text of others that came with it is in the timeline."""
    tasks = [step for step in run.steps if isinstance(step, TaskStep)]
    spans = tasks[-1].spans if tasks else ()
    own = line(" ".join(span.text for span in spans if not span.untrusted), 120)
    return own or f"A run of {line(run.spec.name, 60)}"


def waited_for(run: Run) -> float:
    """Seconds in which people were asked."""
    return sum(
        step.seconds for each in run.walk() for step in each.steps if isinstance(step, ApprovalStep)
    )


def models_of(run: Run) -> list[str]:
    """Each model that took part, in the order of their first turns."""
    turns = (step for each in run.walk() for step in each.steps if isinstance(step, ModelStep))
    return list(dict.fromkeys(line(model_name(turn.model, turn.digest), 100) for turn in turns))


def budget_used(run: Run) -> list[tuple[str, str, float]]:
    """Turns, tokens and money since the last task, which has a budget of its own of them: the
    name, the figures, and the part that is used."""
    budget, spent = run.spec.budget, RunProgress.of(run.steps, run.spec.price).spent
    parts: list[tuple[str, float, float | None, Callable[[float], str]]] = [
        ("Turns", spent.steps, budget.steps, "{:,.0f}".format),
        ("Tokens", spent.usage.total_tokens, budget.tokens, "{:,.0f}".format),
        ("Money", spent.money, budget.money, money),
        ("Seconds", run.seconds, budget.seconds, duration),
    ]
    return [
        (name, f"{written(used)} of {written(given)}", min(max(used / given, 0.0), 1.0))
        for name, used, given, written in parts
        if given is not None
    ]


def axis_ticks(axis: TimeAxis) -> list[tuple[str, float]]:
    """The words of each tick, "" where there is no room for them, and where it stands."""
    return [
        (_tick(at, axis.total) if at < 0.9 * axis.total else "", at / axis.total)
        for at in axis.ticks()
    ]


def _tick(at: float, total: float) -> str:
    if total < 0.5 and at:
        return f"{at * 1000:g} ms"
    return f"{at:g} s" if at < 60 else duration(at).replace(" 00 s", "")
